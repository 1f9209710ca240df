// Prepares dispatches for the host-compiled shaders: entry points, extents of the operands, launch
// grid.
#include "reference/reference_device.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "reference/shader_table.hpp"
#include "runtime/devices.hpp"

namespace npu {
namespace {

using reference::EntryPoint;
using reference::Launch;
using reference::Region;
using reference::Size3;

constexpr int kPoison = 0xff;

// The bytes from element 0 that a view reaches, before it (negative strides) and behind it.
Region extent_of(const schema::Operand& operand, const char* kernel, const char* name) {
  std::int64_t first = 0;
  std::int64_t last = 0;
  for (std::uint32_t axis = 0; axis < operand.rank; ++axis) {
    if (operand.shape[axis] == 0) return {nullptr, 0, 0, kernel, name};
    const std::int64_t reach =
        (static_cast<std::int64_t>(operand.shape[axis]) - 1) * operand.strides[axis];
    (reach < 0 ? first : last) += reach;
  }
  const auto item = static_cast<std::int64_t>(schema::dtype_size(operand.dtype));
  return {nullptr, first * item, static_cast<std::uint64_t>((last - first + 1) * item), kernel,
          name};
}

std::string where(const DispatchInfo& dispatch) {
  return "dispatch " + std::to_string(dispatch.index) + " (" + std::string(dispatch.name) +
         "), kernel " + std::string(dispatch.kernel.name);
}

const EntryPoint& entry_for(const DispatchInfo& dispatch) {
  std::uint32_t type = 0;
  for (std::size_t k = 0; k < dispatch.operands.size(); ++k) {
    const schema::Operand& operand = dispatch.operands[k];
    if (operand.buffer == schema::kNone) continue;
    if (dispatch.kernel.operands[k].dtype == "T") type = operand.dtype;
    if (operand.dtype == static_cast<std::uint8_t>(schema::DType::kFloat64)) {
      throw Error(ErrorCode::kInvalidProgram,
                  where(dispatch) + ": operand " + std::string(dispatch.kernel.operands[k].name) +
                      " is float64, which the NPU does not compute in; convert it to float32");
    }
  }
  const EntryPoint* entry = reference::find_entry_point(dispatch.kernel.id, type);
  if (entry == nullptr) {
    throw Error(ErrorCode::kInternal, where(dispatch) + " with dtype id " + std::to_string(type) +
                                          " has no shader; rebuild npu_sim");
  }
  return *entry;
}

class ReferenceKernel : public HostKernel {
 public:
  ReferenceKernel(const DispatchInfo& dispatch, reference::ThreadOrder order,
                  std::shared_ptr<reference::WorkerPool> workers)
      : entry_(entry_for(dispatch)),
        params_(dispatch.params.begin(), dispatch.params.end()),
        where_(where(dispatch)),
        order_(order),
        workers_(std::move(workers)) {
    launch_.params = params_.data();
    for (std::size_t k = 0; k < dispatch.operands.size(); ++k) {
      const schema::Operand& operand = dispatch.operands[k];
      // Names of generated tables end in a zero.
      const char* name = dispatch.kernel.operands[k].name.data();
      const bool present = operand.buffer != schema::kNone;
      launch_.operands[k] = present ? extent_of(operand, entry_.name, name)
                                    : Region{nullptr, 0, 0, entry_.name, name};
      alignment_.push_back(present ? schema::dtype_size(operand.dtype) : 1);
    }
    for (std::size_t axis = 0; axis < 3; ++axis) {
      threads_[axis] = dispatch.threadgroup[axis];
      grid_[axis] = dispatch.grid[axis];
      if (dispatch.kernel.unit_threads) {
        grid_[axis] = grid_[axis] / threads_[axis] + (grid_[axis] % threads_[axis] != 0 ? 1 : 0);
      }
    }
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights*,
           std::byte*) const override {
    Launch launch = launch_;
    for (std::size_t k = 0; k < operands.size(); ++k) {
      if (reinterpret_cast<std::uintptr_t>(operands[k]) % alignment_[k] != 0) {
        throw Error(ErrorCode::kInvalidArgument,
                    where_ + ": operand " + launch.operands[k].operand + " is not aligned to its " +
                        std::to_string(alignment_[k]) + "-byte elements");
      }
      launch.operands[k].base = operands[k];
      if (operands[k] == nullptr) launch.operands[k].size = 0;
    }
    try {
      workers_->run(entry_, launch, grid_, threads_, order_);
    } catch (const Error& error) {
      throw Error(error.code(), where_ + ": " + error.what());
    }
  }

 private:
  const EntryPoint& entry_;
  std::vector<std::byte> params_;
  std::string where_;
  reference::ThreadOrder order_;
  std::shared_ptr<reference::WorkerPool> workers_;
  Launch launch_;
  std::vector<std::uint32_t> alignment_;  // of each operand, in bytes
  Size3 grid_{};                          // in threadgroups
  Size3 threads_{};                       // of one threadgroup
};

std::unique_ptr<Device> make_reference() { return std::make_unique<ReferenceDevice>(); }

}  // namespace

ReferenceOptions ReferenceOptions::from_environment() {
  ReferenceOptions options;
  const char* order = std::getenv("NPU_SIM_REFERENCE_ORDER");
  if (order == nullptr || *order == '\0' || std::strcmp(order, "forward") == 0) return options;
  if (std::strcmp(order, "reverse") != 0) {
    throw Error(ErrorCode::kInvalidArgument, std::string("NPU_SIM_REFERENCE_ORDER is '") + order +
                                                 "'; set it to forward or reverse");
  }
  options.order = reference::ThreadOrder::kReverse;
  return options;
}

ReferenceDevice::ReferenceDevice(const ReferenceOptions& options)
    : order_(options.order),
      workers_(std::make_shared<reference::WorkerPool>(
          options.threads != 0 ? options.threads : std::thread::hardware_concurrency())) {}

std::string ReferenceDevice::name() const {
  return std::string("shaders on the host, ") + std::to_string(workers_->threads()) + " threads, " +
         (order_ == reference::ThreadOrder::kForward ? "forward" : "reverse") + " order";
}

std::unique_ptr<HostKernel> ReferenceDevice::prepare(const DispatchInfo& dispatch) {
  return std::make_unique<ReferenceKernel>(dispatch, order_, workers_);
}

void ReferenceDevice::prepare_arena(std::span<std::byte> arena) {
  if (!arena.empty()) std::memset(arena.data(), kPoison, arena.size());
}

void register_reference_device() { register_device({"reference", &make_reference}); }

}  // namespace npu
