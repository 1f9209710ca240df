// An elementwise program while it is being lowered: instructions over values instead of registers.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/elementwise_program.hpp"

namespace npu::cpu {

constexpr int kNoValue = -1;

// One instruction; every value is defined by exactly one of them.
struct Draft {
  TileStep step;
  std::uint32_t op = NPU_OP_COPY;
  int dst = kNoValue, a = kNoValue, b = kNoValue, c = kNoValue;
  bool invariant = false;  // the same for every index
};

// Checks the instructions and gives each result a value of its own.
std::vector<Draft> decode_elementwise(const ProgramSource& source, const TileKernels& tiles,
                                      const IterationSpace& space);

// Merges add, max and min into stores where nothing else uses their results, lets loads of 32-bit
// types use memory in place, and drops instructions whose results nobody reads.
void merge_elementwise(std::vector<Draft>& drafts, const ProgramSource& source,
                       const TileKernels& tiles, const IterationSpace& space);

}  // namespace npu::cpu
