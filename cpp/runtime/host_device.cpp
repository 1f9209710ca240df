// What all host-memory devices do alike: memory and loading.
#include "runtime/host_device.hpp"

#include "runtime/host_buffer.hpp"
#include "runtime/host_executable.hpp"

namespace npu {

BufferPtr HostDevice::allocate(std::size_t bytes) { return HostBuffer::allocate(bytes); }

BufferPtr HostDevice::wrap(std::span<std::byte> memory, std::shared_ptr<void> owner,
                           bool writable) {
  if (reinterpret_cast<std::uintptr_t>(memory.data()) % kWrapAlignment == 0) {
    return std::make_shared<HostBuffer>(memory, std::move(owner), writable);
  }
  auto copy = HostBuffer::allocate(memory.size());
  copy->upload(0, memory);
  return copy;
}

std::unique_ptr<Executable> HostDevice::load(std::shared_ptr<const Program> program) {
  return std::make_unique<HostExecutable>(*this, std::move(program));
}

}  // namespace npu
