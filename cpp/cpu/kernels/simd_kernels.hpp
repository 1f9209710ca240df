// The inner loops, written once over a vector type V; each instruction set instantiates them in its
// file. V supplies Reg, width, arithmetic, and loads and stores that convert from and to the
// storage types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernel_table.hpp"
#include "row_cursor.hpp"

namespace npu::cpu {

// Bytes of a panel requested ahead of use. The hardware's prefetchers stop at every page; when
// weights come from memory, as they do at batch 1, the restarts add up.
constexpr std::int64_t kPanelAhead = 2048;
constexpr int kIntoL2 = 2;  // locality of __builtin_prefetch

constexpr DType panel_dtype(PanelFormat f) {
  return f == PanelFormat::f16 ? DType::f16 : f == PanelFormat::bf16 ? DType::bf16 : DType::f32;
}

// Rows x (Vecs * V::width) tile of float32 sums held in registers for all of K.
template <class V, PanelFormat F, int Rows, int Vecs>
void gemm_tile(const TileA& a, const void* panel, float* c, std::int64_t ldc) {
  constexpr DType kW = panel_dtype(F);
  constexpr std::int64_t kStep = static_cast<std::int64_t>(dtype_size(kW)) * V::width;
  constexpr std::int64_t kSize = sizeof(float);
  const auto* w = static_cast<const std::byte*>(panel);
  const std::byte* next = a.next != nullptr ? a.next : w;
  typename V::Reg acc[Rows][Vecs];
#pragma GCC unroll 32
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Vecs; ++j) acc[i][j] = V::zero();
  }
  for (std::int64_t r = 0; r < a.runs; ++r) {
    RowCursor<Rows> x(static_cast<const std::byte*>(a.base) + a.run_offsets[r] * kSize,
                      a.lda * kSize);
    for (std::int64_t kk = 0; kk < a.run_k; ++kk) {
      typename V::Reg b[Vecs];
#pragma GCC unroll 8
      for (int j = 0; j < Vecs; ++j) {
        b[j] = V::template load<kW>(w + j * kStep);
        __builtin_prefetch(w + j * kStep + kPanelAhead);
      }
      w += Vecs * kStep;
      __builtin_prefetch(next, 0, kIntoL2);
      next += a.next_step;
#pragma GCC unroll 32
      for (int i = 0; i < Rows; ++i) {
        const typename V::Reg xi = V::set1(*reinterpret_cast<const float*>(x.row(i)));
#pragma GCC unroll 8
        for (int j = 0; j < Vecs; ++j) acc[i][j] = V::fma(xi, b[j], acc[i][j]);
      }
      x.advance(kSize);
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Vecs; ++j)
      V::template store<DType::f32>(c + i * ldc + j * V::width, acc[i][j]);
  }
}

template <class V, PanelFormat F, int Vecs, int... I>
void fill_tiles(TileFn* tiles, std::integer_sequence<int, I...>) {
  ((tiles[I + 1] = &gemm_tile<V, F, I + 1, Vecs>), ...);
}

template <class V, DType D>
void widen_row(const void* src, std::int64_t n, void* dst, void* /*low*/) {
  const auto* s = static_cast<const std::byte*>(src);
  auto* d = static_cast<float*>(dst);
  constexpr auto kSize = static_cast<std::int64_t>(dtype_size(D));
  std::int64_t i = 0;
  for (; i + V::width <= n; i += V::width) {
    V::template store<DType::f32>(d + i, V::template load<D>(s + i * kSize));
  }
  if (i < n)
    V::template store_n<DType::f32>(d + i, V::template load_n<D>(s + i * kSize, n - i), n - i);
}

template <class V, DType D>
void narrow_row(const float* src, std::int64_t n, void* dst) {
  auto* d = static_cast<std::byte*>(dst);
  constexpr auto kSize = static_cast<std::int64_t>(dtype_size(D));
  std::int64_t i = 0;
  for (; i + V::width <= n; i += V::width) {
    V::template store<D>(d + i * kSize, V::template load<DType::f32>(src + i));
  }
  if (i < n)
    V::template store_n<D>(d + i * kSize, V::template load_n<DType::f32>(src + i, n - i), n - i);
}

template <class V, DType D>
void widen_int8(const void* src, std::int64_t n, void* dst) {
  const auto* s = static_cast<const std::byte*>(src);
  auto* d = static_cast<std::byte*>(dst);
  constexpr auto kSize = static_cast<std::int64_t>(dtype_size(D));
  std::int64_t i = 0;
  for (; i + V::width <= n; i += V::width) V::template store<D>(d + i * kSize, V::load_i8(s + i));
  if (i < n) V::template store_n<D>(d + i * kSize, V::load_i8_n(s + i, n - i), n - i);
}

// Columns of the usual panel: both vectors of a row, which are one cache line of halves.
template <class V, DType D, DType Y, bool Residual>
void store_line(const float* sums, std::int64_t ld, int rows, const TileStore& st) {
  constexpr auto kBytes = static_cast<std::int64_t>(dtype_size(D)) * V::width;
  constexpr auto kBytesY = static_cast<std::int64_t>(dtype_size(Y)) * V::width;
  const typename V::Reg lo = V::set1(st.lo);
  const typename V::Reg hi = V::set1(st.hi);
  const bool biased = st.bias != nullptr;
  const typename V::Reg bias0 = biased ? V::template load<DType::f32>(st.bias) : V::zero();
  const typename V::Reg bias1 =
      biased ? V::template load<DType::f32>(st.bias + V::width) : V::zero();
  for (int i = 0; i < rows; ++i, sums += ld) {
    typename V::Reg v0 = V::add(V::template load<DType::f32>(sums), bias0);
    typename V::Reg v1 = V::add(V::template load<DType::f32>(sums + V::width), bias1);
    if constexpr (Residual) {
      const auto* r = static_cast<const std::byte*>(st.residual[i]);
      v0 = V::add(v0, V::template load<D>(r));
      v1 = V::add(v1, V::template load<D>(r + kBytes));
    }
    auto* y = static_cast<std::byte*>(st.y[i]);
    V::template store<Y>(y, V::clamp(v0, lo, hi));
    V::template store<Y>(y + kBytesY, V::clamp(v1, lo, hi));
  }
}

// D is the storage type of the residual, Y that of the result.
template <class V, DType D, DType Y>
void store_tile(const float* sums, std::int64_t ld, int rows, std::int64_t n, const TileStore& st) {
  if (n == 2 * V::width) {
    return st.residual != nullptr ? store_line<V, D, Y, true>(sums, ld, rows, st)
                                  : store_line<V, D, Y, false>(sums, ld, rows, st);
  }
  constexpr auto kSize = static_cast<std::int64_t>(dtype_size(D));
  constexpr auto kSizeY = static_cast<std::int64_t>(dtype_size(Y));
  const typename V::Reg lo = V::set1(st.lo);
  const typename V::Reg hi = V::set1(st.hi);
  for (std::int64_t j = 0; j < n; j += V::width) {
    const std::int64_t m = n - j < V::width ? n - j : V::width;
    const bool full = m == V::width;
    typename V::Reg bias = V::zero();
    if (st.bias != nullptr) {
      bias = full ? V::template load<DType::f32>(st.bias + j)
                  : V::template load_n<DType::f32>(st.bias + j, m);
    }
    for (int i = 0; i < rows; ++i) {
      const float* s = sums + i * ld + j;
      auto* y = static_cast<std::byte*>(st.y[i]) + j * kSizeY;
      typename V::Reg v =
          full ? V::template load<DType::f32>(s) : V::template load_n<DType::f32>(s, m);
      v = V::add(v, bias);
      if (st.residual != nullptr) {
        const std::byte* r = static_cast<const std::byte*>(st.residual[i]) + j * kSize;
        v = V::add(v, full ? V::template load<D>(r) : V::template load_n<D>(r, m));
      }
      v = V::clamp(v, lo, hi);
      if (full) {
        V::template store<Y>(y, v);
      } else {
        V::template store_n<Y>(y, v, m);
      }
    }
  }
}

template <class V, class Change>
void change_tile(float* v, std::int64_t ld, int rows, std::int64_t n, const Change& change) {
  for (int i = 0; i < rows; ++i, v += ld) {
    std::int64_t j = 0;
    for (; j + V::width <= n; j += V::width) {
      V::template store<DType::f32>(v + j,
                                    change(V::template load<DType::f32>(v + j), i, j, V::width));
    }
    if (j < n) {
      V::template store_n<DType::f32>(
          v + j, change(V::template load_n<DType::f32>(v + j, n - j), i, j, n - j), n - j);
    }
  }
}

template <class V>
void scale_tile(float* v, std::int64_t ld, int rows, std::int64_t n, const float* scale,
                const float* bias) {
  const auto at = [](const float* p, std::int64_t j, std::int64_t count) {
    return count == V::width ? V::template load<DType::f32>(p + j)
                             : V::template load_n<DType::f32>(p + j, count);
  };
  change_tile<V>(v, ld, rows, n, [&](typename V::Reg x, int, std::int64_t j, std::int64_t count) {
    if (scale != nullptr) x = V::mul(x, at(scale, j, count));
    if (bias != nullptr) x = V::add(x, at(bias, j, count));
    return x;
  });
}

template <class V>
void multiply_tile(float* v, const float* by, std::int64_t ld, int rows, std::int64_t n) {
  change_tile<V>(v, ld, rows, n, [&](typename V::Reg x, int i, std::int64_t j, std::int64_t count) {
    const float* p = by + i * ld + j;
    return V::mul(x, count == V::width ? V::template load<DType::f32>(p)
                                       : V::template load_n<DType::f32>(p, count));
  });
}

// infinity * 0 is NaN, and NaN stays.
template <class V>
bool all_finite(const float* v, std::int64_t n) {
  typename V::Reg nan = V::zero();
  std::int64_t i = 0;
  for (; i + V::width <= n; i += V::width)
    nan = V::fma(V::template load<DType::f32>(v + i), V::zero(), nan);
  if (i < n) nan = V::fma(V::template load_n<DType::f32>(v + i, n - i), V::zero(), nan);
  return V::sum(nan) == 0.0f;
}

// Rows of w times one vector; two partial sums a row hide the latency of the additions.
template <class V, DType D, int Rows>
void dot_block(const std::byte* w, std::int64_t row_bytes, const float* x, std::int64_t k,
               float* out) {
  constexpr auto kSize = static_cast<std::int64_t>(dtype_size(D));
  typename V::Reg acc[Rows][2];
  for (int j = 0; j < Rows; ++j) acc[j][0] = acc[j][1] = V::zero();
  std::int64_t i = 0;
  for (; i + 2 * V::width <= k; i += 2 * V::width) {
    const typename V::Reg x0 = V::template load<DType::f32>(x + i);
    const typename V::Reg x1 = V::template load<DType::f32>(x + i + V::width);
#pragma GCC unroll 8
    for (int j = 0; j < Rows; ++j) {
      const std::byte* row = w + j * row_bytes + i * kSize;
      acc[j][0] = V::fma(V::template load<D>(row), x0, acc[j][0]);
      acc[j][1] = V::fma(V::template load<D>(row + V::width * kSize), x1, acc[j][1]);
    }
  }
  for (; i < k; i += V::width) {
    const std::int64_t n = k - i < V::width ? k - i : V::width;
    const typename V::Reg x0 = V::template load_n<DType::f32>(x + i, n);
    for (int j = 0; j < Rows; ++j) {
      acc[j][0] = V::fma(V::template load_n<D>(w + j * row_bytes + i * kSize, n), x0, acc[j][0]);
    }
  }
  for (int j = 0; j < Rows; ++j) out[j] = V::sum(V::add(acc[j][0], acc[j][1]));
}

template <class V, DType D>
void dot_rows(const void* w, std::int64_t ldw, const void* x, std::int64_t k, int rows,
              float* out) {
  const std::int64_t row_bytes = ldw * static_cast<std::int64_t>(dtype_size(D));
  const auto* p = static_cast<const std::byte*>(w);
  const auto* xf = static_cast<const float*>(x);
  int j = 0;
  for (; j + 4 <= rows; j += 4) dot_block<V, D, 4>(p + j * row_bytes, row_bytes, xf, k, out + j);
  for (; j < rows; ++j) dot_block<V, D, 1>(p + j * row_bytes, row_bytes, xf, k, out + j);
}

template <class V, DType D>
void depthwise_pixel(const void* const* taps, std::int64_t n_taps, const float* w, std::int64_t ldw,
                     std::int64_t c, float* sums) {
  constexpr auto kSize = static_cast<std::int64_t>(dtype_size(D));
  for (std::int64_t i = 0; i < c; i += V::width) {
    const std::int64_t n = c - i < V::width ? c - i : V::width;
    typename V::Reg acc = V::zero();
    for (std::int64_t t = 0; t < n_taps; ++t) {
      if (taps[t] == nullptr) continue;
      const std::byte* x = static_cast<const std::byte*>(taps[t]) + i * kSize;
      acc = n == V::width
                ? V::fma(V::template load<D>(x), V::template load<DType::f32>(w + t * ldw + i), acc)
                : V::fma(V::template load_n<D>(x, n),
                         V::template load_n<DType::f32>(w + t * ldw + i, n), acc);
    }
    V::template store_n<DType::f32>(sums + i, acc, n);
  }
}

struct MaxNan {
  template <class V>
  static typename V::Reg apply(typename V::Reg acc, typename V::Reg x) {
    return V::max_nan(acc, x);
  }
};
struct Sum {
  template <class V>
  static typename V::Reg apply(typename V::Reg acc, typename V::Reg x) {
    return V::add(acc, x);
  }
};

template <class V, DType D, class Op>
void accumulate(float* acc, const void* x, std::int64_t c) {
  constexpr auto kSize = static_cast<std::int64_t>(dtype_size(D));
  const auto* p = static_cast<const std::byte*>(x);
  std::int64_t i = 0;
  for (; i + V::width <= c; i += V::width) {
    V::template store<DType::f32>(acc + i,
                                  Op::template apply<V>(V::template load<DType::f32>(acc + i),
                                                        V::template load<D>(p + i * kSize)));
  }
  if (i < c) {
    const std::int64_t n = c - i;
    V::template store_n<DType::f32>(
        acc + i,
        Op::template apply<V>(V::template load_n<DType::f32>(acc + i, n),
                              V::template load_n<D>(p + i * kSize, n)),
        n);
  }
}

template <class V, DType D>
void fill_row_kernels(KernelTable& t) {
  constexpr auto i = static_cast<std::size_t>(D);
  t.scale_tile = &scale_tile<V>;
  t.multiply_tile = &multiply_tile<V>;
  t.all_finite = &all_finite<V>;
  t.store_tile[i] = &store_tile<V, D, D>;
  t.add_tile[i] = &store_tile<V, D, DType::f32>;
  t.widen_f32[i] = &widen_row<V, D>;
  t.narrow_f32[i] = &narrow_row<V, D>;
  t.widen_i8[i] = &widen_int8<V, D>;
  t.dot_rows[i] = &dot_rows<V, D>;
  t.depthwise[i] = &depthwise_pixel<V, D>;
  t.accumulate_max[i] = &accumulate<V, D, MaxNan>;
  t.accumulate_sum[i] = &accumulate<V, D, Sum>;
}

// Panels of format F multiplied in float32 by A widened from storage type D.
template <class V, PanelFormat F, DType D, int Rows, int Vecs>
GemmKernels float_gemm() {
  GemmKernels g{};
  g.format = F;
  g.max_rows = Rows;
  g.nr = Vecs * V::width;
  g.k_unit = 1;
  g.a_size = 4;
  g.a_planes = 1;
  g.macs_per_cycle = V::width;
  g.widen = &widen_row<V, D>;
  fill_tiles<V, F, Vecs>(g.tile, std::make_integer_sequence<int, Rows>{});
  return g;
}

}  // namespace npu::cpu
