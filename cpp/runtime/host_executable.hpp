// The run loop of host-memory devices: everything is resolved at load and bind time, a run patches
// pointers and goes.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/host_buffer.hpp"
#include "runtime/host_device.hpp"
#include "runtime/reuse_pool.hpp"

namespace npu {

class HostBinding;

class HostExecutable final : public Executable {
 public:
  HostExecutable(HostDevice& device, std::shared_ptr<const Program> program);
  ~HostExecutable() override;

  std::shared_ptr<const Binding> bind(std::span<const BufferPtr> weights) override;
  void run(const Binding& binding, std::uint32_t entry, std::span<const BufferPtr> inputs,
           std::span<const BufferPtr> outputs, std::vector<DispatchTime>* times) override;
  std::unique_ptr<Call> prepare(std::shared_ptr<const Binding> binding, std::uint32_t entry,
                                std::span<const BufferPtr> inputs,
                                std::span<const BufferPtr> outputs) override;

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
  // Scratch memory of one run, of whichever entry.
  struct Memory {
    std::uint64_t serial;
    std::shared_ptr<HostBuffer> arena;
    std::shared_ptr<HostBuffer> scratch;
  };
  // The pointer table of one run, and what is in it already.
  struct Frame {
    std::vector<std::byte*> pointers;
    std::uint64_t binding = 0;  // serial of the binding whose weights it points at
    std::uint64_t memory = 0;   // serial of the memory whose arena it points at
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
    ReusePool<Frame> frames;
  };
  class HostCall;

  void load_entry(Entry& entry);
  void load_operand(const schema::Operand& operand, Entry& entry) const;
  // The entry and the binding, both checked to be this executable's.
  Entry& entry_of(std::uint32_t index) const;
  const HostBinding& binding_of(const Binding& binding) const;
  std::unique_ptr<Memory> make_memory() const;
  static void point(Frame& frame, const Entry& entry, const HostBinding& binding,
                    std::span<const BufferPtr> inputs, std::span<const BufferPtr> outputs);
  // Runs the dispatches of an entry over a frame that points at its buffers.
  void execute(const Entry& entry, Frame& frame, const HostBinding& binding,
               std::vector<DispatchTime>* times);

  const std::uint64_t serial_;  // never that of another executable
  HostDevice& device_;
  std::shared_ptr<const Program> program_;
  std::vector<std::unique_ptr<HostKernel>> kernels_;  // per dispatch
  std::vector<std::vector<std::byte>> params_;        // per dispatch
  std::vector<std::unique_ptr<Entry>> entries_;
  // Entry points take turns in the same memory, so each piece is as large as the largest wants.
  ReusePool<Memory> memories_;
  std::size_t arena_bytes_ = 0;
  std::size_t scratch_bytes_ = 0;
  std::vector<std::uint32_t>
      io_index_;  // per buffer: index among the inputs or outputs of its entry
};

}  // namespace npu
