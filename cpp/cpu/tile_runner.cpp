// The interpreter of lowered register programs.
#include "cpu/tile_runner.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace npu::cpu {
namespace {

// The register file should fit the L1 data cache beside what is streamed through it.
constexpr std::int64_t kRegisterFileBytes = 24 * 1024;
constexpr std::int64_t kMinTile = 128;
constexpr std::int64_t kMaxTile = 2048;

// 32-bit words of a slot's element.
std::int64_t slot_words(const ElementwiseProgram& program) { return program.wide ? 2 : 1; }

std::int64_t tile_capacity(const ElementwiseProgram& program) {
  const std::int64_t bytes = 4 * slot_words(program) * std::max(program.slots, 1);
  const std::int64_t fits = kRegisterFileBytes / bytes / 64 * 64;
  return std::clamp(fits, kMinTile, kMaxTile);
}

// 32-bit words of an element of the register that a load writes or a store reads.
std::int64_t words(const TileStep& step) { return step.wide ? 2 : 1; }

}  // namespace

TileRunner::TileRunner(ElementwiseProgram program, const IterationSpace::Axis& rows,
                       const IterationSpace::Axis& columns,
                       std::span<const schema::Operand> operands)
    : program_(std::move(program)),
      rows_(rows),
      columns_(columns),
      capacity_(tile_capacity(program_)),
      slot_words_(slot_words(program_) * capacity_) {
  for (std::size_t k = 0; k < size_.size(); ++k) {
    const schema::Operand& o = operands[k];
    size_[k] =
        o.buffer == schema::kNone ? 0 : static_cast<std::int64_t>(schema::dtype_size(o.dtype));
  }
}

std::uint8_t TileRunner::handed_operand() const {
  const auto& body = program_.body;
  const bool hands = body.size() == 2 && body[0].kind == TileStep::Kind::kView &&
                     body[1].kind == TileStep::Kind::kReduce && body[1].a == body[0].dst;
  return hands ? body[0].operand : kNoOperand;
}

void TileRunner::begin(Operands operands, std::int64_t n, Registers& registers) const {
  const IterationSpace::Tile whole{.offset = {}, .rows = 1, .columns = n};
  for (const TileStep& step : program_.invariant) run_step(step, operands, whole, registers);
}

const std::uint32_t* TileRunner::run(Operands operands, const IterationSpace::Tile& tile,
                                     Registers& registers) const {
  const std::uint32_t* handed = nullptr;
  for (const TileStep& step : program_.body) {
    if (step.kind == TileStep::Kind::kReduce) {
      handed = registers.at[step.a];
    } else {
      run_step(step, operands, tile, registers);
    }
  }
  return handed;
}

void TileRunner::run_step(const TileStep& step, Operands operands, const IterationSpace::Tile& tile,
                          Registers& registers) const {
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
      if (is_run(step.operand, tile) && columns_.stride[step.operand] == 1) {
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
    case TileStep::Kind::kReduce:
      break;
  }
}

// The operand's part of the tile is one evenly strided run.
bool TileRunner::is_run(std::size_t k, const IterationSpace::Tile& tile) const {
  return tile.rows == 1 || rows_.stride[k] == columns_.stride[k] * tile.columns;
}

void TileRunner::load(const TileStep& step, const std::byte* src, const IterationSpace::Tile& tile,
                      std::uint32_t* dst) const {
  const std::int64_t stride = columns_.stride[step.operand];
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

void TileRunner::store(const TileStep& step, std::byte* dst, const IterationSpace::Tile& tile,
                       const std::uint32_t* src) const {
  const std::int64_t stride = columns_.stride[step.operand];
  if (is_run(step.operand, tile)) return step.store(dst, src, stride, tile.rows * tile.columns);
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    step.store(dst + r * row_bytes(step.operand), src + r * tile.columns * words(step), stride,
               tile.columns);
  }
}

void TileRunner::finish(const TileStep& step, std::byte* dst, const std::byte* addend,
                        const IterationSpace::Tile& tile, const std::uint32_t* src) const {
  if (is_run(step.operand, tile) && (addend == nullptr || is_run(step.addend, tile))) {
    return step.finish(dst, src, addend, step.lo, step.hi, tile.rows * tile.columns);
  }
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    step.finish(dst + r * row_bytes(step.operand), src + r * tile.columns,
                addend == nullptr ? nullptr : addend + r * row_bytes(step.addend), step.lo, step.hi,
                tile.columns);
  }
}

}  // namespace npu::cpu
