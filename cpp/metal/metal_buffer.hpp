// Memory that the GPU and the host share: inputs, outputs, weights and constants.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "metal/metal_cpp.hpp"
#include "runtime/device.hpp"

namespace npu::metal {

class MetalBuffer final : public Buffer {
 public:
  // Zero-filled memory. Throws kOutOfMemory.
  static std::shared_ptr<MetalBuffer> allocate(MTL::Device& device, std::size_t bytes);
  // Host memory in place, as the whole pages that hold it; a copy where it is small, less aligned
  // than any dtype needs, or where Metal does not take it.
  static std::shared_ptr<MetalBuffer> wrap(MTL::Device& device, std::span<std::byte> memory,
                                           std::shared_ptr<void> owner, bool writable);

  // The `bytes` bytes of `buffer` from `offset`; `owner` keeps the memory behind it alive.
  MetalBuffer(NS::SharedPtr<MTL::Buffer> buffer, std::size_t offset, std::size_t bytes,
              std::shared_ptr<void> owner, bool writable);

  std::byte* host_data() noexcept override { return data_; }
  void upload(std::size_t offset, std::span<const std::byte> data) override;
  void download(std::size_t offset, std::span<std::byte> data) const override;

  const MTL::Buffer* metal() const noexcept { return buffer_.get(); }
  // Where in metal() the memory begins.
  std::size_t offset() const noexcept { return offset_; }

 private:
  void check_range(std::size_t offset, std::size_t bytes) const;

  std::shared_ptr<void> owner_;  // released behind the buffer that uses its memory
  NS::SharedPtr<MTL::Buffer> buffer_;
  std::size_t offset_;
  std::byte* data_;
};

// Memory of one storage mode. Throws kOutOfMemory naming the limit that is exceeded; `what` is for
// the message.
NS::SharedPtr<MTL::Buffer> new_buffer(MTL::Device& device, std::size_t bytes,
                                      MTL::ResourceOptions options, std::string_view what);

}  // namespace npu::metal
