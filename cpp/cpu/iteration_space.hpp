// The index space of an elementwise dispatch, cut into two-dimensional tiles.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "runtime/host_device.hpp"
#include "runtime/kernel_params.hpp"

namespace npu::cpu {

constexpr int kElementwiseOperands = NPU_MAX_INPUTS + NPU_MAX_OUTPUTS;

// Axes sorted by the first output's strides, with neighbours merged wherever every operand allows
// it: most dispatches become one or two long axes. The last two are tiled; the others are walked
// one by one.
struct IterationSpace {
  struct Axis {
    std::int64_t extent = 1;
    std::array<std::int64_t, kElementwiseOperands> stride{};  // in elements; 0 for absent operands
  };
  struct Tile {
    std::array<std::int64_t, kElementwiseOperands> offset;  // in elements
    std::int64_t rows, columns;
  };

  std::array<Axis, NPU_MAX_DIMS> axis;  // [4] rows and [5] columns of tiles, outer axes before
  std::int64_t tile_rows = 1, tile_columns = 1;
  std::int64_t row_tiles = 1, column_tiles = 1;
  std::int64_t tiles = 0;  // 0: nothing to do

  IterationSpace() = default;
  // Sorts and merges the axes.
  explicit IterationSpace(std::span<const schema::Operand> operands);
  // Cuts the space into tiles of at most `capacity` elements.
  void cut(std::int64_t capacity);

  const Axis& rows() const { return axis[NPU_MAX_DIMS - 2]; }
  const Axis& columns() const { return axis[NPU_MAX_DIMS - 1]; }
  std::int64_t elements() const;
  // The operand has one value for the whole space.
  bool is_broadcast(std::size_t operand) const;
  Tile tile(std::int64_t index) const;
};

// Columns of a tile of at most `capacity` elements: fewer where some operand's neighbours lie along
// the rows.
std::int64_t columns_of_tile(const IterationSpace::Axis& rows, const IterationSpace::Axis& columns,
                             std::int64_t capacity);

}  // namespace npu::cpu
