// Row axes, lanes and tasks of a row-wise dispatch.
#include "cpu/row_space.hpp"

#include <algorithm>
#include <utility>

#include "cpu/kernels/dtype.hpp"

namespace npu::cpu {
namespace {

// Elements worth waking a thread for.
constexpr std::int64_t kTaskElements = 1 << 13;
constexpr std::int64_t kTasksPerThread = 8;
// Fewer rows than this are not worth computing side by side.
constexpr std::int64_t kMinLanes = 8;
// Lanes of a block are whole vectors.
constexpr std::int64_t kLaneStep = 16;

}  // namespace

RowSpace::RowSpace(const DispatchInfo& dispatch, std::size_t row_axes)
    : operands_(dispatch.operands.size()) {
  size_.fill(1);
  for (std::size_t k = 0; k < operands_; ++k) {
    const schema::Operand& operand = dispatch.operands[k];
    if (operand.buffer == schema::kNone) continue;
    size_[k] = static_cast<std::int64_t>(schema::dtype_size(operand.dtype));
    for (std::size_t axis = 0; axis < row_axes; ++axis) {
      Axis& into = axes_[axis + 3 - row_axes];
      into.extent = operand.shape[axis];
      into.stride[k] = operand.strides[axis] * size_[k];
    }
  }
  blocks_ = axes_[2].extent;
  units_ = axes_[0].extent * axes_[1].extent * blocks_;
}

bool RowSpace::choose_lanes(std::uint32_t dense, std::int64_t limit, int threads) {
  for (Axis& axis : axes_) {
    bool fits = axis.extent >= kMinLanes;
    for (std::size_t k = 0; k < operands_; ++k) {
      if ((dense >> k & 1u) != 0 && axis.stride[k] != size_[k]) fits = false;
    }
    if (!fits) continue;
    std::swap(axis, axes_[2]);
    const std::int64_t extent = axes_[2].extent;
    const std::int64_t others = std::max<std::int64_t>(1, other_extent());
    const std::int64_t wanted = others < threads ? ceil_div(threads, others) : 1;
    const std::int64_t blocks = std::max(ceil_div(extent, limit), wanted);
    set_lanes(std::min(limit, round_up(ceil_div(extent, blocks), kLaneStep)));
    return true;
  }
  return false;
}

void RowSpace::set_lanes(std::int64_t lanes) {
  lanes_ = lanes;
  blocks_ = ceil_div(axes_[2].extent, lanes_);
  units_ = other_extent() * blocks_;
}

void RowSpace::plan(int threads, std::int64_t row_elements) {
  const std::int64_t elements = std::max<std::int64_t>(1, row_elements * lanes_);
  units_per_task_ = std::max(
      {std::int64_t{1}, kTaskElements / elements, ceil_div(units_, kTasksPerThread * threads)});
}

RowSpace::Pointers RowSpace::at(std::int64_t unit, std::span<std::byte* const> operands,
                                std::int64_t* lanes) const {
  const std::int64_t c = unit % blocks_ * lanes_;
  const std::int64_t b = unit / blocks_ % axes_[1].extent;
  const std::int64_t a = unit / blocks_ / axes_[1].extent;
  *lanes = std::min(lanes_, axes_[2].extent - c);
  Pointers pointers{};
  for (std::size_t k = 0; k < operands_; ++k) {
    if (operands[k] == nullptr) continue;
    pointers[k] =
        operands[k] + a * axes_[0].stride[k] + b * axes_[1].stride[k] + c * axes_[2].stride[k];
  }
  return pointers;
}

}  // namespace npu::cpu
