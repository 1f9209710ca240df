// Loading, binding and running on host-memory devices.
#include "runtime/host_executable.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <utility>

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

class HostExecutable::HostCall final : public Call {
 public:
  HostCall(HostExecutable& executable, std::shared_ptr<const Binding> binding, const Entry& entry,
           std::span<const BufferPtr> inputs, std::span<const BufferPtr> outputs)
      : executable_(executable),
        owner_(std::move(binding)),
        binding_(executable.binding_of(*owner_)),
        entry_(entry),
        buffers_(inputs.begin(), inputs.end()) {
    check_run_buffers(*executable_.program_, entry_.record, binding_, inputs, outputs);
    buffers_.insert(buffers_.end(), outputs.begin(), outputs.end());
    frame_.pointers = entry_.pointers;
    point(frame_, entry_, binding_, inputs, outputs);
  }

  void run(std::vector<DispatchTime>* times) override {
    const std::lock_guard lock(mutex_);
    executable_.execute(entry_, frame_, binding_, times);
  }

 private:
  HostExecutable& executable_;
  std::shared_ptr<const Binding> owner_;
  const HostBinding& binding_;
  const Entry& entry_;
  std::vector<BufferPtr> buffers_;
  std::mutex mutex_;
  Frame frame_;  // guarded by mutex_
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
    scratch_bytes_ = std::max(scratch_bytes_, ready.scratch_bytes());
  }
  arena_bytes_ = std::max<std::size_t>(arena_bytes_, record.arena_size);
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

std::shared_ptr<const Binding> HostExecutable::bind(std::span<const BufferPtr> weights) {
  auto binding = std::make_shared<HostBinding>(serial_, *program_, weights);
  using Packed = std::pair<std::vector<std::int64_t>, std::vector<const std::byte*>>;
  std::map<Packed, std::shared_ptr<const PreparedWeights>> known;
  for (const auto& entry : entries_) {
    std::vector<std::byte*> pointers = entry->pointers;  // constants
    for (const Patch& p : entry->weights) {
      pointers[p.target] = binding->weight(p.source) + p.offset;
    }
    for (const Step& step : entry->steps) {
      const std::span<std::byte* const> operands(pointers.data() + step.first, step.count);
      std::vector<std::int64_t> packing = step.kernel->packing();
      if (packing.empty()) {
        binding->add_prepared(step.kernel->prepare(operands));
        continue;
      }
      auto& shared = known[{std::move(packing), {operands.begin(), operands.end()}}];
      if (shared == nullptr) shared = step.kernel->prepare(operands);
      binding->add_prepared(shared);
    }
  }
  return binding;
}

HostExecutable::Entry& HostExecutable::entry_of(std::uint32_t index) const {
  if (index < entries_.size()) return *entries_[index];
  throw Error(ErrorCode::kInvalidArgument,
              text("entry point ", index, " does not exist, the program has ", entries_.size()));
}

const HostBinding& HostExecutable::binding_of(const Binding& binding) const {
  const auto* bound = dynamic_cast<const HostBinding*>(&binding);
  if (bound != nullptr && bound->belongs_to(serial_)) return *bound;
  throw Error(ErrorCode::kInvalidArgument, "the binding was made by another executable");
}

std::unique_ptr<HostExecutable::Memory> HostExecutable::make_memory() const {
  return std::make_unique<Memory>(Memory{next_serial(), HostBuffer::allocate(arena_bytes_),
                                         HostBuffer::allocate(scratch_bytes_)});
}

void HostExecutable::point(Frame& frame, const Entry& entry, const HostBinding& binding,
                           std::span<const BufferPtr> inputs, std::span<const BufferPtr> outputs) {
  std::byte** const pointers = frame.pointers.data();
  if (frame.binding != binding.serial()) {
    for (const Patch& p : entry.weights) pointers[p.target] = binding.weight(p.source) + p.offset;
    frame.binding = binding.serial();
  }
  for (const Patch& p : entry.inputs) {
    pointers[p.target] = inputs[p.source]->host_data() + p.offset;
  }
  for (const Patch& p : entry.outputs) {
    pointers[p.target] = outputs[p.source]->host_data() + p.offset;
  }
}

void HostExecutable::run(const Binding& binding, std::uint32_t entry_index,
                         std::span<const BufferPtr> inputs, std::span<const BufferPtr> outputs,
                         std::vector<DispatchTime>* times) {
  const HostBinding& bound = binding_of(binding);
  Entry& entry = entry_of(entry_index);
  check_run_buffers(*program_, entry.record, bound, inputs, outputs);
  const ReusePool<Frame>::Lease frame(
      entry.frames, [&] { return std::make_unique<Frame>(Frame{entry.pointers}); });
  point(*frame, entry, bound, inputs, outputs);
  execute(entry, *frame, bound, times);
}

std::unique_ptr<Call> HostExecutable::prepare(std::shared_ptr<const Binding> binding,
                                              std::uint32_t entry,
                                              std::span<const BufferPtr> inputs,
                                              std::span<const BufferPtr> outputs) {
  return std::make_unique<HostCall>(*this, std::move(binding), entry_of(entry), inputs, outputs);
}

void HostExecutable::execute(const Entry& entry, Frame& frame, const HostBinding& binding,
                             std::vector<DispatchTime>* times) {
  const schema::EntryPoint& record = entry.record;
  const ReusePool<Memory>::Lease memory(memories_, [&] { return make_memory(); });
  std::byte** const pointers = frame.pointers.data();
  std::byte* const arena = (*memory).arena->host_data();
  if (frame.memory != (*memory).serial) {
    for (const Patch& p : entry.arena) pointers[p.target] = arena + p.offset;
    frame.memory = (*memory).serial;
  }
  device_.prepare_arena({arena, static_cast<std::size_t>(record.arena_size)});

  std::byte* const scratch = (*memory).scratch->host_data();
  const auto prepared = binding.prepared().subspan(record.dispatch_first, record.dispatch_count);
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
