// What every kernel may use on every compiler: a thread's place, and the functions of scalar
// formulas.
#ifndef NPU_COMMON_H_
#define NPU_COMMON_H_

// Where a thread stands. A launch rounds up to whole threadgroups, so kernels check x, y and z
// themselves.
struct NpuThread {
  npu_u32 group_x, group_y, group_z;  // its threadgroup in the grid
  npu_u32 x, y, z;                    // itself in the grid
  npu_u32 index;                      // in its threadgroup
  npu_u32 lane;                       // in its SIMD group of 32
  npu_u32 simd;                       // its SIMD group in the threadgroup
};

#define NPU_INFINITY npu_as_f32(0x7f800000u)

// Maximum and minimum as PyTorch's: NaN wins.
NPU_FUNC npu_f32 npu_max(npu_f32 a, npu_f32 b) { return a > b || a != a ? a : b; }
NPU_FUNC npu_f32 npu_min(npu_f32 a, npu_f32 b) { return a < b || a != a ? a : b; }
NPU_FUNC npu_f32 npu_clamp(npu_f32 v, npu_f32 lo, npu_f32 hi) {
  return npu_min(npu_max(v, lo), hi);
}

NPU_FUNC npu_f32 npu_fabs(npu_f32 v) { return npu_as_f32(npu_as_u32(v) & 0x7fffffffu); }

#include "scalar_integer.h"

// The error function, within 2 ulp. Up to 0.85 x + x p(x^2), beyond it 1 - exp(p(|x|)); beyond 3.95
// the nearest float32 is 1. The polynomials are Chebyshev interpolants of erf(x)/x - 1 in x^2 over
// [0, 0.7225] and of log(erfc(x)) over [0.85, 3.95]; tests/reference measures the error.
NPU_FUNC npu_f32 npu_erf(npu_f32 x) {
  const npu_f32 a = npu_fabs(x);
  if (a <= 0.85f) {
    const npu_f32 s = x * x;
    npu_f32 p = 8.85386616573669e-05f;
    p = p * s - 0.0008248131489381194f;
    p = p * s + 0.005209613125771284f;
    p = p * s - 0.026862600818276405f;
    p = p * s + 0.11283749341964722f;
    p = p * s - 0.37612637877464294f;
    p = p * s + 0.12837916612625122f;
    return x + x * p;
  }
  const npu_f32 t = npu_min(a, 3.95f);
  npu_f32 p = 1.6094030570457107e-06f;
  p = p * t - 4.547739081317559e-05f;
  p = p * t + 0.0005916336667723954f;
  p = p * t - 0.004734040703624487f;
  p = p * t + 0.026344696059823036f;
  p = p * t - 0.10993868857622147f;
  p = p * t - 0.6319836378097534f;
  p = p * t - 1.1301368474960327f;
  p = p * t + 0.0002952619979623705f;
  const npu_f32 magnitude = 1.0f - npu_exp(p);
  return npu_as_f32(npu_as_u32(magnitude) | (npu_as_u32(x) & 0x80000000u));
}

NPU_FUNC npu_f32 npu_sigmoid(npu_f32 x) { return 1.0f / (1.0f + npu_exp(-x)); }

#include "scalar_float.h"
#include "scalar_trig.h"

// v Phi(v). Phi(-a) = e^(-a^2 / 2) P(a) / Q(a), whose coefficients are positive, so that the tail
// is as exact as the rest; a^2 is taken in two parts, the first exact.
NPU_FUNC npu_f32 npu_gelu(npu_f32 v) {
  const npu_f32 a = npu_fabs(v);
  const npu_f32 y = a > 14.0f ? 14.0f : a;
  const npu_f32 high = npu_as_f32(npu_as_u32(y) & 0xfffff000u);
  const npu_f32 low = 0.5f * ((high - y) * (high + y));  // at most 0.06
  const npu_f32 exp_low = 1.0f + low * (1.0f + low * (0.5f + low * 0.16666667f));
  npu_f32 p = 4.020169e-03f;
  p = p * y + 3.9984036e-02f;
  p = p * y + 1.8130636e-01f;
  p = p * y + 4.356858e-01f;
  p = p * y + 0.5f;
  npu_f32 q = 1.0076926e-02f;
  q = q * y + 1.002325e-01f;
  q = q * y + 4.6437928e-01f;
  q = q * y + 1.1944826e+00f;
  q = q * y + 1.6692566e+00f;
  q = q * y + 1.0f;
  const npu_f32 tail = npu_exp(-0.5f * (high * high)) * exp_low * (p / q);
  const npu_f32 product = v * (a >= 14.0f ? 0.0f : tail);
  const npu_f32 result = v > 0.0f ? v - product : product;
  return v > 14.0f ? v : result;
}

#endif  // NPU_COMMON_H_
