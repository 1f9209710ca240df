// Linear layers' sums to results.
#include "linear_epilogue.hpp"

#include "panel_product.hpp"

namespace npu::cpu {

Output LinearEpilogue::output(const LinearArgs& args, Range rows) const {
  return {dtype_,
          args.bias[0],
          args.residual,
          args.y,
          {rows.first * l_.y_m, rows.count, l_.y_m, 0, l_.y_n},
          {rows.first * l_.residual_m, rows.count, l_.residual_m, 0, l_.residual_n},
          args.lo,
          args.hi,
          args.activate};
}

void LinearEpilogue::finish(const LinearArgs& args, const LinearSums& sums, Range rows,
                            Range columns) const {
  const auto count = static_cast<int>(rows.count);
  const auto of_columns = [&](const float* vector) {
    return vector != nullptr ? vector + columns.first : nullptr;
  };
  Output out = output(args, rows);
  for (std::int64_t q = 0; q < s_.parts; ++q) {
    // The bias of the only part is added with the residual.
    const float* scale = of_columns(args.w_scale[q]);
    const float* bias = s_.parts == 2 ? of_columns(args.bias[q]) : nullptr;
    float* v = sums.part[static_cast<std::size_t>(q)];
    if (scale != nullptr || bias != nullptr) {
      t_.scale_tile(v, sums.ld, count, columns.count, scale, bias);
    }
  }
  if (s_.parts == 2) {
    if (args.activate != nullptr) args.activate(sums.part[0], sums.ld, count, columns.count);
    t_.multiply_tile(sums.part[0], sums.part[1], sums.ld, count, columns.count);
    out.bias = nullptr;
    out.activate = nullptr;
  }
  std::int64_t y_offsets[kMaxRows];
  std::int64_t residual_offsets[kMaxRows];
  out.y_map.offsets(rows.count, y_offsets);
  out.residual_map.offsets(rows.count, residual_offsets);
  store_sums(t_, sums.part[0], sums.ld, count, {y_offsets, residual_offsets}, columns.first,
             columns.count, out);
}

}  // namespace npu::cpu
