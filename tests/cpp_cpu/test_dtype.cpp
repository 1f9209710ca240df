// Scalar conversions: every float16 and bfloat16 value, and rounding against exact arithmetic.
#include <bit>
#include <cmath>
#include <limits>

#include "check.hpp"

namespace npu::cpu::test {
namespace {

double exact_f16(std::uint16_t h) {
  const int exponent = (h >> 10) & 31;
  const int mantissa = h & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (h & 0x8000) != 0 ? -magnitude : magnitude;
}

}  // namespace

void test_dtype() {
  int wrong_widen = 0;
  int wrong_round = 0;
  for (int i = 0; i < 65536; ++i) {
    const auto h = static_cast<std::uint16_t>(i);
    const float f = f16_to_f32(h);
    const bool special = ((h >> 10) & 31) == 31;
    if (special) {
      wrong_widen +=
          (h & 1023) != 0 ? !std::isnan(f) : !(std::isinf(f) && std::signbit(f) == (h >> 15));
    } else {
      wrong_widen += static_cast<double>(f) != exact_f16(h);
    }
    wrong_round += std::isnan(f) ? !std::isnan(f16_to_f32(f32_to_f16(f))) : f32_to_f16(f) != h;
    const float b = bf16_to_f32(h);
    wrong_round += std::isnan(b) ? !std::isnan(bf16_to_f32(f32_to_bf16(b))) : f32_to_bf16(b) != h;
  }
  NPU_CHECK(wrong_widen == 0, "%d values", wrong_widen);
  NPU_CHECK(wrong_round == 0, "%d values", wrong_round);

  // Halfway between neighbours goes to the even one, a hair to either side to the nearer one.
  int wrong_half = 0;
  for (int i = 0; i < 0x7bff; ++i) {
    const double lo = exact_f16(static_cast<std::uint16_t>(i));
    const double hi = exact_f16(static_cast<std::uint16_t>(i + 1));
    const auto mid = static_cast<float>((lo + hi) / 2);
    const int even = (i & 1) == 0 ? i : i + 1;
    wrong_half += f32_to_f16(mid) != even;
    wrong_half += f32_to_f16(std::nextafter(mid, 0.0f)) != i;
    wrong_half += f32_to_f16(std::nextafter(mid, 1e30f)) != i + 1;
  }
  NPU_CHECK(wrong_half == 0, "%d values", wrong_half);
  NPU_CHECK(f32_to_f16(65519.9f) == 0x7bff, "below the halfway point to 2^16");
  NPU_CHECK(f32_to_f16(65520.0f) == 0x7c00, "the halfway point rounds to infinity");
  NPU_CHECK(f32_to_f16(-std::numeric_limits<float>::infinity()) == 0xfc00, "-inf");
  NPU_CHECK(f32_to_bf16(std::bit_cast<float>(0x7f7fffffu)) == 0x7f80, "overflow");
  NPU_CHECK(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))),
            "NaN stays NaN");
}

}  // namespace npu::cpu::test
