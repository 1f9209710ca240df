// MTLCommandQueue, MTLCommandBuffer, MTLComputeCommandEncoder: every use is checked.
#include <algorithm>
#include <cstring>

#include "metal_standin/foundation.hpp"
#include "metal_standin/gpu.hpp"
#include "metal_standin/metal_objects.hpp"
#include "metal_standin/settings.hpp"
#include "metal_standin/validation.hpp"
#include "npubin_schema.hpp"  // generated
#include "reference/worker_pool.hpp"
#include "runtime/elementwise_source.hpp"
#include "runtime/kernel_params.hpp"

namespace npu::standin {
namespace {

// Threads of a simulated grid are counted in 32 bits.
constexpr std::uint64_t kMaxGrid = 0xffffffffu;

reference::WorkerPool& workers() {
  static auto* const pool =
      new reference::WorkerPool(std::max(1u, std::thread::hardware_concurrency()));
  return *pool;
}

std::string number(std::uint64_t value) { return std::to_string(value); }

// Bytes of an argument's elements, as far as the kernel's declaration tells.
std::size_t element_bytes(const Declaration& kernel, std::size_t operand) {
  const std::size_t operands = kernel.kernel->operands.size();
  if (operand >= operands) return kernel.entry->scratch[operand - operands].item;
  const std::string_view dtype = kernel.kernel->operands[operand].dtype;
  if (dtype == "any") return 1;
  if (dtype == "T") return schema::dtype_size(static_cast<std::uint8_t>(kernel.entry->dtype));
  for (const schema::DTypeInfo& info : schema::kDTypes) {
    if (info.short_name == dtype) return info.size;
  }
  return 1;
}

// The operands of an elementwise dispatch as its parameters tell them. Absent ones have extents of
// 0.
std::vector<schema::Operand> operands_of(const KernelInfo& kernel, const std::byte* parameters,
                                         const Argument* arguments) {
  std::vector<schema::Operand> found;
  for (std::size_t k = 0; k < kernel.operands.size(); ++k) {
    const OperandInfo& info = kernel.operands[k];
    schema::Operand& operand = found.emplace_back();
    std::uint32_t dtype = 0;
    std::memcpy(&dtype, parameters + info.dtype_offset, sizeof dtype);
    operand.dtype = static_cast<std::uint8_t>(dtype);
    std::memcpy(operand.shape, parameters + info.shape_offset, info.rank * sizeof(std::uint32_t));
    std::memcpy(operand.strides, parameters + info.stride_offset, info.rank * sizeof(std::int64_t));
    operand.buffer = operand.shape[0] == 0 ? schema::kNone : 0;
    operand.offset = arguments[k].offset;
  }
  return found;
}

// Whether a generated kernel is the one of the program that these parameters hold, and its operands
// lie where it may load several elements at once.
void check_generated(const Declaration& kernel, const std::byte* parameters,
                     const Argument* arguments, std::uint64_t groups) {
  const auto operands = operands_of(*kernel.kernel, parameters, arguments);
  const std::span<const std::byte> fields(parameters + kernel.kernel->field_offset,
                                          kernel.kernel->field_bytes);
  if (elementwise_source(kernel.name, operands, fields, kernel.lanes) != kernel.generated) {
    fail("kernel " + kernel.name + " was generated for another program than it is run for");
  }
  if (kernel.lanes > elementwise_lanes(operands, fields)) {
    fail("kernel " + kernel.name + " takes " + number(kernel.lanes) +
         " elements at once, which do not lie together");
  }
  std::uint64_t elements = 1;
  for (std::uint32_t axis = 0; axis < NPU_MAX_DIMS; ++axis) {
    elements *= operands[NPU_MAX_INPUTS].shape[axis];
  }
  const std::uint64_t each = std::uint64_t{kernel.threadgroup[0]} * kernel.lanes;
  if (groups != (elements + each - 1) / each) {
    fail("kernel " + kernel.name + " is run by " + number(groups) + " groups of " + number(each) +
         " elements for " + number(elements));
  }
}

void check_index(NS::UInteger index) {
  if (index >= kMaxArguments) fail("argument " + number(index) + " is set, there are 31");
}

void set_buffer(Encoder& encoder, Buffer* buffer, std::size_t offset, NS::UInteger index) {
  check_index(index);
  if (buffer == nullptr) fail("argument " + number(index) + " is set to no buffer");
  if (buffer->isa != objc_lookUpClass("MTLBuffer")) fail("an argument is no MTLBuffer");
  if (offset >= buffer->length) {
    fail("argument " + number(index) + " begins at byte " + number(offset) + " of a buffer of " +
         number(buffer->length));
  }
  encoder.arguments[index] = {buffer, offset, {}};
}

void define_encoder() {
  const Class encoder = define_class("MTLComputeCommandEncoder", object_class(), &destroy<Encoder>);
  method(
      encoder, "setComputePipelineState:", +[](Encoder* self, SEL, Pipeline* pipeline) {
        self->check_open("setComputePipelineState:");
        if (pipeline == nullptr) fail("setComputePipelineState: nil");
        self->pipeline = pipeline;
      });
  method(
      encoder, "setBuffer:offset:atIndex:",
      +[](Encoder* self, SEL, Buffer* buffer, NS::UInteger offset, NS::UInteger index) {
        self->check_open("setBuffer:offset:atIndex:");
        set_buffer(*self, buffer, offset, index);
      });
  method(
      encoder, "setBuffers:offsets:withRange:",
      +[](Encoder* self, SEL, Buffer* const* buffers, const NS::UInteger* offsets,
          NS::Range range) {
        self->check_open("setBuffers:offsets:withRange:");
        for (NS::UInteger i = 0; i < range.length; ++i) {
          set_buffer(*self, buffers[i], offsets[i], range.location + i);
        }
      });
  method(
      encoder, "setBytes:length:atIndex:",
      +[](Encoder* self, SEL, const std::byte* bytes, NS::UInteger length, NS::UInteger index) {
        self->check_open("setBytes:length:atIndex:");
        check_index(index);
        if (length == 0 || length > kMaxInlineBytes) {
          fail("setBytes: " + number(length) + " bytes, 1 to 4096 are allowed");
        }
        self->arguments[index] = {nullptr, 0, {bytes, bytes + length}};
      });
  method(
      encoder, "memoryBarrierWithScope:", +[](Encoder* self, SEL, NS::UInteger scope) {
        self->check_open("memoryBarrierWithScope:");
        if ((scope & MTL::BarrierScopeBuffers) == 0) fail("a barrier leaves buffers out");
        self->commands->passes.back().commands.push_back({});
      });
  method(
      encoder, "dispatchThreadgroups:threadsPerThreadgroup:",
      +[](Encoder* self, SEL, MTL::Size groups, MTL::Size threads) {
        self->check_open("dispatchThreadgroups:threadsPerThreadgroup:");
        self->dispatch(groups, threads);
      });
  method(
      encoder, "endEncoding", +[](Encoder* self, SEL) {
        self->check_open("endEncoding");
        self->ended = true;
        self->commands->open_encoder = nullptr;
      });

  // Stands in while the host's own time is measured.
  const Class idle = define_class("StandinIdleEncoder", object_class());
  method(idle, "setComputePipelineState:", +[](Object*, SEL, void*) {});
  method(
      idle,
      "setBuffers:offsets:withRange:", +[](Object*, SEL, const void*, const void*, NS::Range) {});
  method(idle, "memoryBarrierWithScope:", +[](Object*, SEL, NS::UInteger) {});
  method(
      idle,
      "dispatchThreadgroups:threadsPerThreadgroup:", +[](Object*, SEL, MTL::Size, MTL::Size) {});
  method(idle, "endEncoding", +[](Object*, SEL) {});
}

Object* new_encoder(CommandBuffer* commands, MTL::DispatchType type) {
  if (settings().encode_only) return make<Object>(objc_lookUpClass("StandinIdleEncoder"));
  const std::lock_guard lock(commands->mutex);
  if (commands->status != MTL::CommandBufferStatusNotEnqueued) {
    fail("an encoder of a command buffer that has been committed is asked for");
  }
  if (commands->open_encoder != nullptr) fail("the last encoder has not been ended");
  return make<Encoder>(objc_lookUpClass("MTLComputeCommandEncoder"), commands,
                       type == MTL::DispatchTypeConcurrent);
}

void commit(CommandBuffer* self) {
  {
    const std::lock_guard lock(self->mutex);
    if (self->status != MTL::CommandBufferStatusNotEnqueued) {
      fail("a command buffer is committed twice");
    }
    if (self->open_encoder != nullptr) fail("a command buffer is committed, its encoder not ended");
    self->status = MTL::CommandBufferStatusCommitted;
  }
  if (settings().encode_only) {
    finish(*self, nullptr);
    return;
  }
  retain(self);
  self->gpu->commit(self);
}

void wait(CommandBuffer* self) {
  std::unique_lock lock(self->mutex);
  if (self->status == MTL::CommandBufferStatusNotEnqueued) {
    fail("a command buffer is waited for that has not been committed");
  }
  self->gpu->hurry();
  self->changed.wait(lock, [&] { return self->status >= MTL::CommandBufferStatusCompleted; });
}

void define_command_buffer() {
  const Class queue = define_class("MTLCommandQueue", object_class(), &destroy<Queue>);
  method(
      queue, "commandBuffer", +[](Queue* self, SEL) {
        return autorelease(
            make<CommandBuffer>(objc_lookUpClass("MTLCommandBuffer"), self->gpu, true));
      });
  method(
      queue, "commandBufferWithUnretainedReferences", +[](Queue* self, SEL) {
        return autorelease(
            make<CommandBuffer>(objc_lookUpClass("MTLCommandBuffer"), self->gpu, false));
      });

  const Class commands = define_class("MTLCommandBuffer", object_class(), &destroy<CommandBuffer>);
  method(
      commands, "computeCommandEncoder", +[](CommandBuffer* self, SEL) {
        return autorelease(new_encoder(self, MTL::DispatchTypeSerial));
      });
  method(
      commands, "computeCommandEncoderWithDispatchType:",
      +[](CommandBuffer* self, SEL, MTL::DispatchType type) {
        return autorelease(new_encoder(self, type));
      });
  method(commands, "commit", +[](CommandBuffer* self, SEL) { commit(self); });
  method(commands, "waitUntilCompleted", +[](CommandBuffer* self, SEL) { wait(self); });
  method(
      commands, "status", +[](CommandBuffer* self, SEL) {
        const std::lock_guard lock(self->mutex);
        return self->status;
      });
  method(
      commands, "error", +[](CommandBuffer* self, SEL) {
        const std::lock_guard lock(self->mutex);
        return self->error;
      });
  const auto time = [](double CommandBuffer::* member) {
    return [member](CommandBuffer* self) {
      const std::lock_guard lock(self->mutex);
      if (self->status < MTL::CommandBufferStatusCompleted) {
        fail("the times of a command buffer are asked for that has not ended");
      }
      return self->*member;
    };
  };
  static const auto begin = time(&CommandBuffer::begin);
  static const auto end = time(&CommandBuffer::end);
  method(commands, "GPUStartTime", +[](CommandBuffer* self, SEL) { return begin(self); });
  method(commands, "GPUEndTime", +[](CommandBuffer* self, SEL) { return end(self); });
}

// Before metal-cpp's own initialisers, which look classes up.
__attribute__((constructor(101))) void define_classes() {
  define_encoder();
  define_command_buffer();
}

}  // namespace

CommandBuffer::~CommandBuffer() {
  if (open_encoder != nullptr) report("a command buffer goes, its encoder not ended");
  if (status == MTL::CommandBufferStatusNotEnqueued) {
    for (Resource* resource : used) --resource->in_commands;
  }
  if (error != nullptr) release(error);
}

void CommandBuffer::use(Resource* resource) {
  ++resource->in_commands;
  if (retains) retain(resource);
  used.push_back(resource);
}

void finish(CommandBuffer& commands, Object* error) {
  for (Resource* resource : commands.used) {
    --resource->in_commands;
    if (commands.retains) release(resource);
  }
  const std::lock_guard lock(commands.mutex);
  commands.error = error;
  commands.status =
      error == nullptr ? MTL::CommandBufferStatusCompleted : MTL::CommandBufferStatusError;
  commands.changed.notify_all();
}

Encoder::Encoder(CommandBuffer* c, bool concurrent) : commands(c) {
  retain(commands);
  commands->open_encoder = this;
  commands->passes.push_back({concurrent, {}});
}

Encoder::~Encoder() {
  if (!ended) {
    report("an encoder goes that has not been ended");
    commands->open_encoder = nullptr;
  }
  release(commands);
}

void Encoder::check_open(const char* message) const {
  if (ended) fail(std::string(message) + " is sent to an encoder that has been ended");
}

void Encoder::dispatch(MTL::Size groups, MTL::Size threads) {
  if (pipeline == nullptr) fail("a dispatch without a pipeline state");
  const Declaration& kernel = pipeline->declaration;
  const auto refuse = [&](const std::string& reason) {
    fail("a dispatch of kernel " + kernel.name + ": " + reason);
  };
  const std::uint64_t size = threads.width * threads.height * threads.depth;
  if (size == 0 || size > pipeline->max_threads) {
    refuse(number(size) + " threads in a group, at most " + number(pipeline->max_threads) +
           " are allowed");
  }
  const NS::UInteger counts[3] = {groups.width, groups.height, groups.depth};
  const NS::UInteger each[3] = {threads.width, threads.height, threads.depth};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (counts[axis] == 0) refuse("a grid without threads");
    if (counts[axis] > kMaxGrid / each[axis]) refuse("a grid beyond 2**32 threads");
    if (each[axis] != kernel.threadgroup[axis]) {
      refuse("groups of another shape than its record's");
    }
  }

  reference::Launch launch;
  const std::size_t own = kernel.kernel->operands.size();
  const std::size_t operands = own + kernel.entry->scratch.size();
  if (kernel.constant.size() != operands + 1) refuse("its text declares other arguments");
  std::vector<std::byte> inline_parameters;
  for (std::size_t k = 0; k < kernel.constant.size(); ++k) {
    const Argument& argument = arguments[k];
    if (!argument.bound()) refuse("argument " + number(k) + " is not set");
    if (kernel.constant[k] != (k == operands)) refuse("its text declares other address spaces");
    const std::size_t length = argument.buffer != nullptr
                                   ? argument.buffer->length - argument.offset
                                   : argument.bytes.size();
    if (argument.buffer != nullptr) commands->use(argument.buffer);
    if (k == operands) {
      if (argument.offset % kConstantAlignment != 0) {
        refuse("its parameters begin at byte " + number(argument.offset));
      }
      if (length < kernel.kernel->param_bytes) {
        refuse(number(kernel.kernel->param_bytes) + " bytes of parameters are needed, " +
               number(length) + " are there");
      }
      inline_parameters = argument.bytes;
      if (argument.buffer != nullptr) launch.params = argument.buffer->data + argument.offset;
      const std::byte* const words = argument.buffer != nullptr
                                         ? argument.buffer->data + argument.offset
                                         : argument.bytes.data();
      for (const auto& [index, value] : pipeline->constants) {
        std::uint32_t held = 0;
        std::memcpy(&held, words + index * sizeof held, sizeof held);
        if (held != value) {
          refuse("its pipeline is for " + number(value) + " as word " + number(index) +
                 " of its parameters, which is " + number(held));
        }
      }
      continue;
    }
    const std::size_t element = element_bytes(kernel, k);
    if (argument.buffer == nullptr) refuse("operand " + number(k) + " is no buffer");
    // An absent operand is bound to whatever there is.
    if (argument.offset % element != 0) {
      refuse("operand " + number(k) + " begins at byte " + number(argument.offset) +
             ", its elements have " + number(element));
    }
    launch.operands[k] = {
        argument.buffer->data + argument.offset,
        -static_cast<std::int64_t>(argument.offset / element * element),
        argument.buffer->length / element * element, kernel.entry->name,
        k < own ? kernel.kernel->operands[k].name.data() : kernel.entry->scratch[k - own].name};
  }
  if (!kernel.generated.empty()) {
    check_generated(kernel, static_cast<const std::byte*>(launch.params), arguments, groups.width);
  }
  commands->use(pipeline);
  // The interpreter's threads do one element each.
  const reference::Size3 grid{static_cast<std::uint32_t>(groups.width * kernel.lanes),
                              static_cast<std::uint32_t>(groups.height),
                              static_cast<std::uint32_t>(groups.depth)};
  const reference::Size3 group{static_cast<std::uint32_t>(threads.width),
                               static_cast<std::uint32_t>(threads.height),
                               static_cast<std::uint32_t>(threads.depth)};
  commands->passes.back().commands.push_back(
      {[launch, grid, group, entry = kernel.entry, bytes = std::move(inline_parameters)]() mutable {
         if (!bytes.empty()) launch.params = bytes.data();
         workers().run(*entry, launch, grid, group, reference::ThreadOrder::kForward);
       },
       kernel.name});
}

}  // namespace npu::standin
