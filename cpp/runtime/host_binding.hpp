// Weights bound to a host executable, and the checks of what a caller binds to a run.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/host_device.hpp"

namespace npu {

class HostExecutable;

class HostBinding final : public Binding {
 public:
  // Throws kInvalidArgument for a wrong count, a missing buffer or one that is too small.
  HostBinding(const HostExecutable& owner, const Program& program,
              std::span<const BufferPtr> weights);

  bool belongs_to(const HostExecutable& executable) const;
  // Never 0, never that of another binding.
  std::uint64_t serial() const noexcept { return serial_; }
  std::byte* weight(std::uint32_t index) const { return pointers_[index]; }
  // Per dispatch of the program.
  std::span<const std::unique_ptr<PreparedWeights>> prepared() const { return prepared_; }
  void add_prepared(std::unique_ptr<PreparedWeights> prepared) {
    prepared_.push_back(std::move(prepared));
  }
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
  std::vector<std::unique_ptr<PreparedWeights>> prepared_;
};

// Checks the buffers of a run against its entry point: count, size, memory, overlaps. Throws
// kInvalidArgument.
void check_run_buffers(const Program& program, const schema::EntryPoint& entry,
                       const HostBinding& binding, std::span<const BufferPtr> inputs,
                       std::span<const BufferPtr> outputs);

}  // namespace npu
