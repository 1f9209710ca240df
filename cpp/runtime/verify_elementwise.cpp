// Verification of elementwise register programs.
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

}  // namespace

void Verifier::check_elementwise(std::uint32_t index, const KernelInfo& kernel) {
  const schema::Dispatch& d = program_.dispatches()[index];
  const auto operands = program_.operands_of(d);
  const auto fields = program_.fields_of(d);
  constexpr std::size_t kInstructionBytes = 16;
  std::uint32_t count = 0;
  std::memcpy(&count, fields.data(), sizeof count);  // num_instructions; the rules limit it
  const std::span<const std::byte> code = fields.subspan(sizeof count);

  std::array<char, NPU_MAX_REGISTERS> registers{};
  std::array<bool, NPU_MAX_OUTPUTS> stored{};
  for (std::uint32_t i = 0; i < count; ++i) {
    const Instruction in = decode(&code[i * kInstructionBytes]);
    const auto refuse = [&](const auto&... reason) {
      fail(Kind::kDispatches, index, kernel.name, " instruction ", i, ": ", reason...);
    };
    const auto read = [&](std::uint32_t r, char type) {
      if (r >= NPU_MAX_REGISTERS) refuse("register ", r, ", there are ", NPU_MAX_REGISTERS);
      if (registers[r] == kUnset) refuse("register ", r, " is read before it is written");
      if (registers[r] != type && (registers[r] != kAny || type == 'l')) {
        const std::string_view found =
            registers[r] == kAny ? "a 32-bit constant" : std::string_view(&registers[r], 1);
        refuse("register ", r, " holds ", found, ", ", type, " is read");
      }
    };
    const auto write = [&](char type) {
      if (in.dst >= NPU_MAX_REGISTERS)
        refuse("register ", in.dst, ", there are ", NPU_MAX_REGISTERS);
      registers[in.dst] = type;
    };
    const auto operand = [&](std::uint32_t k, std::uint32_t first,
                             std::uint32_t limit) -> const schema::Operand& {
      if (k >= limit || operands[first + k].buffer == schema::kNone) {
        refuse(first == 0 ? "input " : "output ", k, " is absent");
      }
      return operands[first + k];
    };
    std::uint32_t used = 0;  // of a, b, c
    switch (in.op) {
      case NPU_OP_LOAD:
        write(register_type(operand(in.a, 0, NPU_MAX_INPUTS).dtype));
        used = 1;
        break;
      case NPU_OP_STORE:
        read(in.a, register_type(operand(in.dst, NPU_MAX_INPUTS, NPU_MAX_OUTPUTS).dtype));
        stored[in.dst] = true;
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
  const auto rest = code.subspan(count * kInstructionBytes);
  if (std::any_of(rest.begin(), rest.end(), [](std::byte b) { return b != std::byte{0}; })) {
    fail(Kind::kDispatches, index, kernel.name, ": the code behind instruction ", count,
         " is not 0");
  }
  for (std::uint32_t k = 0; k < NPU_MAX_OUTPUTS; ++k) {
    if (operands[NPU_MAX_INPUTS + k].buffer != schema::kNone && !stored[k]) {
      fail(Kind::kDispatches, index, kernel.name, ": output ", k, " is never stored");
    }
  }
}

}  // namespace npu
