// The interface that every device implements: memory, and programs made ready to run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/error.hpp"

namespace npu {

class Program;

// Device memory. Its content is the caller's business; its size never changes.
class Buffer {
 public:
  virtual ~Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::size_t size() const noexcept { return size_; }
  // False for memory that may only be read, such as a mapped weights file.
  bool writable() const noexcept { return writable_; }
  // The memory as the host sees it, or null where the host cannot.
  virtual std::byte* host_data() noexcept = 0;
  virtual void upload(std::size_t offset, std::span<const std::byte> data) = 0;
  virtual void download(std::size_t offset, std::span<std::byte> data) const = 0;

 protected:
  explicit Buffer(std::size_t size, bool writable = true) : size_(size), writable_(writable) {}

 private:
  std::size_t size_;
  bool writable_;
};

using BufferPtr = std::shared_ptr<Buffer>;

// When one dispatch ran, in nanoseconds of a steady clock.
struct DispatchTime {
  std::uint32_t dispatch;  // index in the program
  std::int64_t begin_ns;
  std::int64_t end_ns;
};

// Weights as an executable needs them (repacked, resolved); keeps the buffers alive. Immutable, so
// any number of threads may run with one binding.
class Binding {
 public:
  virtual ~Binding() = default;
  // Memory that it takes besides that of the weights.
  virtual std::size_t packed_bytes() const { return 0; }
};

// An entry point with all that it works on: weights, inputs and outputs are checked and resolved
// once, a run only computes. Keeps them alive, and must not outlive its executable.
class Call {
 public:
  virtual ~Call() = default;
  // As Executable::run. Threads that run one call at once wait for each other.
  virtual void run(std::vector<DispatchTime>* times) = 0;
};

// A program made ready for one device. run() may be called from several threads at once.
class Executable {
 public:
  virtual ~Executable() = default;

  // One buffer per weight record of the program, in its order. Throws kInvalidArgument for a wrong
  // count or size.
  virtual std::shared_ptr<const Binding> bind(std::span<const BufferPtr> weights) = 0;

  // Runs an entry point: waits until it is done. `inputs` and `outputs` follow the entry's IO
  // records; outputs are written, inputs only read. An output that an input is donated to must be
  // that input's buffer; no other buffers may overlap. With `times`, appends one entry per
  // dispatch.
  virtual void run(const Binding& binding, std::uint32_t entry, std::span<const BufferPtr> inputs,
                   std::span<const BufferPtr> outputs, std::vector<DispatchTime>* times) = 0;

  // What run() would do with these buffers, made ready to be done many times. Throws as run().
  virtual std::unique_ptr<Call> prepare(std::shared_ptr<const Binding> binding, std::uint32_t entry,
                                        std::span<const BufferPtr> inputs,
                                        std::span<const BufferPtr> outputs) = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  // "cpu", "reference", "metal", "cuda".
  virtual std::string_view kind() const noexcept = 0;
  // What a person would call it, e.g. the processor's name and the instruction set in use.
  virtual std::string name() const = 0;
  // Zero-filled memory. Throws kOutOfMemory.
  virtual BufferPtr allocate(std::size_t bytes) = 0;
  // Uses host memory in place where the device can, else copies; `owner` keeps the memory alive.
  // What is not writable is never written: a run refuses it as an output.
  virtual BufferPtr wrap(std::span<std::byte> memory, std::shared_ptr<void> owner,
                         bool writable = true) = 0;
  // A folder in which the device may keep what it compiles, for the next start. It need not be
  // there; devices that compile nothing pass over it.
  virtual void set_cache_folder(const std::string& /*path*/) {}
  // What did not go as it should, without harm to any result: a folder that cannot be written.
  virtual std::vector<std::string> notes() const { return {}; }
  // The device must outlive the executable.
  virtual std::unique_ptr<Executable> load(std::shared_ptr<const Program> program) = 0;
};

}  // namespace npu
