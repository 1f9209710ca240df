// exp, log, tanh and erf in float32 as branch-free scalar functions: a loop over one of them
// vectorises.
//
// Cody-Waite range reduction, then minimax polynomials found with the Remez exchange algorithm for
// the intervals named below. Largest error against the exact value, over 2^26 float32 values of all
// exponents, with and without fused multiply-add (tests/cpu/test_vector_math.py checks a sample):
//   exp 1.0 ulp, log 0.9 ulp, tanh 1.4 ulp, erf 1.3 ulp.
// NaN gives NaN; infinities, zeros and subnormal results are as in IEEE 754's recommended
// functions.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace npu::cpu::vector_math {

// Always inlined: these headers are compiled once per instruction set, and an out-of-line copy made
// for one must not be linked into the code of another.
#define NPU_VECTOR_INLINE [[gnu::always_inline]] inline

// c[0] + c[1] x + c[2] x^2 + ...
template <class... Rest>
NPU_VECTOR_INLINE constexpr float polynomial(float x, float c0, Rest... rest) {
  if constexpr (sizeof...(rest) == 0) {
    return c0;
  } else {
    return c0 + x * polynomial(x, rest...);
  }
}

// 2^n for n in [-126, 127].
NPU_VECTOR_INLINE float power_of_two(std::int32_t n) {
  return std::bit_cast<float>((static_cast<std::uint32_t>(n) + 127u) << 23);
}

// e^x = 2^k p with p in [0.7, 1.42], for |x| up to 105.
struct ScaledExp {
  float p;
  std::int32_t k;
};

NPU_VECTOR_INLINE ScaledExp scaled_exp(float x) {
  // x = k ln2 + r with |r| <= ln2 / 2: adding 1.5 * 2^23 rounds to the integer k, also as bits.
  constexpr float kRound = 0x1.8p23f;
  const float shifted = x * 0x1.715476p0f + kRound;
  const float n = shifted - kRound;
  const auto k = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) -
                                           std::bit_cast<std::uint32_t>(kRound));
  // ln2 in two parts, of which the first has few enough bits that n times it is exact.
  const float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  const float q = polynomial(r, 0.5f, 1.6666666e-01f, 4.166628e-02f, 8.333504e-03f, 1.3945752e-03f,
                             1.9789263e-04f);
  return {1.0f + (r + r * r * q), k};
}

NPU_VECTOR_INLINE float exp(float a) {
  // Beyond these the result is 0 or inf anyway; comparisons with NaN are false and let it through.
  float x = a < -105.0f ? -105.0f : a;
  x = x > 89.0f ? 89.0f : x;
  const ScaledExp e = scaled_exp(x);
  // 2^k in two factors, since k may lie outside the range of normal exponents.
  const std::int32_t half = e.k >> 1;
  const std::int32_t rest =
      static_cast<std::int32_t>(static_cast<std::uint32_t>(e.k) - static_cast<std::uint32_t>(half));
  return e.p * power_of_two(half) * power_of_two(rest);
}

// For |x| up to 87, where neither the result nor 2^k leaves the normal range.
NPU_VECTOR_INLINE float exp_within(float x) {
  const ScaledExp e = scaled_exp(x);
  return e.p * power_of_two(e.k);
}

// For x up to 0, as softmax needs it: results below the smallest normal number are 0. Error as of
// exp.
NPU_VECTOR_INLINE float exp_nonpositive(float a) {
  constexpr float kSmallest = -87.33654f;
  const float e = exp_within(a < kSmallest ? kSmallest : a);
  return a < kSmallest ? 0.0f : e;
}

NPU_VECTOR_INLINE float log(float a) {
  // a = 2^n m with m in [sqrt(1/2), sqrt(2)); subnormals are scaled into the normal range first.
  const bool tiny = a < std::numeric_limits<float>::min();
  const float scaled = tiny ? a * 0x1p23f : a;
  constexpr std::uint32_t kSqrtHalf = 0x3f3504f3u;
  const std::uint32_t shifted = std::bit_cast<std::uint32_t>(scaled) - kSqrtHalf;
  const std::int32_t exponent = static_cast<std::int32_t>(shifted) >> 23;
  const float m = std::bit_cast<float>((shifted & 0x007fffffu) + kSqrtHalf);
  const float n = static_cast<float>(exponent) - (tiny ? 23.0f : 0.0f);
  const float f = m - 1.0f;
  const float q =
      polynomial(f, 3.3333313e-01f, -2.500001e-01f, 2.0002119e-01f, -1.6667996e-01f, 1.4219554e-01f,
                 -1.24055885e-01f, 1.1888153e-01f, -1.167565e-01f, 6.746658e-02f);
  const float square = f * f;
  const float low = n * 0x1.7f7d1cp-20f + (f * square * q - 0.5f * square);
  float result = (f + low) + n * 0x1.62e4p-1f;
  result = a == std::numeric_limits<float>::infinity() ? a : result;
  result = a == 0.0f ? -std::numeric_limits<float>::infinity() : result;
  result = a < 0.0f ? std::numeric_limits<float>::quiet_NaN() : result;
  return a != a ? a : result;
}

NPU_VECTOR_INLINE float with_sign_of(float magnitude, float sign) {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(magnitude) & 0x7fffffffu) |
                              (std::bit_cast<std::uint32_t>(sign) & 0x80000000u));
}

NPU_VECTOR_INLINE float absolute(float a) {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(a) & 0x7fffffffu);
}

NPU_VECTOR_INLINE float tanh(float a) {
  const float x = absolute(a);
  // Up to 0.65: x + x^3 P(x^2). Above, 1 - 2 / (e^2x + 1) loses nothing; beyond 10 it is 1.
  const float t = x * x;
  const float small = x + x * t *
                              polynomial(t, -3.3333328e-01f, 1.3333158e-01f, -5.3940564e-02f,
                                         2.1666348e-02f, -8.091971e-03f, 2.0646676e-03f);
  const float y = x > 10.0f ? 10.0f : x;
  const float large = 1.0f - 2.0f / (exp_within(2.0f * y) + 1.0f);
  return with_sign_of(x < 0.65f ? small : large, a);
}

NPU_VECTOR_INLINE float erf(float a) {
  const float x = absolute(a);
  // Up to 0.93: x + x P(x^2). Above, 1 - e^(x Q(x)), where x Q(x) fits log(erfc(x)) up to 4.
  const float t = x * x;
  const float small = x + x * polynomial(t, 1.2837916709551257e-01f, -3.7612638e-01f,
                                         1.1283787e-01f, -2.686578e-02f, 5.222202e-03f,
                                         -8.5040677e-04f, 1.14343886e-04f, -1.0222372e-05f);
  const float y = x > 4.0f ? 4.0f : x;
  const float large =
      1.0f -
      exp_within(y * polynomial(y, -1.1286522e+00f, -6.351359e-01f, -1.06263146e-01f,
                                2.3785349e-02f, -3.6537647e-03f, 3.256529e-04f, -1.15223065e-05f));
  return with_sign_of(x < 0.93f ? small : large, a);
}

// 1 / (1 + e^-a); 0 where e^-a is infinite. A clamped argument changes subnormal results only.
NPU_VECTOR_INLINE float sigmoid(float a) {
  float x = a < -88.3f ? -88.3f : a;
  x = x > 87.0f ? 87.0f : x;
  const float result = 1.0f / (1.0f + exp_within(-x));
  return a < -88.72284f ? 0.0f : result;
}

// a Phi(a), where Phi(-x) = 2^P(x) up to 6; what lies below -6 gives 0, as in float32 by way of
// erf.
NPU_VECTOR_INLINE float gelu(float a) {
  constexpr float kLimit = 6.0f;
  const float x = absolute(a);
  const float y = x > kLimit ? kLimit : x;
  const float log_tail = polynomial(y, -9.9999994e-01f, -1.1511079e+00f, -4.5918852e-01f,
                                    -5.2542537e-02f, 7.099146e-03f, -1.254077e-04f, -2.1917648e-04f,
                                    5.8957237e-05f, -7.983765e-06f, 5.829047e-07f, -1.8168327e-08f);
  // 2^log_tail by its integral part, from the bits of a sum as in scaled_exp, and the rest.
  constexpr float kRound = 0x1.8p23f;
  const float shifted = log_tail + kRound;
  const float f = log_tail - (shifted - kRound);
  const auto k = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) -
                                           std::bit_cast<std::uint32_t>(kRound));
  const float fraction = polynomial(f, 1.0f, 6.93147e-01f, 2.4022242e-01f, 5.550734e-02f,
                                    9.671528e-03f, 1.3264768e-03f);
  const float tail = x >= kLimit ? 0.0f : fraction * power_of_two(k);
  return a > 0.0f ? a - y * tail : a * tail;
}

#undef NPU_VECTOR_INLINE

}  // namespace npu::cpu::vector_math
