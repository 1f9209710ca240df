// Picks the tile kernels for an instruction set among those that this build contains.
#include "cpu/tile_kernels.hpp"

#include <limits>

#include "cpu/tile_kernels_isa.hpp"

namespace npu::cpu {

float identity(Combine combine) {
  switch (combine) {
    case Combine::kSum:
      return 0.0f;
    case Combine::kMax:
      return -std::numeric_limits<float>::infinity();
    case Combine::kMin:
      return std::numeric_limits<float>::infinity();
    case Combine::kProd:
      return 1.0f;
  }
  return 0.0f;
}

const TileKernels& tile_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return tile_kernels_avx512();
  if (isa >= Isa::avx2) return tile_kernels_avx2();
#else
  static_cast<void>(isa);
#endif
  return tile_kernels_generic();
}

}  // namespace npu::cpu
