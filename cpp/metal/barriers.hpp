// Which dispatches must wait for earlier ones: decided when a program is loaded, by the memory that
// they read and write.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "npubin_schema.hpp"  // generated

namespace npu::metal {

// One operand's use of memory.
struct Access {
  const schema::Operand* view;  // not empty
  std::uint64_t space;          // equal: the same memory
  std::uint64_t begin;          // bytes in that memory, of the view's first element
  std::uint64_t end;
  bool write;
};

// Fed with dispatches in order. A barrier is set as late as it can be, which for a fixed order
// gives the fewest.
class BarrierPlanner {
 public:
  // Whether a barrier is needed in front of the dispatch with these accesses.
  bool before(std::span<const Access> dispatch);
  // Everything up to here will be waited for anyway.
  void synchronize() { since_.clear(); }

 private:
  bool conflicts(const Access& access) const;

  std::vector<Access> since_;  // the last barrier
};

}  // namespace npu::metal
