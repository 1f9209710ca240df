// The functions that formulas of scalar_ops.py may call, as the cpu device defines them. Always
// inlined and free of branches, so that loops over a formula vectorise.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/vector_math.hpp"

namespace npu::cpu::scalar {

#define NPU_SCALAR_FUNCTION [[gnu::always_inline, maybe_unused]] inline

NPU_SCALAR_FUNCTION float npu_fabs(float a) { return vector_math::absolute(a); }
NPU_SCALAR_FUNCTION float npu_exp(float a) { return vector_math::exp(a); }
NPU_SCALAR_FUNCTION float npu_log(float a) { return vector_math::log(a); }
NPU_SCALAR_FUNCTION float npu_sqrt(float a) { return std::sqrt(a); }
NPU_SCALAR_FUNCTION float npu_tanh(float a) { return vector_math::tanh(a); }
NPU_SCALAR_FUNCTION float npu_erf(float a) { return vector_math::erf(a); }

// The first NaN wins.
NPU_SCALAR_FUNCTION float npu_max(float a, float b) {
  const float larger = a > b ? a : b;  // b where either is NaN
  return a != a ? a : larger;
}
NPU_SCALAR_FUNCTION float npu_min(float a, float b) {
  const float smaller = a < b ? a : b;
  return a != a ? a : smaller;
}

// Towards zero, saturating; what is not finite becomes 0.
NPU_SCALAR_FUNCTION std::int32_t npu_to_int(float a) {
  constexpr float kLimit = 0x1p31f;
  const bool below = a < -kLimit;
  const bool above = a >= kLimit;
  const bool finite = vector_math::absolute(a) < std::numeric_limits<float>::infinity();
  const float safe = !finite || below || above ? 0.0f : a;
  std::int32_t result = static_cast<std::int32_t>(safe);
  result = below ? std::numeric_limits<std::int32_t>::min() : result;
  result = above ? std::numeric_limits<std::int32_t>::max() : result;
  return finite ? result : 0;
}

// int32 arithmetic wraps.
NPU_SCALAR_FUNCTION std::int32_t npu_wrap_add(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
}
NPU_SCALAR_FUNCTION std::int32_t npu_wrap_sub(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(b));
}
NPU_SCALAR_FUNCTION std::int32_t npu_wrap_mul(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) * static_cast<std::uint32_t>(b));
}

#undef NPU_SCALAR_FUNCTION

}  // namespace npu::cpu::scalar
