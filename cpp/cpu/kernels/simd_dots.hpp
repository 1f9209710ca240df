// Products of weight rows, read where they lie, with up to kMaxDotBlockRows rows of x: the inner
// loops of linear layers of few rows. An arithmetic A says how weights and x are loaded and
// multiplied.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernel_table.hpp"

namespace npu::cpu {

// Weights of storage type D, or int8, widened to float32 as they are loaded; x is float32.
template <class V, DType D>
struct FloatWeights {
  static typename V::Reg load(const std::byte* p) { return V::template load<D>(p); }
  static typename V::Reg load_n(const std::byte* p, std::int64_t n) {
    return V::template load_n<D>(p, n);
  }
  static constexpr std::int64_t kSize = static_cast<std::int64_t>(dtype_size(D));
};
template <class V>
struct Int8Weights {
  static typename V::Reg load(const std::byte* p) { return V::load_i8(p); }
  static typename V::Reg load_n(const std::byte* p, std::int64_t n) { return V::load_i8_n(p, n); }
  static constexpr std::int64_t kSize = 1;
};
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
  static Operand x(const std::byte* p) { return V::template load<DType::f32>(p); }
  static Operand x_n(const std::byte* p, std::int64_t n) {
    return V::template load_n<DType::f32>(p, n);
  }
  static Acc multiply(Acc acc, Operand w, Operand x) { return V::fma(w, x, acc); }
  static float sum(Acc acc) { return V::sum(acc); }
};

// Bytes of a weight row requested ahead of use, and from its end on the row that follows the block:
// hardware prefetchers stop at page ends and do not know that rows come several at a time.
constexpr std::int64_t kDotsAhead = 1024;

template <class A, int Rows, int M>
void dot_tile(const std::byte* w, std::int64_t row_bytes, const std::byte* x, std::int64_t x_bytes,
              std::int64_t k, float* sums, std::int64_t ld) {
  constexpr std::int64_t kStep = A::kWidth * A::kWeightSize;
  typename A::Acc acc[Rows][M];
#pragma GCC unroll 8
  for (int j = 0; j < Rows; ++j) {
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) acc[j][i] = A::zero();
  }
  const auto steps = [&](std::int64_t from, std::int64_t to, std::int64_t ahead) {
    const std::byte* at = w + from * A::kWeightSize;
    for (std::int64_t kk = from; kk < to; kk += A::kWidth, at += kStep) {
      typename A::Operand weights[Rows];
#pragma GCC unroll 8
      for (int j = 0; j < Rows; ++j) {
        weights[j] = A::weights(at + j * row_bytes);
        __builtin_prefetch(at + j * row_bytes + ahead);
      }
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) {
        const typename A::Operand xi = A::x(x + i * x_bytes + kk * A::kXSize);
#pragma GCC unroll 8
        for (int j = 0; j < Rows; ++j) acc[j][i] = A::multiply(acc[j][i], weights[j], xi);
      }
    }
  };
  const std::int64_t whole = k / A::kWidth * A::kWidth;
  const std::int64_t turn =
      std::max<std::int64_t>(0, k - kDotsAhead / A::kWeightSize) / A::kWidth * A::kWidth;
  steps(0, turn, kDotsAhead);
  steps(turn, whole, kDotsAhead + (Rows - 1) * row_bytes);
  if (whole < k) {
    const std::int64_t rest = k - whole;
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const typename A::Operand xi = A::x_n(x + i * x_bytes + whole * A::kXSize, rest);
#pragma GCC unroll 8
      for (int j = 0; j < Rows; ++j) {
        acc[j][i] = A::multiply(acc[j][i],
                                A::weights_n(w + j * row_bytes + whole * A::kWeightSize, rest), xi);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Rows; ++j) sums[i * ld + j] = A::sum(acc[j][i]);
  }
}

template <class A, int M>
void dot_rows_of(const DotBlock& b, float* sums, std::int64_t ld) {
  // Sums take three quarters of the registers at most; more than four streams gain nothing.
  constexpr int kRows = std::clamp(A::kRegisters * 3 / 4 / M, 1, 4);
  const auto* w = static_cast<const std::byte*>(b.w);
  const auto* x = static_cast<const std::byte*>(b.x);
  std::int64_t j = 0;
  for (; j + kRows <= b.rows; j += kRows) {
    dot_tile<A, kRows, M>(w + j * b.row_bytes, b.row_bytes, x, b.x_bytes, b.k, sums + j, ld);
  }
  for (; j < b.rows; ++j) {
    dot_tile<A, 1, M>(w + j * b.row_bytes, b.row_bytes, x, b.x_bytes, b.k, sums + j, ld);
  }
}

template <class A, int... I>
DotKernels dot_kernels(std::integer_sequence<int, I...>) {
  return {A::kXSize, {nullptr, &dot_rows_of<A, I + 1>...}};
}

template <class A>
DotKernels dot_kernels() {
  return dot_kernels<A>(std::make_integer_sequence<int, kMaxDotBlockRows>{});
}

// Registers: how many vectors the instruction set can hold.
template <class V, int Registers>
void fill_dots(KernelTable& t) {
  t.dots[0] = dot_kernels<FloatDots<V, FloatWeights<V, DType::f32>, Registers>>();
  t.dots[1] = dot_kernels<FloatDots<V, FloatWeights<V, DType::f16>, Registers>>();
  t.dots[2] = dot_kernels<FloatDots<V, FloatWeights<V, DType::bf16>, Registers>>();
  for (DotKernels& dots : t.dots_i8) {
    dots = dot_kernels<FloatDots<V, Int8Weights<V>, Registers>>();
  }
}

}  // namespace npu::cpu
