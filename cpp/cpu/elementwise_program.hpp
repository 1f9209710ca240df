// An elementwise register program lowered for running tile by tile.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cpu/host_kernels.hpp"
#include "cpu/iteration_space.hpp"

namespace npu::cpu {

constexpr std::uint8_t kNoOperand = 0xff;

// One instruction; `dst`, `a`, `b`, `c` are slots of the tile register file. Operands of the kernel
// are numbered in binding order: inputs first, then outputs.
struct TileStep {
  enum class Kind : std::uint8_t {
    kLoad,
    kView,  // a load that may use the operand's memory in place of a register
    kStore,
    kFinish,  // store clamp(a + addend, lo, hi)
    kReduce,  // hands a over to a reduction
    kConstant,
    kOp,
  };
  Kind kind;
  std::uint8_t operand = kNoOperand;
  std::uint8_t addend = kNoOperand;
  std::uint8_t target = kNoOperand;  // of an op: the output that its result may be written to
  std::uint16_t dst = 0, a = 0, b = 0, c = 0;
  bool wide = false;       // the register that it writes (for a store: reads) has 64 bits
  std::uint64_t bits = 0;  // constant
  float lo = 0, hi = 0;    // finish
  RunOp op = nullptr;
  RunLoad load = nullptr;
  RunStore store = nullptr;
  RunFinish finish = nullptr;
};

// Instructions and what they refer to.
struct ProgramSource {
  std::string_view name;                      // of the dispatch, for messages
  std::span<const std::uint32_t> code;        // four words per instruction
  std::span<const schema::Operand> operands;  // kElementwiseOperands: inputs, outputs
  bool maps = false;  // stores to output NPU_ACCUMULATOR_OUTPUT hand values to a reduction
};

struct ElementwiseProgram {
  std::vector<TileStep> invariant;  // gives the same values for every tile: run once per task
  std::vector<TileStep> body;       // run for each tile
  int slots = 0;                    // registers of the register file
  bool wide = false;                // some register has 64 bits: every slot does
  int cost = 0;                     // of one element, in additions
};

// Renames registers so that each value has its own, merges a closing add, max and min into the
// store, hoists what does not depend on the index, and assigns slots by lifetime. Throws
// Error(kInvalidProgram) naming the instruction for an unknown operation, a register out of range
// or read before it is written, and an operand that the dispatch lacks.
ElementwiseProgram lower_elementwise(const ProgramSource& source, const TileKernels& tiles,
                                     const IterationSpace& space);

}  // namespace npu::cpu
