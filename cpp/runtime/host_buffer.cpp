// Host memory: allocation, wrapping, copies.
#include "runtime/host_buffer.hpp"

#include <cstdlib>
#include <cstring>
#include <limits>

#include "runtime/huge_pages.hpp"
#include "runtime/text.hpp"

namespace npu {

std::shared_ptr<HostBuffer> HostBuffer::allocate(std::size_t bytes) {
  // calloc gives fresh pages without touching them, where an aligned allocation would have to be
  // cleared.
  const bool large = bytes >= kHugePageBytes;
  const std::size_t alignment = large ? kHugePageBytes : kHostAlignment;
  void* memory = bytes <= std::numeric_limits<std::size_t>::max() - alignment
                     ? std::calloc(bytes + alignment, 1)
                     : nullptr;
  if (memory == nullptr) {
    throw Error(ErrorCode::kOutOfMemory, text("the host cannot give ", bytes,
                                              " bytes of memory; use a smaller batch or model"));
  }
  std::shared_ptr<void> owner(memory, [](void* m) { std::free(m); });
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  const std::size_t skip = (alignment - address % alignment) % alignment;
  const std::span<std::byte> aligned(static_cast<std::byte*>(memory) + skip, bytes);
  if (large) prefer_huge_pages(aligned);
  return std::make_shared<HostBuffer>(aligned, std::move(owner), true);
}

HostBuffer::HostBuffer(std::span<std::byte> memory, std::shared_ptr<void> owner, bool writable)
    : Buffer(memory.size(), writable), data_(memory.data()), owner_(std::move(owner)) {}

void HostBuffer::check_range(std::size_t offset, std::size_t bytes) const {
  if (offset > size() || bytes > size() - offset) {
    throw Error(ErrorCode::kInvalidArgument, text("offset ", offset, " and ", bytes,
                                                  " bytes leave the buffer of ", size(), " bytes"));
  }
}

void HostBuffer::upload(std::size_t offset, std::span<const std::byte> data) {
  check_range(offset, data.size());
  if (!writable()) {
    throw Error(ErrorCode::kInvalidArgument, "the buffer wraps memory that may only be read");
  }
  if (!data.empty()) std::memcpy(data_ + offset, data.data(), data.size());
}

void HostBuffer::download(std::size_t offset, std::span<std::byte> data) const {
  check_range(offset, data.size());
  if (!data.empty()) std::memcpy(data.data(), data_ + offset, data.size());
}

}  // namespace npu
