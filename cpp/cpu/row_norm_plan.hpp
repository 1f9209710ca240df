// What the two ways of computing a row_norm dispatch share: its elements, and how they are read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "cpu/host_kernels.hpp"
#include "cpu/row_space.hpp"

namespace npu::cpu {

struct RowNormPlan {
  enum Operand : std::size_t { kX, kW, kBias, kResidual, kY, kSum, kOperands };

  struct Axis {
    std::int64_t extent = 1;
    std::array<std::int64_t, kOperands> stride{};  // elements
  };

  // Throws Error(kInvalidProgram) for a weight or bias that is not floating.
  RowNormPlan(const DispatchInfo& dispatch, const CpuContext& context);

  // Element (o, i) of a row, or null where the operand is absent.
  std::byte* place(const RowSpace::Pointers& at, std::size_t k, std::int64_t o,
                   std::int64_t i) const {
    if (at[k] == nullptr) return nullptr;
    return at[k] + (o * outer.stride[k] + i * inner.stride[k]) * size[k];
  }

  // n elements of x (plus the residual, rounded as if stored) as float32; `spare` holds n more.
  void load_values(float* values, const std::byte* x, const std::byte* residual,
                   std::int64_t x_stride, std::int64_t residual_stride, std::int64_t n,
                   float* spare) const;

  ThreadPool& pool;
  const TileKernels& tiles;
  const RowKernels& rows;
  RowSpace space;
  Axis outer, inner;  // of a row's elements
  std::int64_t count = 0;
  float eps = 0.0f;
  bool rms = false;
  std::array<bool, kOperands> present{}, is_float32{};
  std::array<std::int64_t, kOperands> size{};
  std::array<RunLoad, kOperands> load{};
  RunStore store = nullptr;  // x's dtype
  RunStore store_y = nullptr;

 private:
  void order_elements();
};

// The kernel that computes rows side by side where they lie so (group and instance norm of
// channels-last images), else null.
std::unique_ptr<HostKernel> make_row_norm_lanes(const RowNormPlan& plan);

}  // namespace npu::cpu
