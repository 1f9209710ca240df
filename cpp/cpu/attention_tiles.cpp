// Picks the attention loops for an instruction set among those that this build contains.
#include "cpu/attention_tiles.hpp"

namespace npu::cpu {

const AttentionTiles& attention_tiles(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return attention_tiles_avx512();
  if (isa >= Isa::avx2) return attention_tiles_avx2();
#else
  static_cast<void>(isa);
#endif
  return attention_tiles_generic();
}

}  // namespace npu::cpu
