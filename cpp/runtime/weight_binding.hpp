// Weights bound to an executable whose device shares memory with the host, and the checks of what a
// caller binds to a run.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/device.hpp"
#include "runtime/program.hpp"

namespace npu {

// Unique in the process, from 1.
std::uint64_t next_serial() noexcept;

class WeightBinding : public Binding {
 public:
  // `owner`: the executable's serial number. Throws kInvalidArgument for a wrong count, a missing
  // buffer or one that is too small.
  WeightBinding(std::uint64_t owner, const Program& program, std::span<const BufferPtr> weights);

  bool belongs_to(std::uint64_t executable) const { return owner_ == executable; }
  // Never 0, never that of another binding.
  std::uint64_t serial() const noexcept { return serial_; }
  const BufferPtr& buffer(std::uint32_t index) const { return buffers_[index]; }
  std::byte* weight(std::uint32_t index) const { return pointers_[index]; }
  // Whether a weight lies in this memory.
  bool overlaps(std::span<const std::byte> memory) const;

 private:
  struct Range {
    std::uintptr_t begin;
    std::uintptr_t end;
  };

  std::uint64_t owner_;
  std::uint64_t serial_;
  std::vector<BufferPtr> buffers_;
  std::vector<std::byte*> pointers_;
  std::vector<Range> ranges_;  // of the weights, merged and by address
};

// Checks the buffers of a run against its entry point: count, size, memory, overlaps. Throws
// kInvalidArgument.
void check_run_buffers(const Program& program, const schema::EntryPoint& entry,
                       const WeightBinding& binding, std::span<const BufferPtr> inputs,
                       std::span<const BufferPtr> outputs);

}  // namespace npu
