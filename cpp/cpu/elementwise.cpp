// The elementwise kernel: interprets a register program tile by tile, so that intermediate values
// never leave the L1 cache.
#include <algorithm>
#include <array>
#include <cstring>

#include "cpu/elementwise_program.hpp"
#include "cpu/host_kernels.hpp"
#include "cpu/iteration_space.hpp"

namespace npu::cpu {
namespace {

// The register file should fit the L1 data cache beside what is streamed through it.
constexpr std::int64_t kRegisterFileBytes = 24 * 1024;
constexpr std::int64_t kMinTile = 128;
constexpr std::int64_t kMaxTile = 2048;
// Work (elements times cost) worth waking a thread for; a few microseconds.
constexpr std::int64_t kTaskWork = 1 << 16;
constexpr std::int64_t kTasksPerThread = 8;

std::int64_t tile_capacity(int slots) {
  const std::int64_t fits = kRegisterFileBytes / (4 * std::max(slots, 1)) / 64 * 64;
  return std::clamp(fits, kMinTile, kMaxTile);
}

class ElementwiseKernel final : public HostKernel {
 public:
  ElementwiseKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool),
        program_(lower_elementwise(dispatch, context.tiles)),
        capacity_(tile_capacity(program_.slots)),
        space_(dispatch.operands, capacity_) {
    for (std::size_t k = 0; k < size_.size(); ++k) {
      const schema::Operand& o = dispatch.operands[k];
      size_[k] =
          o.buffer == schema::kNone ? 0 : static_cast<std::int64_t>(schema::dtype_size(o.dtype));
    }
    const std::int64_t tile_work =
        std::max<std::int64_t>(1, space_.tile_rows * space_.tile_columns * program_.cost);
    tiles_per_task_ = std::max({std::int64_t{1}, kTaskWork / tile_work,
                                ceil_div(space_.tiles, kTasksPerThread * pool_.threads())});
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(register_file_words() * pool_.threads()) *
           sizeof(std::uint32_t);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    auto* registers = reinterpret_cast<std::uint32_t*>(scratch);
    const auto task = [&](std::int64_t index, int worker) {
      const std::int64_t first = index * tiles_per_task_;
      run_tiles(operands, first, std::min(first + tiles_per_task_, space_.tiles),
                registers + worker * register_file_words());
    };
    pool_.parallel_for(ceil_div(space_.tiles, tiles_per_task_), task);
  }

 private:
  std::int64_t register_file_words() const { return program_.slots * capacity_; }

  void run_tiles(std::span<std::byte* const> operands, std::int64_t first, std::int64_t last,
                 std::uint32_t* registers) const {
    const std::int64_t widest = space_.tile_rows * space_.tile_columns;
    const IterationSpace::Tile whole{.offset = {}, .rows = 1, .columns = widest};
    for (const TileStep& step : program_.invariant) run_step(step, operands, whole, registers);
    for (std::int64_t index = first; index < last; ++index) {
      const IterationSpace::Tile tile = space_.tile(index);
      for (const TileStep& step : program_.body) run_step(step, operands, tile, registers);
    }
  }

  void run_step(const TileStep& step, std::span<std::byte* const> operands,
                const IterationSpace::Tile& tile, std::uint32_t* registers) const {
    const std::int64_t n = tile.rows * tile.columns;
    std::uint32_t* dst = registers + step.dst * capacity_;
    const std::uint32_t* a = registers + step.a * capacity_;
    switch (step.kind) {
      case TileStep::Kind::kOp:
        step.op(dst, a, registers + step.b * capacity_, registers + step.c * capacity_, n);
        break;
      case TileStep::Kind::kLoad:
        load(step, operands[step.operand] + tile.offset[step.operand] * size_[step.operand], tile,
             dst);
        break;
      case TileStep::Kind::kStore:
        store(step, operands[step.operand] + tile.offset[step.operand] * size_[step.operand], tile,
              a);
        break;
      case TileStep::Kind::kConstant:
        std::fill_n(dst, n, step.bits);
        break;
    }
  }

  void load(const TileStep& step, const std::byte* src, const IterationSpace::Tile& tile,
            std::uint32_t* dst) const {
    const std::int64_t stride = space_.columns().stride[step.operand];
    const std::int64_t row_stride = space_.rows().stride[step.operand];
    if (tile.rows == 1 || row_stride == stride * tile.columns) {
      step.load(dst, src, stride, tile.rows * tile.columns);
      return;
    }
    step.load(dst, src, stride, tile.columns);
    for (std::int64_t r = 1; r < tile.rows; ++r) {
      std::uint32_t* row = dst + r * tile.columns;
      if (row_stride == 0) {
        std::memcpy(row, dst, static_cast<std::size_t>(tile.columns) * sizeof(std::uint32_t));
      } else {
        step.load(row, src + r * row_stride * size_[step.operand], stride, tile.columns);
      }
    }
  }

  void store(const TileStep& step, std::byte* dst, const IterationSpace::Tile& tile,
             const std::uint32_t* src) const {
    const std::int64_t stride = space_.columns().stride[step.operand];
    const std::int64_t row_stride = space_.rows().stride[step.operand];
    if (tile.rows == 1 || row_stride == stride * tile.columns) {
      step.store(dst, src, stride, tile.rows * tile.columns);
      return;
    }
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      step.store(dst + r * row_stride * size_[step.operand], src + r * tile.columns, stride,
                 tile.columns);
    }
  }

  ThreadPool& pool_;
  ElementwiseProgram program_;
  std::int64_t capacity_;
  IterationSpace space_;
  std::array<std::int64_t, kElementwiseOperands> size_{};  // bytes per element; 0: absent
  std::int64_t tiles_per_task_ = 1;
};

}  // namespace

std::unique_ptr<HostKernel> make_elementwise(const DispatchInfo& dispatch,
                                             const CpuContext& context) {
  return std::make_unique<ElementwiseKernel>(dispatch, context);
}

}  // namespace npu::cpu
