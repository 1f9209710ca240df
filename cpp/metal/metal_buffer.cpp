// Shared memory: allocation, wrapping of host pages, copies.
#include "metal/metal_buffer.hpp"

#include <unistd.h>

#include <algorithm>

#include "runtime/host_buffer.hpp"
#include "runtime/text.hpp"

namespace npu::metal {
namespace {

// Metal has no buffers of no bytes, and kernels read whole elements.
constexpr std::size_t kSmallestBuffer = 16;
// Smaller memory is copied: mapping pages for the GPU costs more.
constexpr std::size_t kSmallestWrap = 16 * 1024;

std::uintptr_t page_bytes() {
  static const auto bytes = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace

NS::SharedPtr<MTL::Buffer> new_buffer(MTL::Device& device, std::size_t bytes,
                                      MTL::ResourceOptions options, std::string_view what) {
  const std::size_t limit = device.maxBufferLength();
  if (bytes > limit) {
    throw Error(ErrorCode::kOutOfMemory,
                text("Metal: ", what, " of ", bytes, " bytes: a buffer of this GPU holds at most ",
                     limit, "; use a smaller batch or model"));
  }
  auto buffer =
      NS::TransferPtr(device.newBuffer(std::max<NS::UInteger>(bytes, kSmallestBuffer), options));
  if (!buffer) {
    throw Error(ErrorCode::kOutOfMemory,
                text("Metal: the GPU cannot give ", bytes, " bytes for ", what, ", ",
                     device.currentAllocatedSize(), " are in use and it works best with ",
                     device.recommendedMaxWorkingSetSize(), "; use a smaller batch or model"));
  }
  return buffer;
}

std::shared_ptr<MetalBuffer> MetalBuffer::allocate(MTL::Device& device, std::size_t bytes) {
  return std::make_shared<MetalBuffer>(
      new_buffer(device, bytes, MTL::ResourceStorageModeShared, "a buffer"), 0, bytes, nullptr,
      true);
}

std::shared_ptr<MetalBuffer> MetalBuffer::wrap(MTL::Device& device, std::span<std::byte> memory,
                                               std::shared_ptr<void> owner, bool writable) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  if (memory.size() >= kSmallestWrap && address % kWrapAlignment == 0) {
    const std::uintptr_t skip = address % page_bytes();
    const std::size_t length =
        (skip + memory.size() + page_bytes() - 1) / page_bytes() * page_bytes();
    if (length <= device.maxBufferLength()) {
      // Without a deallocator: the owner keeps the pages.
      auto pages = NS::TransferPtr(
          device.newBuffer(memory.data() - skip, length, MTL::ResourceStorageModeShared, nullptr));
      if (pages) {
        return std::make_shared<MetalBuffer>(std::move(pages), skip, memory.size(),
                                             std::move(owner), writable);
      }
    }
  }
  auto copy = new_buffer(device, memory.size(), MTL::ResourceStorageModeShared, "a copy");
  std::copy(memory.begin(), memory.end(), static_cast<std::byte*>(copy->contents()));
  return std::make_shared<MetalBuffer>(std::move(copy), 0, memory.size(), nullptr, writable);
}

MetalBuffer::MetalBuffer(NS::SharedPtr<MTL::Buffer> buffer, std::size_t offset, std::size_t bytes,
                         std::shared_ptr<void> owner, bool writable)
    : Buffer(bytes, writable),
      owner_(std::move(owner)),
      buffer_(std::move(buffer)),
      offset_(offset),
      data_(static_cast<std::byte*>(buffer_->contents()) + offset) {}

void MetalBuffer::check_range(std::size_t offset, std::size_t bytes) const {
  if (offset > size() || bytes > size() - offset) {
    throw Error(ErrorCode::kInvalidArgument, text("offset ", offset, " and ", bytes,
                                                  " bytes leave the buffer of ", size(), " bytes"));
  }
}

void MetalBuffer::upload(std::size_t offset, std::span<const std::byte> data) {
  check_range(offset, data.size());
  if (!writable()) {
    throw Error(ErrorCode::kInvalidArgument, "the buffer wraps memory that may only be read");
  }
  std::copy(data.begin(), data.end(), data_ + offset);
}

void MetalBuffer::download(std::size_t offset, std::span<std::byte> data) const {
  check_range(offset, data.size());
  std::copy_n(data_ + offset, data.size(), data.begin());
}

}  // namespace npu::metal
