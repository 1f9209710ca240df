// Winograd F(4x4, 3x3) transforms over a vector type V (see simd_kernels.hpp), channels across lanes.
#pragma once

#include <cstdint>

#include "kernel_table.hpp"

namespace npu::cpu {

// One application of B^T to six values `step` apart.
template <class V>
[[gnu::always_inline]] inline void winograd_bt(const typename V::Reg* d, int step, typename V::Reg* out,
                                               int out_step) {
  using Reg = typename V::Reg;
  const Reg two = V::set1(2.0f);
  const Reg four = V::set1(4.0f);
  const Reg minus_four = V::set1(-4.0f);
  const Reg minus_five = V::set1(-5.0f);
  const Reg d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step],
            d5 = d[5 * step];
  const Reg even = V::fma(minus_four, d2, d4);
  const Reg odd = V::fma(minus_four, d1, d3);
  const Reg even2 = V::sub(d4, d2);
  const Reg odd2 = V::mul(two, V::sub(d3, d1));
  out[0] = V::fma(four, d0, V::fma(minus_five, d2, d4));
  out[out_step] = V::add(even, odd);
  out[2 * out_step] = V::sub(even, odd);
  out[3 * out_step] = V::add(even2, odd2);
  out[4 * out_step] = V::sub(even2, odd2);
  out[5 * out_step] = V::fma(four, d1, V::fma(minus_five, d3, d5));
}

// One application of A^T: six values to four.
template <class V>
[[gnu::always_inline]] inline void winograd_at(const typename V::Reg* m, int step, typename V::Reg* out,
                                               int out_step) {
  using Reg = typename V::Reg;
  const Reg s1 = V::add(m[step], m[2 * step]);
  const Reg d1 = V::sub(m[step], m[2 * step]);
  const Reg s2 = V::add(m[3 * step], m[4 * step]);
  const Reg d2 = V::sub(m[3 * step], m[4 * step]);
  out[0] = V::add(V::add(m[0], s1), s2);
  out[out_step] = V::fma(V::set1(2.0f), d2, d1);
  out[2 * out_step] = V::fma(V::set1(4.0f), s2, s1);
  out[3 * out_step] = V::add(V::fma(V::set1(8.0f), d2, d1), m[5 * step]);
}

template <class V, DType D>
void winograd_input(const void* const* pixels, std::int64_t c, float* v, std::int64_t ldv) {
  constexpr auto kSize = static_cast<std::int64_t>(dtype_size(D));
  for (std::int64_t i = 0; i < c; i += V::width) {
    const std::int64_t n = c - i < V::width ? c - i : V::width;
    typename V::Reg half[36];
    for (int x = 0; x < 6; ++x) {
      typename V::Reg d[6];
#pragma GCC unroll 6
      for (int y = 0; y < 6; ++y) {
        const std::byte* p = static_cast<const std::byte*>(pixels[y * 6 + x]) + i * kSize;
        d[y] = n == V::width ? V::template load<D>(p) : V::template load_n<D>(p, n);
      }
      winograd_bt<V>(d, 1, half + x, 6);
    }
    for (int y = 0; y < 6; ++y) {
      typename V::Reg t[6];
      winograd_bt<V>(half + y * 6, 1, t, 1);
#pragma GCC unroll 6
      for (int x = 0; x < 6; ++x) {
        V::template store_n<DType::f32>(v + (y * 6 + x) * ldv + i, t[x], n);
      }
    }
  }
}

template <class V>
void winograd_output(const float* m, std::int64_t ldm, std::int64_t n, float* sums) {
  for (std::int64_t i = 0; i < n; i += V::width) {
    typename V::Reg half[24];
    for (int x = 0; x < 6; ++x) {
      typename V::Reg d[6];
#pragma GCC unroll 6
      for (int y = 0; y < 6; ++y) d[y] = V::template load<DType::f32>(m + (y * 6 + x) * ldm + i);
      winograd_at<V>(d, 1, half + x, 6);
    }
    for (int y = 0; y < 4; ++y) {
      typename V::Reg o[4];
      winograd_at<V>(half + y * 6, 1, o, 1);
#pragma GCC unroll 4
      for (int x = 0; x < 4; ++x) V::template store<DType::f32>(sums + (y * 4 + x) * n + i, o[x]);
    }
  }
}

template <class V>
void fill_winograd(KernelTable& t) {
  t.winograd_input[0] = &winograd_input<V, DType::f32>;
  t.winograd_input[1] = &winograd_input<V, DType::f16>;
  t.winograd_input[2] = &winograd_input<V, DType::bf16>;
  t.winograd_output = &winograd_output<V>;
}

}  // namespace npu::cpu
