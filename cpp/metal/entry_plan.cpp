// Resolves the dispatches of an entry point.
#include "metal/entry_plan.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#include "runtime/error.hpp"
#include "runtime/sat_int.hpp"
#include "runtime/text.hpp"

namespace npu::metal {
namespace {

// Offsets into constant address space must be multiples of this on every Mac.
constexpr std::size_t kParameterAlignment = 32;

schema::BufferKind kind_of(const schema::Buffer& buffer) {
  return static_cast<schema::BufferKind>(buffer.kind);
}

// Whether a kernel touches no memory of an operand: it is absent, or a view of nothing.
bool is_nothing(const schema::Operand& view) {
  return view.buffer == schema::kNone || std::any_of(view.shape, view.shape + view.rank,
                                                     [](std::uint32_t size) { return size == 0; });
}

// Bytes from the first element of a view of something to behind its last. Verified: strides are not
// negative and the view lies in its buffer.
std::uint64_t view_bytes(const schema::Operand& view) {
  std::uint64_t last = 0;
  for (std::uint32_t axis = 0; axis < view.rank; ++axis) {
    last += (view.shape[axis] - std::uint64_t{1}) * static_cast<std::uint64_t>(view.strides[axis]);
  }
  return (last + 1) * schema::dtype_size(view.dtype);
}

bool schedules_switched_off() {
  const char* const value = std::getenv("NPU_SIM_METAL_SCHEDULES");
  return value != nullptr && std::strcmp(value, "0") == 0;
}

}  // namespace

struct EntryPlan::Resolved {
  std::uint32_t index;  // in the program
  const KernelInfo& kernel;
  std::uint32_t type;   // dtype id of the type variable
  std::uint32_t first;  // argument
  std::vector<Access> accesses;
  std::vector<std::byte> values;  // of the parameters
  std::shared_ptr<const MpsProduct> product;
};

std::string describe_dispatch(const Program& program, std::uint32_t index) {
  const schema::Dispatch& dispatch = program.dispatches()[index];
  return text("dispatch ", index, " (", program.string(dispatch.name), "), kernel ",
              find_kernel(dispatch.kernel)->name);
}

std::uint64_t ParameterBlock::add(std::span<const std::byte> parameters) {
  const std::size_t at = bytes_.size();
  const std::size_t end = at + parameters.size();
  bytes_.resize((end + kParameterAlignment - 1) / kParameterAlignment * kParameterAlignment);
  std::memcpy(bytes_.data() + at, parameters.data(), parameters.size());
  return at;
}

EntryPlan::EntryPlan(const Program& program, const schema::EntryPoint& record, MTL::Device& device,
                     PipelineSet& pipelines, const ElementwiseKernels& elementwise,
                     std::span<const std::uint32_t> io_index, ParameterBlock& parameters)
    : program_(program), record_(record), io_index_(io_index), arena_bytes_(record.arena_size) {
  steps_.reserve(record.dispatch_count);
  for (std::uint32_t k = 0; k < record.dispatch_count; ++k) {
    const std::uint32_t index = record.dispatch_first + k;
    add_dispatch(program.dispatches()[index], index, device, pipelines, elementwise, parameters);
  }
}

void EntryPlan::add_dispatch(const schema::Dispatch& dispatch, std::uint32_t index,
                             MTL::Device& device, PipelineSet& pipelines,
                             const ElementwiseKernels& elementwise, ParameterBlock& parameters) {
  const KernelInfo& kernel = *find_kernel(dispatch.kernel);
  const auto operands = program_.operands_of(dispatch);
  const auto fields = program_.fields_of(dispatch);
  Resolved resolved{index, kernel, 0,      static_cast<std::uint32_t>(arguments_.buffers.size()),
                    {},    {},     nullptr};
  for (std::size_t k = 0; k < operands.size(); ++k) {
    add_argument(operands[k]);
    if (operands[k].buffer == schema::kNone) continue;
    if (kernel.operands[k].dtype == "T") resolved.type = operands[k].dtype;
    if (operands[k].dtype == static_cast<std::uint8_t>(schema::DType::kFloat64)) {
      throw Error(
          ErrorCode::kInvalidProgram,
          text("Metal: ", describe_dispatch(program_, index), ": operand ", kernel.operands[k].name,
               " is float64, which the NPU does not compute in; convert it to float32"));
    }
  }
  resolved.accesses = accesses(kernel, operands);
  const ScheduleInfo* const schedule =
      schedules_switched_off() ? nullptr : choose_schedule(kernel, operands, fields);
  if (schedule != nullptr) {
    add_scratch(scratch_layout(*schedule, operands, fields), schedule->scratch_count,
                resolved.accesses);
  }
  resolved.values = build_params(kernel, operands, fields);
  parameters_.push_back(
      {static_cast<std::uint32_t>(arguments_.buffers.size()), 0, parameters.add(resolved.values)});
  arguments_.buffers.push_back(nullptr);
  arguments_.offsets.push_back(0);
  resolved.product = MpsProduct::make(device, kernel, operands, resolved.values);
  if (schedule == nullptr || resolved.product != nullptr) {
    StageInfo own{kernel.name,
                  kernel.shader,
                  kernel.unit_threads,
                  {kernel.threadgroup[0], kernel.threadgroup[1], kernel.threadgroup[2]},
                  kernel.grid};
    std::uint64_t grid[] = {dispatch.grid[0], dispatch.grid[1], dispatch.grid[2]};
    if (const ElementwiseKernels::Kernel* const generated = elementwise.find(index)) {
      own.name = generated->function;
      own.shader = generated->shader;
      grid[0] /= generated->lanes;
    }
    add_step(resolved, own, grid, pipelines);
    return;
  }
  for (const StageInfo& stage : schedule->stages) {
    std::uint64_t grid[3];
    stage.grid(operands, fields.data(), grid);
    add_step(resolved, stage, grid, pipelines);
  }
}

void EntryPlan::add_step(const Resolved& resolved, const StageInfo& stage,
                         const std::uint64_t (&grid)[3], PipelineSet& pipelines) {
  std::uint64_t groups[3];  // verified: no grid is empty
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::uint64_t threads = stage.threadgroup[axis];
    groups[axis] = stage.unit_threads ? (grid[axis] + threads - 1) / threads : grid[axis];
    // Kernels count their threads in 32 bits.
    if (groups[axis] > std::numeric_limits<std::uint32_t>::max() / threads) {
      throw Error(ErrorCode::kInvalidProgram,
                  text("Metal: ", describe_dispatch(program_, resolved.index), ": axis ", axis,
                       " of the grid has ", groups[axis], " groups of ", threads,
                       " threads, which is more than 2**32 - 1 threads; use a smaller batch"));
    }
  }
  const auto& product = resolved.product;
  Pipeline* const pipeline =
      product != nullptr
          ? nullptr
          : &pipelines.want(pipeline_key(resolved.kernel, stage, resolved.type, resolved.values));
  // What the encoder holds: a product ends it.
  const bool new_pipeline = pipeline != last_pipeline_;
  last_pipeline_ = pipeline;
  // Metal itself keeps encoders in order that share memory.
  if (product != nullptr) barriers_.synchronize();
  const bool barrier = product == nullptr && barriers_.before(resolved.accesses);
  has_products_ = has_products_ || product != nullptr;
  steps_.push_back(
      {resolved.index, nullptr, resolved.first,
       static_cast<std::uint32_t>(arguments_.buffers.size()) - resolved.first,
       MTL::Size::Make(groups[0], groups[1], groups[2]),
       MTL::Size::Make(stage.threadgroup[0], stage.threadgroup[1], stage.threadgroup[2]), barrier,
       new_pipeline, product});
  pipelines_.push_back(pipeline);
}

// Every dispatch has its scratch arrays at the same place, behind the intermediates: barriers keep
// them apart.
void EntryPlan::add_scratch(const ScratchLayout& layout, std::uint32_t count,
                            std::vector<Access>& accesses) {
  const std::uint64_t base =
      (record_.arena_size + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
  for (std::uint32_t k = 0; k < count; ++k) {
    const std::uint64_t begin = base + layout.offsets[k];
    arena_.push_back({static_cast<std::uint32_t>(arguments_.buffers.size()), 0, begin});
    arguments_.buffers.push_back(nullptr);
    arguments_.offsets.push_back(0);
    schema::Operand& view = scratch_.emplace_back();
    view.dtype = static_cast<std::uint8_t>(schema::DType::kUint8);
    view.rank = 1;
    view.shape[0] = static_cast<std::uint32_t>(layout.sizes[k]);
    view.strides[0] = 1;
    accesses.push_back({&view, 0, begin, begin + layout.sizes[k], true});
  }
  if (count != 0) arena_bytes_ = std::max(arena_bytes_, base + layout.bytes);
}

void EntryPlan::add_argument(const schema::Operand& operand) {
  const auto target = static_cast<std::uint32_t>(arguments_.buffers.size());
  arguments_.buffers.push_back(nullptr);
  arguments_.offsets.push_back(0);
  if (is_nothing(operand)) {
    // Every argument of a kernel must be bound; this one is never touched. (A view of nothing may
    // begin where its buffer ends, which Metal refuses.)
    parameters_.push_back({target, 0, 0});
    return;
  }
  const std::uint32_t memory = memory_of(operand.buffer);
  const schema::Buffer& buffer = program_.buffers()[memory];
  const Patch patch{target, io_index_[memory], operand.offset};
  switch (kind_of(buffer)) {
    case schema::BufferKind::kArena:
      arena_.push_back({target, 0, buffer.offset + operand.offset});
      return;
    case schema::BufferKind::kInput:
      inputs_.push_back(patch);
      return;
    case schema::BufferKind::kOutput:
      outputs_.push_back(patch);
      return;
    case schema::BufferKind::kWeight:
      weights_.push_back({target, program_.buffer_uses()[operand.buffer].weight, operand.offset});
      return;
    case schema::BufferKind::kConstant:
      constants_.push_back({target, 0, buffer.offset + operand.offset});
      return;
  }
  throw Error(ErrorCode::kInternal, text("a verified program has a buffer of kind ", buffer.kind));
}

std::uint32_t EntryPlan::memory_of(std::uint32_t buffer) const {
  if (kind_of(program_.buffers()[buffer]) != schema::BufferKind::kOutput) return buffer;
  const std::uint32_t donor = program_.outputs_of(record_)[io_index_[buffer]].donor;
  if (donor == schema::kNone) return buffer;
  return program_.tensors()[program_.inputs_of(record_)[donor].tensor].buffer;
}

std::vector<Access> EntryPlan::accesses(const KernelInfo& kernel,
                                        std::span<const schema::Operand> operands) const {
  // Spaces: 0 is the arena, beyond it come the inputs, then the outputs that have memory of their
  // own.
  std::vector<Access> found;
  for (std::size_t k = 0; k < operands.size(); ++k) {
    const schema::Operand& operand = operands[k];
    if (is_nothing(operand)) continue;
    const std::uint32_t memory = memory_of(operand.buffer);
    const schema::Buffer& buffer = program_.buffers()[memory];
    const std::uint32_t io = io_index_[memory];
    std::uint64_t space = 0;
    std::uint64_t begin = operand.offset;
    switch (kind_of(buffer)) {
      case schema::BufferKind::kArena:
        begin += buffer.offset;
        break;
      case schema::BufferKind::kInput:
        space = std::uint64_t{1} + io;
        break;
      case schema::BufferKind::kOutput:
        space = std::uint64_t{1} + record_.input_count + io;
        break;
      case schema::BufferKind::kWeight:
      case schema::BufferKind::kConstant:
        continue;  // never written
    }
    found.push_back(
        {&operand, space, begin, begin + view_bytes(operand), kernel.operands[k].write});
  }
  return found;
}

void EntryPlan::resolve(const MTL::Buffer* parameters, const MTL::Buffer* constants,
                        std::size_t constants_offset) {
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    if (pipelines_[i] != nullptr) steps_[i].pipeline = pipelines_[i]->state();
  }
  for (const Patch& p : parameters_) arguments_.set(p.target, parameters, p.offset);
  for (const Patch& p : constants_) {
    arguments_.set(p.target, constants, constants_offset + p.offset);
  }
}

}  // namespace npu::metal
