// Float functions of scalar formulas, for every kernel compiler and for the cpu device, over
// npu_exp, npu_log, npu_sqrt, npu_erf and npu_sigmoid. NaN, infinities and signed zeros are as in
// IEEE 754's recommended functions. Free of branches where that costs little, so that loops over
// them vectorise.
//
// The polynomials are fits of least relative error over the intervals named;
// tests/cpu/test_scalar_accuracy.py states and measures the errors in ulp.
#ifndef NPU_SCALAR_FLOAT_H_
#define NPU_SCALAR_FLOAT_H_

#define NPU_NAN npu_as_f32(0x7fc00000u)
#define NPU_LN2 0x1.62e43p-1f
#define NPU_HALF_PI 0x1.921fb6p+0f

NPU_FUNC npu_f32 npu_copysign(npu_f32 magnitude, npu_f32 sign) {
  return npu_as_f32((npu_as_u32(magnitude) & 0x7fffffffu) | (npu_as_u32(sign) & 0x80000000u));
}

// 2^n for n in [-126, 127].
NPU_FUNC npu_f32 npu_power_of_two(npu_i32 n) { return npu_as_f32(npu_u32(n + 127) << 23); }

// v 2^n for n in [-252, 254], with one rounding unless the result is subnormal.
NPU_FUNC npu_f32 npu_scale(npu_f32 v, npu_i32 n) {
  const npu_i32 half_n = n >> 1;
  return v * npu_power_of_two(half_n) * npu_power_of_two(n - half_n);
}

// ---- Rounding

// Floats of this magnitude and above are integers.
#define NPU_INTEGRAL 8388608.0f

// To the nearest integer, ties to even: the sum with 2^23 has no room for a fraction.
NPU_FUNC npu_f32 npu_round(npu_f32 v) {
  const npu_f32 a = npu_fabs(v);
  const npu_f32 rounded = npu_copysign((a + NPU_INTEGRAL) - NPU_INTEGRAL, v);
  return a < NPU_INTEGRAL ? rounded : v;
}
NPU_FUNC npu_f32 npu_floor(npu_f32 v) {
  const npu_f32 r = npu_round(v);
  return r - (r > v ? 1.0f : 0.0f);
}
NPU_FUNC npu_f32 npu_ceil(npu_f32 v) {
  const npu_f32 r = npu_round(v);
  return npu_copysign(r + (r < v ? 1.0f : 0.0f), v);
}
NPU_FUNC npu_f32 npu_trunc(npu_f32 v) { return npu_copysign(npu_floor(npu_fabs(v)), v); }

// To the nearest float16 and bfloat16, ties to even.
NPU_FUNC npu_f32 npu_round_f16(npu_f32 v) {
  const npu_u32 magnitude = npu_as_u32(v) & 0x7fffffffu;
  const npu_f32 normal = npu_as_f32((magnitude + 0xfffu + (magnitude >> 13 & 1u)) & 0xffffe000u);
  // Subnormal values are multiples of 2^-24, as sums with 0.5 are.
  const npu_f32 subnormal = (npu_as_f32(magnitude) + 0.5f) - 0.5f;
  const npu_f32 finite = magnitude < 0x38800000u ? subnormal : normal;
  const npu_f32 rounded = magnitude >= 0x477ff000u ? NPU_INFINITY : finite;
  return v != v ? v : npu_copysign(rounded, v);
}
NPU_FUNC npu_f32 npu_round_bf16(npu_f32 v) {
  const npu_u32 bits = npu_as_u32(v);
  return v != v ? v : npu_as_f32((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
}

// ---- Division

// The remainder of a / b with the sign of a, exactly: long division of the mantissas, 40 bits a
// step.
NPU_FUNC npu_f32 npu_fmod(npu_f32 a, npu_f32 b) {
  const npu_f32 x = npu_fabs(a);
  const npu_f32 y = npu_fabs(b);
  if (!(x < NPU_INFINITY) || y == 0.0f || b != b) return NPU_NAN;
  if (x < y) return a;
  const npu_u32 x_bits = npu_as_u32(x);
  const npu_u32 y_bits = npu_as_u32(y);
  const npu_i32 x_exponent = x_bits < 0x800000u ? 1 : npu_i32(x_bits >> 23);
  const npu_i32 y_exponent = y_bits < 0x800000u ? 1 : npu_i32(y_bits >> 23);
  const npu_u64 divisor = (y_bits & 0x7fffffu) | (y_bits < 0x800000u ? 0u : 0x800000u);
  npu_u64 rest = (x_bits & 0x7fffffu) | (x_bits < 0x800000u ? 0u : 0x800000u);
  rest %= divisor;
  for (npu_i32 left = x_exponent - y_exponent; left > 0 && rest != 0; left -= 40) {
    rest = (rest << (left < 40 ? left : 40)) % divisor;
  }
  // rest < 2^24 in units of 2^(y_exponent - 150).
  return npu_copysign(npu_scale(npu_f32(rest), y_exponent - 150), a);
}

// The remainder with the sign of b, as PyTorch's and Python's, from that with the sign of a.
NPU_FUNC npu_f32 npu_remainder_from(npu_f32 r, npu_f32 b) {
  return r != 0.0f && (r < 0.0f) != (b < 0.0f) ? r + b : r;
}
NPU_FUNC npu_f32 npu_remainder(npu_f32 a, npu_f32 b) {
  return npu_remainder_from(npu_fmod(a, b), b);
}

// The quotient rounded down as PyTorch's, from the remainder with the sign of a.
NPU_FUNC npu_f32 npu_div_floor_from(npu_f32 r, npu_f32 a, npu_f32 b) {
  const bool other_sign = r != 0.0f && (r < 0.0f) != (b < 0.0f);
  const npu_f32 q = (a - r) / b - (other_sign ? 1.0f : 0.0f);
  const npu_f32 down = npu_floor(q);
  const npu_f32 nearest = q - down > 0.5f ? down + 1.0f : down;
  return b == 0.0f ? a / b : q == 0.0f ? npu_copysign(0.0f, a / b) : nearest;
}
NPU_FUNC npu_f32 npu_div_floor(npu_f32 a, npu_f32 b) {
  return npu_div_floor_from(npu_fmod(a, b), a, b);
}

// ---- Exponentials

NPU_FUNC npu_f32 npu_exp2(npu_f32 v) {
  npu_f32 x = v > 129.0f ? 129.0f : v;
  x = x < -152.0f ? -152.0f : x;
  const npu_f32 n = npu_round(x);
  return npu_scale(npu_exp((x - n) * NPU_LN2), npu_i32(v != v ? 0.0f : n));
}

// e^v - 1 = 2^k (e^r - 1) + (2^k - 1), with |r| <= ln2 / 2; twice the half of it, since 2^128 is no
// float32.
NPU_FUNC npu_f32 npu_expm1(npu_f32 v) {
  npu_f32 x = v > 89.0f ? 89.0f : v;
  x = x < -18.0f ? -18.0f : x;
  const npu_f32 n = npu_round(x * 0x1.715476p+0f);
  const npu_f32 r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  npu_f32 p = 1.9767751e-04f;
  p = p * r + 1.3933228e-03f;
  p = p * r + 8.3335405e-03f;
  p = p * r + 4.1666485e-02f;
  p = p * r + 1.6666666e-01f;
  p = p * r + 0.5f;
  p = r + r * r * p;
  const npu_f32 half_scale = npu_power_of_two(npu_i32(v != v ? 0.0f : n) - 1);
  const npu_f32 result = n == 0.0f ? p : 2.0f * (half_scale * p + (half_scale - 0.5f));
  return v == 0.0f ? v : result;
}

// ---- Logarithms

// The logarithm of 1 + v: that of the rounded sum, corrected by what the rounding lost.
NPU_FUNC npu_f32 npu_log1p(npu_f32 v) {
  const npu_f32 sum = 1.0f + v;
  const npu_f32 lost = v - (sum - 1.0f);
  const npu_f32 result = npu_log(sum) + lost / sum;
  const npu_f32 above = v == -1.0f ? -NPU_INFINITY : result;
  return ((v == 0.0f) | (v == NPU_INFINITY)) ? v : above;
}

// v = 2^n m with m in [sqrt(1/2), sqrt(2)), for v > 0 and finite.
NPU_FUNC npu_f32 npu_split_positive(npu_f32 v, THREAD_REF(npu_f32) n) {
  const bool tiny = v < 0x1p-126f;
  const npu_u32 shifted = npu_as_u32(tiny ? v * 0x1p23f : v) - 0x3f3504f3u;
  n = npu_f32(npu_i32(shifted) >> 23) - (tiny ? 23.0f : 0.0f);
  return npu_as_f32((shifted & 0x007fffffu) + 0x3f3504f3u);
}
// The same for any v: n is 0 and m is v where v is not positive and finite.
NPU_FUNC npu_f32 npu_split_exponent(npu_f32 v, THREAD_REF(npu_f32) n) {
  npu_f32 exponent = 0.0f;
  const npu_f32 m = npu_split_positive(v, exponent);
  const bool ordinary = (v > 0.0f) & (v < NPU_INFINITY);
  n = ordinary ? exponent : 0.0f;
  return ordinary ? m : v;
}

NPU_FUNC npu_f32 npu_log2(npu_f32 v) {
  npu_f32 n = 0.0f;
  const npu_f32 m = npu_split_exponent(v, n);
  return n + npu_log(m) * 0x1.715476p+0f;
}

// log10(2) in two parts, of which the first times n is exact.
NPU_FUNC npu_f32 npu_log10(npu_f32 v) {
  npu_f32 n = 0.0f;
  const npu_f32 m = npu_split_exponent(v, n);
  return n * 0x1.344p-2f + (n * 0x1.3509f8p-18f + npu_log(m) * 0x1.bcb7b2p-2f);
}

// log(e^a + e^b).
NPU_FUNC npu_f32 npu_logaddexp(npu_f32 a, npu_f32 b) {
  const npu_f32 sum = npu_max(a, b) + npu_log1p(npu_exp(-npu_fabs(a - b)));
  return ((a == b) & (npu_fabs(a) == NPU_INFINITY)) ? a : sum;
}

// ---- Powers

// a^b for a > 0, both finite: 2^(b log2(a)), with log2(a) in two parts.
NPU_FUNC npu_f32 npu_pow_positive(npu_f32 a, npu_f32 b) {
  npu_f32 n = 0.0f;
  const npu_f32 m = npu_split_positive(a, n);
  // log(m) = 2 s + s^3 P(s^2), s = (m - 1) / (m + 1) in two parts: the first has 12 bits, so that
  // its product with the divisor's parts is exact.
  const npu_f32 f = m - 1.0f;
  const npu_f32 divisor = 2.0f + f;
  const npu_f32 quotient = f / divisor;
  const npu_f32 s = npu_as_f32(npu_as_u32(quotient) & 0xfffff000u);
  const npu_f32 f_high = npu_as_f32(npu_as_u32(f) & 0xfffff000u);
  const npu_f32 s_low = (((f - 2.0f * s) - s * f_high) - s * (f - f_high)) / divisor;
  const npu_f32 z = quotient * quotient;
  npu_f32 p = 2.428002e-01f;
  p = p * z + 2.8498766e-01f;
  p = p * z + 4.0000972e-01f;
  p = p * z + 6.666666e-01f;
  const npu_f32 log_low = 2.0f * s_low + quotient * z * p;
  // log2(a) = n + (2 s + log_low) / ln2.
  const npu_f32 scaled = 2.0f * s * 0x1.714p+0f;
  const npu_f32 rest = 2.0f * s * 0x1.47652cp-12f + log_low * 0x1.715476p+0f;
  const npu_f32 sum = n + scaled;
  const npu_f32 sum_low = (n == 0.0f ? 0.0f : scaled - (sum - n)) + rest;
  const npu_f32 high = npu_as_f32(npu_as_u32(sum + sum_low) & 0xfffff000u);
  const npu_f32 low = (sum - high) + sum_low;
  const npu_f32 b_high = npu_as_f32(npu_as_u32(b) & 0xfffff000u);
  const npu_f32 product = b_high * high;
  const npu_f32 product_low = (b - b_high) * high + b * low;
  const npu_f32 below = product > 200.0f ? 200.0f : product;
  const npu_f32 power = below < -200.0f ? -200.0f : below;
  const npu_f32 k = npu_round(power);
  const npu_f32 fraction = (power - k) + (power == product ? product_low : 0.0f);
  return npu_scale(npu_exp(fraction * NPU_LN2), npu_i32(k));
}

NPU_FUNC npu_f32 npu_pow(npu_f32 a, npu_f32 b) {
  const npu_f32 x = npu_fabs(a);
  const npu_f32 y = npu_fabs(b);
  const bool ordinary = (x > 0.0f) & (npu_max(x, y) < NPU_INFINITY);
  const npu_f32 finite = npu_pow_positive(ordinary ? x : 1.0f, ordinary ? b : 1.0f);
  // What an infinite or zero operand makes of it.
  const npu_f32 large = x > 1.0f ? NPU_INFINITY : 0.0f;
  const npu_f32 small = x > 1.0f ? 0.0f : NPU_INFINITY;
  const npu_f32 limit = b > 0.0f ? large : small;
  const npu_f32 extreme = x == 1.0f ? 1.0f : limit;
  const npu_f32 magnitude = ordinary ? finite : extreme;
  // An odd exponent keeps the sign; a fractional one has no real result for a < 0.
  const npu_f32 half_b = 0.5f * b;
  const npu_f32 with_sign = npu_trunc(half_b) != half_b ? npu_copysign(magnitude, a) : magnitude;
  const npu_f32 of_integer = y < 16777216.0f ? with_sign : magnitude;
  const npu_f32 of_finite = a < 0.0f ? NPU_NAN : magnitude;
  const npu_f32 of_fraction = x < NPU_INFINITY ? of_finite : magnitude;
  const npu_f32 result = npu_trunc(b) == b ? of_integer : of_fraction;
  const npu_f32 number = a != a ? a : result;
  const npu_f32 ordered = b != b ? b : number;
  const npu_f32 of_zero = b == 0.0f ? 1.0f : ordered;
  return a == 1.0f ? 1.0f : of_zero;
}

NPU_FUNC npu_f32 npu_hypot(npu_f32 a, npu_f32 b) {
  const npu_f32 x = npu_fabs(a);
  const npu_f32 y = npu_fabs(b);
  const npu_f32 larger = npu_max(x, y);
  const npu_f32 ratio = npu_min(x, y) / (larger == 0.0f ? 1.0f : larger);
  const npu_f32 result = larger * npu_sqrt(1.0f + ratio * ratio);
  return x == NPU_INFINITY || y == NPU_INFINITY ? NPU_INFINITY : result;
}

// ---- Hyperbolic functions

NPU_FUNC npu_f32 npu_sinh(npu_f32 v) {
  const npu_f32 a = npu_fabs(v);
  const npu_f32 t = npu_expm1(a < 20.0f ? a : 20.0f);
  const npu_f32 root = npu_exp(0.5f * a);
  const npu_f32 result = a < 20.0f ? 0.5f * (t + t / (t + 1.0f)) : 0.5f * root * root;
  return v != v ? v : npu_copysign(result, v);
}
NPU_FUNC npu_f32 npu_cosh(npu_f32 v) {
  const npu_f32 a = npu_fabs(v);
  const npu_f32 e = npu_exp(a < 20.0f ? a : 20.0f);
  const npu_f32 root = npu_exp(0.5f * a);
  const npu_f32 result = a < 20.0f ? 0.5f * e + 0.5f / e : 0.5f * root * root;
  return v != v ? v : result;
}
NPU_FUNC npu_f32 npu_asinh(npu_f32 v) {
  const npu_f32 a = npu_fabs(v);
  const npu_f32 x = a < 0x1p30f ? a : 1.0f;
  const npu_f32 square = x * x;
  const npu_f32 within = npu_log1p(x + square / (1.0f + npu_sqrt(1.0f + square)));
  const npu_f32 result = a < 0x1p30f ? within : npu_log(a) + NPU_LN2;
  return v != v ? v : npu_copysign(result, v);
}
NPU_FUNC npu_f32 npu_acosh(npu_f32 v) {
  const npu_f32 t = v < 0x1p30f ? v - 1.0f : 0.0f;
  const npu_f32 within = npu_log1p(t + npu_sqrt(2.0f * t + t * t));
  const npu_f32 result = v < 0x1p30f ? within : npu_log(v) + NPU_LN2;
  return v < 1.0f ? NPU_NAN : result;
}
NPU_FUNC npu_f32 npu_atanh(npu_f32 v) {
  const npu_f32 a = npu_fabs(v);
  const npu_f32 result = 0.5f * npu_log1p(2.0f * a / (1.0f - a));
  return a > 1.0f ? NPU_NAN : v != v ? v : npu_copysign(result, v);
}

// ---- Activations

NPU_FUNC npu_f32 npu_silu(npu_f32 v) { return v * npu_sigmoid(v); }

// 0.5 v (1 + tanh(u)) = v / (1 + e^-2u) with u = sqrt(2 / pi) (v + 0.044715 v^3).
NPU_FUNC npu_f32 npu_gelu_tanh(npu_f32 v) {
  return v * npu_sigmoid(v * (1.5957691216f + 0.071354816f * (v * v)));
}

// ---- The complementary error function

// From 0.5 on e^(-a^2) P(t) / (1 + 2 a) with t = (a - 2) / (a + 2); a^2 in two parts, the first
// exact.
NPU_FUNC npu_f32 npu_erfc(npu_f32 v) {
  const npu_f32 a = npu_fabs(v);
  const npu_f32 x = a < 10.5f ? a : 10.5f;
  const npu_f32 t = (x - 2.0f) / (x + 2.0f);
  npu_f32 p = -2.3597141e-04f;
  p = p * t - 1.2870661e-03f;
  p = p * t + 1.1636734e-03f;
  p = p * t + 8.677117e-03f;
  p = p * t - 8.013646e-03f;
  p = p * t - 5.421622e-02f;
  p = p * t + 1.6405006e-01f;
  p = p * t - 1.6603033e-01f;
  p = p * t - 9.2763826e-02f;
  p = p * t + 1.2769784e+00f;
  const npu_f32 high = npu_as_f32(npu_as_u32(x) & 0xfffff000u);
  const npu_f32 tail =
      npu_exp(-high * high) * (npu_exp((high - x) * (high + x)) * p / (1.0f + 2.0f * x));
  const npu_f32 far = v < 0.0f ? 2.0f - tail : tail;
  const npu_f32 result = a < 0.5f ? 1.0f - npu_erf(v) : far;
  return v != v ? v : result;
}

#endif  // NPU_SCALAR_FLOAT_H_
