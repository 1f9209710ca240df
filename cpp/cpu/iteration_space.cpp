// Sorting, merging and tiling the axes of an elementwise dispatch.
#include "cpu/iteration_space.hpp"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "cpu/kernels/dtype.hpp"

namespace npu::cpu {
namespace {

using Axis = IterationSpace::Axis;

// Columns of a tile in which some operand runs down the rows: whole cache lines in both directions.
constexpr std::int64_t kTransposeColumns = 32;

bool mergeable(const Axis& outer, const Axis& inner) {
  for (std::size_t k = 0; k < outer.stride.size(); ++k) {
    if (outer.stride[k] != inner.stride[k] * inner.extent) return false;
  }
  return true;
}

// Some operand's neighbours lie along the rows instead of the columns.
bool transposed(const Axis& rows, const Axis& columns) {
  for (std::size_t k = 0; k < rows.stride.size(); ++k) {
    const std::int64_t step = std::abs(columns.stride[k]);
    if (step > 1 && rows.stride[k] != 0 && std::abs(rows.stride[k]) < step) return true;
  }
  return false;
}

std::vector<Axis> merged_axes(std::span<const schema::Operand> operands) {
  const schema::Operand& out = operands[NPU_MAX_INPUTS];
  std::vector<Axis> axes;
  for (int d = 0; d < NPU_MAX_DIMS; ++d) {
    if (out.shape[d] == 1) continue;
    Axis axis{.extent = out.shape[d], .stride = {}};
    for (std::size_t k = 0; k < operands.size(); ++k) {
      axis.stride[k] = operands[k].buffer == schema::kNone ? 0 : operands[k].strides[d];
    }
    axes.push_back(axis);
  }
  std::stable_sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) {
    return std::abs(a.stride[NPU_MAX_INPUTS]) > std::abs(b.stride[NPU_MAX_INPUTS]);
  });
  for (std::size_t i = axes.size(); i-- > 1;) {
    if (!mergeable(axes[i - 1], axes[i])) continue;
    axes[i].extent *= axes[i - 1].extent;
    axes.erase(axes.begin() + static_cast<std::ptrdiff_t>(i) - 1);
  }
  return axes;
}

}  // namespace

std::int64_t columns_of_tile(const Axis& rows, const Axis& columns, std::int64_t capacity) {
  std::int64_t limit = capacity;
  if (transposed(rows, columns)) {
    limit =
        std::max(kTransposeColumns, capacity / rows.extent / kTransposeColumns * kTransposeColumns);
  }
  return std::min({columns.extent, capacity, limit});
}

IterationSpace::IterationSpace(std::span<const schema::Operand> operands) {
  const std::vector<Axis> axes = merged_axes(operands);
  std::copy(axes.begin(), axes.end(), axis.end() - static_cast<std::ptrdiff_t>(axes.size()));
}

void IterationSpace::cut(std::int64_t capacity) {
  if (elements() == 0) return;
  tile_columns = columns_of_tile(rows(), columns(), capacity);
  tile_rows = std::min(rows().extent, std::max<std::int64_t>(1, capacity / tile_columns));
  column_tiles = ceil_div(columns().extent, tile_columns);
  row_tiles = ceil_div(rows().extent, tile_rows);
  tiles = row_tiles * column_tiles;
  for (int d = 0; d < NPU_MAX_DIMS - 2; ++d) tiles *= axis[static_cast<std::size_t>(d)].extent;
}

std::int64_t IterationSpace::elements() const {
  std::int64_t n = 1;
  for (const Axis& a : axis) n *= a.extent;
  return n;
}

bool IterationSpace::is_broadcast(std::size_t operand) const {
  return std::all_of(axis.begin(), axis.end(),
                     [operand](const Axis& a) { return a.stride[operand] == 0; });
}

IterationSpace::Tile IterationSpace::tile(std::int64_t index) const {
  const std::int64_t column = index % column_tiles * tile_columns;
  index /= column_tiles;
  const std::int64_t row = index % row_tiles * tile_rows;
  index /= row_tiles;
  Tile tile;
  tile.rows = std::min(tile_rows, rows().extent - row);
  tile.columns = std::min(tile_columns, columns().extent - column);
  for (std::size_t k = 0; k < tile.offset.size(); ++k) {
    tile.offset[k] = row * rows().stride[k] + column * columns().stride[k];
  }
  for (int d = NPU_MAX_DIMS - 3; index != 0; --d) {
    const Axis& outer = axis[static_cast<std::size_t>(d)];
    const std::int64_t i = index % outer.extent;
    index /= outer.extent;
    for (std::size_t k = 0; k < tile.offset.size(); ++k) tile.offset[k] += i * outer.stride[k];
  }
  return tile;
}

}  // namespace npu::cpu
