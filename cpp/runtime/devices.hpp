// The list of devices in this build. The core knows none of them: each device's library registers
// itself.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/device.hpp"

namespace npu {

struct DeviceFactory {
  std::string kind;
  // Makes the device, or throws kDeviceUnavailable saying what this machine lacks.
  std::unique_ptr<Device> (*make)();
  // Whether the machine has such a device; null: every machine has.
  bool (*present)() = nullptr;
};

// The first registration of a kind stays. Devices are preferred in the order of registration.
void register_device(const DeviceFactory& factory);
// Kinds of the devices that this machine has, in order of preference.
std::vector<std::string> device_kinds();
// Throws kDeviceUnavailable for a kind that this build or machine lacks.
std::unique_ptr<Device> make_device(std::string_view kind);

// Defined by the devices' libraries.
void register_metal_device();
void register_cpu_device();
void register_reference_device();

}  // namespace npu
