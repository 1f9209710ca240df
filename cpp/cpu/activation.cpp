// Picks the activations compiled for the running CPU's instruction set.
#include "cpu/activation.hpp"

#include "cpu/kernels/cpu_features.hpp"

namespace npu::cpu {

ActivateFn activation_function(std::uint32_t activation) {
#if defined(__x86_64__)
  if (active_isa() >= Isa::avx512) return activation_function_avx512(activation);
  if (active_isa() >= Isa::avx2) return activation_function_avx2(activation);
#endif
  return activation_function_generic(activation);
}

}  // namespace npu::cpu
