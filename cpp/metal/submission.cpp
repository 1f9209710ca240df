// Encodes dispatches, commits them and turns their failures into exceptions.
#include "metal/submission.hpp"

#include <chrono>
#include <cmath>

#include "runtime/error.hpp"
#include "runtime/text.hpp"

namespace npu::metal {
namespace {

MTL::CommandBuffer& begin_commands(MTL::CommandQueue& queue, bool products) {
  // Plans, frames and bindings keep everything alive until the run has been waited for; MPS may use
  // memory of its own.
  MTL::CommandBuffer* const commands =
      products ? queue.commandBuffer() : queue.commandBufferWithUnretainedReferences();
  if (commands == nullptr) {
    throw Error(ErrorCode::kDevice,
                "Metal: the queue gives no command buffer; the GPU may be lost to this process, "
                "start the process anew");
  }
  return *commands;
}

MTL::ComputeCommandEncoder& begin_encoder(MTL::CommandBuffer& commands) {
  MTL::ComputeCommandEncoder* const encoder =
      commands.computeCommandEncoder(MTL::DispatchTypeConcurrent);
  if (encoder == nullptr) {
    throw Error(ErrorCode::kDevice,
                "Metal: the command buffer gives no encoder; the GPU may be lost to this process, "
                "start the process anew");
  }
  return *encoder;
}

void encode(MTL::ComputeCommandEncoder& encoder, const Step& step, const Arguments& arguments) {
  encoder.setBuffers(arguments.buffers.data() + step.first, arguments.offsets.data() + step.first,
                     NS::Range::Make(0, step.count));
  encoder.dispatchThreadgroups(step.groups, step.threads);
}

// In a command buffer of its own.
MTL::CommandBuffer& commit_alone(MTL::CommandQueue& queue, const Step& step,
                                 const Arguments& arguments) {
  MTL::CommandBuffer& commands = begin_commands(queue, step.product != nullptr);
  if (step.product != nullptr) {
    step.product->encode(commands, arguments, step.first);
  } else {
    MTL::ComputeCommandEncoder& encoder = begin_encoder(commands);
    encoder.setComputePipelineState(step.pipeline);
    encode(encoder, step, arguments);
    encoder.endEncoding();
  }
  commands.commit();
  return commands;
}

bool completed(const MTL::CommandBuffer& commands) {
  return commands.status() == MTL::CommandBufferStatusCompleted;
}

[[noreturn]] void throw_failure(const MTL::CommandBuffer& commands, const std::string& what) {
  const NS::Error* const error = commands.error();
  ErrorCode code = ErrorCode::kDevice;
  const char* advice = "; Device('cpu') runs the program as well; please report the kernel";
  switch (error != nullptr ? error->code() : 0) {
    case MTL::CommandBufferErrorOutOfMemory:
      code = ErrorCode::kOutOfMemory;
      advice = "; use a smaller batch or model";
      break;
    case MTL::CommandBufferErrorAccessRevoked:
    case MTL::CommandBufferErrorDeviceRemoved:
    case MTL::CommandBufferErrorNotPermitted:
      code = ErrorCode::kDeviceUnavailable;
      advice = "; the GPU is lost to this process, start the process anew";
      break;
    case MTL::CommandBufferErrorTimeout:
      advice = "; the system ends work that takes seconds, use a smaller batch";
      break;
    default:
      break;
  }
  throw Error(code, text("Metal: ", what, " failed: ", message_of(error), advice));
}

// What Metal says of a command buffer names no kernel: the dispatches are run again one by one
// until one fails. The run's outputs are lost in any case.
[[noreturn]] void throw_failed_run(const MTL::CommandBuffer& failed, MTL::CommandQueue& queue,
                                   const Program& program, const EntryPlan& plan,
                                   const Arguments& arguments) {
  const NS::Error* const error = failed.error();
  const NS::Integer code = error != nullptr ? error->code() : 0;
  const bool of_a_kernel =
      code != MTL::CommandBufferErrorOutOfMemory && code != MTL::CommandBufferErrorAccessRevoked &&
      code != MTL::CommandBufferErrorDeviceRemoved && code != MTL::CommandBufferErrorNotPermitted;
  for (std::size_t i = 0; of_a_kernel && i < plan.steps().size(); ++i) {
    MTL::CommandBuffer& commands = commit_alone(queue, plan.steps()[i], arguments);
    commands.waitUntilCompleted();
    if (!completed(commands)) {
      throw_failure(commands, describe_dispatch(program, plan.steps()[i].dispatch));
    }
  }
  throw_failure(failed, text("entry point '", program.string(plan.record().name), "' with ",
                             plan.record().dispatch_count, " dispatches"));
}

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::int64_t to_ns(CFTimeInterval seconds) { return std::llround(seconds * 1e9); }

}  // namespace

void submit(MTL::CommandQueue& queue, const Program& program, const EntryPlan& plan,
            const Arguments& arguments) {
  MTL::CommandBuffer& commands = begin_commands(queue, plan.has_products());
  MTL::ComputeCommandEncoder* encoder = nullptr;
  for (const Step& step : plan.steps()) {
    if (step.product != nullptr) {
      // Products make encoders of their own.
      if (encoder != nullptr) encoder->endEncoding();
      encoder = nullptr;
      step.product->encode(commands, arguments, step.first);
      continue;
    }
    if (encoder == nullptr) encoder = &begin_encoder(commands);
    if (step.barrier) encoder->memoryBarrier(MTL::BarrierScopeBuffers);
    if (step.new_pipeline) encoder->setComputePipelineState(step.pipeline);
    encode(*encoder, step, arguments);
  }
  if (encoder != nullptr) encoder->endEncoding();
  commands.commit();
  commands.waitUntilCompleted();
  if (!completed(commands)) throw_failed_run(commands, queue, program, plan, arguments);
}

void submit_timed(MTL::CommandQueue& queue, const Program& program, const EntryPlan& plan,
                  const Arguments& arguments, std::vector<DispatchTime>& times) {
  std::vector<MTL::CommandBuffer*> commands;
  commands.reserve(plan.steps().size());
  try {
    for (const Step& step : plan.steps()) commands.push_back(&commit_alone(queue, step, arguments));
  } catch (...) {
    // What has been committed works on the caller's memory.
    if (!commands.empty()) commands.back()->waitUntilCompleted();
    throw;
  }
  if (!commands.empty()) commands.back()->waitUntilCompleted();
  // The GPU's clock and the host's begin at different times; the last dispatch ends about now.
  const std::int64_t shift =
      now_ns() - (commands.empty() ? 0 : to_ns(commands.back()->GPUEndTime()));
  times.reserve(times.size() + plan.record().dispatch_count);
  for (std::size_t i = 0; i < commands.size(); ++i) {
    const std::uint32_t index = plan.steps()[i].dispatch;
    if (!completed(*commands[i])) throw_failure(*commands[i], describe_dispatch(program, index));
    const std::int64_t begin = shift + to_ns(commands[i]->GPUStartTime());
    const std::int64_t end = shift + to_ns(commands[i]->GPUEndTime());
    // A dispatch lasts from its first launch to its last.
    if (i != 0 && plan.steps()[i - 1].dispatch == index) {
      times.back().end_ns = end;
    } else {
      times.push_back({index, begin, end});
    }
  }
}

}  // namespace npu::metal
