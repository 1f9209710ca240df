// Choosing and cutting the axes of a map_reduce dispatch.
#include "cpu/map_reduce_space.hpp"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "cpu/kernels/dtype.hpp"

namespace npu::cpu {
namespace {

// Results side by side at most; fewer than the minimum are not worth it.
constexpr std::int64_t kMaxLanes = 512;
constexpr std::int64_t kMinLanes = 8;
// Rows of a tile in lanes, so that steps are worth their cost.
constexpr std::int64_t kLaneRows = 4;
// Rows of a unit at most: enough that what is done for each unit costs little.
constexpr std::int64_t kMaxRows = 256;
// Blocks are whole vectors.
constexpr std::int64_t kBlockStep = 16;
// A stride beyond a cache line costs no more.
constexpr std::int64_t kFarStride = 64;
constexpr std::int64_t kUnitsPerThread = 4;
// Fewer elements in all are not worth several threads.
constexpr std::int64_t kFewElements = 1 << 15;

// Even blocks of at most `limit` indices.
std::int64_t even_block(std::int64_t extent, std::int64_t limit) {
  const std::int64_t count = ceil_div(extent, limit);
  return std::min(limit, round_up(ceil_div(extent, count), kBlockStep));
}

// `n` indices or a little fewer, whole vectors where there are any; at least 1.
std::int64_t whole_vectors(std::int64_t n) {
  return n < kBlockStep ? std::max<std::int64_t>(1, n) : n / kBlockStep * kBlockStep;
}

}  // namespace

MapReduceSpace::MapReduceSpace(std::span<const schema::Operand> operands) {
  for (std::size_t d = 0; d < kAxes; ++d) {
    kept_[d].extent = operands[0].shape[d];
    reduced_[d].extent = operands[0].shape[kAxes + d];
    for (std::size_t k = 0; k < operands.size(); ++k) {
      if (operands[k].buffer == schema::kNone) continue;
      if (d == 0) present_[present_count_++] = static_cast<std::uint8_t>(k);
      kept_[d].stride[k] = operands[k].strides[d];
      if (k < NPU_ACCUMULATOR_INPUT) reduced_[d].stride[k] = operands[k].strides[kAxes + d];
    }
  }
  choose_roles(operands);
  auto other = map_.axis.begin();
  const auto put = [&](const BlockedAxis& axis) {
    if (&axis != &row_axis() && &axis != &column_axis()) *other++ = axis;
  };
  std::for_each(kept_.begin(), kept_.end(), put);
  std::for_each(reduced_.begin(), reduced_.end(), put);
  map_.axis[NPU_MAX_DIMS - 2] = row_axis();
  map_.axis[NPU_MAX_DIMS - 1] = column_axis();
  std::copy(kept_.begin(), kept_.end(), results_.axis.end() - kAxes);
  std::swap(results_.axis[NPU_MAX_DIMS - 2], results_.axis[0]);
  if (form_ == Form::kWhole) std::swap(results_.axis[NPU_MAX_DIMS - 1], results_.axis[1]);
  // The accumulator lies densely, whatever the unit.
  results_.axis[NPU_MAX_DIMS - 1].stride[NPU_ACCUMULATOR_INPUT] = 1;
}

void MapReduceSpace::choose_roles(std::span<const schema::Operand> operands) {
  // What stepping along an axis costs: the strides of the operands that it moves, by their sizes.
  std::array<double, kElementwiseOperands> weight{};
  for (std::size_t k = 0; k < NPU_ACCUMULATOR_INPUT; ++k) {
    if (operands[k].buffer == schema::kNone) continue;
    weight[k] = 1.0;
    for (const Axes* axes : {&kept_, &reduced_}) {
      for (const Axis& axis : *axes) {
        if (axis.stride[k] != 0) weight[k] *= static_cast<double>(axis.extent);
      }
    }
  }
  const auto cost = [&](const Axis& axis) {
    double sum = 0.0;
    for (std::size_t k = 0; k < weight.size(); ++k) {
      sum += weight[k] * static_cast<double>(std::min(std::abs(axis.stride[k]), kFarStride));
    }
    return sum;
  };
  // Brings the axis that costs least of those that have more than `least` indices to `place`, of
  // the axes up to it; whether there is one.
  const auto choose = [&](Axes& axes, std::size_t place, std::int64_t least) {
    std::size_t best = axes.size();
    for (std::size_t d = 0; d <= place; ++d) {
      if (axes[d].extent <= least) continue;
      if (best == axes.size() || cost(axes[d]) <= cost(axes[best])) best = d;
    }
    if (best == axes.size()) {
      best = static_cast<std::size_t>(
          std::min_element(axes.begin(), axes.begin() + static_cast<std::ptrdiff_t>(place) + 1,
                           [](const Axis& a, const Axis& b) { return a.extent < b.extent; }) -
          axes.begin());
      std::swap(axes[best], axes[place]);
      return false;
    }
    std::swap(axes[best], axes[place]);
    return true;
  };
  constexpr std::size_t kLast = kAxes - 1;
  const bool lanes = choose(kept_, kLast, kMinLanes - 1);
  const bool row = choose(reduced_, kLast, 1);
  if (lanes && (!row || cost(kept_[kLast]) < cost(reduced_[kLast]))) {
    form_ = Form::kLanes;
    return;
  }
  choose(kept_, kLast, 1);
  // The rows of tiles, where one is worth it: what lies closest to the columns.
  const bool reduces_more = choose(reduced_, kLast - 1, 1);
  const bool has_rows = kept_[kLast].extent > 1;
  const bool rows_are_closer = !reduces_more || cost(kept_[kLast]) < cost(reduced_[kLast - 1]);
  form_ = has_rows && rows_are_closer ? Form::kRows : Form::kWhole;
}

MapReduceSpace::BlockedAxis& MapReduceSpace::row_axis() {
  if (form_ == Form::kLanes) return reduced_[kAxes - 1];
  return form_ == Form::kRows ? kept_[kAxes - 1] : reduced_[kAxes - 2];
}

MapReduceSpace::BlockedAxis& MapReduceSpace::column_axis() {
  return form_ == Form::kLanes ? kept_[kAxes - 1] : reduced_[kAxes - 1];
}

void MapReduceSpace::cut(std::int64_t capacity, int threads) {
  BlockedAxis& column = column_axis();
  BlockedAxis& row = row_axis();
  const std::int64_t limit =
      form_ == Form::kLanes ? std::clamp(capacity / kLaneRows, kBlockStep, kMaxLanes) : capacity;
  column.block =
      std::min(column.extent, even_block(column.extent, columns_of_tile(row, column, limit)));
  tile_rows_ = std::min(row.extent, whole_vectors(capacity / column.block));
  row.block = tile_rows_;
  tile_elements_ = tile_rows_ * column.block;
  count_blocks();
  if (form_ != Form::kRows) return;
  // Enough units for all threads.
  const std::int64_t others = std::max<std::int64_t>(1, units() / row.count);
  const std::int64_t wanted =
      map_.elements() < kFewElements ? 1 : ceil_div(kUnitsPerThread * threads, others);
  row.block = std::clamp<std::int64_t>(row.extent / wanted, 1,
                                       whole_vectors(std::max(kMaxRows, tile_rows_)));
  tile_rows_ = std::min(tile_rows_, row.block);
  count_blocks();
}

void MapReduceSpace::count_blocks() {
  for (Axes* axes : {&kept_, &reduced_}) {
    for (BlockedAxis& axis : *axes) axis.count = ceil_div(axis.extent, axis.block);
  }
  const auto blocks = [](const Axes& axes) {
    return std::accumulate(axes.begin(), axes.end(), std::int64_t{1},
                           [](std::int64_t n, const BlockedAxis& axis) { return n * axis.count; });
  };
  units_ = blocks(kept_);
  steps_ = blocks(reduced_);
}

std::int64_t MapReduceSpace::lanes() const {
  return form_ == Form::kWhole ? 1 : kept_[kAxes - 1].block;
}

std::int64_t MapReduceSpace::reduced_elements() const {
  std::int64_t n = 1;
  for (const Axis& axis : reduced_) n *= axis.extent;
  return n;
}

void MapReduceSpace::place(const Axes& axes, std::int64_t index, Tile& tile,
                           std::array<std::int64_t, kAxes>& sizes) const {
  for (std::size_t d = kAxes; d-- > 0;) {
    const BlockedAxis& axis = axes[d];
    std::int64_t first = 0;
    if (axis.count > 1) {
      first = index % axis.count * axis.block;
      index /= axis.count;
    }
    sizes[d] = std::min(axis.block, axis.extent - first);
    if (first == 0) continue;
    for (std::size_t i = 0; i < present_count_; ++i) {
      tile.offset[present_[i]] += first * axis.stride[present_[i]];
    }
  }
}

MapReduceSpace::Tile MapReduceSpace::unit(std::int64_t index) const {
  Tile tile{.offset = {}, .rows = 1, .columns = 1};
  std::array<std::int64_t, kAxes> sizes{};
  place(kept_, index, tile, sizes);
  tile.columns = sizes[kAxes - 1];
  return tile;
}

MapReduceSpace::Tile MapReduceSpace::part(const Tile& unit, std::int64_t first) const {
  Tile tile = unit;
  tile.columns = std::min(tile_lanes(), unit.columns - first);
  for (std::size_t i = 0; first != 0 && i < present_count_; ++i) {
    tile.offset[present_[i]] += first * kept_[kAxes - 1].stride[present_[i]];
  }
  return tile;
}

MapReduceSpace::Tile MapReduceSpace::step(const Tile& part, std::int64_t index) const {
  Tile tile = part;
  std::array<std::int64_t, kAxes> sizes{0, reduced_[kAxes - 2].extent, reduced_[kAxes - 1].extent};
  if (steps_ > 1) place(reduced_, index, tile, sizes);
  const std::int64_t last = sizes[kAxes - 1];
  switch (form_) {
    case Form::kLanes:
      tile.rows = last;
      break;
    case Form::kRows:
      tile.rows = part.columns;
      tile.columns = last;
      break;
    case Form::kWhole:
      tile.rows = sizes[kAxes - 2];
      tile.columns = last;
      break;
  }
  return tile;
}

}  // namespace npu::cpu
