// Elements replaced or updated in place: one thread does all updates of one column, in order.
#include "common.h"
#include "index.h"
#include "typed.h"

NPU_FUNC npu_f32 npu_update_float(npu_u32 op, npu_f32 old, npu_f32 value) {
  switch (op) {
    case NPU_SCATTER_ADD:
      return old + value;
    case NPU_SCATTER_MUL:
      return old * value;
    case NPU_SCATTER_AMAX:
      return npu_max(old, value);
    case NPU_SCATTER_AMIN:
      return npu_min(old, value);
    default:
      return value;
  }
}

// Sums and products wrap.
NPU_FUNC npu_i64 npu_update_integer(npu_u32 op, npu_i64 old, npu_i64 value) {
  switch (op) {
    case NPU_SCATTER_ADD:
      return npu_i64(npu_u64(old) + npu_u64(value));
    case NPU_SCATTER_MUL:
      return npu_i64(npu_u64(old) * npu_u64(value));
    case NPU_SCATTER_AMAX:
      return old > value ? old : value;
    case NPU_SCATTER_AMIN:
      return old < value ? old : value;
    default:
      return value;
  }
}

NPU_FUNC void npu_scatter(DEVICE_PTR(const npu_u8) idx, DEVICE_PTR(const npu_u8) src,
                          DEVICE_PTR(npu_u8) y, CONSTANT_REF(ScatterParams) p, NpuThread self) {
  npu_u32 rest = self.x;
  const npu_u32 c = rest % p.y_c;
  rest /= p.y_c;
  const npu_u32 b = rest % p.y_b;
  const npu_u32 a = rest / p.y_b;
  if (a >= p.y_a || npu_is_floating(p.src_dtype) != npu_is_floating(p.y_dtype)) return;

  const npu_u64 idx_row = a * npu_u64(p.idx_sa) + b * npu_u64(p.idx_sb) + c * npu_u64(p.idx_sc);
  const npu_u64 src_row = a * npu_u64(p.src_sa) + b * npu_u64(p.src_sb) + c * npu_u64(p.src_sc);
  const npu_u64 y_row = a * npu_u64(p.y_sa) + b * npu_u64(p.y_sb) + c * npu_u64(p.y_sc);
  const bool reads = p.op != NPU_SCATTER_SET;
  for (npu_u32 r = 0; r < p.idx_r; ++r) {
    const npu_u32 k = npu_index(idx, p.idx_dtype, idx_row + r * npu_u64(p.idx_sr), p.y_k, p.wrap);
    if (k >= p.y_k) continue;
    const npu_u64 from = src_row + r * npu_u64(p.src_sr);
    const npu_u64 to = y_row + k * npu_u64(p.y_sk);
    if (npu_is_floating(p.y_dtype)) {
      const npu_f32 value = npu_load_f32(src, p.src_dtype, from);
      const npu_f32 old = reads ? npu_load_f32(DEVICE_CAST(const npu_u8, y), p.y_dtype, to) : 0.0f;
      npu_store_f32(y, p.y_dtype, to, npu_update_float(p.op, old, value));
    } else {
      const npu_i64 value = npu_load_i64(src, p.src_dtype, from);
      const npu_i64 old = reads ? npu_load_i64(DEVICE_CAST(const npu_u8, y), p.y_dtype, to) : 0;
      npu_store_i64(y, p.y_dtype, to, npu_update_integer(p.op, old, value));
    }
  }
}
