// Metal on systems that have none: only the stand-in that its tests run on can be asked for.
#include <dlfcn.h>

#include <cstdlib>

#include "runtime/devices.hpp"
#include "runtime/text.hpp"

namespace npu {
namespace {

// The path of a library that tests/metal_standin builds, which must be of this very version.
constexpr const char* kVariable = "NPU_SIM_METAL_STANDIN";

const char* standin() {
  const char* const path = std::getenv(kVariable);
  return path != nullptr && *path != '\0' ? path : nullptr;
}

std::unique_ptr<Device> open_standin() {
  if (standin() == nullptr) {
    throw Error(ErrorCode::kDeviceUnavailable,
                "Metal: an Apple Silicon Mac is needed, this system is another; use Device('cpu')");
  }
  const auto fail = [] {
    throw Error(ErrorCode::kDeviceUnavailable,
                text("Metal: the stand-in that ", kVariable, " names cannot be used: ", dlerror()));
  };
  // Stays loaded: what it makes may outlive any owner.
  void* const library = dlopen(standin(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) fail();
  const auto make = reinterpret_cast<Device* (*)()>(dlsym(library, "npu_standin_make_device"));
  if (make == nullptr) fail();
  return std::unique_ptr<Device>(make());
}

}  // namespace

void register_metal_device() {
  register_device({"metal", &open_standin, [] { return standin() != nullptr; }});
}

}  // namespace npu
