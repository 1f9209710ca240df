// Large pages for large host memory, where the operating system has them.
#pragma once

#include <cstddef>
#include <span>

namespace npu {

// Size and alignment of a large page.
constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

// Asks for large pages behind memory that has not been touched yet. Only advice: it cannot fail.
void prefer_huge_pages(std::span<std::byte> memory) noexcept;

}  // namespace npu
