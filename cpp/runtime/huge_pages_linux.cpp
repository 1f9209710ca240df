// Large pages on Linux: transparent huge pages by madvise.
#include <sys/mman.h>

#include <cstdint>

#include "runtime/huge_pages.hpp"

namespace npu {

void prefer_huge_pages(std::span<std::byte> memory) noexcept {
  // Whole pages only: what lies beside them is somebody else's.
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data());
  const std::uintptr_t first = (begin + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  const std::uintptr_t last = (begin + memory.size()) / kHugePageBytes * kHugePageBytes;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

}  // namespace npu
