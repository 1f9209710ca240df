// Memory of packed weights: large chunks on large pages, since every run streams all of it.
#include "cpu/packed_weights.hpp"

#include <algorithm>
#include <mutex>

namespace npu::cpu {
namespace {

#ifdef NPU_SEPARATE_PACKED_WEIGHTS
constexpr std::size_t kChunkBytes = 0;
#else
// Pages are touched only as they fill, so an unfinished chunk costs address space alone.
constexpr std::size_t kChunkBytes = std::size_t{64} << 20;
#endif

struct Chunk {
  std::weak_ptr<HostBuffer> memory;
  std::size_t used = 0;
};

}  // namespace

PackedWeights::PackedWeights(std::size_t bytes) : bytes_(bytes) {
  static std::mutex mutex;
  static Chunk chunk;
  const std::size_t rounded =
      (bytes + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
  const std::lock_guard lock(mutex);
  chunk_ = chunk.memory.lock();
  if (chunk_ == nullptr || rounded > chunk_->size() - chunk.used) {
    chunk_ = HostBuffer::allocate(std::max(rounded, kChunkBytes));
    chunk = {chunk_, 0};
  }
  data_ = chunk_->host_data() + chunk.used;
  chunk.used += rounded;
}

}  // namespace npu::cpu
