// Products of weight rows, read where they lie, with up to kMaxDotBlockRows rows of x: the inner
// loops of linear layers of few rows. An arithmetic A says how weights and x are loaded and
// multiplied.
//
// Weights stream from memory, and what matters is the order in which they are asked for. Hardware
// prefetchers know sequences best, and a few of them at a time fill the memory's queues better than
// one. As long as x stays in L1, the rows of a block are cut into stretches, and one row of each
// goes by at a time, after it the next one of each. (Short rows next to each other are no sequences
// of their own: two or four of them at a time get half of the bandwidth.) Where x does not stay in
// L1, as many neighbouring rows as registers allow go by together.
//
// L is the locality of __builtin_prefetch at which requests ahead of use serve a processor best.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernel_table.hpp"

namespace npu::cpu {

// Up to so many bytes of a row of x, weight rows count as short.
constexpr std::int64_t kShortRow = 8192;
// Bytes requested ahead of use in each sequence, and the usual locality of such requests.
constexpr std::int64_t kDotsAhead = 1024;
constexpr int kDotsLocality = 2;

// Weights of storage type D, or int8, widened to float32 as they are loaded.
template <class V, DType D>
struct FloatWeights {
  static constexpr std::int64_t kSize = static_cast<std::int64_t>(dtype_size(D));
  static typename V::Reg load(const std::byte* p) { return V::template load<D>(p); }
  static typename V::Reg load_n(const std::byte* p, std::int64_t n) {
    return V::template load_n<D>(p, n);
  }
};
template <class V>
struct Int8Weights {
  static constexpr std::int64_t kSize = 1;
  static typename V::Reg load(const std::byte* p) { return V::load_i8(p); }
  static typename V::Reg load_n(const std::byte* p, std::int64_t n) { return V::load_i8_n(p, n); }
};

// Float32 arithmetic over `Registers` vectors that the instruction set has room for.
template <class V, class Weights, int Registers>
struct FloatDots {
  using Acc = typename V::Reg;
  using Operand = typename V::Reg;
  static constexpr std::int64_t kWidth = V::width;
  static constexpr std::int64_t kWeightSize = Weights::kSize;
  static constexpr std::int64_t kXSize = 4;
  static constexpr int kRegisters = Registers;

  static Acc zero() { return V::zero(); }
  static Operand weights(const std::byte* p) { return Weights::load(p); }
  static Operand weights_n(const std::byte* p, std::int64_t n) { return Weights::load_n(p, n); }
  struct Pair {
    Operand first, second;
  };
  static Pair weight_pair(const std::byte* p) {
    return {weights(p), weights(p + kWidth * kWeightSize)};
  }
  static Operand x(const std::byte* p) { return V::template load<DType::f32>(p); }
  static Operand x_n(const std::byte* p, std::int64_t n) {
    return V::template load_n<DType::f32>(p, n);
  }
  static Acc multiply(Acc acc, Operand w, Operand x) { return V::fma(w, x, acc); }
  static Acc add(Acc a, Acc b) { return V::add(a, b); }
  // A value that is to stay in its register, since several products take it.
  static Operand kept(Operand v) { return v; }
  static float sum(Acc acc) { return V::sum(acc); }
};

struct DotX {
  const std::byte* base;
  std::int64_t row_bytes;

  template <class A>
  const std::byte* at(int row, std::int64_t k) const {
    return base + row * row_bytes + k * A::kXSize;
  }
};

template <int L>
[[gnu::always_inline]] inline void request(const std::byte* p, std::int64_t bytes) {
  for (std::int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(p + line, 0, L);
}

// One row each of S stretches of `per` rows, until all rows have gone by; two sums for each pair of
// rows, of even and odd vectors, hide the latency of the additions.
template <class A, int L, int S, int M>
void dot_short_rows(const std::byte* w, std::int64_t row_bytes, std::int64_t per, DotX x,
                    std::int64_t k, float* sums, std::int64_t ld) {
  constexpr std::int64_t kStepBytes = 2 * A::kWidth * A::kWeightSize;
  for (std::int64_t j = 0; j < per; ++j, w += row_bytes) {
    typename A::Acc acc[S][M][2];
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) acc[s][i][0] = acc[s][i][1] = A::zero();
    }
    std::int64_t kk = 0;
    for (; kk + 2 * A::kWidth <= k; kk += 2 * A::kWidth) {
      typename A::Pair pair[S];
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) {
        const std::byte* at = w + s * per * row_bytes + kk * A::kWeightSize;
        request<L>(at + kDotsAhead, kStepBytes);
        pair[s] = A::weight_pair(at);
        if constexpr (M == 1) {
          // Weights are used once: they need no registers of their own.
          acc[s][0][0] = A::multiply(acc[s][0][0], pair[s].first, A::x(x.at<A>(0, kk)));
          acc[s][0][1] =
              A::multiply(acc[s][0][1], pair[s].second, A::x(x.at<A>(0, kk + A::kWidth)));
        } else {
          pair[s] = {A::kept(pair[s].first), A::kept(pair[s].second)};
        }
      }
#pragma GCC unroll 8
      for (int i = 0; M > 1 && i < M; ++i) {
        auto first = A::x(x.at<A>(i, kk));
        auto second = A::x(x.at<A>(i, kk + A::kWidth));
        if constexpr (S > 1) {
          first = A::kept(first);
          second = A::kept(second);
        }
#pragma GCC unroll 8
        for (int s = 0; s < S; ++s) {
          acc[s][i][0] = A::multiply(acc[s][i][0], pair[s].first, first);
          acc[s][i][1] = A::multiply(acc[s][i][1], pair[s].second, second);
        }
      }
    }
    for (; kk < k; kk += A::kWidth) {
      const std::int64_t n = std::min(A::kWidth, k - kk);
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) {
        const auto weights = A::weights_n(w + s * per * row_bytes + kk * A::kWeightSize, n);
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) {
          acc[s][i][0] = A::multiply(acc[s][i][0], weights, A::x_n(x.at<A>(i, kk), n));
        }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) {
        sums[i * ld + s * per + j] = A::sum(A::add(acc[s][i][0], acc[s][i][1]));
      }
    }
  }
}

// Several rows at once, one sum each.
template <class A, int L, int Rows, int M>
void dot_long_rows(const std::byte* w, std::int64_t row_bytes, DotX x, std::int64_t k, float* sums,
                   std::int64_t ld) {
  constexpr std::int64_t kStepBytes = 2 * A::kWidth * A::kWeightSize;
  typename A::Acc acc[Rows][M];
#pragma GCC unroll 8
  for (int j = 0; j < Rows; ++j) {
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) acc[j][i] = A::zero();
  }
  std::int64_t kk = 0;
  for (; kk + 2 * A::kWidth <= k; kk += 2 * A::kWidth) {
#pragma GCC unroll 8
    for (int j = 0; j < Rows; ++j) {
      const std::byte* at = w + j * row_bytes + kk * A::kWeightSize;
      request<L>(at + kDotsAhead, kStepBytes);
      const auto pair = A::weight_pair(at);
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) {
        acc[j][i] = A::multiply(acc[j][i], pair.first, A::x(x.at<A>(i, kk)));
        acc[j][i] = A::multiply(acc[j][i], pair.second, A::x(x.at<A>(i, kk + A::kWidth)));
      }
    }
  }
  for (; kk < k; kk += A::kWidth) {
    const std::int64_t n = std::min(A::kWidth, k - kk);
#pragma GCC unroll 8
    for (int j = 0; j < Rows; ++j) {
      const auto weights = A::weights_n(w + j * row_bytes + kk * A::kWeightSize, n);
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) {
        acc[j][i] = A::multiply(acc[j][i], weights, A::x_n(x.at<A>(i, kk), n));
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Rows; ++j) sums[i * ld + j] = A::sum(acc[j][i]);
  }
}

// Which of the two it is depends on k alone, so that a row's sums are the same whatever M is.
template <class A, int L, int M>
void dot_rows_of(const DotBlock& b, float* sums, std::int64_t ld) {
  const auto* w = static_cast<const std::byte*>(b.w);
  const DotX x{static_cast<const std::byte*>(b.x), b.x_bytes};
  if (b.k * A::kXSize <= kShortRow) {
    // Room is left for weights, what widens them, and x. With more rows of x arithmetic takes
    // longer than the weights do, and more than two stretches do not help.
    constexpr int kStretches = std::clamp((A::kRegisters - 6) / (2 * M), 1, M <= 2 ? 4 : 2);
    const std::int64_t per = b.rows / kStretches;
    dot_short_rows<A, L, kStretches, M>(w, b.row_bytes, per, x, b.k, sums, ld);
    const std::int64_t done = per * kStretches;
    dot_short_rows<A, L, 1, M>(w + done * b.row_bytes, b.row_bytes, b.rows - done, x, b.k,
                               sums + done, ld);
    return;
  }
  // Sums, a vector of each row of x, one of weights and one to widen them with.
  constexpr int kRows = std::clamp((A::kRegisters - 2 - M) / M, 1, 8);
  std::int64_t j = 0;
  for (; j + kRows <= b.rows; j += kRows) {
    dot_long_rows<A, L, kRows, M>(w + j * b.row_bytes, b.row_bytes, x, b.k, sums + j, ld);
  }
  for (; j < b.rows; ++j) {
    dot_long_rows<A, L, 1, M>(w + j * b.row_bytes, b.row_bytes, x, b.k, sums + j, ld);
  }
}

// More rows of x than registers hold sums for pass by in parts.
template <class A, int L, int M>
void dot_rows(const DotBlock& b, float* sums, std::int64_t ld) {
  constexpr int kMost = A::kRegisters / 4;
  if constexpr (M <= kMost) {
    dot_rows_of<A, L, M>(b, sums, ld);
  } else {
    // Weights of eight rows at a time, so that the second part finds them in cache.
    for (std::int64_t j = 0; j < b.rows; j += 8) {
      DotBlock part = b;
      part.w = static_cast<const std::byte*>(b.w) + j * b.row_bytes;
      part.rows = std::min<std::int64_t>(8, b.rows - j);
      dot_rows_of<A, L, kMost>(part, sums + j, ld);
      part.x = static_cast<const std::byte*>(b.x) + kMost * b.x_bytes;
      dot_rows_of<A, L, M - kMost>(part, sums + kMost * ld + j, ld);
    }
  }
}

template <class A, int L, int... I>
DotKernels dot_kernels(std::integer_sequence<int, I...>) {
  static_assert(A::kRegisters / 4 * 2 >= kMaxDotBlockRows, "two parts must do");
  return {A::kXSize, {nullptr, &dot_rows<A, L, I + 1>...}};
}

template <class A, int L = kDotsLocality>
DotKernels dot_kernels() {
  return dot_kernels<A, L>(std::make_integer_sequence<int, kMaxDotBlockRows>{});
}

template <class V, int Registers, int L = kDotsLocality>
void fill_dots(KernelTable& t) {
  t.dots[0] = dot_kernels<FloatDots<V, FloatWeights<V, DType::f32>, Registers>, L>();
  t.dots[1] = dot_kernels<FloatDots<V, FloatWeights<V, DType::f16>, Registers>, L>();
  t.dots[2] = dot_kernels<FloatDots<V, FloatWeights<V, DType::bf16>, Registers>, L>();
  for (DotKernels& dots : t.dots_i8) {
    dots = dot_kernels<FloatDots<V, Int8Weights<V>, Registers>, L>();
  }
}

}  // namespace npu::cpu
