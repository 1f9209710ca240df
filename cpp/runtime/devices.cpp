// The device registry.
#include "runtime/devices.hpp"

#include <algorithm>
#include <mutex>

#include "runtime/text.hpp"

namespace npu {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<DeviceFactory> factories;
};

Registry& registry() {
  static Registry instance;
  return instance;
}

}  // namespace

void register_device(const DeviceFactory& factory) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  const bool known = std::any_of(r.factories.begin(), r.factories.end(),
                                 [&](const DeviceFactory& f) { return f.kind == factory.kind; });
  if (!known) r.factories.push_back(factory);
}

std::vector<std::string> device_kinds() {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  std::vector<std::string> kinds;
  for (const DeviceFactory& factory : r.factories) {
    if (factory.present == nullptr || factory.present()) kinds.push_back(factory.kind);
  }
  return kinds;
}

std::unique_ptr<Device> make_device(std::string_view kind) {
  std::unique_ptr<Device> (*make)() = nullptr;
  std::string known;
  {
    Registry& r = registry();
    const std::lock_guard lock(r.mutex);
    for (const DeviceFactory& factory : r.factories) {
      if (factory.kind == kind) make = factory.make;
      if (factory.present == nullptr || factory.present()) {
        known += (known.empty() ? "" : ", ") + factory.kind;
      }
    }
  }
  if (make == nullptr) {
    throw Error(ErrorCode::kDeviceUnavailable,
                text("no device ", quoted(kind), " in this build, this machine has ", known));
  }
  return make();
}

}  // namespace npu
