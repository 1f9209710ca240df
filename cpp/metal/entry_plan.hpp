// An entry point made ready for Metal when its program is loaded: pipelines, grids, barriers and
// the arguments of every dispatch. What a run adds are the addresses of the caller's buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "metal/barriers.hpp"
#include "metal/elementwise_kernels.hpp"
#include "metal/metal_cpp.hpp"
#include "metal/mps_product.hpp"
#include "metal/pipelines.hpp"
#include "runtime/kernels.hpp"
#include "runtime/program.hpp"

namespace npu::metal {

// The buffers and offsets that dispatches take, one range after the other.
struct Arguments {
  std::vector<const MTL::Buffer*> buffers;
  std::vector<NS::UInteger> offsets;

  void set(std::uint32_t index, const MTL::Buffer* buffer, NS::UInteger offset) {
    buffers[index] = buffer;
    offsets[index] = offset;
  }
};

// One launch of a dispatch: `count` arguments from `first`, the operands in binding order, scratch
// arrays and the parameters behind them.
struct Step {
  std::uint32_t dispatch;                     // index in the program
  const MTL::ComputePipelineState* pipeline;  // null until it is resolved
  std::uint32_t first;
  std::uint32_t count;
  MTL::Size groups;                           // of the grid
  MTL::Size threads;                          // of a group
  bool barrier;                               // earlier dispatches must have finished
  bool new_pipeline;                          // differs from the one that the step before leaves
  std::shared_ptr<const MpsProduct> product;  // instead of the pipeline; null: the pipeline
};

// The parameters of a program's dispatches, in one buffer.
class ParameterBlock {
 public:
  // Returns where the parameters lie.
  std::uint64_t add(std::span<const std::byte> parameters);
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

class EntryPlan {
 public:
  // Argument `target` is byte `offset` of source `source` (an input, output or weight).
  struct Patch {
    std::uint32_t target;
    std::uint32_t source;
    std::uint64_t offset;
  };

  // `io_index` says for each buffer of the program which input or output it is. Throws
  // kInvalidProgram where the GPU cannot hold a grid.
  EntryPlan(const Program& program, const schema::EntryPoint& record, MTL::Device& device,
            PipelineSet& pipelines, const ElementwiseKernels& elementwise,
            std::span<const std::uint32_t> io_index, ParameterBlock& parameters);

  // Fills in what is the same in every run. The pipelines have been built.
  void resolve(const MTL::Buffer* parameters, const MTL::Buffer* constants,
               std::size_t constants_offset);

  const schema::EntryPoint& record() const { return record_; }
  std::span<const Step> steps() const { return steps_; }
  bool has_products() const { return has_products_; }
  // Null where a patch is to come.
  const Arguments& arguments() const { return arguments_; }
  // Memory that arena() points into: intermediates and scratch arrays.
  std::uint64_t arena_bytes() const { return arena_bytes_; }
  std::span<const Patch> arena() const { return arena_; }
  std::span<const Patch> weights() const { return weights_; }
  std::span<const Patch> inputs() const { return inputs_; }
  std::span<const Patch> outputs() const { return outputs_; }

 private:
  // A dispatch while its steps are made.
  struct Resolved;

  void add_dispatch(const schema::Dispatch& dispatch, std::uint32_t index, MTL::Device& device,
                    PipelineSet& pipelines, const ElementwiseKernels& elementwise,
                    ParameterBlock& parameters);
  void add_step(const Resolved& resolved, const StageInfo& stage, const std::uint64_t (&grid)[3],
                PipelineSet& pipelines);
  void add_argument(const schema::Operand& operand);
  void add_scratch(const ScratchLayout& layout, std::uint32_t count, std::vector<Access>& accesses);
  // The buffer whose memory this one is: of an output, the input that is donated to it. By its one
  // MTLBuffer, Metal keeps encoders in order, however often the caller has wrapped that memory.
  std::uint32_t memory_of(std::uint32_t buffer) const;
  std::vector<Access> accesses(const KernelInfo& kernel,
                               std::span<const schema::Operand> operands) const;

  const Program& program_;
  const schema::EntryPoint& record_;
  std::span<const std::uint32_t> io_index_;
  std::vector<Step> steps_;
  std::vector<Pipeline*> pipelines_;   // by step; null: it needs none
  Pipeline* last_pipeline_ = nullptr;  // that the encoder holds behind the last step
  BarrierPlanner barriers_;
  bool has_products_ = false;
  Arguments arguments_;
  std::uint64_t arena_bytes_;
  std::deque<schema::Operand> scratch_;  // arrays as views, for the barriers
  std::vector<Patch> arena_;
  std::vector<Patch> weights_;
  std::vector<Patch> inputs_;
  std::vector<Patch> outputs_;
  std::vector<Patch> constants_;
  std::vector<Patch> parameters_;
};

// "dispatch 3 (conv1), kernel conv2d", for messages.
std::string describe_dispatch(const Program& program, std::uint32_t index);

}  // namespace npu::metal
