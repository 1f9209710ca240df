// Writes elementwise programs as kernels.
#include "runtime/elementwise_source.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "runtime/kernel_params.hpp"
#include "runtime/kernels.hpp"
#include "runtime/text.hpp"

namespace npu {
namespace {

constexpr std::uint32_t kWide = 4;

struct Instruction {
  std::uint32_t op, dst, a, b, c, low, high;
};

std::vector<Instruction> decode(std::span<const std::byte> fields) {
  std::uint32_t count = 0;
  std::memcpy(&count, fields.data(), sizeof count);
  std::vector<Instruction> code(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    std::uint32_t w[4];
    std::memcpy(w, &fields[sizeof count + i * sizeof w], sizeof w);
    code[i] = {w[0] & 0xFFu, w[0] >> 8 & 0xFFu, w[0] >> 16 & 0xFFu, w[0] >> 24, w[1], w[2], w[3]};
  }
  return code;
}

// How the elements of a dtype are held: their type in memory, and expressions that make a register
// of an element ("x") and the other way round, in two parts around it.
struct Format {
  char type;  // of registers
  std::string_view memory;
  std::string_view read[2];
  std::string_view write[2];
};

Format format_of(std::uint8_t dtype) {
  switch (dtype) {
    case NPU_DTYPE_F16:
      return {'f', "npu_f16", {"npu_widen(", ")"}, {"npu_narrow<npu_f16>(", ")"}};
    case NPU_DTYPE_BF16:
      return {'f', "npu_bf16", {"npu_widen(", ")"}, {"npu_narrow<npu_bf16>(", ")"}};
    case NPU_DTYPE_I64:
      return {'l', "npu_i64", {"", ""}, {"", ""}};
    case NPU_DTYPE_I32:
      return {'i', "npu_i32", {"", ""}, {"", ""}};
    case NPU_DTYPE_I16:
      return {'i', "npu_i16", {"npu_i32(", ")"}, {"npu_i16(", ")"}};
    case NPU_DTYPE_I8:
      return {'i', "npu_i8", {"npu_i32(", ")"}, {"npu_i8(", ")"}};
    case NPU_DTYPE_U8:
      return {'i', "npu_u8", {"npu_i32(", ")"}, {"npu_u8(", ")"}};
    case NPU_DTYPE_B8:
      return {'i', "npu_u8", {"npu_i32(", " != 0)"}, {"npu_u8(", " != 0)"}};
    default:
      return {'f', "npu_f32", {"", ""}, {"", ""}};
  }
}

std::string_view type_name(char type) {
  return type == 'f' ? "npu_f32" : type == 'l' ? "npu_i64" : "npu_i32";
}

std::string hex(std::uint32_t value) {
  std::string digits = "0x";
  for (int shift = 28; shift >= 0; shift -= 4) digits += "0123456789abcdef"[value >> shift & 15];
  return digits + "u";
}

bool is_input(std::size_t operand) { return operand < NPU_MAX_INPUTS; }

// Whether an operand has one element for all neighbours along d5.
bool is_uniform(const schema::Operand& operand) { return operand.strides[NPU_MAX_DIMS - 1] == 0; }

bool has_wide_elements(const schema::Operand& operand, bool reads) {
  if (reads && is_uniform(operand)) return true;
  if (operand.strides[NPU_MAX_DIMS - 1] != 1) return false;
  for (std::uint32_t axis = 0; axis + 1 < NPU_MAX_DIMS; ++axis) {
    if (operand.shape[axis] > 1 && operand.strides[axis] % kWide != 0) return false;
  }
  // As NpuFour of shaders/elementwise_program.h is aligned.
  const std::size_t size = schema::dtype_size(operand.dtype);
  return operand.offset % (size < 2 ? 4 : 8) == 0;
}

// Writes the statements of a body in three parts: what is loaded before the neighbours are gone
// through, what is done for each, and what is stored behind it. One element alone needs the second
// only, with loads and stores in their order.
class BodyWriter {
 public:
  BodyWriter(std::span<const schema::Operand> operands, std::uint32_t lanes)
      : operands_(operands), lanes_(lanes) {}

  void add(const Instruction& in) {
    const std::string result = text("r", count_++);
    switch (in.op) {
      case NPU_OP_LOAD:
        load(in, result);
        break;
      case NPU_OP_STORE:
        store(in, result);
        break;
      case NPU_OP_CONSTANT:
        registers_[in.dst] = {'*', hex(in.low)};
        break;
      case NPU_OP_CONSTANT_L:
        registers_[in.dst] = {
            'l', text("npu_i64(npu_u64(", hex(in.high), ") << 32 | ", hex(in.low), ")")};
        break;
      default: {
        const ScalarOpInfo& op = *find_scalar_op(in.op);
        const std::uint32_t from[] = {in.a, in.b, in.c};
        std::string arguments;
        for (std::size_t k = 0; k < op.args.size(); ++k) {
          arguments += text(k == 0 ? "" : ", ", read(from[k], op.args[k]));
        }
        define(each_, op.result, result, text("npu_op_", op.name, "(", arguments, ")"));
        registers_[in.dst] = {op.result, result};
      }
    }
  }

  std::string statements() const {
    if (lanes_ == 1) return each_;
    return text(before_, "  NPU_UNROLL\n  for (npu_u32 j = 0; j < ", lanes_, "; ++j) {\n", each_,
                "  }\n", after_);
  }

 private:
  struct Register {
    char type = 0;  // '*': 32 bits of a constant
    std::string value;
  };

  static void define(std::string& part, char type, std::string_view name, std::string_view value) {
    part += text("  const ", type_name(type), " ", name, " = ", value, ";\n");
  }

  std::string read(std::uint32_t number, char type) const {
    const Register& from = registers_[number];
    if (from.type != '*') return from.value;
    return text(type == 'f' ? "npu_as_f32(" : "npu_i32(", from.value, ")");
  }

  static std::string element(std::string_view type, std::string_view operand, bool wide) {
    return text("DEVICE_CAST(", type, ", ", operand, ")[NPU_OFFSET(", operand, ")",
                wide ? text(" / ", kWide) : "", "]");
  }

  void load(const Instruction& in, const std::string& result) {
    const schema::Operand& operand = operands_[in.a];
    const Format format = format_of(operand.dtype);
    const std::string name = text("in", in.a);
    const auto of = [&](std::string_view value) {
      return text(format.read[0], value, format.read[1]);
    };
    if (lanes_ == 1 || is_uniform(operand)) {
      define(lanes_ == 1 ? each_ : before_, format.type, result,
             of(element(text("const ", format.memory), name, false)));
    } else {
      const std::string four = text("NpuFour<", format.memory, ">");
      before_ += text("  const ", four, " ", result,
                      "_4 = ", element(text("const ", four), name, true), ";\n");
      define(each_, format.type, result, of(text(result, "_4.v[j]")));
    }
    registers_[in.dst] = {format.type, result};
  }

  void store(const Instruction& in, const std::string& result) {
    const Format format = format_of(operands_[NPU_MAX_INPUTS + in.dst].dtype);
    const std::string name = text("out", in.dst);
    const std::string value = text(format.write[0], read(in.a, format.type), format.write[1]);
    if (lanes_ == 1) {
      each_ += text("  ", element(format.memory, name, false), " = ", value, ";\n");
      return;
    }
    const std::string four = text("NpuFour<", format.memory, ">");
    before_ += text("  ", four, " ", result, "_4;\n");
    each_ += text("  ", result, "_4.v[j] = ", value, ";\n");
    after_ += text("  ", element(four, name, true), " = ", result, "_4;\n");
  }

  std::span<const schema::Operand> operands_;
  std::uint32_t lanes_;
  std::uint32_t count_ = 0;
  std::array<Register, NPU_MAX_REGISTERS> registers_;
  std::string before_, each_, after_;
};

}  // namespace

std::uint32_t elementwise_lanes(std::span<const schema::Operand> operands,
                                std::span<const std::byte> fields) {
  if (operands[NPU_MAX_INPUTS].shape[NPU_MAX_DIMS - 1] % kWide != 0) return 1;
  for (std::size_t k = 0; k < operands.size(); ++k) {
    if (operands[k].buffer != schema::kNone && !has_wide_elements(operands[k], is_input(k))) {
      return 1;
    }
  }
  // All loads come before all stores then, which an operand in place must not notice.
  bool stored = false;
  for (const Instruction& in : decode(fields)) {
    if (stored && in.op == NPU_OP_LOAD) return 1;
    stored = stored || in.op == NPU_OP_STORE;
  }
  return kWide;
}

std::string elementwise_source(std::string_view name, std::span<const schema::Operand> operands,
                               std::span<const std::byte> fields, std::uint32_t lanes) {
  std::string parameters;
  for (std::size_t k = 0; k < operands.size(); ++k) {
    parameters += is_input(k) ? "DEVICE_PTR(const npu_u8)" : "DEVICE_PTR(npu_u8)";
    if (operands[k].buffer != schema::kNone) {
      parameters += is_input(k) ? text(" in", k) : text(" out", k - NPU_MAX_INPUTS);
    }
    parameters += k % 3 == 2 ? ",\n    " : ", ";
  }
  BodyWriter body(operands, lanes);
  for (const Instruction& in : decode(fields)) body.add(in);
  return text("NPU_FUNC void npu_", name, "(\n    ", parameters,
              "CONSTANT_REF(ElementwiseParams) p, NpuThread self) {\n  NPU_PLACE(", lanes, ")\n",
              body.statements(), "}\n");
}

}  // namespace npu
