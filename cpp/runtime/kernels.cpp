// Look-ups over the generated kernel table, and the parameter struct of a dispatch.
#include "runtime/kernels.hpp"

#include <cstring>

namespace npu {

const KernelInfo* find_kernel(std::uint32_t id) noexcept {
  for (const KernelInfo& kernel : all_kernels()) {
    if (kernel.id == id) return &kernel;
  }
  return nullptr;
}

const ScalarOpInfo* find_scalar_op(std::uint32_t id) noexcept {
  for (const ScalarOpInfo& op : all_scalar_ops()) {
    if (op.id == id) return &op;
  }
  return nullptr;
}

const ScheduleInfo* choose_schedule(const KernelInfo& kernel,
                                    std::span<const schema::Operand> operands,
                                    std::span<const std::byte> fields) noexcept {
  for (const ScheduleInfo& schedule : kernel.schedules) {
    if (schedule.when(operands, fields.data())) return &schedule;
  }
  return nullptr;
}

ScratchLayout scratch_layout(const ScheduleInfo& schedule,
                             std::span<const schema::Operand> operands,
                             std::span<const std::byte> fields) noexcept {
  ScratchLayout layout{};
  if (schedule.scratch_count == 0) return layout;
  schedule.scratch(operands, fields.data(), layout.sizes);
  for (std::uint32_t k = 0; k < schedule.scratch_count; ++k) {
    layout.offsets[k] = layout.bytes;
    const std::uint64_t whole = layout.sizes[k] + kScratchAlignment - 1;
    layout.bytes += whole / kScratchAlignment * kScratchAlignment;
  }
  return layout;
}

std::vector<std::byte> build_params(const KernelInfo& kernel,
                                    std::span<const schema::Operand> operands,
                                    std::span<const std::byte> fields) {
  std::vector<std::byte> params(kernel.param_bytes);
  for (std::size_t k = 0; k < operands.size(); ++k) {
    const schema::Operand& operand = operands[k];
    const OperandInfo& info = kernel.operands[k];
    if (operand.buffer == schema::kNone) continue;
    std::memcpy(&params[info.shape_offset], operand.shape, info.rank * sizeof operand.shape[0]);
    std::memcpy(&params[info.stride_offset], operand.strides,
                info.rank * sizeof operand.strides[0]);
    if (info.dtype_offset != schema::kNone) {
      const std::uint32_t dtype = operand.dtype;
      std::memcpy(&params[info.dtype_offset], &dtype, sizeof dtype);
    }
  }
  if (!fields.empty()) std::memcpy(&params[kernel.field_offset], fields.data(), fields.size());
  return params;
}

}  // namespace npu
