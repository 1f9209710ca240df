// Lowers elementwise register programs; the last step gives values their slots, by lifetime.
#include "cpu/elementwise_program.hpp"

#include <algorithm>

#include "cpu/elementwise_values.hpp"
#include "npu_scalar_ops.h"  // generated

namespace npu::cpu {
namespace {

// The cost of an instruction in additions, roughly: what tasks are sized by.
int cost_of(std::uint32_t op) {
  switch (op) {
#define NPU_OP_COST(ID, COST) \
  case ID:                    \
    return COST;
    NPU_SCALAR_OP_COSTS(NPU_OP_COST)
#undef NPU_OP_COST
    default:
      return 1;
  }
}

class SlotAssignment {
 public:
  explicit SlotAssignment(const std::vector<Draft>& drafts) : drafts_(drafts) {
    for (std::size_t i = 0; i < drafts_.size(); ++i) {
      for (const int v : {drafts_[i].dst, drafts_[i].a, drafts_[i].b, drafts_[i].c}) {
        if (v == kNoValue) continue;
        const auto value = static_cast<std::size_t>(v);
        if (values_.size() <= value) values_.resize(value + 1);
        values_[value].last_use = i;
      }
    }
  }

  ElementwiseProgram run() {
    // Invariant values keep their slots for the whole task.
    for (const Draft& d : drafts_) {
      if (d.invariant) value(d.dst).slot = program_.slots++;
    }
    for (std::size_t i = 0; i < drafts_.size(); ++i) append(drafts_[i], i);
    return std::move(program_);
  }

 private:
  struct Value {
    std::size_t last_use = 0;
    int slot = -1;
  };

  Value& value(int v) { return values_[static_cast<std::size_t>(v)]; }
  std::uint16_t slot(int v) {
    return v == kNoValue ? std::uint16_t{0} : static_cast<std::uint16_t>(value(v).slot);
  }

  void append(const Draft& d, std::size_t at) {
    // The result gets its slot while the arguments still hold theirs: they must not overlap.
    if (d.dst != kNoValue && !d.invariant) value(d.dst).slot = new_slot();
    TileStep step = d.step;
    program_.wide = program_.wide || step.wide;
    step.dst = slot(d.dst);
    step.a = slot(d.a);
    step.b = slot(d.b);
    step.c = slot(d.c);
    if (d.invariant) {
      program_.invariant.push_back(step);
      return;
    }
    program_.body.push_back(step);
    program_.cost += cost_of(d.op);
    for (const int v : {d.a, d.b, d.c}) release(v, at);
  }

  int new_slot() {
    if (free_.empty()) return program_.slots++;
    const int slot = free_.back();
    free_.pop_back();
    return slot;
  }

  void release(int v, std::size_t at) {
    if (v == kNoValue || value(v).last_use != at || is_invariant(v)) return;
    if (std::find(free_.begin(), free_.end(), value(v).slot) == free_.end()) {
      free_.push_back(value(v).slot);
    }
  }

  bool is_invariant(int v) const {
    return std::any_of(drafts_.begin(), drafts_.end(),
                       [v](const Draft& d) { return d.dst == v && d.invariant; });
  }

  const std::vector<Draft>& drafts_;
  std::vector<Value> values_;
  std::vector<int> free_;
  ElementwiseProgram program_;
};

}  // namespace

ElementwiseProgram lower_elementwise(const ProgramSource& source, const TileKernels& tiles,
                                     const IterationSpace& space) {
  std::vector<Draft> drafts = decode_elementwise(source, tiles, space);
  merge_elementwise(drafts, source, tiles, space);
  return SlotAssignment(drafts).run();
}

}  // namespace npu::cpu
