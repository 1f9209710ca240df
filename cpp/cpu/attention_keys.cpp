// Ranges of keys from positions, causality and windows.
#include "cpu/attention_keys.hpp"

#include "runtime/error.hpp"
#include "runtime/text.hpp"

namespace npu::cpu {

VisibleKeys::VisibleKeys(const DispatchInfo& dispatch, const AttentionParams& p,
                         std::size_t operand)
    : p_(p), wide_(p.positions_dtype == NPU_DTYPE_I64) {
  if (by_position() && !wide_ && p.positions_dtype != NPU_DTYPE_I32) {
    throw Error(ErrorCode::kInvalidProgram,
                text("dispatch ", dispatch.index, " (", dispatch.name, "): operand ",
                     dispatch.kernel.operands[operand].name, " of kernel ", dispatch.kernel.name,
                     " has dtype id ", p.positions_dtype,
                     ", positions are int64 or int32; compile the model again"));
  }
}

KeyRange VisibleKeys::of(const std::byte* positions, std::int64_t b, std::int64_t m) const {
  KeyRange keys{0, p_.k_n};
  std::int64_t position = m;
  if (by_position()) {
    const std::int64_t at = b * p_.positions_sb + m * p_.positions_sm;
    position = wide_ ? reinterpret_cast<const std::int64_t*>(positions)[at]
                     : reinterpret_cast<const std::int32_t*>(positions)[at];
  }
  if ((by_position() || p_.causal != 0) && position < keys.end) {
    keys.end = std::max<std::int64_t>(position, -1) + 1;
  }
  if (p_.causal != 0) keys.end = std::min(keys.end, m + 1);
  if (p_.window != 0 && position >= std::int64_t{p_.window}) {
    keys.first = position - std::int64_t{p_.window} + 1;
  }
  return keys;
}

std::int64_t VisibleKeys::end(const std::byte* positions) const {
  if (!by_position() && p_.causal == 0) return p_.k_n;
  std::int64_t end = 0;
  const std::int64_t batches = by_position() ? p_.y_b : 1;
  for (std::int64_t b = 0; b < batches; ++b) {
    for (std::int64_t m = 0; m < p_.q_m; ++m) {
      const KeyRange keys = of(positions, b, m);
      if (!keys.empty()) end = std::max(end, keys.end);
    }
  }
  return end;
}

}  // namespace npu::cpu
