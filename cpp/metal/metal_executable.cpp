// Loading, binding and running.
#include "metal/metal_executable.hpp"

#include <algorithm>
#include <mutex>

#include "metal/submission.hpp"
#include "runtime/text.hpp"

namespace npu::metal {
namespace {

// Buffers come from the executable's own device, which makes no others.
const MetalBuffer& metal_buffer(const BufferPtr& buffer) {
  const auto* const metal = dynamic_cast<const MetalBuffer*>(buffer.get());
  if (metal == nullptr) {
    throw Error(ErrorCode::kInvalidArgument,
                "a buffer lies on another device than the program; allocate it on this one");
  }
  return *metal;
}

}  // namespace

class MetalExecutable::MetalCall final : public Call {
 public:
  MetalCall(MetalExecutable& executable, std::shared_ptr<const Binding> binding,
            const EntryPlan& plan, std::span<const BufferPtr> inputs,
            std::span<const BufferPtr> outputs)
      : executable_(executable),
        binding_(std::move(binding)),
        plan_(plan),
        buffers_(inputs.begin(), inputs.end()) {
    const WeightBinding& bound = executable_.binding_of(*binding_);
    check_run_buffers(*executable_.program_, plan_.record(), bound, inputs, outputs);
    buffers_.insert(buffers_.end(), outputs.begin(), outputs.end());
    frame_.arguments = plan_.arguments();
    point(frame_, plan_, bound, inputs, outputs);
  }

  void run(std::vector<DispatchTime>* times) override {
    const std::lock_guard lock(mutex_);
    executable_.execute(plan_, frame_, times);
  }

 private:
  MetalExecutable& executable_;
  std::shared_ptr<const Binding> binding_;
  const EntryPlan& plan_;
  std::vector<BufferPtr> buffers_;
  std::mutex mutex_;
  Frame frame_;  // guarded by mutex_
};

MetalExecutable::MetalExecutable(MTL::Device& device, MTL::CommandQueue& queue,
                                 Pipelines& pipelines, std::shared_ptr<const Program> program)
    : serial_(next_serial()),
      device_(device),
      queue_(queue),
      program_(std::move(program)),
      io_index_(program_->buffers().size()) {
  const AutoreleasePool pool;
  const auto number_ios = [&](std::span<const schema::Io> ios) {
    for (std::uint32_t i = 0; i < ios.size(); ++i) {
      io_index_[program_->tensors()[ios[i].tensor].buffer] = i;
    }
  };
  ParameterBlock parameters;
  const ElementwiseKernels elementwise(*program_, pipelines);
  PipelineSet wanted(pipelines);
  for (const schema::EntryPoint& record : program_->entry_points()) {
    number_ios(program_->inputs_of(record));
    number_ios(program_->outputs_of(record));
    entries_.push_back(std::make_unique<Entry>(
        EntryPlan(*program_, record, device, wanted, elementwise, io_index_, parameters)));
    arena_bytes_ = std::max<std::size_t>(arena_bytes_, entries_.back()->plan.arena_bytes());
  }
  wanted.build();
  const std::span<const std::byte> block = parameters.bytes();
  parameters_ = new_buffer(device_, block.size(), MTL::ResourceStorageModeShared, "parameters");
  std::copy(block.begin(), block.end(), static_cast<std::byte*>(parameters_->contents()));
  const std::span<const std::byte> constants = program_->constants();
  // Verified: no dispatch writes a constant. program_ keeps them.
  constants_ = MetalBuffer::wrap(
      device_, {const_cast<std::byte*>(constants.data()), constants.size()}, nullptr, false);
  for (const auto& entry : entries_) {
    entry->plan.resolve(parameters_.get(), constants_->metal(), constants_->offset());
  }
}

std::shared_ptr<const Binding> MetalExecutable::bind(std::span<const BufferPtr> weights) {
  auto binding = std::make_shared<WeightBinding>(serial_, *program_, weights);
  for (const BufferPtr& weight : weights) metal_buffer(weight);
  return binding;
}

MetalExecutable::Entry& MetalExecutable::entry_of(std::uint32_t index) const {
  if (index < entries_.size()) return *entries_[index];
  throw Error(ErrorCode::kInvalidArgument,
              text("entry point ", index, " does not exist, the program has ", entries_.size()));
}

const WeightBinding& MetalExecutable::binding_of(const Binding& binding) const {
  const auto* bound = dynamic_cast<const WeightBinding*>(&binding);
  if (bound != nullptr && bound->belongs_to(serial_)) return *bound;
  throw Error(ErrorCode::kInvalidArgument, "the binding was made by another executable");
}

void MetalExecutable::point(Frame& frame, const EntryPlan& plan, const WeightBinding& binding,
                            std::span<const BufferPtr> inputs, std::span<const BufferPtr> outputs) {
  const auto set = [&](const EntryPlan::Patch& patch, const BufferPtr& source) {
    const MetalBuffer& buffer = metal_buffer(source);
    frame.arguments.set(patch.target, buffer.metal(), buffer.offset() + patch.offset);
  };
  if (frame.binding != binding.serial()) {
    for (const EntryPlan::Patch& p : plan.weights()) set(p, binding.buffer(p.source));
    frame.binding = binding.serial();
  }
  for (const EntryPlan::Patch& p : plan.inputs()) set(p, inputs[p.source]);
  for (const EntryPlan::Patch& p : plan.outputs()) set(p, outputs[p.source]);
}

void MetalExecutable::run(const Binding& binding, std::uint32_t entry_index,
                          std::span<const BufferPtr> inputs, std::span<const BufferPtr> outputs,
                          std::vector<DispatchTime>* times) {
  const WeightBinding& bound = binding_of(binding);
  Entry& entry = entry_of(entry_index);
  check_run_buffers(*program_, entry.plan.record(), bound, inputs, outputs);
  const ReusePool<Frame>::Lease frame(
      entry.frames, [&] { return std::make_unique<Frame>(Frame{entry.plan.arguments()}); });
  point(*frame, entry.plan, bound, inputs, outputs);
  execute(entry.plan, *frame, times);
}

std::unique_ptr<Call> MetalExecutable::prepare(std::shared_ptr<const Binding> binding,
                                               std::uint32_t entry,
                                               std::span<const BufferPtr> inputs,
                                               std::span<const BufferPtr> outputs) {
  return std::make_unique<MetalCall>(*this, std::move(binding), entry_of(entry).plan, inputs,
                                     outputs);
}

void MetalExecutable::execute(const EntryPlan& plan, Frame& frame,
                              std::vector<DispatchTime>* times) {
  const AutoreleasePool pool;
  const ReusePool<Arena>::Lease arena(arenas_, [&] {
    return std::make_unique<Arena>(Arena{
        next_serial(),
        arena_bytes_ == 0
            ? NS::SharedPtr<MTL::Buffer>()
            : new_buffer(device_, arena_bytes_, MTL::ResourceStorageModePrivate, "intermediates")});
  });
  if (frame.arena != (*arena).serial) {
    for (const EntryPlan::Patch& p : plan.arena()) {
      frame.arguments.set(p.target, (*arena).buffer.get(), p.offset);
    }
    frame.arena = (*arena).serial;
  }
  if (times == nullptr) {
    submit(queue_, *program_, plan, frame.arguments);
  } else {
    submit_timed(queue_, *program_, plan, frame.arguments, *times);
  }
}

}  // namespace npu::metal
