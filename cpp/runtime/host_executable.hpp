// The run loop of host-memory devices: everything is resolved at load and bind time, a run patches
// pointers and goes.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "runtime/host_buffer.hpp"
#include "runtime/host_device.hpp"

namespace npu {

// Unique in the process, from 1.
std::uint64_t next_serial() noexcept;

class HostExecutable final : public Executable {
 public:
  HostExecutable(HostDevice& device, std::shared_ptr<const Program> program);
  ~HostExecutable() override;

  std::shared_ptr<const Binding> bind(std::span<const BufferPtr> weights) override;
  void run(const Binding& binding, std::uint32_t entry, std::span<const BufferPtr> inputs,
           std::span<const BufferPtr> outputs, std::vector<DispatchTime>* times) override;
  // Never that of another executable.
  std::uint64_t serial() const noexcept { return serial_; }

 private:
  // Pointer `target` of the entry's table is byte `offset` of source `source` (an input, output or
  // weight).
  struct Patch {
    std::uint32_t target;
    std::uint32_t source;
    std::uint64_t offset;
  };
  // A dispatch: `count` pointers of the table, from `first`.
  struct Step {
    const HostKernel* kernel;
    std::uint32_t first;
    std::uint32_t count;
  };
  // What one run needs for itself. Reused, so that a run allocates nothing.
  struct RunState {
    std::shared_ptr<HostBuffer> arena;
    std::shared_ptr<HostBuffer> scratch;
    std::vector<std::byte*> pointers;
    std::uint64_t binding = 0;  // serial of the binding whose weights `pointers` holds
  };
  struct Entry {
    explicit Entry(const schema::EntryPoint& r) : record(r) {}
    const schema::EntryPoint& record;
    std::vector<Step> steps;
    std::vector<std::byte*> pointers;  // constants in place, everything else null
    std::vector<Patch> arena;
    std::vector<Patch> weights;
    std::vector<Patch> inputs;
    std::vector<Patch> outputs;
    std::size_t scratch_bytes = 0;
    std::mutex mutex;
    std::vector<std::unique_ptr<RunState>> idle;  // guarded by mutex
    std::size_t states = 0;                       // that exist, guarded by mutex
  };
  class Lease;

  void load_entry(Entry& entry);
  void load_operand(const schema::Operand& operand, Entry& entry) const;
  static std::unique_ptr<RunState> make_state(const Entry& entry);

  const std::uint64_t serial_;
  HostDevice& device_;
  std::shared_ptr<const Program> program_;
  std::vector<std::unique_ptr<HostKernel>> kernels_;  // per dispatch
  std::vector<std::vector<std::byte>> params_;        // per dispatch
  std::vector<std::unique_ptr<Entry>> entries_;
  std::vector<std::uint32_t>
      io_index_;  // per buffer: index among the inputs or outputs of its entry
};

}  // namespace npu
