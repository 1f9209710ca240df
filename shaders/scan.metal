// Running sums, products and extremes: one threadgroup per row, each of its threads with a stretch
// of the row. The stretches' totals are combined in turn, then each thread runs through its own
// again.
#include "common.h"
#include "typed.h"

NPU_FUNC npu_f32 npu_log_add_exp(npu_f32 a, npu_f32 b) {
  const npu_f32 larger = npu_max(a, b);
  const npu_f32 smaller = npu_min(a, b);
  // Infinities are exact, and their difference would be NaN.
  if (npu_fabs(larger) == NPU_INFINITY) return larger;
  return larger + npu_log(1.0f + npu_exp(smaller - larger));
}

NPU_FUNC npu_f32 npu_scan_combine(npu_u32 op, npu_f32 a, npu_f32 b) {
  if (op == NPU_SCAN_SUM) return a + b;
  return op == NPU_SCAN_PROD ? a * b : npu_log_add_exp(a, b);
}

NPU_FUNC npu_i64 npu_scan_combine(npu_u32 op, npu_i64 a, npu_i64 b) {
  return op == NPU_SCAN_SUM ? npu_i64(npu_u64(a) + npu_u64(b)) : npu_i64(npu_u64(a) * npu_u64(b));
}

NPU_FUNC npu_f32 npu_scan_identity(npu_u32 op) {
  if (op == NPU_SCAN_LOGSUMEXP) return -NPU_INFINITY;
  return op == NPU_SCAN_PROD ? 1.0f : 0.0f;
}

NPU_FUNC void npu_scan(DEVICE_PTR(const npu_u8) x, DEVICE_PTR(npu_u8) y, DEVICE_PTR(npu_i64) index,
                       CONSTANT_REF(ScanParams) p, THREADGROUP_PTR(npu_i64) totals,
                       THREADGROUP_PTR(npu_i64) places, NpuThread self) {
  const npu_u32 threads = NPU_SCAN_THREADGROUP_X;
  const npu_u64 x_row = self.group_z * npu_u64(p.x_sa) + self.group_y * npu_u64(p.x_sb) +
                        self.group_x * npu_u64(p.x_sc);
  const npu_u64 y_row = self.group_z * npu_u64(p.y_sa) + self.group_y * npu_u64(p.y_sb) +
                        self.group_x * npu_u64(p.y_sc);
  const npu_u64 index_row = self.group_z * npu_u64(p.index_sa) +
                            self.group_y * npu_u64(p.index_sb) + self.group_x * npu_u64(p.index_sc);
  const npu_u64 stretch = (npu_u64(p.x_k) + threads - 1) / threads;
  const npu_u64 first = self.index * stretch;
  const npu_u64 end = first + stretch < p.x_k ? first + stretch : p.x_k;

  if (p.op == NPU_SCAN_MAX || p.op == NPU_SCAN_MIN) {
    const bool least = p.op == NPU_SCAN_MIN;
    npu_i64 best = 0;
    npu_i64 place = -1;  // none yet
    for (npu_u64 k = first; k < end; ++k) {
      const npu_i64 key = npu_extreme_key(x, p.x_dtype, x_row + k * npu_u64(p.x_sk), least);
      if (place < 0 || key >= best) {
        best = key;
        place = npu_i64(k);
      }
    }
    totals[self.index] = best;
    places[self.index] = place;
    npu_barrier();
    best = 0;
    place = -1;
    for (npu_u32 t = 0; t < self.index; ++t) {
      if (places[t] >= 0 && (place < 0 || totals[t] >= best)) {
        best = totals[t];
        place = places[t];
      }
    }
    // Where y is x, what stands at `place` is still the same: it is its own extreme.
    for (npu_u64 k = first; k < end; ++k) {
      const npu_i64 key = npu_extreme_key(x, p.x_dtype, x_row + k * npu_u64(p.x_sk), least);
      if (place < 0 || key >= best) {
        best = key;
        place = npu_i64(k);
      }
      npu_copy_element(x, p.x_dtype, x_row + npu_u64(place) * npu_u64(p.x_sk), y, p.y_dtype,
                       y_row + k * npu_u64(p.y_sk));
      if (p.index_a != 0) index[index_row + k * npu_u64(p.index_sk)] = place;
    }
    return;
  }

  if (npu_is_floating(p.x_dtype) || p.op == NPU_SCAN_LOGSUMEXP) {
    npu_f32 total = npu_scan_identity(p.op);
    for (npu_u64 k = first; k < end; ++k) {
      const npu_f32 v = npu_load_f32(x, p.x_dtype, x_row + k * npu_u64(p.x_sk));
      total = npu_scan_combine(p.op, total, v);
    }
    totals[self.index] = npu_i64(npu_as_u32(total));
    npu_barrier();
    total = npu_scan_identity(p.op);
    for (npu_u32 t = 0; t < self.index; ++t) {
      total = npu_scan_combine(p.op, total, npu_as_f32(npu_u32(totals[t])));
    }
    for (npu_u64 k = first; k < end; ++k) {
      const npu_f32 v = npu_load_f32(x, p.x_dtype, x_row + k * npu_u64(p.x_sk));
      total = npu_scan_combine(p.op, total, v);
      npu_store_f32(y, p.y_dtype, y_row + k * npu_u64(p.y_sk), total);
    }
    return;
  }

  npu_i64 total = p.op == NPU_SCAN_PROD ? 1 : 0;
  for (npu_u64 k = first; k < end; ++k) {
    const npu_i64 v = npu_load_i64(x, p.x_dtype, x_row + k * npu_u64(p.x_sk));
    total = npu_scan_combine(p.op, total, v);
  }
  totals[self.index] = total;
  npu_barrier();
  total = p.op == NPU_SCAN_PROD ? 1 : 0;
  for (npu_u32 t = 0; t < self.index; ++t) total = npu_scan_combine(p.op, total, totals[t]);
  for (npu_u64 k = first; k < end; ++k) {
    const npu_i64 v = npu_load_i64(x, p.x_dtype, x_row + k * npu_u64(p.x_sk));
    total = npu_scan_combine(p.op, total, v);
    npu_store_i64(y, p.y_dtype, y_row + k * npu_u64(p.y_sk), total);
  }
}
