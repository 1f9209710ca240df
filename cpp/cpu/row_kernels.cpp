// Picks the row kernels for an instruction set among those that this build contains.
#include "cpu/row_kernels.hpp"

#include "cpu/row_kernels_isa.hpp"

namespace npu::cpu {

const RowKernels& row_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return row_kernels_avx512();
  if (isa >= Isa::avx2) return row_kernels_avx2();
#else
  static_cast<void>(isa);
#endif
  return row_kernels_generic();
}

}  // namespace npu::cpu
