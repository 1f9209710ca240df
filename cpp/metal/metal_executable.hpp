// A program loaded for Metal: entry points resolved, weights bound, runs submitted.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "metal/entry_plan.hpp"
#include "metal/metal_buffer.hpp"
#include "runtime/device.hpp"
#include "runtime/program.hpp"
#include "runtime/reuse_pool.hpp"
#include "runtime/weight_binding.hpp"

namespace npu::metal {

class MetalExecutable final : public Executable {
 public:
  // Device, queue and pipelines must outlive this.
  MetalExecutable(MTL::Device& device, MTL::CommandQueue& queue, Pipelines& pipelines,
                  std::shared_ptr<const Program> program);

  std::shared_ptr<const Binding> bind(std::span<const BufferPtr> weights) override;
  void run(const Binding& binding, std::uint32_t entry, std::span<const BufferPtr> inputs,
           std::span<const BufferPtr> outputs, std::vector<DispatchTime>* times) override;
  std::unique_ptr<Call> prepare(std::shared_ptr<const Binding> binding, std::uint32_t entry,
                                std::span<const BufferPtr> inputs,
                                std::span<const BufferPtr> outputs) override;

 private:
  // Intermediates of one run, of whichever entry point: the GPU's own memory.
  struct Arena {
    std::uint64_t serial;
    NS::SharedPtr<MTL::Buffer> buffer;  // null where no entry point needs any
  };
  // The arguments of one run, and what is in them already.
  struct Frame {
    Arguments arguments;
    std::uint64_t binding = 0;  // serial of the binding whose weights they name
    std::uint64_t arena = 0;    // serial of the arena that they name
  };
  struct Entry {
    explicit Entry(EntryPlan p) : plan(std::move(p)) {}
    EntryPlan plan;
    ReusePool<Frame> frames;
  };
  class MetalCall;

  // The entry and the binding, both checked to be this executable's.
  Entry& entry_of(std::uint32_t index) const;
  const WeightBinding& binding_of(const Binding& binding) const;
  static void point(Frame& frame, const EntryPlan& plan, const WeightBinding& binding,
                    std::span<const BufferPtr> inputs, std::span<const BufferPtr> outputs);
  void execute(const EntryPlan& plan, Frame& frame, std::vector<DispatchTime>* times);

  const std::uint64_t serial_;  // never that of another executable
  MTL::Device& device_;
  MTL::CommandQueue& queue_;
  std::shared_ptr<const Program> program_;
  // Per buffer: index among the inputs or outputs of its entry.
  std::vector<std::uint32_t> io_index_;
  std::vector<std::unique_ptr<Entry>> entries_;
  NS::SharedPtr<MTL::Buffer> parameters_;
  std::shared_ptr<MetalBuffer> constants_;
  std::size_t arena_bytes_ = 0;
  ReusePool<Arena> arenas_;
};

}  // namespace npu::metal
