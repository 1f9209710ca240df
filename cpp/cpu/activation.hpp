// Activations that gemm and conv2d apply to their float32 results, for the running CPU.
#pragma once

#include <cstdint>

#include "cpu/kernels/panel_product.hpp"

namespace npu::cpu {

// The function of a kernel's `activation` field; null for NPU_ACTIVATION_NONE.
ActivateFn activation_function(std::uint32_t activation);

// One function per compilation of activation_isa.cpp.
ActivateFn activation_function_generic(std::uint32_t activation);
ActivateFn activation_function_avx2(std::uint32_t activation);
ActivateFn activation_function_avx512(std::uint32_t activation);

}  // namespace npu::cpu
