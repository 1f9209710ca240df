// Reads the instruction words of an elementwise program, checking each.
#include <array>
#include <string>
#include <string_view>

#include "cpu/elementwise_values.hpp"
#include "npu_scalar_ops.h"  // generated

namespace npu::cpu {
namespace {

// An operation's operand and result types.
struct OpTypes {
  std::string_view args;
  char result;
};

OpTypes op_types(std::uint32_t op) {
  switch (op) {
#define NPU_OP_TYPES(ID, NAME, ARGS, RESULT, FORMULA) \
  case ID:                                            \
    return {#ARGS, (#RESULT)[0]};
    NPU_SCALAR_OPS(NPU_OP_TYPES)
#undef NPU_OP_TYPES
    default:
      return {"", 'f'};
  }
}

class Decoder {
 public:
  Decoder(const ProgramSource& source, const TileKernels& tiles, const IterationSpace& space)
      : source_(source), tiles_(tiles), space_(space) {
    current_.fill(kNoValue);
  }

  std::vector<Draft> run() {
    for (at_ = 0; at_ < source_.code.size() / 4; ++at_) {
      const auto words = source_.code.subspan(std::size_t{4} * at_, 4);
      append(words[0] & 0xffu, (words[0] >> 8) & 0xffu,
             {(words[0] >> 16) & 0xffu, words[0] >> 24, words[1]},
             words[2] | std::uint64_t{words[3]} << 32);
    }
    return std::move(drafts_);
  }

 private:
  [[noreturn]] void fail(const char* what, std::uint32_t value, const char* rule) const {
    throw Error(ErrorCode::kInvalidProgram, "dispatch '" + std::string(source_.name) +
                                                "', instruction " + std::to_string(at_) + ": " +
                                                what + " " + std::to_string(value) + " " + rule +
                                                "; compile the model again");
  }

  int read(std::uint32_t reg) const {
    if (reg >= NPU_MAX_REGISTERS) fail("register", reg, "is out of range");
    if (current_[reg] == kNoValue) fail("register", reg, "is read before it is written");
    return current_[reg];
  }

  int define(std::uint32_t reg, bool invariant) {
    if (reg >= NPU_MAX_REGISTERS) fail("register", reg, "is out of range");
    invariant_.push_back(invariant);
    return current_[reg] = static_cast<int>(invariant_.size()) - 1;
  }

  const schema::Operand& operand(std::uint32_t index, std::uint32_t first,
                                 std::uint32_t count) const {
    if (index >= count) fail("operand", index, "is out of range");
    const schema::Operand& o = source_.operands[first + index];
    if (o.buffer == schema::kNone) fail("operand", index, "is absent");
    if (o.dtype >= tiles_.load.size() || tiles_.load[o.dtype] == nullptr) {
      fail("dtype", o.dtype, "is unknown");
    }
    return o;
  }

  void append(std::uint32_t op, std::uint32_t dst, std::array<std::uint32_t, 3> args,
              std::uint64_t immediate) {
    Draft draft;
    draft.op = op;
    const OpTypes types = op_types(op);
    if (op == NPU_OP_LOAD) {
      const schema::Operand& input = operand(args[0], 0, NPU_MAX_INPUTS);
      draft.step.kind = TileStep::Kind::kLoad;
      draft.step.operand = static_cast<std::uint8_t>(args[0]);
      draft.step.load = tiles_.load[input.dtype];
      draft.step.wide = input.dtype == NPU_DTYPE_I64;
      draft.invariant = space_.is_broadcast(args[0]);
      draft.dst = define(dst, draft.invariant);
    } else if (op == NPU_OP_STORE && source_.maps) {
      if (dst != NPU_ACCUMULATOR_OUTPUT) fail("output", dst, "is not the accumulator");
      draft.step.kind = TileStep::Kind::kReduce;
      draft.a = read(args[0]);
    } else if (op == NPU_OP_STORE) {
      const schema::Operand& output = operand(dst, NPU_MAX_INPUTS, NPU_MAX_OUTPUTS);
      draft.step.kind = TileStep::Kind::kStore;
      draft.step.operand = static_cast<std::uint8_t>(NPU_MAX_INPUTS + dst);
      draft.step.store = tiles_.store[output.dtype];
      draft.step.wide = output.dtype == NPU_DTYPE_I64;
      draft.a = read(args[0]);
    } else if (op == NPU_OP_CONSTANT || op == NPU_OP_CONSTANT_L) {
      draft.step.kind = TileStep::Kind::kConstant;
      draft.step.wide = op == NPU_OP_CONSTANT_L;
      draft.step.bits = immediate;
      draft.invariant = true;
      draft.dst = define(dst, true);
    } else {
      if (op >= tiles_.op.size() || tiles_.op[op] == nullptr) fail("operation", op, "is unknown");
      draft.step.kind = TileStep::Kind::kOp;
      draft.step.op = tiles_.op[op];
      // Arguments that the formula ignores repeat the first one, so that every pointer is readable.
      draft.a = read(args[0]);
      draft.b = types.args.size() > 1 ? read(args[1]) : draft.a;
      draft.c = types.args.size() > 2 ? read(args[2]) : draft.a;
      draft.invariant = is_invariant(draft.a) && is_invariant(draft.b) && is_invariant(draft.c);
      draft.step.wide = types.result == 'l';
      draft.dst = define(dst, draft.invariant);
    }
    drafts_.push_back(draft);
  }

  bool is_invariant(int value) const { return invariant_[static_cast<std::size_t>(value)]; }

  const ProgramSource& source_;
  const TileKernels& tiles_;
  const IterationSpace& space_;
  std::uint32_t at_ = 0;
  std::array<int, NPU_MAX_REGISTERS> current_;  // register to value
  std::vector<bool> invariant_;                 // by value
  std::vector<Draft> drafts_;
};

}  // namespace

std::vector<Draft> decode_elementwise(const ProgramSource& source, const TileKernels& tiles,
                                      const IterationSpace& space) {
  return Decoder(source, tiles, space).run();
}

}  // namespace npu::cpu
