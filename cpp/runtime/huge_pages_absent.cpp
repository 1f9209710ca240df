// Large pages where the operating system chooses the page size itself.
#include "runtime/huge_pages.hpp"

namespace npu {

void prefer_huge_pages(std::span<std::byte> memory) noexcept { static_cast<void>(memory); }

}  // namespace npu
