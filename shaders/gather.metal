// Elements picked by indices: one thread copies one element, bit by bit.
#include "common.h"
#include "index.h"
#include "typed.h"

// y[y_at] = picked ? x[x_at] : 0, as elements of type T.
#define NPU_GATHER_CASE(bytes, T)                                            \
  case bytes:                                                                \
    DEVICE_CAST(T, y)[y_at] = picked ? DEVICE_CAST(const T, x)[x_at] : T(0); \
    break;

NPU_FUNC void npu_gather(DEVICE_PTR(const npu_u8) x, DEVICE_PTR(const npu_u8) idx,
                         DEVICE_PTR(npu_u8) y, CONSTANT_REF(GatherParams) p, NpuThread self) {
  npu_u32 rest = self.x;
  const npu_u32 c = rest % p.y_c;
  rest /= p.y_c;
  const npu_u32 r = rest % p.y_r;
  rest /= p.y_r;
  const npu_u32 b = rest % p.y_b;
  const npu_u32 a = rest / p.y_b;
  // Element sizes that differ would reach beyond what the views were checked for.
  if (a >= p.y_a || p.x_dtype != p.y_dtype) return;

  const npu_u64 at =
      a * npu_u64(p.idx_sa) + b * npu_u64(p.idx_sb) + r * npu_u64(p.idx_sr) + c * npu_u64(p.idx_sc);
  const npu_u32 k = npu_index(idx, p.idx_dtype, at, p.x_k, p.wrap);
  const bool picked = k < p.x_k;
  const npu_u64 x_at =
      a * npu_u64(p.x_sa) + b * npu_u64(p.x_sb) + k * npu_u64(p.x_sk) + c * npu_u64(p.x_sc);
  const npu_u64 y_at =
      a * npu_u64(p.y_sa) + b * npu_u64(p.y_sb) + r * npu_u64(p.y_sr) + c * npu_u64(p.y_sc);
  switch (npu_element_bytes(p.y_dtype)) {
    NPU_GATHER_CASE(8, npu_i64)
    NPU_GATHER_CASE(4, npu_i32)
    NPU_GATHER_CASE(2, npu_i16)
    NPU_GATHER_CASE(1, npu_u8)
    default:
      break;
  }
}
