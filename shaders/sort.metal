// Sorted rows, or their first values: one thread per value counts how many come before it.
#include "common.h"
#include "typed.h"

NPU_FUNC void npu_sort(DEVICE_PTR(const npu_u8) x, DEVICE_PTR(npu_u8) y, DEVICE_PTR(npu_i64) index,
                       CONSTANT_REF(SortParams) p, NpuThread self) {
  npu_u32 rest = self.x;
  const npu_u32 n = rest % p.x_n;
  rest /= p.x_n;
  const npu_u64 c = rest % p.x_c;
  rest /= p.x_c;
  const npu_u64 b = rest % p.x_b;
  const npu_u64 a = rest / p.x_b;
  if (a >= p.x_a) return;
  const npu_u64 row = a * npu_u64(p.x_sa) + b * npu_u64(p.x_sb) + c * npu_u64(p.x_sc);
  const npu_i64 key = npu_order_key(x, p.x_dtype, row + n * npu_u64(p.x_sn));
  npu_u32 rank = 0;
  for (npu_u32 i = 0; i < p.x_n && rank < p.y_k; ++i) {
    const npu_i64 other = npu_order_key(x, p.x_dtype, row + i * npu_u64(p.x_sn));
    const bool before = p.descending != 0 ? other > key : other < key;
    rank += before || (other == key && i < n) ? 1 : 0;
  }
  if (rank >= p.y_k) return;
  npu_copy_element(
      x, p.x_dtype, row + n * npu_u64(p.x_sn), y, p.y_dtype,
      a * npu_u64(p.y_sa) + b * npu_u64(p.y_sb) + c * npu_u64(p.y_sc) + rank * npu_u64(p.y_sk));
  index[a * npu_u64(p.index_sa) + b * npu_u64(p.index_sb) + c * npu_u64(p.index_sc) +
        rank * npu_u64(p.index_sk)] = npu_i64(n);
}
