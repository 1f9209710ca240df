// One function per compilation of row_kernels_isa.cpp.
#pragma once

#include "cpu/row_kernels.hpp"

namespace npu::cpu {

const RowKernels& row_kernels_generic();
const RowKernels& row_kernels_avx2();
const RowKernels& row_kernels_avx512();

}  // namespace npu::cpu
