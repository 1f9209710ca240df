// Picks the kernel table for an instruction set among those that this build contains.
#include "kernel_table.hpp"

namespace npu::cpu {

const KernelTable& kernel_table(Isa isa) {
#if defined(__x86_64__) && defined(NPU_CPU_X86_KERNELS)
  switch (isa) {
    case Isa::amx:
      return amx_kernels();
    case Isa::avx512_bf16:
      return avx512_bf16_kernels();
    case Isa::avx512:
      return avx512_kernels();
    case Isa::avx2:
      return avx2_kernels();
    case Isa::generic:
      break;
  }
#else
  static_cast<void>(isa);
#endif
  return generic_kernels();
}

}  // namespace npu::cpu
