// Winograd transforms F(2x2, 3x3) and F(4x4, 3x3) over a vector type V (see simd_kernels.hpp),
// channels across lanes. Interpolation points are 0, 1, -1, infinity and for F(4x4) also 2 and -2.
#pragma once

#include <cstdint>

#include "kernel_table.hpp"

namespace npu::cpu {

template <class V>
struct WinogradF2 {
  using Reg = typename V::Reg;
  static constexpr int kIn = 4;
  static constexpr int kOut = 2;

  [[gnu::always_inline]] static void input(const Reg* d, Reg* out, int step) {
    out[0] = V::sub(d[0], d[2]);
    out[step] = V::add(d[1], d[2]);
    out[2 * step] = V::sub(d[2], d[1]);
    out[3 * step] = V::sub(d[3], d[1]);
  }
  [[gnu::always_inline]] static void output(const Reg* m, Reg* out, int step) {
    out[0] = V::add(V::add(m[0], m[1]), m[2]);
    out[step] = V::add(V::sub(m[1], m[2]), m[3]);
  }
};

template <class V>
struct WinogradF4 {
  using Reg = typename V::Reg;
  static constexpr int kIn = 6;
  static constexpr int kOut = 4;

  [[gnu::always_inline]] static void input(const Reg* d, Reg* out, int step) {
    const Reg four = V::set1(4.0f);
    const Reg minus_four = V::set1(-4.0f);
    const Reg minus_five = V::set1(-5.0f);
    const Reg even = V::fma(minus_four, d[2], d[4]);
    const Reg odd = V::fma(minus_four, d[1], d[3]);
    const Reg even2 = V::sub(d[4], d[2]);
    const Reg odd2 = V::mul(V::set1(2.0f), V::sub(d[3], d[1]));
    out[0] = V::fma(four, d[0], V::fma(minus_five, d[2], d[4]));
    out[step] = V::add(even, odd);
    out[2 * step] = V::sub(even, odd);
    out[3 * step] = V::add(even2, odd2);
    out[4 * step] = V::sub(even2, odd2);
    out[5 * step] = V::fma(four, d[1], V::fma(minus_five, d[3], d[5]));
  }
  [[gnu::always_inline]] static void output(const Reg* m, Reg* out, int step) {
    const Reg s1 = V::add(m[1], m[2]);
    const Reg d1 = V::sub(m[1], m[2]);
    const Reg s2 = V::add(m[3], m[4]);
    const Reg d2 = V::sub(m[3], m[4]);
    out[0] = V::add(V::add(m[0], s1), s2);
    out[step] = V::fma(V::set1(2.0f), d2, d1);
    out[2 * step] = V::fma(V::set1(4.0f), s2, s1);
    out[3 * step] = V::add(V::fma(V::set1(8.0f), d2, d1), m[5]);
  }
};

// Columns first, then rows: out = B^T d B.
template <class V, class F, DType D>
void winograd_input(const void* const* pixels, std::int64_t c, float* v, std::int64_t ldv) {
  using Reg = typename V::Reg;
  constexpr int kIn = F::kIn;
  constexpr auto kSize = static_cast<std::int64_t>(dtype_size(D));
  for (std::int64_t i = 0; i < c; i += V::width) {
    const std::int64_t n = c - i < V::width ? c - i : V::width;
    Reg half[kIn * kIn];
    for (int x = 0; x < kIn; ++x) {
      Reg d[kIn];
#pragma GCC unroll 6
      for (int y = 0; y < kIn; ++y) {
        const std::byte* p = static_cast<const std::byte*>(pixels[y * kIn + x]) + i * kSize;
        d[y] = n == V::width ? V::template load<D>(p) : V::template load_n<D>(p, n);
      }
      F::input(d, half + x, kIn);
    }
    for (int y = 0; y < kIn; ++y) {
      Reg t[kIn];
      F::input(half + y * kIn, t, 1);
#pragma GCC unroll 6
      for (int x = 0; x < kIn; ++x) {
        float* dst = v + (y * kIn + x) * ldv + i;
        if (n == V::width) {
          V::template store<DType::f32>(dst, t[x]);
        } else {
          V::template store_n<DType::f32>(dst, t[x], n);
        }
      }
    }
  }
}

// out = A^T m A.
template <class V, class F>
bool winograd_output(const float* m, std::int64_t ldm, std::int64_t n, float* sums) {
  using Reg = typename V::Reg;
  constexpr int kIn = F::kIn;
  constexpr int kOut = F::kOut;
  Reg nan = V::zero();
  for (std::int64_t i = 0; i < n; i += V::width) {
    Reg half[kOut * kIn];
    for (int x = 0; x < kIn; ++x) {
      Reg d[kIn];
#pragma GCC unroll 6
      for (int y = 0; y < kIn; ++y)
        d[y] = V::template load<DType::f32>(m + (y * kIn + x) * ldm + i);
      F::output(d, half + x, kIn);
    }
    for (int y = 0; y < kOut; ++y) {
      Reg o[kOut];
      F::output(half + y * kIn, o, 1);
#pragma GCC unroll 4
      for (int x = 0; x < kOut; ++x) {
        V::template store<DType::f32>(sums + (y * kOut + x) * n + i, o[x]);
        nan = V::fma(o[x], V::zero(), nan);  // infinity * 0 is NaN, and NaN stays
      }
    }
  }
  return V::sum(nan) == 0.0f;
}

template <class V, class F>
WinogradKernels winograd_kernels() {
  return {{&winograd_input<V, F, DType::f32>, &winograd_input<V, F, DType::f16>,
           &winograd_input<V, F, DType::bf16>},
          &winograd_output<V, F>};
}

template <class V>
void fill_winograd(KernelTable& t) {
  t.winograd_f2 = winograd_kernels<V, WinogradF2<V>>();
  t.winograd_f4 = winograd_kernels<V, WinogradF4<V>>();
}

}  // namespace npu::cpu
