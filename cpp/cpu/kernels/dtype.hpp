// Storage types of the CPU kernels and their exact scalar conversions to and from float32.
// All of it is always_inline: these functions are used from files compiled for different
// instruction sets, and a shared out-of-line copy could be one that this machine cannot run.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace npu::cpu {

enum class DType : std::uint8_t { f32, f16, bf16 };

[[gnu::always_inline]] constexpr std::size_t dtype_size(DType t) { return t == DType::f32 ? 4 : 2; }
constexpr const char* dtype_name(DType t) {
  return t == DType::f32 ? "f32" : t == DType::f16 ? "f16" : "bf16";
}

[[gnu::always_inline]] inline float bf16_to_f32(std::uint16_t h) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16);
}

// Round to nearest even; a NaN stays a (quiet) NaN instead of rounding up to infinity.
[[gnu::always_inline]] inline std::uint16_t f32_to_bf16(float f) {
  const auto u = std::bit_cast<std::uint32_t>(f);
  const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const std::uint32_t nan = (u >> 16) | 0x40u;
  return static_cast<std::uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

// Branch-free so that loops over it vectorise. Multiplying by 2^112 moves the exponent and
// normalises subnormals in one exact step; infinities and NaNs then need their exponent filled up.
[[gnu::always_inline]] inline float f16_to_f32(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(h & 0x7fffu) << 13;
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
  const std::uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | special | sign);
}

// Round to nearest even. Results below the smallest normal are rounded by adding 0.5, whose last
// place is worth exactly one float16 subnormal step.
[[gnu::always_inline]] inline std::uint16_t f32_to_f16(float f) {
  const auto u = std::bit_cast<std::uint32_t>(f);
  const std::uint32_t sign = (u >> 16) & 0x8000u;
  const std::uint32_t magnitude = u & 0x7fffffffu;
  const std::uint32_t rebased = magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (112u << 23);
  const std::uint32_t normal = (rebased >> 13) < 0x7c00u ? rebased >> 13 : 0x7c00u;
  const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(aligned) - 0x3f000000u;
  const std::uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  return static_cast<std::uint16_t>(sign | (magnitude > 0x7f800000u ? 0x7e00u : finite));
}

[[gnu::always_inline]] inline float load_scalar(DType t, const void* base, std::int64_t index) {
  if (t == DType::f32) return static_cast<const float*>(base)[index];
  const std::uint16_t h = static_cast<const std::uint16_t*>(base)[index];
  return t == DType::f16 ? f16_to_f32(h) : bf16_to_f32(h);
}

[[gnu::always_inline]] inline void store_scalar(DType t, void* base, std::int64_t index,
                                                float value) {
  if (t == DType::f32) {
    static_cast<float*>(base)[index] = value;
  } else {
    static_cast<std::uint16_t*>(base)[index] =
        t == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value);
  }
}

// Byte address of element `index`, for code that handles the storage types alike.
[[gnu::always_inline]] inline const std::byte* element(const void* base, DType t,
                                                       std::int64_t index) {
  return static_cast<const std::byte*>(base) + index * static_cast<std::int64_t>(dtype_size(t));
}
[[gnu::always_inline]] inline std::byte* element(void* base, DType t, std::int64_t index) {
  return static_cast<std::byte*>(base) + index * static_cast<std::int64_t>(dtype_size(t));
}

// NaN passes through both comparisons, as torch.clamp and relu do.
[[gnu::always_inline]] inline float clamp_scalar(float v, float lo, float hi) {
  v = v < lo ? lo : v;
  return v > hi ? hi : v;
}

[[gnu::always_inline]] constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}
[[gnu::always_inline]] constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) {
  return ceil_div(a, b) * b;
}

}  // namespace npu::cpu
