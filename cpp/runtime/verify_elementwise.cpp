// Verification of register programs: those of elementwise dispatches, and of map_reduce in two
// parts.
#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "runtime/kernel_params.hpp"
#include "runtime/verify.hpp"

namespace npu {
namespace {

constexpr char kUnset = 0;
constexpr char kAny = '*';  // a constant: 32 bits that may be read as f or i

struct Instruction {
  std::uint32_t op, dst, a, b, c, immediate, upper_immediate;
};

Instruction decode(const std::byte* words) {
  std::uint32_t w[4];
  std::memcpy(w, words, sizeof w);
  return {w[0] & 0xFFu, w[0] >> 8 & 0xFFu, w[0] >> 16 & 0xFFu, w[0] >> 24, w[1], w[2], w[3]};
}

// The register type of values of a dtype.
char register_type(std::uint32_t dtype) {
  switch (dtype) {
    case NPU_DTYPE_F32:
    case NPU_DTYPE_F16:
    case NPU_DTYPE_BF16:
    case NPU_DTYPE_F64:
      return 'f';
    case NPU_DTYPE_I64:
      return 'l';
    default:
      return 'i';
  }
}

// Instructions that run together. A map stores to the accumulator last, an epilogue may load it.
enum class Part { kWhole, kMap, kEpilogue };

// The value of the u32 field `index` of a block that begins with u32 fields.
std::uint32_t field_at(std::span<const std::byte> fields, std::size_t index) {
  std::uint32_t value = 0;
  std::memcpy(&value, &fields[sizeof value * index], sizeof value);
  return value;
}

class InstructionChecker {
 public:
  // `inputs` and `outputs` are how many of each the kernel has; `accumulator` is its dtype.
  InstructionChecker(std::span<const schema::Operand> operands, std::uint32_t inputs,
                     std::uint32_t outputs, std::uint32_t accumulator)
      : operands_(operands), inputs_(inputs), outputs_(outputs), accumulator_(accumulator) {}

  // Throws what `refuse` throws, which is given the reason.
  template <class Refuse>
  void check(const Instruction& in, Part part, bool last, const Refuse& refuse) {
    const auto read = [&](std::uint32_t r, char type) {
      if (r >= NPU_MAX_REGISTERS) refuse("register ", r, ", there are ", NPU_MAX_REGISTERS);
      if (registers_[r] == kUnset) refuse("register ", r, " is read before it is written");
      if (registers_[r] != type && (registers_[r] != kAny || type == 'l')) {
        const std::string_view found =
            registers_[r] == kAny ? "a 32-bit constant" : std::string_view(&registers_[r], 1);
        refuse("register ", r, " holds ", found, ", ", type, " is read");
      }
    };
    const auto write = [&](char type) {
      if (in.dst >= NPU_MAX_REGISTERS)
        refuse("register ", in.dst, ", there are ", NPU_MAX_REGISTERS);
      registers_[in.dst] = type;
    };
    if (part == Part::kMap && (last != (in.op == NPU_OP_STORE))) {
      refuse(last ? "the map does not end with a store" : "a store before the end of the map");
    }
    std::uint32_t used = 0;  // of a, b, c
    switch (in.op) {
      case NPU_OP_LOAD:
        if (part == Part::kEpilogue && in.a == NPU_ACCUMULATOR_INPUT) {
          write(register_type(accumulator_));
        } else {
          if (!is_present(in.a, 0, inputs_)) refuse("input ", in.a, " is absent");
          write(register_type(operands_[in.a].dtype));
        }
        used = 1;
        break;
      case NPU_OP_STORE:
        if (part == Part::kMap) {
          if (in.dst != NPU_ACCUMULATOR_OUTPUT) refuse("the map stores to output ", in.dst);
          read(in.a, register_type(accumulator_));
        } else {
          if (!is_present(in.dst, inputs_, outputs_)) refuse("output ", in.dst, " is absent");
          read(in.a, register_type(operands_[inputs_ + in.dst].dtype));
          stored_[in.dst] = true;
        }
        used = 1;
        break;
      case NPU_OP_CONSTANT:
        write(kAny);
        break;
      case NPU_OP_CONSTANT_L:
        write('l');
        break;
      default: {
        const ScalarOpInfo* op = find_scalar_op(in.op);
        if (op == nullptr) refuse("operation ", in.op, " is unknown");
        const std::uint32_t args[] = {in.a, in.b, in.c};
        used = static_cast<std::uint32_t>(op->args.size());
        for (std::uint32_t k = 0; k < used; ++k) read(args[k], op->args[k]);
        write(op->result);
      }
    }
    if ((used < 1 && in.a != 0) || (used < 2 && in.b != 0) || (used < 3 && in.c != 0) ||
        (in.op != NPU_OP_CONSTANT && in.op != NPU_OP_CONSTANT_L && in.immediate != 0) ||
        (in.op != NPU_OP_CONSTANT_L && in.upper_immediate != 0)) {
      refuse("a word that operation ", in.op, " does not use is not 0");
    }
  }

  // Registers do not outlive their part.
  void begin_part() { registers_.fill(kUnset); }

  // The first output that is there but never stored, or NPU_MAX_OUTPUTS.
  std::uint32_t unstored() const {
    for (std::uint32_t k = 0; k < outputs_; ++k) {
      if (is_present(k, inputs_, outputs_) && !stored_[k]) return k;
    }
    return NPU_MAX_OUTPUTS;
  }

 private:
  bool is_present(std::uint32_t k, std::uint32_t first, std::uint32_t limit) const {
    return k < limit && operands_[first + k].buffer != schema::kNone;
  }

  std::span<const schema::Operand> operands_;
  std::uint32_t inputs_, outputs_, accumulator_;
  std::array<char, NPU_MAX_REGISTERS> registers_{};
  std::array<bool, NPU_MAX_OUTPUTS> stored_{};
};

}  // namespace

void Verifier::check_instructions(std::uint32_t index, const KernelInfo& kernel) {
  const schema::Dispatch& d = program_.dispatches()[index];
  const auto fields = program_.fields_of(d);
  const bool reduces = kernel.id == NPU_KERNEL_MAP_REDUCE;
  constexpr std::size_t kInstructionBytes = 16;
  // Fields before the code, of which the number of instructions is the last; the rules limit them.
  const std::size_t leading = reduces ? 4 : 1;
  const std::uint32_t map_end = reduces ? field_at(fields, 2) : 0;
  const std::uint32_t count = field_at(fields, leading - 1);
  const std::span<const std::byte> code = fields.subspan(leading * sizeof(std::uint32_t));

  InstructionChecker checker(
      program_.operands_of(d), reduces ? NPU_ACCUMULATOR_INPUT : NPU_MAX_INPUTS,
      reduces ? NPU_ACCUMULATOR_OUTPUT : NPU_MAX_OUTPUTS, reduces ? field_at(fields, 1) : 0);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto refuse = [&](const auto&... reason) {
      fail(Kind::kDispatches, index, kernel.name, " instruction ", i, ": ", reason...);
    };
    if (i == map_end) checker.begin_part();
    const Part part = !reduces ? Part::kWhole : i < map_end ? Part::kMap : Part::kEpilogue;
    checker.check(decode(&code[i * kInstructionBytes]), part, i + 1 == map_end, refuse);
  }
  const auto rest = code.subspan(count * kInstructionBytes);
  if (std::any_of(rest.begin(), rest.end(), [](std::byte b) { return b != std::byte{0}; })) {
    fail(Kind::kDispatches, index, kernel.name, ": the code behind instruction ", count,
         " is not 0");
  }
  if (checker.unstored() < NPU_MAX_OUTPUTS) {
    fail(Kind::kDispatches, index, kernel.name, ": output ", checker.unstored(),
         " is never stored");
  }
}

}  // namespace npu
