// The rows of a row-wise dispatch: their axes with every operand's strides, how many lie side by
// side, and how they are spread over threads.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "cpu/kernels/thread_pool.hpp"
#include "runtime/host_device.hpp"

namespace npu::cpu {

class RowSpace {
 public:
  static constexpr std::size_t kMaxOperands = 6;
  // The first elements of each operand for one row (or run of lanes); null where absent.
  using Pointers = std::array<std::byte*, kMaxOperands>;

  // The first `row_axes` (at most three) axes of every operand are row axes, of one shape.
  RowSpace(const DispatchInfo& dispatch, std::size_t row_axes);

  // Makes an axis along which every operand in the bit mask `dense` is contiguous the lane axis:
  // rows along it are computed side by side, at most `limit` of them. False if there is none.
  bool choose_lanes(std::uint32_t dense, std::int64_t limit, int threads);

  // Computes `lanes` rows of the last row axis side by side, however they lie.
  void set_lanes(std::int64_t lanes);

  // Spreads the rows over tasks, given the elements that one row works on.
  void plan(int threads, std::int64_t row_elements);

  std::int64_t lanes() const { return lanes_; }
  std::int64_t units() const { return units_; }
  // Rows along the last row axis, and along all the others together.
  std::int64_t last_extent() const { return axes_[2].extent; }
  std::int64_t other_extent() const { return axes_[0].extent * axes_[1].extent; }
  // Elements, not bytes, that operand k moves on by along the last row axis.
  std::int64_t lane_stride(std::size_t k) const { return axes_[2].stride[k] / size_[k]; }

  // The operands of a unit, and how many rows it has.
  Pointers at(std::int64_t unit, std::span<std::byte* const> operands, std::int64_t* lanes) const;

  // Calls fn(pointers, lanes, worker) for every unit.
  template <class Fn>
  void run(ThreadPool& pool, std::span<std::byte* const> operands, const Fn& fn) const {
    const auto task = [&](std::int64_t index, int worker) {
      const std::int64_t end = std::min((index + 1) * units_per_task_, units_);
      for (std::int64_t unit = index * units_per_task_; unit < end; ++unit) {
        std::int64_t lanes = 1;
        const Pointers pointers = at(unit, operands, &lanes);
        fn(pointers, lanes, worker);
      }
    };
    pool.parallel_for((units_ + units_per_task_ - 1) / units_per_task_, task);
  }

 private:
  struct Axis {
    std::int64_t extent = 1;
    std::array<std::int64_t, kMaxOperands> stride{};  // bytes
  };

  std::array<Axis, 3> axes_{};
  std::array<std::int64_t, kMaxOperands> size_{};  // bytes of an element
  std::size_t operands_ = 0;
  std::int64_t lanes_ = 1, blocks_ = 1, units_ = 0, units_per_task_ = 1;
};

}  // namespace npu::cpu
