// The index space of a map_reduce dispatch: tiles of inputs that are reduced one after the other
// (the walk), for blocks of results that are independent of each other (the units).
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "cpu/iteration_space.hpp"

namespace npu::cpu {

class MapReduceSpace {
 public:
  static constexpr int kAxes = NPU_MAX_DIMS / 2;  // kept ones, and as many that are reduced
  using Axis = IterationSpace::Axis;
  using Tile = IterationSpace::Tile;

  // What the rows and columns of a tile are.
  enum class Form {
    kLanes,  // columns are results side by side, rows are combined
    kRows,   // every row is one result; a unit has more rows than a tile
    kWhole,  // all of it is one result
  };

  // Operands are numbered as instructions number them; see ProgramSource.
  explicit MapReduceSpace(std::span<const schema::Operand> operands);
  // Cuts the space into tiles of at most `capacity` elements.
  void cut(std::int64_t capacity, int threads);

  Form form() const { return form_; }
  // All axes with the map's rows and columns last; and for what comes after the reduction, rows of
  // which are trivial and columns the results of a unit.
  const IterationSpace& map() const { return map_; }
  const IterationSpace& results() const { return results_; }

  // Results of a unit, results of a tile and elements of a tile at most.
  std::int64_t lanes() const;
  std::int64_t tile_lanes() const { return form_ == Form::kRows ? tile_rows_ : lanes(); }
  std::int64_t tile_elements() const { return tile_elements_; }
  std::int64_t units() const { return units_; }
  std::int64_t steps() const { return steps_; }
  // Elements that each result combines.
  std::int64_t reduced_elements() const;

  // A unit's first elements; as many results as `columns` says.
  Tile unit(std::int64_t index) const;
  // Results `first` and up to tile_lanes() - 1 behind it, of a unit.
  Tile part(const Tile& unit, std::int64_t first) const;
  // A step of the walk for such results.
  Tile step(const Tile& part, std::int64_t index) const;

 private:
  struct BlockedAxis : Axis {
    std::int64_t block = 1;  // indices of a unit or step
    std::int64_t count = 1;  // blocks
  };
  using Axes = std::array<BlockedAxis, kAxes>;

  void choose_roles(std::span<const schema::Operand> operands);
  BlockedAxis& row_axis();
  BlockedAxis& column_axis();
  void count_blocks();
  // Adds the offsets of a block, whose numbers along the axes `index` gives, the last one running
  // fastest; `sizes` receives how many indices it has along each.
  void place(const Axes& axes, std::int64_t index, Tile& tile,
             std::array<std::int64_t, kAxes>& sizes) const;

  Form form_ = Form::kWhole;
  // The tile's axes come last: of kept ones at most one, of reduced ones rows before columns.
  Axes kept_, reduced_;
  std::int64_t tile_elements_ = 1, tile_rows_ = 1;
  std::int64_t units_ = 1, steps_ = 1;
  // Operands that are present.
  std::array<std::uint8_t, kElementwiseOperands> present_{};
  std::size_t present_count_ = 0;
  IterationSpace map_, results_;
};

}  // namespace npu::cpu
