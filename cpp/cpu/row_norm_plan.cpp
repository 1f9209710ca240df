// The elements of a row_norm dispatch.
#include "cpu/row_norm_plan.hpp"

#include <cstdlib>
#include <utility>

namespace npu::cpu {
namespace {

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

bool is_integer(std::uint32_t dtype) { return dtype >= NPU_DTYPE_I64 && dtype <= NPU_DTYPE_B8; }

}  // namespace

RowNormPlan::RowNormPlan(const DispatchInfo& dispatch, const CpuContext& context)
    : pool(context.pool), tiles(context.tiles), rows(context.rows), space(dispatch, 2) {
  const auto& p = dispatch.params_as<RowNormParams>();
  eps = p.eps;
  rms = p.rms != 0;
  outer = {p.x_k, {p.x_sk, p.w_sk, p.bias_sk, p.residual_sk, p.y_sk, p.sum_sk}};
  inner = {p.x_l, {p.x_sl, p.w_sl, p.bias_sl, p.residual_sl, p.y_sl, p.sum_sl}};
  count = outer.extent * inner.extent;
  for (std::size_t k = 0; k < kOperands; ++k) {
    const schema::Operand& operand = dispatch.operands[k];
    present[k] = operand.buffer != schema::kNone;
    if (!present[k]) continue;
    if ((k == kW || k == kBias) && is_integer(operand.dtype)) {
      throw Error(ErrorCode::kInvalidProgram,
                  "dispatch '" + std::string(dispatch.name) +
                      "', kernel 'row_norm': weight and bias must be floating; compile the model "
                      "again");
    }
    size[k] = static_cast<std::int64_t>(schema::dtype_size(operand.dtype));
    load[k] = tiles.load[operand.dtype];
    is_float32[k] = operand.dtype == NPU_DTYPE_F32;
  }
  store = tiles.store[dispatch.operands[kX].dtype];
  store_y = rows.store_float[dispatch.operands[kY].dtype];
  order_elements();
}

// One element axis where all operands allow, else the one inside along which x is dense.
void RowNormPlan::order_elements() {
  const auto mergeable = [&](const Axis& a, const Axis& b) {
    for (std::size_t k = 0; k < kOperands; ++k) {
      if (present[k] && a.stride[k] != b.extent * b.stride[k]) return false;
    }
    return true;
  };
  if (inner.extent == 1 ||
      (outer.extent != 1 && std::abs(outer.stride[kX]) < std::abs(inner.stride[kX]))) {
    std::swap(outer, inner);
  }
  if (outer.extent != 1 && mergeable(outer, inner)) {
    inner.extent *= outer.extent;
    outer.extent = 1;
  }
}

void RowNormPlan::load_values(float* values, const std::byte* x, const std::byte* residual,
                              std::int64_t x_stride, std::int64_t residual_stride, std::int64_t n,
                              float* spare) const {
  load[kX](bits(values), x, x_stride, n);
  if (residual == nullptr) return;
  load[kResidual](bits(spare), residual, residual_stride, n);
  rows.add(values, spare, n);
  if (is_float32[kX]) return;
  store(reinterpret_cast<std::byte*>(spare), bits(values), 1, n);
  load[kX](bits(values), reinterpret_cast<const std::byte*>(spare), 1, n);
}

}  // namespace npu::cpu
