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

// The dtype that the kernel's type variable stands for.
std::uint32_t type_of(const DispatchInfo& dispatch) {
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
  return type;
}

// One launch of a dispatch.
struct Stage {
  const EntryPoint* entry;
  Size3 grid;     // in threadgroups
  Size3 threads;  // of one threadgroup
};

Stage make_stage(const DispatchInfo& dispatch, std::uint32_t schedule, std::uint32_t stage,
                 bool unit_threads, const std::uint32_t (&threadgroup)[3],
                 const std::uint64_t (&grid)[3]) {
  const std::uint32_t type = type_of(dispatch);
  Stage made{reference::find_entry_point(dispatch.kernel.id, type, schedule, stage), {}, {}};
  if (made.entry == nullptr) {
    throw Error(ErrorCode::kInternal, where(dispatch) + " with dtype id " + std::to_string(type) +
                                          " has no shader; rebuild npu_sim");
  }
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::uint64_t threads = threadgroup[axis];
    made.threads[axis] = threadgroup[axis];
    made.grid[axis] = static_cast<std::uint32_t>(unit_threads ? (grid[axis] + threads - 1) / threads
                                                              : grid[axis]);
  }
  return made;
}

class ReferenceKernel : public HostKernel {
 public:
  // By `schedule`, or as the record says where that is null.
  ReferenceKernel(const DispatchInfo& dispatch, const ScheduleInfo* schedule,
                  reference::ThreadOrder order, std::shared_ptr<reference::WorkerPool> workers)
      : params_(dispatch.params.begin(), dispatch.params.end()),
        where_(where(dispatch)),
        order_(order),
        workers_(std::move(workers)) {
    launch_.params = params_.data();
    if (schedule == nullptr) {
      stages_.push_back(make_stage(dispatch, 0, 0, dispatch.kernel.unit_threads,
                                   dispatch.kernel.threadgroup,
                                   {dispatch.grid[0], dispatch.grid[1], dispatch.grid[2]}));
    } else {
      const auto fields =
          dispatch.params.subspan(dispatch.kernel.field_offset, dispatch.kernel.field_bytes);
      scratch_ = scratch_layout(*schedule, dispatch.operands, fields);
      for (std::uint32_t k = 0; k < schedule->stages.size(); ++k) {
        const StageInfo& stage = schedule->stages[k];
        std::uint64_t grid[3];
        stage.grid(dispatch.operands, fields.data(), grid);
        stages_.push_back(
            make_stage(dispatch, schedule->number, k, stage.unit_threads, stage.threadgroup, grid));
      }
    }
    const EntryPoint& entry = *stages_.front().entry;
    for (std::size_t k = 0; k < dispatch.operands.size(); ++k) {
      const schema::Operand& operand = dispatch.operands[k];
      // Names of generated tables end in a zero.
      const char* name = dispatch.kernel.operands[k].name.data();
      const bool present = operand.buffer != schema::kNone;
      launch_.operands[k] =
          present ? extent_of(operand, entry.name, name) : Region{nullptr, 0, 0, entry.name, name};
      alignment_.push_back(present ? schema::dtype_size(operand.dtype) : 1);
    }
    for (std::size_t k = 0; k < entry.scratch.size(); ++k) {
      launch_.operands[alignment_.size() + k] = {nullptr, 0, scratch_.sizes[k], entry.name,
                                                 entry.scratch[k].name};
    }
  }

  std::size_t scratch_bytes() const override { return scratch_.bytes; }

  void run(std::span<std::byte* const> operands, const PreparedWeights*,
           std::byte* scratch) const override {
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
    const std::size_t arrays = stages_.front().entry->scratch.size();
    for (std::size_t k = 0; k < arrays; ++k) {
      launch.operands[operands.size() + k].base = scratch + scratch_.offsets[k];
    }
    if (scratch_.bytes != 0) std::memset(scratch, kPoison, scratch_.bytes);
    try {
      for (const Stage& stage : stages_) {
        workers_->run(*stage.entry, launch, stage.grid, stage.threads, order_);
      }
    } catch (const Error& error) {
      throw Error(error.code(), where_ + ": " + error.what());
    }
  }

 private:
  std::vector<Stage> stages_;
  ScratchLayout scratch_{};
  std::vector<std::byte> params_;
  std::string where_;
  reference::ThreadOrder order_;
  std::shared_ptr<reference::WorkerPool> workers_;
  Launch launch_;
  std::vector<std::uint32_t> alignment_;  // of each operand, in bytes
};

std::unique_ptr<Device> make_reference() { return std::make_unique<ReferenceDevice>(); }

// Whether an environment variable is `yes` rather than `no` (or not set). Throws kInvalidArgument.
bool is_set(const char* variable, const char* no, const char* yes) {
  const char* value = std::getenv(variable);
  if (value == nullptr || *value == '\0' || std::strcmp(value, no) == 0) return false;
  if (std::strcmp(value, yes) == 0) return true;
  throw Error(ErrorCode::kInvalidArgument,
              std::string(variable) + " is '" + value + "'; set it to " + no + " or " + yes);
}

}  // namespace

ReferenceOptions ReferenceOptions::from_environment() {
  ReferenceOptions options;
  if (is_set("NPU_SIM_REFERENCE_ORDER", "forward", "reverse")) {
    options.order = reference::ThreadOrder::kReverse;
  }
  options.schedules = is_set("NPU_SIM_REFERENCE_SCHEDULES", "0", "1");
  return options;
}

ReferenceDevice::ReferenceDevice(const ReferenceOptions& options)
    : order_(options.order),
      schedules_(options.schedules),
      workers_(std::make_shared<reference::WorkerPool>(
          options.threads != 0 ? options.threads : std::thread::hardware_concurrency())) {}

std::string ReferenceDevice::name() const {
  return std::string("shaders on the host, ") + std::to_string(workers_->threads()) + " threads, " +
         (order_ == reference::ThreadOrder::kForward ? "forward" : "reverse") + " order" +
         (schedules_ ? ", schedules" : "");
}

std::unique_ptr<HostKernel> ReferenceDevice::prepare(const DispatchInfo& dispatch) {
  const ScheduleInfo* const schedule =
      schedules_ ? choose_schedule(dispatch.kernel, dispatch.operands,
                                   dispatch.params.subspan(dispatch.kernel.field_offset,
                                                           dispatch.kernel.field_bytes))
                 : nullptr;
  return std::make_unique<ReferenceKernel>(dispatch, schedule, order_, workers_);
}

void ReferenceDevice::prepare_arena(std::span<std::byte> arena) {
  if (!arena.empty()) std::memset(arena.data(), kPoison, arena.size());
}

void register_reference_device() { register_device({"reference", &make_reference}); }

}  // namespace npu
