// Loading, binding and running on host-memory devices.
#include "runtime/host_executable.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "runtime/host_binding.hpp"
#include "runtime/text.hpp"

namespace npu {
namespace {

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

schema::BufferKind kind_of(const schema::Buffer& buffer) {
  return static_cast<schema::BufferKind>(buffer.kind);
}

}  // namespace

std::uint64_t next_serial() noexcept {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

// A run state taken from the entry's idle ones, or a new one; goes back when the run ends, however
// it ends.
class HostExecutable::Lease {
 public:
  explicit Lease(Entry& entry) : entry_(entry) {
    {
      const std::lock_guard lock(entry_.mutex);
      if (!entry_.idle.empty()) {
        state_ = std::move(entry_.idle.back());
        entry_.idle.pop_back();
      }
    }
    if (state_ == nullptr) {
      state_ = make_state(entry_);
      // So that going back cannot fail.
      const std::lock_guard lock(entry_.mutex);
      entry_.idle.reserve(++entry_.states);
    }
  }
  ~Lease() {
    const std::lock_guard lock(entry_.mutex);
    entry_.idle.push_back(std::move(state_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  RunState& operator*() const noexcept { return *state_; }

 private:
  Entry& entry_;
  std::unique_ptr<RunState> state_;
};

HostExecutable::HostExecutable(HostDevice& device, std::shared_ptr<const Program> program)
    : serial_(next_serial()),
      device_(device),
      program_(std::move(program)),
      io_index_(program_->buffers().size()) {
  const auto dispatches = program_->dispatches();
  kernels_.reserve(dispatches.size());
  params_.reserve(dispatches.size());
  for (const schema::EntryPoint& record : program_->entry_points()) {
    entries_.push_back(std::make_unique<Entry>(record));
    load_entry(*entries_.back());
  }
}

HostExecutable::~HostExecutable() = default;

void HostExecutable::load_entry(Entry& entry) {
  const schema::EntryPoint& record = entry.record;
  const auto number_ios = [&](std::span<const schema::Io> ios) {
    for (std::uint32_t i = 0; i < ios.size(); ++i) {
      io_index_[program_->tensors()[ios[i].tensor].buffer] = i;
    }
  };
  number_ios(program_->inputs_of(record));
  number_ios(program_->outputs_of(record));

  for (std::uint32_t k = 0; k < record.dispatch_count; ++k) {
    const std::uint32_t index = record.dispatch_first + k;
    const schema::Dispatch& dispatch = program_->dispatches()[index];
    const KernelInfo& kernel = *find_kernel(dispatch.kernel);
    const auto operands = program_->operands_of(dispatch);
    const auto first = static_cast<std::uint32_t>(entry.pointers.size());
    std::uint32_t is_weight = 0;
    for (std::uint32_t o = 0; o < operands.size(); ++o) {
      load_operand(operands[o], entry);
      if (operands[o].buffer == schema::kNone) continue;
      const auto kind = kind_of(program_->buffers()[operands[o].buffer]);
      if (kind == schema::BufferKind::kWeight || kind == schema::BufferKind::kConstant) {
        is_weight |= 1u << o;
      }
    }
    params_.push_back(build_params(kernel, operands, program_->fields_of(dispatch)));
    kernels_.push_back(
        device_.prepare({index, program_->string(dispatch.name), kernel, operands, params_.back(),
                         std::span(dispatch.grid), std::span(dispatch.threadgroup), is_weight}));
    const HostKernel& ready = *kernels_.back();
    entry.steps.push_back({&ready, first, static_cast<std::uint32_t>(operands.size())});
    entry.scratch_bytes = std::max(entry.scratch_bytes, ready.scratch_bytes());
  }
}

void HostExecutable::load_operand(const schema::Operand& operand, Entry& entry) const {
  const auto target = static_cast<std::uint32_t>(entry.pointers.size());
  entry.pointers.push_back(nullptr);
  if (operand.buffer == schema::kNone) return;
  const schema::Buffer& buffer = program_->buffers()[operand.buffer];
  const Patch patch{target, io_index_[operand.buffer], operand.offset};
  switch (kind_of(buffer)) {
    case schema::BufferKind::kArena:
      entry.arena.push_back({target, 0, buffer.offset + operand.offset});
      return;
    case schema::BufferKind::kInput:
      entry.inputs.push_back(patch);
      return;
    case schema::BufferKind::kOutput:
      entry.outputs.push_back(patch);
      return;
    case schema::BufferKind::kWeight:
      entry.weights.push_back(
          {target, program_->buffer_uses()[operand.buffer].weight, operand.offset});
      return;
    case schema::BufferKind::kConstant:
      // Verified: no dispatch writes a constant.
      entry.pointers[target] =
          const_cast<std::byte*>(program_->constant(buffer).data()) + operand.offset;
      return;
  }
  throw Error(ErrorCode::kInternal, text("a verified program has a buffer of kind ", buffer.kind));
}

std::unique_ptr<HostExecutable::RunState> HostExecutable::make_state(const Entry& entry) {
  auto state = std::make_unique<RunState>();
  state->arena = HostBuffer::allocate(entry.record.arena_size);
  state->scratch = HostBuffer::allocate(entry.scratch_bytes);
  state->pointers = entry.pointers;
  for (const Patch& p : entry.arena)
    state->pointers[p.target] = state->arena->host_data() + p.offset;
  return state;
}

std::shared_ptr<const Binding> HostExecutable::bind(std::span<const BufferPtr> weights) {
  auto binding = std::make_shared<HostBinding>(*this, *program_, weights);
  for (const auto& entry : entries_) {
    std::vector<std::byte*> pointers = entry->pointers;  // constants
    for (const Patch& p : entry->weights) {
      pointers[p.target] = binding->weight(p.source) + p.offset;
    }
    for (const Step& step : entry->steps) {
      binding->add_prepared(step.kernel->prepare({pointers.data() + step.first, step.count}));
    }
  }
  return binding;
}

void HostExecutable::run(const Binding& binding, std::uint32_t entry_index,
                         std::span<const BufferPtr> inputs, std::span<const BufferPtr> outputs,
                         std::vector<DispatchTime>* times) {
  const auto* bound = dynamic_cast<const HostBinding*>(&binding);
  if (bound == nullptr || !bound->belongs_to(*this)) {
    throw Error(ErrorCode::kInvalidArgument, "the binding was made by another executable");
  }
  if (entry_index >= entries_.size()) {
    throw Error(
        ErrorCode::kInvalidArgument,
        text("entry point ", entry_index, " does not exist, the program has ", entries_.size()));
  }
  Entry& entry = *entries_[entry_index];
  const schema::EntryPoint& record = entry.record;
  check_run_buffers(*program_, record, *bound, inputs, outputs);

  const Lease lease(entry);
  RunState& state = *lease;
  std::byte** const pointers = state.pointers.data();
  if (state.binding != bound->serial()) {
    for (const Patch& p : entry.weights) pointers[p.target] = bound->weight(p.source) + p.offset;
    state.binding = bound->serial();
  }
  for (const Patch& p : entry.inputs) {
    pointers[p.target] = inputs[p.source]->host_data() + p.offset;
  }
  for (const Patch& p : entry.outputs) {
    pointers[p.target] = outputs[p.source]->host_data() + p.offset;
  }
  device_.prepare_arena({state.arena->host_data(), state.arena->size()});

  std::byte* const scratch = state.scratch->host_data();
  const auto prepared = bound->prepared().subspan(record.dispatch_first, record.dispatch_count);
  if (times == nullptr) {
    for (std::size_t i = 0; i < entry.steps.size(); ++i) {
      const Step& step = entry.steps[i];
      step.kernel->run({pointers + step.first, step.count}, prepared[i].get(), scratch);
    }
    return;
  }
  times->reserve(times->size() + entry.steps.size());
  for (std::size_t i = 0; i < entry.steps.size(); ++i) {
    const Step& step = entry.steps[i];
    const std::int64_t begin = now_ns();
    step.kernel->run({pointers + step.first, step.count}, prepared[i].get(), scratch);
    times->push_back({record.dispatch_first + static_cast<std::uint32_t>(i), begin, now_ns()});
  }
}

}  // namespace npu
