// Index operands: their dtype, and the error for an index out of range.
#include "cpu/index_operand.hpp"

#include "runtime/index_fault.hpp"
#include "runtime/text.hpp"

namespace npu::cpu {

IndexOperand::IndexOperand(const DispatchInfo& dispatch, std::size_t operand, std::uint32_t limit,
                           bool wrap)
    : places_{limit, wrap ? std::int64_t{limit} : 0},
      wide_(dispatch.operands[operand].dtype == NPU_DTYPE_I64),
      where_(text("dispatch ", dispatch.index, " (", dispatch.name, "), kernel ",
                  dispatch.kernel.name)) {
  if (!wide_ && dispatch.operands[operand].dtype != NPU_DTYPE_I32) {
    throw Error(ErrorCode::kInvalidProgram,
                text(where_, ": operand ", dispatch.kernel.operands[operand].name,
                     " holds indices, which are int64 or int32; compile the model again"));
  }
}

void IndexOperand::fail(std::int64_t index) const {
  throw Error(
      ErrorCode::kInvalidArgument,
      text(where_, ": ", index_fault_message(index, static_cast<std::uint32_t>(places_.limit))));
}

}  // namespace npu::cpu
