// Folds two strided axes of a row, or of many rows side by side, into one float32 each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/host_kernels.hpp"

namespace npu::cpu {

class RowFold {
 public:
  struct Axis {
    std::int64_t extent = 1;
    std::int64_t stride = 0;  // elements
  };

  // Rows computed side by side at most.
  static constexpr std::int64_t kLanes = 512;
  // Floats that row() and lanes() need as scratch memory.
  static constexpr std::int64_t kScratch = 2048;

  RowFold() = default;
  // `load` widens elements of `dtype` to float32.
  RowFold(const CpuContext& context, std::uint32_t dtype, RunLoad load, Axis k, Axis l);

  std::int64_t count() const { return outer_.extent * inner_.extent; }
  // Whether the elements lie densely, so that a row is best folded by itself.
  bool dense() const { return count() <= 1 || inner_.stride == 1; }

  // Part `index` of `parts` of the same rows, and where it starts, in elements from the row's
  // first.
  RowFold part(std::int64_t index, std::int64_t parts, std::int64_t* start) const;

  // One row at x. The sum of a row is exact to float32 however long it is.
  double row(const std::byte* x, Combine combine, Map map, float shift, float* scratch) const;
  // Whether rows() can fold this map: short dense rows.
  bool takes_rows(Map map) const;
  // total[i] for n rows, `stride` elements apart; no shift.
  void rows(const std::byte* x, std::int64_t stride, std::int64_t n, Combine combine, Map map,
            float* total, float* scratch) const;
  // total[i] for n rows at x, x + 1, ...; `shift` has one value per row, or is null for 0.
  void lanes(const std::byte* x, std::int64_t n, Combine combine, Map map, const float* shift,
             float* total, float* scratch) const;

 private:
  FoldRows fold(Combine combine, Map map) const {
    return rows_->fold_rows[static_cast<std::size_t>(combine)][static_cast<std::size_t>(map)];
  }

  const TileKernels* tiles_ = nullptr;
  const RowKernels* rows_ = nullptr;
  RunLoad load_ = nullptr;
  std::int64_t size_ = 0;
  bool in_place_ = false;  // dense float32 is read as it lies
  Axis outer_, inner_;
};

}  // namespace npu::cpu
