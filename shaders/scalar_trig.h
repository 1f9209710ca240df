// Trigonometric functions of scalar formulas and their inverses, for every kernel compiler and for
// the cpu device; as scalar_float.h. Arguments of any size are reduced exactly.
#ifndef NPU_SCALAR_TRIG_H_
#define NPU_SCALAR_TRIG_H_

#include "scalar_float.h"

// Up to here multiples of pi / 2 are subtracted in four parts; beyond, x / (pi / 2) is multiplied
// out in integers.
#define NPU_TRIG_LIMIT 1600.0f

// An angle as quarter turns and a rest of at most pi / 4.
struct NpuAngle {
  npu_f32 r;
  npu_u32 quarter;
};

NPU_FUNC NpuAngle npu_reduce_small(npu_f32 v) {
  const npu_f32 n = npu_round(v * 0x1.45f306p-1f);
  NpuAngle angle;
  angle.r = (((v - n * 0x1.921p+0f) - n * 0x1.f6ap-13f) - n * 0x1.11p-26f) - n * 0x1.68c234p-39f;
  angle.quarter = npu_u32(npu_i32(npu_fabs(v) < NPU_TRIG_LIMIT ? n : 0.0f));
  return angle;
}

// 32 bits of 2 / pi, where word 1 begins behind the binary point.
NPU_FUNC npu_u64 npu_two_over_pi(npu_u32 word) {
  const npu_u32 near = word == 0   ? 0u
                       : word == 1 ? 0xa2f9836eu
                       : word == 2 ? 0x4e441529u
                                   : 0xfc2757d1u;
  const npu_u32 far = word == 4   ? 0xf534ddc0u
                      : word == 5 ? 0xdb629599u
                      : word == 6 ? 0x3c439041u
                                  : 0xfe5163abu;
  return word < 4 ? near : far;
}

// v = m 2^e with an integer m: m times the 96 bits of 2 / pi that matter, modulo four quarters.
NPU_FUNC NpuAngle npu_reduce_large(npu_f32 v) {
  const npu_u32 bits = npu_as_u32(v) & 0x7fffffffu;
  const npu_u64 m = (bits & 0x7fffffu) | 0x800000u;
  const npu_u32 start = (bits >> 23) - 150u + 30u;
  const npu_u32 word = start >> 5;
  const npu_u32 shift = start & 31u;
  const npu_u64 upper = npu_two_over_pi(word) << 32 | npu_two_over_pi(word + 1u);
  const npu_u64 lower = npu_two_over_pi(word + 2u) << 32 | npu_two_over_pi(word + 3u);
  const npu_u64 window = shift == 0u ? upper : upper << shift | lower >> (64u - shift);
  const npu_u64 product = m * window + (m * ((lower << shift) >> 32) >> 32);
  // Two bits of quarters, 62 of a fraction that is at most a half when signed.
  const npu_i64 fraction = npu_i64(product << 2);
  const npu_u32 quarter = npu_u32(product >> 62) + (fraction < 0 ? 1u : 0u);
  const npu_f32 r = npu_f32(fraction) * (NPU_HALF_PI * 0x1p-64f);
  const bool negative = v < 0.0f;
  NpuAngle angle;
  angle.r = negative ? -r : r;
  angle.quarter = negative ? 0u - quarter : quarter;
  return angle;
}

NPU_FUNC npu_f32 npu_sine_of(npu_f32 r) {
  const npu_f32 z = r * r;
  npu_f32 p = 2.8320997e-06f;
  p = p * z - 1.9853047e-04f;
  p = p * z + 8.333379e-03f;
  p = p * z - 1.6666667e-01f;
  return r + r * z * p;
}
NPU_FUNC npu_f32 npu_cosine_of(npu_f32 r) {
  const npu_f32 z = r * r;
  npu_f32 p = -2.8918174e-07f;
  p = p * z + 2.4822448e-05f;
  p = p * z - 1.3888981e-03f;
  p = p * z + 4.1666668e-02f;
  return 1.0f + (z * z * p - 0.5f * z);
}

NPU_FUNC npu_f32 npu_sine(NpuAngle angle) {
  const npu_f32 value = (angle.quarter & 1u) != 0u ? npu_cosine_of(angle.r) : npu_sine_of(angle.r);
  return npu_as_f32(npu_as_u32(value) ^ (angle.quarter & 2u) << 30);
}
NPU_FUNC npu_f32 npu_cosine(NpuAngle angle) {
  angle.quarter += 1u;
  return npu_sine(angle);
}
NPU_FUNC npu_f32 npu_tangent(NpuAngle angle) {
  const npu_f32 s = npu_sine_of(angle.r);
  const npu_f32 c = npu_cosine_of(angle.r);
  return (angle.quarter & 1u) != 0u ? -c / s : s / c;
}

// Arguments below NPU_TRIG_LIMIT, and NaN.
NPU_FUNC npu_f32 npu_sin_small(npu_f32 v) { return v == 0.0f ? v : npu_sine(npu_reduce_small(v)); }
NPU_FUNC npu_f32 npu_cos_small(npu_f32 v) { return npu_cosine(npu_reduce_small(v)); }
NPU_FUNC npu_f32 npu_tan_small(npu_f32 v) {
  return v == 0.0f ? v : npu_tangent(npu_reduce_small(v));
}

NPU_FUNC npu_f32 npu_sin(npu_f32 v) {
  if (!(npu_fabs(v) >= NPU_TRIG_LIMIT)) return npu_sin_small(v);
  return npu_fabs(v) < NPU_INFINITY ? npu_sine(npu_reduce_large(v)) : NPU_NAN;
}
NPU_FUNC npu_f32 npu_cos(npu_f32 v) {
  if (!(npu_fabs(v) >= NPU_TRIG_LIMIT)) return npu_cos_small(v);
  return npu_fabs(v) < NPU_INFINITY ? npu_cosine(npu_reduce_large(v)) : NPU_NAN;
}
NPU_FUNC npu_f32 npu_tan(npu_f32 v) {
  if (!(npu_fabs(v) >= NPU_TRIG_LIMIT)) return npu_tan_small(v);
  return npu_fabs(v) < NPU_INFINITY ? npu_tangent(npu_reduce_large(v)) : NPU_NAN;
}

// ---- Inverse functions

// v + v^3 P(v^2) up to 0.5.
NPU_FUNC npu_f32 npu_arc_sine_of(npu_f32 v) {
  const npu_f32 z = v * v;
  npu_f32 p = 3.7629712e-02f;
  p = p * z + 1.43557e-02f;
  p = p * z + 3.183035e-02f;
  p = p * z + 4.451414e-02f;
  p = p * z + 7.5005196e-02f;
  p = p * z + 1.666666e-01f;
  return v + v * z * p;
}
NPU_FUNC npu_f32 npu_asin(npu_f32 v) {
  const npu_f32 a = npu_fabs(v);
  const npu_f32 from = a <= 0.5f ? a : npu_sqrt(0.5f - 0.5f * a);
  const npu_f32 arc = npu_arc_sine_of(from);
  const npu_f32 result = a <= 0.5f ? arc : (0x1.921p+0f - 2.0f * arc) + 0x1.f6a888p-13f;
  return a > 1.0f ? NPU_NAN : v != v ? v : npu_copysign(result, v);
}
NPU_FUNC npu_f32 npu_acos(npu_f32 v) {
  const npu_f32 a = npu_fabs(v);
  const npu_f32 arc = npu_arc_sine_of(a <= 0.5f ? a : npu_sqrt(0.5f - 0.5f * a));
  const npu_f32 middle = (0x1.921p+0f - npu_copysign(arc, v)) + 0x1.f6a888p-13f;
  const npu_f32 low = (0x1.921p+1f - 2.0f * arc) + 0x1.f6a888p-12f;
  const npu_f32 result = a <= 0.5f ? middle : v < 0.0f ? low : 2.0f * arc;
  return a > 1.0f ? NPU_NAN : v != v ? v : result;
}

// The arc tangent of y / x for 0 <= y <= x: beyond tan(pi / 8) that of (y - x) / (y + x), plus pi
// / 4.
NPU_FUNC npu_f32 npu_arc_tangent_of(npu_f32 y, npu_f32 x) {
  const npu_f32 q = y / x;
  const bool far = q > 0x1.a8279ap-2f;
  const npu_f32 v = far ? (q - 1.0f) / (q + 1.0f) : q;
  const npu_f32 z = v * v;
  npu_f32 p = -6.092794e-02f;
  p = p * z + 1.06001884e-01f;
  p = p * z - 1.4244512e-01f;
  p = p * z + 1.9998533e-01f;
  p = p * z - 3.3333316e-01f;
  const npu_f32 arc = v + v * z * p;
  return far ? (0x1.921p-1f + arc) + 0x1.f6a888p-14f : arc;
}
NPU_FUNC npu_f32 npu_atan(npu_f32 v) {
  const npu_f32 a = npu_fabs(v);
  const npu_f32 arc = npu_arc_tangent_of(a > 1.0f ? 1.0f : a, a > 1.0f ? a : 1.0f);
  const npu_f32 result = a > 1.0f ? (0x1.921p+0f - arc) + 0x1.f6a888p-13f : arc;
  return v != v ? v : npu_copysign(result, v);
}
NPU_FUNC npu_f32 npu_atan2(npu_f32 y, npu_f32 x) {
  npu_f32 ay = npu_fabs(y);
  npu_f32 ax = npu_fabs(x);
  // Infinities count as equal, and an angle at the origin is that of (0, 1).
  const bool infinite = ax == NPU_INFINITY && ay == NPU_INFINITY;
  ax = infinite || (ax == 0.0f && ay == 0.0f) ? 1.0f : ax;
  ay = infinite ? 1.0f : ay;
  const bool steep = ay > ax;
  const npu_f32 arc = npu_arc_tangent_of(steep ? ax : ay, steep ? ay : ax);
  const npu_f32 turned = steep ? (0x1.921p+0f - arc) + 0x1.f6a888p-13f : arc;
  const bool left = (npu_as_u32(x) & 0x80000000u) != 0u;
  const npu_f32 result = left ? (0x1.921p+1f - turned) + 0x1.f6a888p-12f : turned;
  return x != x || y != y ? NPU_NAN : npu_copysign(result, y);
}

#endif  // NPU_SCALAR_TRIG_H_
