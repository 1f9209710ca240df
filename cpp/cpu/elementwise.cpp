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
// Every instruction makes at most one value.
constexpr std::size_t kMaxSlots = NPU_MAX_INSTRUCTIONS + 1;

// 32-bit words of a slot's element.
std::int64_t slot_words(const ElementwiseProgram& program) { return program.wide ? 2 : 1; }

std::int64_t tile_capacity(const ElementwiseProgram& program) {
  const std::int64_t bytes = 4 * slot_words(program) * std::max(program.slots, 1);
  const std::int64_t fits = kRegisterFileBytes / bytes / 64 * 64;
  return std::clamp(fits, kMinTile, kMaxTile);
}

class ElementwiseKernel final : public HostKernel {
 public:
  ElementwiseKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool),
        space_(dispatch.operands),
        program_(lower_elementwise(dispatch, context.tiles, space_)),
        capacity_(tile_capacity(program_)),
        slot_words_(slot_words(program_) * capacity_) {
    space_.cut(capacity_);
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
  // Where the values of a task are: in the register file, or in an operand's memory (views).
  struct Registers {
    std::uint32_t* file;
    std::array<const std::uint32_t*, kMaxSlots> at;
  };

  std::int64_t register_file_words() const { return program_.slots * slot_words_; }

  void run_tiles(std::span<std::byte* const> operands, std::int64_t first, std::int64_t last,
                 std::uint32_t* file) const {
    Registers registers{.file = file, .at = {}};
    const IterationSpace::Tile whole{
        .offset = {}, .rows = 1, .columns = space_.tile_rows * space_.tile_columns};
    for (const TileStep& step : program_.invariant) run_step(step, operands, whole, registers);
    for (std::int64_t index = first; index < last; ++index) {
      const IterationSpace::Tile tile = space_.tile(index);
      for (const TileStep& step : program_.body) run_step(step, operands, tile, registers);
    }
  }

  void run_step(const TileStep& step, std::span<std::byte* const> operands,
                const IterationSpace::Tile& tile, Registers& registers) const {
    const std::int64_t n = tile.rows * tile.columns;
    std::uint32_t* dst = registers.file + step.dst * slot_words_;
    const std::uint32_t* a = registers.at[step.a];
    const auto address = [&](std::size_t k) { return operands[k] + tile.offset[k] * size_[k]; };
    switch (step.kind) {
      case TileStep::Kind::kOp: {
        const std::uint32_t* b = registers.at[step.b];
        const std::uint32_t* c = registers.at[step.c];
        if (step.target != kNoOperand && is_run(step.target, tile)) {
          auto* output = reinterpret_cast<std::uint32_t*>(address(step.target));
          // Operations do not write over what they read.
          if (output != a && output != b && output != c) dst = output;
        }
        registers.at[step.dst] = dst;
        step.op(dst, a, b, c, n);
        break;
      }
      case TileStep::Kind::kView:
        if (is_run(step.operand, tile) && space_.columns().stride[step.operand] == 1) {
          registers.at[step.dst] = reinterpret_cast<const std::uint32_t*>(address(step.operand));
          break;
        }
        [[fallthrough]];
      case TileStep::Kind::kLoad:
        registers.at[step.dst] = dst;
        load(step, address(step.operand), tile, dst);
        break;
      case TileStep::Kind::kStore:
        if (reinterpret_cast<const std::byte*>(a) != address(step.operand)) {
          store(step, address(step.operand), tile, a);
        }
        break;
      case TileStep::Kind::kFinish:
        finish(step, address(step.operand),
               step.addend == kNoOperand ? nullptr : address(step.addend), tile, a);
        break;
      case TileStep::Kind::kConstant:
        registers.at[step.dst] = dst;
        if (step.wide) {
          std::fill_n(reinterpret_cast<std::uint64_t*>(dst), n, step.bits);
        } else {
          std::fill_n(dst, n, static_cast<std::uint32_t>(step.bits));
        }
        break;
    }
  }

  // The operand's part of the tile is one evenly strided run.
  bool is_run(std::size_t k, const IterationSpace::Tile& tile) const {
    return tile.rows == 1 || space_.rows().stride[k] == space_.columns().stride[k] * tile.columns;
  }

  // 32-bit words of an element of the register that a load writes or a store reads.
  static std::int64_t words(const TileStep& step) { return step.wide ? 2 : 1; }

  std::int64_t row_bytes(std::size_t k) const { return space_.rows().stride[k] * size_[k]; }

  void load(const TileStep& step, const std::byte* src, const IterationSpace::Tile& tile,
            std::uint32_t* dst) const {
    const std::int64_t stride = space_.columns().stride[step.operand];
    if (is_run(step.operand, tile)) return step.load(dst, src, stride, tile.rows * tile.columns);
    const std::int64_t step_bytes = row_bytes(step.operand);
    const std::int64_t row_words = tile.columns * words(step);
    step.load(dst, src, stride, tile.columns);
    for (std::int64_t r = 1; r < tile.rows; ++r) {
      std::uint32_t* row = dst + r * row_words;
      if (step_bytes == 0) {
        std::memcpy(row, dst, static_cast<std::size_t>(row_words) * sizeof(std::uint32_t));
      } else {
        step.load(row, src + r * step_bytes, stride, tile.columns);
      }
    }
  }

  void store(const TileStep& step, std::byte* dst, const IterationSpace::Tile& tile,
             const std::uint32_t* src) const {
    const std::int64_t stride = space_.columns().stride[step.operand];
    if (is_run(step.operand, tile)) return step.store(dst, src, stride, tile.rows * tile.columns);
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      step.store(dst + r * row_bytes(step.operand), src + r * tile.columns * words(step), stride,
                 tile.columns);
    }
  }

  void finish(const TileStep& step, std::byte* dst, const std::byte* addend,
              const IterationSpace::Tile& tile, const std::uint32_t* src) const {
    if (is_run(step.operand, tile) && (addend == nullptr || is_run(step.addend, tile))) {
      return step.finish(dst, src, addend, step.lo, step.hi, tile.rows * tile.columns);
    }
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      step.finish(dst + r * row_bytes(step.operand), src + r * tile.columns,
                  addend == nullptr ? nullptr : addend + r * row_bytes(step.addend), step.lo,
                  step.hi, tile.columns);
    }
  }

  ThreadPool& pool_;
  IterationSpace space_;
  ElementwiseProgram program_;
  std::int64_t capacity_;    // elements of a tile
  std::int64_t slot_words_;  // 32-bit words of a tile in the register file
  std::array<std::int64_t, kElementwiseOperands> size_{};  // bytes per element; 0: absent
  std::int64_t tiles_per_task_ = 1;
};

}  // namespace

std::unique_ptr<HostKernel> make_elementwise(const DispatchInfo& dispatch,
                                             const CpuContext& context) {
  return std::make_unique<ElementwiseKernel>(dispatch, context);
}

}  // namespace npu::cpu
