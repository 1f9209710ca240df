// MTLDevice, MTLBuffer.
#include <cstring>
#include <new>

#include "metal_standin/foundation.hpp"
#include "metal_standin/gpu.hpp"
#include "metal_standin/metal_objects.hpp"
#include "metal_standin/settings.hpp"
#include "metal_standin/validation.hpp"

namespace npu::standin {
namespace {

std::atomic<std::uint64_t> allocated{0};

struct DeviceObject : Object {
  std::shared_ptr<Gpu> gpu;
};

// Where options hold the storage mode: MTLResourceStorageModeShift.
constexpr int kStorageModeShift = 4;
// One per process, as on a Mac.
const std::shared_ptr<Gpu>& system_gpu() {
  static auto* const gpu = new std::shared_ptr<Gpu>(std::make_shared<Gpu>());
  return *gpu;
}

constexpr int kPoison = 0xff;
constexpr std::align_val_t kBufferAlignment{256};

// Null where there is no room for it, as on a Mac.
Buffer* new_buffer(std::size_t length, MTL::ResourceOptions options, void* pages) {
  if (length == 0) fail("a buffer of no bytes is asked for");
  const auto mode = static_cast<MTL::StorageMode>((options >> kStorageModeShift) & 0xf);
  if (mode != MTL::StorageModeShared && mode != MTL::StorageModePrivate) {
    fail("a buffer is neither shared nor private");
  }
  const Settings now = settings();
  if (length > now.max_buffer) {
    fail("a buffer of " + std::to_string(length) + " bytes is asked for, the limit is " +
         std::to_string(now.max_buffer));
  }
  if (allocated + length > now.memory) return nullptr;
  if (mode == MTL::StorageModeShared && length > now.max_shared) return nullptr;
  auto* const buffer = make<Buffer>(objc_lookUpClass("MTLBuffer"));
  buffer->length = length;
  buffer->is_private = mode == MTL::StorageModePrivate;
  if (pages != nullptr) {
    buffer->data = static_cast<std::byte*>(pages);
  } else {
    buffer->owned = true;
    buffer->data = static_cast<std::byte*>(::operator new(length, kBufferAlignment));
    // Metal clears memory. Nothing may rely on that for memory that is used again and again.
    std::memset(buffer->data, buffer->is_private ? kPoison : 0, length);
  }
  allocated += length;
  return buffer;
}

void define_device() {
  const Class device = define_class("MTLDevice", object_class(), &destroy<DeviceObject>);
  method(
      device, "name",
      +[](DeviceObject*, SEL) { return autorelease(new_string("stand-in for an Apple GPU")); });
  method(
      device, "supportsFamily:", +[](DeviceObject*, SEL, MTL::GPUFamily family) {
        return static_cast<std::int64_t>(family) <= settings().gpu_family;
      });
  method(
      device, "maxBufferLength",
      +[](DeviceObject*, SEL) -> NS::UInteger { return settings().max_buffer; });
  method(
      device, "currentAllocatedSize",
      +[](DeviceObject*, SEL) -> NS::UInteger { return allocated; });
  method(
      device, "recommendedMaxWorkingSetSize",
      +[](DeviceObject*, SEL) -> std::uint64_t { return settings().memory; });
  method(
      device, "newCommandQueue", +[](DeviceObject* self, SEL) {
        return make<Queue>(objc_lookUpClass("MTLCommandQueue"), self->gpu);
      });
  method(
      device, "newBufferWithLength:options:",
      +[](DeviceObject*, SEL, NS::UInteger length, MTL::ResourceOptions options) {
        return new_buffer(length, options, nullptr);
      });
  method(
      device, "newBufferWithBytesNoCopy:length:options:deallocator:",
      +[](DeviceObject*, SEL, void* pages, NS::UInteger length, MTL::ResourceOptions options,
          void* deallocator) {
        if (deallocator != nullptr) fail("the stand-in calls no deallocators");
        if (reinterpret_cast<std::uintptr_t>(pages) % kPageBytes != 0 || length % kPageBytes != 0) {
          fail("newBufferWithBytesNoCopy: memory that is not made of whole pages");
        }
        return new_buffer(length, options, pages);
      });
}

void define_resources() {
  const Class buffer = define_class("MTLBuffer", object_class(), &destroy<Buffer>);
  buffer->in_use = &resource_in_use;
  method(buffer, "length", +[](Buffer* self, SEL) -> NS::UInteger { return self->length; });
  method(
      buffer, "contents", +[](Buffer* self, SEL) {
        if (self->is_private) fail("the host asks for the contents of a private buffer");
        return self->data;
      });
}

// Before metal-cpp's own initialisers, which look classes up.
__attribute__((constructor(101))) void define_classes() {
  define_device();
  define_resources();
  define_pipelines();
}

}  // namespace

Buffer::~Buffer() {
  if (owned) {
    ::operator delete(data, kBufferAlignment);
  } else {
    // The system unmaps the pages from the GPU: they must still be there.
    static_cast<void>(*static_cast<const volatile std::byte*>(data));
  }
  allocated -= length;
}

Object* new_system_device() {
  if (!settings().gpu) return nullptr;
  // An object for each who asks, so that each must release it.
  auto* const device = make<DeviceObject>(objc_lookUpClass("MTLDevice"));
  device->gpu = system_gpu();
  return device;
}

bool resource_in_use(id object) { return static_cast<Resource*>(object)->in_commands != 0; }

void drain_gpu() { system_gpu()->drain(); }

}  // namespace npu::standin

// What Metal exports as functions.
extern "C" {

MTL::Device* MTLCreateSystemDefaultDevice() {
  return reinterpret_cast<MTL::Device*>(npu::standin::new_system_device());
}
NS::Array* MTLCopyAllDevices() { return nullptr; }
NS::Array* MTLCopyAllDevicesWithObserver(NS::Object**, MTL::DeviceNotificationHandlerBlock) {
  return nullptr;
}
void MTLRemoveDeviceObserver(const NS::Object*) {}

}  // extern "C"
