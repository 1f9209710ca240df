// The reference device: the shaders themselves, run thread by thread on the host with every access
// checked. Slow and always right; the other devices are tested against it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "reference/threadgroup.hpp"
#include "reference/worker_pool.hpp"
#include "runtime/host_device.hpp"

namespace npu {

struct ReferenceOptions {
  // The order in which threads of a threadgroup take their turns. A result that depends on it shows
  // a missing barrier.
  reference::ThreadOrder order = reference::ThreadOrder::kForward;
  // OS threads that share out the threadgroups; 0 takes one per hardware thread.
  std::uint32_t threads = 0;
  // Runs dispatches by the schedules that a GPU would choose, so that tests see them with every
  // access checked.
  bool schedules = false;

  // NPU_SIM_REFERENCE_ORDER=forward|reverse, NPU_SIM_REFERENCE_SCHEDULES=0|1. Throws
  // kInvalidArgument for other values.
  static ReferenceOptions from_environment();
};

class ReferenceDevice : public HostDevice {
 public:
  explicit ReferenceDevice(const ReferenceOptions& options = ReferenceOptions::from_environment());

  std::string_view kind() const noexcept override { return "reference"; }
  std::string name() const override;
  std::unique_ptr<HostKernel> prepare(const DispatchInfo& dispatch) override;
  // Poisons the arena: all bits set is NaN in every floating format.
  void prepare_arena(std::span<std::byte> arena) override;

 private:
  reference::ThreadOrder order_;
  bool schedules_;
  // Shared with the kernels, which may outlive the device.
  std::shared_ptr<reference::WorkerPool> workers_;
};

}  // namespace npu
