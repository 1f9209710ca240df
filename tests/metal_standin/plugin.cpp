// What the shared library exports: the Metal device, and what tests ask of the stand-in.
#include <cstring>

#include "metal_standin/metal_objects.hpp"
#include "metal_standin/settings.hpp"
#include "metal_standin/validation.hpp"
#include "reference/checked_ptr.hpp"
#include "runtime/devices.hpp"
#include "runtime/error.hpp"
#include "runtime/host_buffer.hpp"
#include "runtime/program.hpp"

namespace npu::standin {
namespace {

// Texts are handed out until the calling thread asks for the next.
thread_local std::string answer;

const char* hand_out(std::string text) {
  answer = std::move(text);
  return answer.c_str();
}

}  // namespace
}  // namespace npu::standin

#define NPU_STANDIN_EXPORT extern "C" __attribute__((visibility("default")))

// Called by cpp/metal/device_absent.cpp, which takes the device over.
NPU_STANDIN_EXPORT npu::Device* npu_standin_make_device() {
  // A GPU passes over indices that are out of range.
  npu::reference::set_index_fault_handler([](std::int64_t, std::uint32_t) {});
  npu::register_metal_device();
  return npu::make_device("metal").release();
}

// Lines; empty where nothing is wrong. Waits until all that was committed has run.
NPU_STANDIN_EXPORT const char* npu_standin_take_findings() {
  npu::standin::drain_gpu();
  std::string lines;
  for (const std::string& finding : npu::standin::take_findings()) lines += finding + "\n";
  return npu::standin::hand_out(lines);
}

// Empty, or what is wrong with the setting. An empty key sets everything back.
NPU_STANDIN_EXPORT const char* npu_standin_set(const char* key, const char* value) {
  using namespace npu::standin;
  if (*key == '\0') {
    reset_settings();
    reset_messages();
    reset_compilations();
    return "";
  }
  try {
    set(key, value);
    return "";
  } catch (const npu::Error& error) {
    return hand_out(error.what());
  }
}

NPU_STANDIN_EXPORT bool npu_standin_leave_out(const char* method, std::int64_t number) {
  return npu::standin::leave_out(method, number);
}

NPU_STANDIN_EXPORT std::uint64_t npu_standin_messages(const char* method) {
  return npu::standin::messages_sent(method);
}

NPU_STANDIN_EXPORT std::uint64_t npu_standin_compilations() { return npu::standin::compilations(); }

// Sends the messages of so many dispatches, and nothing else: with the setting encode_only, what
// the stand-in itself costs.
NPU_STANDIN_EXPORT void npu_standin_send_dispatches(std::uint64_t dispatches) {
  auto* const encoder = reinterpret_cast<MTL::ComputeCommandEncoder*>(
      npu::standin::make<npu::standin::Object>(objc_lookUpClass("StandinIdleEncoder")));
  const MTL::Buffer* const buffers[3] = {};
  const NS::UInteger offsets[3] = {};
  for (std::uint64_t i = 0; i < dispatches; ++i) {
    encoder->memoryBarrier(MTL::BarrierScopeBuffers);
    encoder->setBuffers(buffers, offsets, NS::Range::Make(0, 3));
    encoder->dispatchThreadgroups(MTL::Size::Make(1, 1, 1), MTL::Size::Make(1, 1, 1));
  }
  encoder->release();
}

// Loads a program and binds memory of the host, which is no MTLBuffer, as its weights: what the
// device says of it. The bindings for Python do not let it come so far.
NPU_STANDIN_EXPORT const char* npu_standin_bind_host_memory(const std::byte* file,
                                                            std::size_t size) {
  try {
    const std::unique_ptr<npu::Device> device(npu_standin_make_device());
    const auto program = npu::Program::from_bytes({file, size});
    const auto executable = device->load(program);
    std::vector<npu::BufferPtr> weights;
    for (const npu::schema::Weight& weight : program->weights()) {
      const npu::schema::Tensor& tensor = program->tensors()[weight.tensor];
      weights.push_back(npu::HostBuffer::allocate(program->buffers()[tensor.buffer].size));
    }
    executable->bind(weights);
    return "";
  } catch (const npu::Error& error) {
    return npu::standin::hand_out(error.what());
  }
}

// "MTLBuffer 3" lines of the classes that have objects.
NPU_STANDIN_EXPORT const char* npu_standin_live_objects() {
  std::string lines;
  for (const auto& [name, count] : npu::standin::live_objects()) {
    if (count != 0) lines += name + " " + std::to_string(count) + "\n";
  }
  return npu::standin::hand_out(lines);
}
