// One function per compilation of tile_kernels_isa.cpp.
#pragma once

#include "cpu/tile_kernels.hpp"

namespace npu::cpu {

const TileKernels& tile_kernels_generic();
const TileKernels& tile_kernels_avx2();
const TileKernels& tile_kernels_avx512();

}  // namespace npu::cpu
