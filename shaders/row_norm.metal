// Layer, group, instance and RMS norm: one threadgroup per row.
#include "common.h"
#include "group_reduce.h"
#include "typed.h"

// The value to normalise: x, plus the residual, as it would be stored.
template <class T>
NPU_FUNC npu_f32 npu_row_value(DEVICE_PTR(const T) x, DEVICE_PTR(const T) residual,
                               CONSTANT_REF(RowNormParams) p, npu_u64 x_at, npu_u64 residual_at) {
  const npu_f32 v = npu_widen(x[x_at]);
  if (p.residual_a == 0) return v;
  return npu_widen(npu_narrow<T>(v + npu_widen(residual[residual_at])));
}

template <class T>
NPU_FUNC void npu_row_norm(DEVICE_PTR(const T) x, DEVICE_PTR(const npu_u8) w,
                           DEVICE_PTR(const npu_u8) bias, DEVICE_PTR(const T) residual,
                           DEVICE_PTR(npu_u8) y, DEVICE_PTR(T) sum, CONSTANT_REF(RowNormParams) p,
                           THREADGROUP_PTR(npu_f32) partial, NpuThread self) {
  const npu_u32 threads = NPU_ROW_NORM_THREADGROUP_X;
  const npu_u64 a = self.group_x / p.x_b;
  const npu_u64 b = self.group_x % p.x_b;
  const npu_u64 count = npu_u64(p.x_k) * p.x_l;
#define NPU_ROW_OFFSET(o, k, l)                                              \
  (a * npu_u64(p.o##_sa) + b * npu_u64(p.o##_sb) + (k) * npu_u64(p.o##_sk) + \
   (l) * npu_u64(p.o##_sl))
  npu_f32 mean = 0.0f;
  if (p.rms == 0) {
    npu_f32 total = 0.0f;
    for (npu_u64 i = self.index; i < count; i += threads) {
      const npu_u64 k = i / p.x_l;
      const npu_u64 l = i % p.x_l;
      total +=
          npu_row_value<T>(x, residual, p, NPU_ROW_OFFSET(x, k, l), NPU_ROW_OFFSET(residual, k, l));
    }
    mean = npu_group_reduce(NPU_REDUCE_SUM, total, partial, threads / NPU_SIMD_WIDTH, self) /
           npu_f32(count);
  }
  npu_f32 squares = 0.0f;
  for (npu_u64 i = self.index; i < count; i += threads) {
    const npu_u64 k = i / p.x_l;
    const npu_u64 l = i % p.x_l;
    const npu_f32 v =
        npu_row_value<T>(x, residual, p, NPU_ROW_OFFSET(x, k, l), NPU_ROW_OFFSET(residual, k, l)) -
        mean;
    squares += v * v;
  }
  const npu_f32 variance =
      npu_group_reduce(NPU_REDUCE_SUM, squares, partial, threads / NPU_SIMD_WIDTH, self) /
      npu_f32(count);
  const npu_f32 scale = 1.0f / npu_sqrt(variance + p.eps);

  // y and sum may be x or residual: a thread writes only what it alone has read.
  for (npu_u64 i = self.index; i < count; i += threads) {
    const npu_u64 k = i / p.x_l;
    const npu_u64 l = i % p.x_l;
    const npu_f32 h =
        npu_row_value<T>(x, residual, p, NPU_ROW_OFFSET(x, k, l), NPU_ROW_OFFSET(residual, k, l));
    npu_f32 v = (h - mean) * scale;
    if (p.w_a != 0) v *= npu_load_f32(w, p.w_dtype, NPU_ROW_OFFSET(w, k, l));
    if (p.bias_a != 0) v += npu_load_f32(bias, p.bias_dtype, NPU_ROW_OFFSET(bias, k, l));
    if (p.sum_a != 0) sum[NPU_ROW_OFFSET(sum, k, l)] = npu_narrow<T>(h);
    npu_store_f32(y, p.y_dtype, NPU_ROW_OFFSET(y, k, l), v);
  }
}
