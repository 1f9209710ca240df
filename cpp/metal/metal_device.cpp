// Opens the GPU, makes buffers and loads programs.
#include "metal/metal_device.hpp"

#include "metal/metal_buffer.hpp"
#include "metal/metal_executable.hpp"
#include "runtime/devices.hpp"
#include "runtime/text.hpp"

namespace npu::metal {
namespace {

// The oldest that the wheel is built for; its shading language is 3.0.
constexpr NS::OperatingSystemVersion kOldestSystem = {13, 0, 0};

[[noreturn]] void unavailable(const std::string& reason) {
  throw Error(ErrorCode::kDeviceUnavailable, text("Metal: ", reason, "; use Device('cpu')"));
}

NS::SharedPtr<MTL::Device> open_gpu() {
  const NS::ProcessInfo* const system = NS::ProcessInfo::processInfo();
  if (!system->isOperatingSystemAtLeastVersion(kOldestSystem)) {
    unavailable(text("macOS 13 or later is needed, this is ",
                     system->operatingSystemVersionString()->utf8String()));
  }
  auto device = NS::TransferPtr(MTL::CreateSystemDefaultDevice());
  if (!device) unavailable("this process sees no GPU (a virtual machine or a session without one)");
  // Apple7 is the M1: unified memory, SIMD groups of 32, barriers in concurrent encoders.
  if (!device->supportsFamily(MTL::GPUFamilyApple7)) {
    unavailable(text("an Apple M1 or later GPU is needed, this is ", device->name()->utf8String()));
  }
  return device;
}

}  // namespace

bool MetalDevice::present() {
  const AutoreleasePool pool;
  try {
    open_gpu();
    return true;
  } catch (const Error&) {
    return false;  // make() says why
  }
}

std::unique_ptr<MetalDevice> MetalDevice::make() {
  const AutoreleasePool pool;
  auto device = open_gpu();
  auto queue = NS::TransferPtr(device->newCommandQueue());
  if (!queue) unavailable("the GPU gives no command queue");
  return std::unique_ptr<MetalDevice>(new MetalDevice(std::move(device), std::move(queue)));
}

MetalDevice::MetalDevice(NS::SharedPtr<MTL::Device> device, NS::SharedPtr<MTL::CommandQueue> queue)
    : device_(std::move(device)), queue_(std::move(queue)), pipelines_(*device_.get()) {}

std::string MetalDevice::name() const {
  const AutoreleasePool pool;
  return text(device_->name()->utf8String(), ", Metal");
}

BufferPtr MetalDevice::allocate(std::size_t bytes) {
  const AutoreleasePool pool;
  return MetalBuffer::allocate(*device_.get(), bytes);
}

BufferPtr MetalDevice::wrap(std::span<std::byte> memory, std::shared_ptr<void> owner,
                            bool writable) {
  const AutoreleasePool pool;
  return MetalBuffer::wrap(*device_.get(), memory, std::move(owner), writable);
}

std::unique_ptr<Executable> MetalDevice::load(std::shared_ptr<const Program> program) {
  return std::make_unique<MetalExecutable>(*device_.get(), *queue_.get(), pipelines_,
                                           std::move(program));
}

}  // namespace npu::metal

namespace npu {

void register_metal_device() {
  register_device({"metal", []() -> std::unique_ptr<Device> { return metal::MetalDevice::make(); },
                   [] {
                     static const bool present = metal::MetalDevice::present();
                     return present;
                   }});
}

}  // namespace npu
