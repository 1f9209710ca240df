// Storage types of the kernel dialect on the host: half formats as bit patterns, converted to and
// from float32 with rounding to nearest even.
#pragma once

#include <bit>
#include <cstdint>

using npu_u64 = std::uint64_t;
using npu_u8 = std::uint8_t;
using npu_i8 = std::int8_t;
using npu_i16 = std::int16_t;

namespace npu::reference {

struct npu_f16 {
  std::uint16_t bits;
};
struct npu_bf16 {
  std::uint16_t bits;
};

inline std::uint32_t npu_as_u32(float v) { return std::bit_cast<std::uint32_t>(v); }
inline float npu_as_f32(std::uint32_t v) { return std::bit_cast<float>(v); }

inline float npu_widen(float v) { return v; }

inline float npu_widen(npu_f16 v) {
  // Exponent and fraction in float32's place are the value times 2^-112, subnormals included.
  const std::uint32_t magnitude = (v.bits & 0x7fffu) << 13;
  const float scaled = npu_as_f32(magnitude) * 0x1p112f;
  const std::uint32_t special = magnitude | 0x7f800000u;  // infinity and NaN keep their fraction
  const std::uint32_t bits = magnitude >= 0x0f800000u ? special : npu_as_u32(scaled);
  return npu_as_f32(bits | (v.bits & 0x8000u) << 16);
}

inline float npu_widen(npu_bf16 v) { return npu_as_f32(static_cast<std::uint32_t>(v.bits) << 16); }

template <class T>
T npu_narrow(float v);

template <>
inline float npu_narrow<float>(float v) {
  return v;
}

template <>
inline npu_f16 npu_narrow<npu_f16>(float v) {
  const std::uint32_t bits = npu_as_u32(v);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  std::uint32_t narrow = 0;
  if (magnitude > 0x7f800000u) {
    narrow = 0x7e00u | (magnitude >> 13 & 0x3ffu);  // NaN, made quiet
  } else if (magnitude >= 0x477ff000u) {
    narrow = 0x7c00u;  // 65520 and above round to infinity
  } else if (magnitude >= 0x38800000u) {
    // The exponent's bias changes by 112; the half below the last bit kept ties to even.
    narrow = (magnitude - (112u << 23) + 0x0fffu + (magnitude >> 13 & 1u)) >> 13;
  } else {
    // Subnormal: adding 0.5 lets the float32 adder round to multiples of 2^-24.
    narrow = npu_as_u32(npu_as_f32(magnitude) + 0.5f) - 0x3f000000u;
  }
  return {static_cast<std::uint16_t>(sign | narrow)};
}

template <>
inline npu_bf16 npu_narrow<npu_bf16>(float v) {
  const std::uint32_t bits = npu_as_u32(v);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {static_cast<std::uint16_t>(bits >> 16 | 0x40u)};  // NaN, made quiet
  }
  return {static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

}  // namespace npu::reference
