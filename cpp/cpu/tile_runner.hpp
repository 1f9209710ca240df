// Runs a lowered register program tile by tile, so that intermediate values never leave the L1
// cache.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "cpu/elementwise_program.hpp"

namespace npu::cpu {

class TileRunner {
 public:
  // Pointers to the first elements of the program's operands; null where absent.
  using Operands = std::span<std::byte* const, kElementwiseOperands>;

  // Where the values of a task are: in the register file, or in an operand's memory (views).
  struct Registers {
    std::uint32_t* file;  // file_words() of them
    // Every instruction makes at most one value.
    std::array<const std::uint32_t*, NPU_MAX_INSTRUCTIONS + 1> at;
  };

  TileRunner() = default;
  // `rows` and `columns` are the axes of tiles, with strides for every operand.
  TileRunner(ElementwiseProgram program, const IterationSpace::Axis& rows,
             const IterationSpace::Axis& columns, std::span<const schema::Operand> operands);

  // Elements of a tile at most.
  std::int64_t capacity() const { return capacity_; }
  std::int64_t file_words() const { return program_.slots * slot_words_; }
  // Of one element, in additions.
  int cost() const { return program_.cost; }

  // The operand that the program hands to a reduction as it lies, or kNoOperand.
  std::uint8_t handed_operand() const;
  // Computes what is the same for every tile of a task, whose tiles have at most `n` elements.
  void begin(Operands operands, std::int64_t n, Registers& registers) const;
  // Runs the program for a tile. Returns the values that it hands to a reduction, rows * columns of
  // them without gaps, or null.
  const std::uint32_t* run(Operands operands, const IterationSpace::Tile& tile,
                           Registers& registers) const;

 private:
  void run_step(const TileStep& step, Operands operands, const IterationSpace::Tile& tile,
                Registers& registers) const;
  bool is_run(std::size_t k, const IterationSpace::Tile& tile) const;
  std::int64_t row_bytes(std::size_t k) const { return rows_.stride[k] * size_[k]; }
  void load(const TileStep& step, const std::byte* src, const IterationSpace::Tile& tile,
            std::uint32_t* dst) const;
  void store(const TileStep& step, std::byte* dst, const IterationSpace::Tile& tile,
             const std::uint32_t* src) const;
  void finish(const TileStep& step, std::byte* dst, const std::byte* addend,
              const IterationSpace::Tile& tile, const std::uint32_t* src) const;

  ElementwiseProgram program_;
  IterationSpace::Axis rows_, columns_;
  std::int64_t capacity_ = 0;
  std::int64_t slot_words_ = 0;  // 32-bit words of a tile in the register file
  std::array<std::int64_t, kElementwiseOperands> size_{};  // bytes per element; 0: absent
};

}  // namespace npu::cpu
