// Tile kernels of functions whose full definition does not vectorise, because some arguments need
// integer arithmetic or long division: runs without such arguments take a short formula. Included
// by tile_kernels_isa.cpp alone, once per instruction set.
#pragma once

#include <bit>
#include <cstdint>

#include "cpu/scalar_functions.hpp"

namespace npu::cpu {
namespace {

using UnaryFunction = float (*)(float);
using BinaryFunction = float (*)(float, float);

inline const float* floats(const std::uint32_t* x) { return reinterpret_cast<const float*>(x); }
inline float* floats(std::uint32_t* x) { return reinterpret_cast<float*>(x); }

// `Short` holds for magnitudes below NPU_TRIG_LIMIT.
template <UnaryFunction Short, UnaryFunction Full>
void trigonometric_run(std::uint32_t* __restrict dst, const std::uint32_t* a,
                       const std::uint32_t* /*b*/, const std::uint32_t* /*c*/, std::int64_t n) {
  constexpr std::uint32_t kLimit = std::bit_cast<std::uint32_t>(NPU_TRIG_LIMIT);
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t magnitude = a[i] & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  if (largest < kLimit) {
    for (std::int64_t i = 0; i < n; ++i) floats(dst)[i] = Short(floats(a)[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) floats(dst)[i] = Full(floats(a)[i]);
  }
}

// Quotients below this are exact in the product that short_fmod subtracts.
constexpr float kMaxQuotient = 4194304.0f;

// fmod for |a| < kMaxQuotient |b|: products of 24 bits are exact in float64. A quotient that was
// rounded up leaves a remainder of the other sign.
[[gnu::always_inline]] inline float short_fmod(float a, float b) {
  const float x = scalar::npu_fabs(a);
  const double y = scalar::npu_fabs(b);
  const float quotient = static_cast<float>(static_cast<std::int32_t>(x / static_cast<float>(y)));
  const double left = static_cast<double>(x) - static_cast<double>(quotient) * y;
  return scalar::npu_copysign(static_cast<float>(left < 0.0 ? left + y : left), a);
}
[[gnu::always_inline]] inline float fmod_of(float r, float /*a*/, float /*b*/) { return r; }
[[gnu::always_inline]] inline float remainder_of(float r, float /*a*/, float b) {
  return scalar::npu_remainder_from(r, b);
}
[[gnu::always_inline]] inline float div_floor_of(float r, float a, float b) {
  return scalar::npu_div_floor_from(r, a, b);
}

// `Finish` turns the remainder of a short division into the result, `Full` is the whole definition.
template <float (*Finish)(float, float, float), BinaryFunction Full>
void division_run(std::uint32_t* __restrict dst, const std::uint32_t* ra, const std::uint32_t* rb,
                  const std::uint32_t* /*c*/, std::int64_t n) {
  const float* a = floats(ra);
  const float* b = floats(rb);
  std::uint32_t long_ones = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float x = scalar::npu_fabs(a[i]);
    const float y = scalar::npu_fabs(b[i]);
    const bool is_short = x < y * kMaxQuotient && x < NPU_INFINITY && y < NPU_INFINITY;
    long_ones |= is_short ? 0u : 1u;
  }
  if (long_ones == 0) {
    for (std::int64_t i = 0; i < n; ++i) {
      floats(dst)[i] = Finish(short_fmod(a[i], b[i]), a[i], b[i]);
    }
  } else {
    for (std::int64_t i = 0; i < n; ++i) floats(dst)[i] = Full(a[i], b[i]);
  }
}

}  // namespace
}  // namespace npu::cpu
