// The functions that formulas of scalar_ops.py may call, as the cpu device defines them. Always
// inlined and free of branches, so that loops over a formula vectorise.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/vector_math.hpp"
#include "runtime/kernel_params.hpp"

namespace npu::cpu::scalar {

// The dialect's types that the parameter structs do without.
using npu_u64 = std::uint64_t;
using npu_u8 = std::uint8_t;
using npu_i8 = std::int8_t;
using npu_i16 = std::int16_t;

#define NPU_SCALAR_FUNCTION [[gnu::always_inline, maybe_unused]] inline

NPU_SCALAR_FUNCTION npu_u32 npu_as_u32(float a) { return std::bit_cast<npu_u32>(a); }
NPU_SCALAR_FUNCTION float npu_as_f32(npu_u32 a) { return std::bit_cast<float>(a); }
NPU_SCALAR_FUNCTION float npu_fabs(float a) { return vector_math::absolute(a); }
NPU_SCALAR_FUNCTION float npu_exp(float a) { return vector_math::exp(a); }
NPU_SCALAR_FUNCTION float npu_log(float a) { return vector_math::log(a); }
NPU_SCALAR_FUNCTION float npu_sqrt(float a) { return std::sqrt(a); }
NPU_SCALAR_FUNCTION float npu_tanh(float a) { return vector_math::tanh(a); }
NPU_SCALAR_FUNCTION float npu_erf(float a) { return vector_math::erf(a); }

NPU_SCALAR_FUNCTION float npu_sigmoid(float a) { return vector_math::sigmoid(a); }
NPU_SCALAR_FUNCTION float npu_gelu(float a) { return vector_math::gelu(a); }

// The first NaN wins.
NPU_SCALAR_FUNCTION float npu_max(float a, float b) {
  const float larger = a > b ? a : b;  // b where either is NaN
  return a != a ? a : larger;
}
NPU_SCALAR_FUNCTION float npu_min(float a, float b) {
  const float smaller = a < b ? a : b;
  return a != a ? a : smaller;
}

#define NPU_FUNC NPU_SCALAR_FUNCTION
#define NPU_INFINITY std::numeric_limits<float>::infinity()
#define THREAD_REF(T) T&
#include "scalar_activation.h"
#include "scalar_integer.h"
#include "scalar_trig.h"
#undef THREAD_REF
#undef NPU_FUNC
#undef NPU_SCALAR_FUNCTION

}  // namespace npu::cpu::scalar
