// An elementwise register program lowered for running tile by tile.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/host_kernels.hpp"

namespace npu::cpu {

// One instruction; `dst`, `a`, `b`, `c` are slots of the tile register file.
struct TileStep {
  enum class Kind : std::uint8_t { kLoad, kStore, kConstant, kOp };
  Kind kind;
  std::uint8_t operand;  // load, store: which operand of the kernel (inputs first, then outputs)
  std::uint16_t dst, a, b, c;
  std::uint32_t bits;  // constant
  RunOp op;
  RunLoad load;
  RunStore store;
};

struct ElementwiseProgram {
  std::vector<TileStep> invariant;  // gives the same values for every tile: run once per task
  std::vector<TileStep> body;       // run for each tile
  int slots;                        // registers of the register file
  int cost;                         // of one element, in additions
};

// Renames registers so that each value has its own, hoists what does not depend on the index, and
// assigns slots by lifetime. An operand is invariant when its stride is 0 along every axis of
// extent above 1. Throws Error(kInvalidProgram) naming the instruction for an unknown operation, a
// register out of range or read before it is written, and an operand that the dispatch lacks.
ElementwiseProgram lower_elementwise(const DispatchInfo& dispatch, const TileKernels& tiles);

}  // namespace npu::cpu
