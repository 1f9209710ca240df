// Kernels for AMX-BF16: 32x32 tiles of bfloat16 products; float16 as sums of two bfloat16 values.
#include "kernel_table.hpp"

namespace npu::cpu {

const KernelTable& amx_kernels() { return avx512_bf16_kernels(); }

}  // namespace npu::cpu
