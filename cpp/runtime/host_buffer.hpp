// Memory of devices that work in the host's memory.
#pragma once

#include <memory>

#include "runtime/device.hpp"

namespace npu {

// Buffers begin at a multiple of this many bytes, unless they wrap memory that does not.
constexpr std::size_t kHostAlignment = 64;
// Wrapped memory that is less aligned is copied: no dtype needs more.
constexpr std::size_t kWrapAlignment = 8;

class HostBuffer final : public Buffer {
 public:
  // Zero-filled memory; pages of large buffers are not touched. Throws kOutOfMemory.
  static std::shared_ptr<HostBuffer> allocate(std::size_t bytes);
  // Memory that `owner` keeps alive.
  HostBuffer(std::span<std::byte> memory, std::shared_ptr<void> owner, bool writable);

  std::byte* host_data() noexcept override { return data_; }
  void upload(std::size_t offset, std::span<const std::byte> data) override;
  void download(std::size_t offset, std::span<std::byte> data) const override;

 private:
  void check_range(std::size_t offset, std::size_t bytes) const;

  std::byte* data_;
  std::shared_ptr<void> owner_;
};

}  // namespace npu
