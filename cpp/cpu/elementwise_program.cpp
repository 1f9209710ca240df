// Lowers elementwise register programs: checks, renaming, hoisting, and slots by lifetime.
#include "cpu/elementwise_program.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "npu_scalar_ops.h"  // generated

namespace npu::cpu {
namespace {

// A transcendental function's cost in additions, roughly: what tasks are sized by.
constexpr int kFunctionCost = 12;

struct Value {
  bool invariant;
  std::size_t last_use;
  int slot = -1;
};

bool is_function(std::uint32_t op) {
  switch (op) {
    case NPU_OP_EXP_F:
    case NPU_OP_LOG_F:
    case NPU_OP_TANH_F:
    case NPU_OP_ERF_F:
    case NPU_OP_SIGMOID_F:
      return true;
    default:
      return false;
  }
}

bool is_scalar(const schema::Operand& operand) {
  for (int d = 0; d < NPU_MAX_DIMS; ++d) {
    if (operand.shape[d] > 1 && operand.strides[d] != 0) return false;
  }
  return true;
}

class Lowering {
 public:
  Lowering(const DispatchInfo& dispatch, const TileKernels& tiles)
      : dispatch_(dispatch), tiles_(tiles) {}

  ElementwiseProgram run() {
    const auto& params = dispatch_.params_as<ElementwiseParams>();
    const std::uint32_t count = params.num_instructions;
    if (count > NPU_MAX_INSTRUCTIONS) fail("num_instructions", count, "is above the limit");
    for (at_ = 0; at_ < count; ++at_) {
      const std::uint32_t* words = params.code + 4 * at_;
      append(words[0] & 0xffu, (words[0] >> 8) & 0xffu, (words[0] >> 16) & 0xffu, words[0] >> 24,
             words[1], words[2]);
    }
    assign_slots();
    return std::move(program_);
  }

 private:
  // A step whose dst, a, b and c are still values.
  struct Draft {
    TileStep step;
    int dst, a, b, c;  // -1: none
    bool invariant;
  };

  [[noreturn]] void fail(const char* what, std::uint32_t value, const char* rule) const {
    throw Error(ErrorCode::kInvalidProgram,
                "dispatch '" + std::string(dispatch_.name) + "', elementwise instruction " +
                    std::to_string(at_) + ": " + what + " " + std::to_string(value) + " " + rule +
                    "; compile the model again");
  }

  int read(std::uint32_t reg) {
    if (reg >= NPU_MAX_REGISTERS) fail("register", reg, "is out of range");
    if (current_[reg] < 0) fail("register", reg, "is read before it is written");
    return current_[reg];
  }

  int define(std::uint32_t reg, bool invariant) {
    if (reg >= NPU_MAX_REGISTERS) fail("register", reg, "is out of range");
    values_.push_back({.invariant = invariant, .last_use = 0});
    return current_[reg] = static_cast<int>(values_.size()) - 1;
  }

  const schema::Operand& operand(std::uint32_t index, std::uint32_t first, std::uint32_t limit) {
    if (index >= limit) fail("operand", index, "is out of range");
    const schema::Operand& o = dispatch_.operands[first + index];
    if (o.buffer == schema::kNone) fail("operand", index, "is absent");
    if (o.dtype >= tiles_.load.size() || tiles_.load[o.dtype] == nullptr) {
      fail("dtype", o.dtype, "is unknown");
    }
    return o;
  }

  void append(std::uint32_t op, std::uint32_t dst, std::uint32_t a, std::uint32_t b,
              std::uint32_t c, std::uint32_t immediate) {
    Draft draft{.step = {}, .dst = -1, .a = -1, .b = -1, .c = -1, .invariant = false};
    switch (op) {
      case NPU_OP_LOAD: {
        const schema::Operand& input = operand(a, 0, NPU_MAX_INPUTS);
        draft.step.kind = TileStep::Kind::kLoad;
        draft.step.operand = static_cast<std::uint8_t>(a);
        draft.step.load = tiles_.load[input.dtype];
        draft.invariant = is_scalar(input);
        draft.dst = define(dst, draft.invariant);
        program_.cost += 1;
        break;
      }
      case NPU_OP_STORE: {
        const schema::Operand& output = operand(dst, NPU_MAX_INPUTS, NPU_MAX_OUTPUTS);
        draft.step.kind = TileStep::Kind::kStore;
        draft.step.operand = static_cast<std::uint8_t>(NPU_MAX_INPUTS + dst);
        draft.step.store = tiles_.store[output.dtype];
        draft.a = read(a);
        program_.cost += 1;
        break;
      }
      case NPU_OP_CONSTANT:
        draft.step.kind = TileStep::Kind::kConstant;
        draft.step.bits = immediate;
        draft.invariant = true;
        draft.dst = define(dst, true);
        break;
      default:
        if (op >= tiles_.op.size() || tiles_.op[op] == nullptr) fail("operation", op, "is unknown");
        append_op(draft, op, dst, {a, b, c});
    }
    drafts_.push_back(draft);
  }

  void append_op(Draft& draft, std::uint32_t op, std::uint32_t dst,
                 std::array<std::uint32_t, 3> args) {
    draft.step.kind = TileStep::Kind::kOp;
    draft.step.op = tiles_.op[op];
    const int arity = op_arity(op);
    // Arguments that the formula ignores repeat the first one, so that every pointer is readable.
    draft.a = read(args[0]);
    draft.b = arity > 1 ? read(args[1]) : draft.a;
    draft.c = arity > 2 ? read(args[2]) : draft.a;
    draft.invariant = values_[static_cast<std::size_t>(draft.a)].invariant &&
                      values_[static_cast<std::size_t>(draft.b)].invariant &&
                      values_[static_cast<std::size_t>(draft.c)].invariant;
    draft.dst = define(dst, draft.invariant);
    if (!draft.invariant) program_.cost += is_function(op) ? kFunctionCost : 1;
  }

  int new_slot() {
    if (!free_.empty()) {
      const int slot = free_.back();
      free_.pop_back();
      return slot;
    }
    return program_.slots++;
  }

  void assign_slots() {
    for (std::size_t i = 0; i < drafts_.size(); ++i) {
      for (const int v : {drafts_[i].dst, drafts_[i].a, drafts_[i].b, drafts_[i].c}) {
        if (v >= 0) values_[static_cast<std::size_t>(v)].last_use = i;
      }
    }
    // Invariant values keep their slots; nothing else may ever have used them.
    for (Value& v : values_) {
      if (v.invariant) v.slot = new_slot();
    }
    for (std::size_t i = 0; i < drafts_.size(); ++i) {
      Draft& d = drafts_[i];
      // The result gets its slot while the arguments still hold theirs: they must not overlap.
      if (d.dst >= 0 && !d.invariant) values_[static_cast<std::size_t>(d.dst)].slot = new_slot();
      const auto slot = [&](int v) {
        return v < 0 ? std::uint16_t{0}
                     : static_cast<std::uint16_t>(values_[static_cast<std::size_t>(v)].slot);
      };
      d.step.dst = slot(d.dst);
      d.step.a = slot(d.a);
      d.step.b = slot(d.b);
      d.step.c = slot(d.c);
      for (std::array<int, 4> done = {d.dst, d.a, d.b, d.c}; const int v : done) release(v, i);
      (d.invariant ? program_.invariant : program_.body).push_back(d.step);
    }
  }

  void release(int value, std::size_t at) {
    if (value < 0) return;
    Value& v = values_[static_cast<std::size_t>(value)];
    if (v.invariant || v.last_use != at || v.slot < 0) return;
    free_.push_back(v.slot);
    v.slot = -1;
  }

  static int op_arity(std::uint32_t op);

  const DispatchInfo& dispatch_;
  const TileKernels& tiles_;
  std::uint32_t at_ = 0;
  std::array<int, NPU_MAX_REGISTERS> current_ = [] {
    std::array<int, NPU_MAX_REGISTERS> none;
    none.fill(-1);
    return none;
  }();
  std::vector<Value> values_;
  std::vector<Draft> drafts_;
  std::vector<int> free_;
  ElementwiseProgram program_{};
};

int Lowering::op_arity(std::uint32_t op) {
  switch (op) {
#define NPU_OP_ARITY(ID, NAME, ARGS, RESULT, FORMULA) \
  case ID:                                            \
    return static_cast<int>(sizeof(#ARGS)) - 1;
    NPU_SCALAR_OPS(NPU_OP_ARITY)
#undef NPU_OP_ARITY
    default:
      return 0;
  }
}

}  // namespace

ElementwiseProgram lower_elementwise(const DispatchInfo& dispatch, const TileKernels& tiles) {
  return Lowering(dispatch, tiles).run();
}

}  // namespace npu::cpu
