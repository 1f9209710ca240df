// Softmax, log-softmax and masked softmax: one threadgroup per row, shifted by the row's maximum.
#include "common.h"
#include "group_reduce.h"
#include "typed.h"

template <class T>
NPU_FUNC void npu_softmax(DEVICE_PTR(const T) x, DEVICE_PTR(T) y, CONSTANT_REF(SoftmaxParams) p,
                          THREADGROUP_PTR(npu_f32) partial, NpuThread self) {
  const npu_u32 threads = NPU_SOFTMAX_THREADGROUP_X;
  const npu_u64 x_row = self.group_z * npu_u64(p.x_sa) + self.group_y * npu_u64(p.x_sb) +
                        self.group_x * npu_u64(p.x_sc);
  const npu_u64 y_row = self.group_z * npu_u64(p.y_sa) + self.group_y * npu_u64(p.y_sb) +
                        self.group_x * npu_u64(p.y_sc);

  npu_f32 value = npu_identity(NPU_REDUCE_MAX);
  for (npu_u64 k = self.index; k < p.x_k; k += threads) {
    value = npu_max(value, npu_widen(x[x_row + k * npu_u64(p.x_sk)]));
  }
  const npu_f32 largest =
      npu_group_reduce(NPU_REDUCE_MAX, value, partial, threads / NPU_SIMD_WIDTH, self);

  value = 0.0f;
  for (npu_u64 k = self.index; k < p.x_k; k += threads) {
    value += npu_exp(npu_widen(x[x_row + k * npu_u64(p.x_sk)]) - largest);
  }
  const npu_f32 sum =
      npu_group_reduce(NPU_REDUCE_SUM, value, partial, threads / NPU_SIMD_WIDTH, self);

  // x may be y: a thread writes only what it alone reads.
  const npu_f32 log_sum = npu_log(sum);
  for (npu_u64 k = self.index; k < p.x_k; k += threads) {
    const npu_f32 shifted = npu_widen(x[x_row + k * npu_u64(p.x_sk)]) - largest;
    y[y_row + k * npu_u64(p.y_sk)] =
        npu_narrow<T>(p.log != 0 ? shifted - log_sum : npu_exp(shifted) / sum);
  }
}

// x * scale + mask; a bool mask that is false hides the value whatever it is.
template <class T>
NPU_FUNC npu_f32 npu_masked_value(DEVICE_PTR(const T) x, DEVICE_PTR(const npu_u8) mask,
                                  CONSTANT_REF(MaskedSoftmaxParams) p, npu_u64 x_at,
                                  npu_u64 mask_at) {
  const npu_f32 v = npu_widen(x[x_at]) * p.scale;
  if (p.mask_a == 0) return v;
  if (p.mask_dtype == NPU_DTYPE_B8) return mask[mask_at] != 0 ? v : -NPU_INFINITY;
  return v + npu_load_f32(mask, p.mask_dtype, mask_at);
}

template <class T>
NPU_FUNC void npu_masked_softmax(DEVICE_PTR(const T) x, DEVICE_PTR(const npu_u8) mask,
                                 DEVICE_PTR(T) y, CONSTANT_REF(MaskedSoftmaxParams) p,
                                 THREADGROUP_PTR(npu_f32) partial, NpuThread self) {
  const npu_u32 threads = NPU_MASKED_SOFTMAX_THREADGROUP_X;
  const npu_u64 x_row = self.group_z * npu_u64(p.x_sa) + self.group_y * npu_u64(p.x_sb) +
                        self.group_x * npu_u64(p.x_sc);
  const npu_u64 mask_row = self.group_z * npu_u64(p.mask_sa) + self.group_y * npu_u64(p.mask_sb) +
                           self.group_x * npu_u64(p.mask_sc);
  const npu_u64 y_row = self.group_z * npu_u64(p.y_sa) + self.group_y * npu_u64(p.y_sb) +
                        self.group_x * npu_u64(p.y_sc);
#define NPU_MASKED(k)                                            \
  npu_masked_value<T>(x, mask, p, x_row + (k) * npu_u64(p.x_sk), \
                      mask_row + (k) * npu_u64(p.mask_sk))
  npu_f32 value = npu_identity(NPU_REDUCE_MAX);
  for (npu_u64 k = self.index; k < p.x_k; k += threads) value = npu_max(value, NPU_MASKED(k));
  const npu_f32 largest =
      npu_group_reduce(NPU_REDUCE_MAX, value, partial, threads / NPU_SIMD_WIDTH, self);

  value = 0.0f;
  for (npu_u64 k = self.index; k < p.x_k; k += threads) value += npu_exp(NPU_MASKED(k) - largest);
  const npu_f32 sum =
      npu_group_reduce(NPU_REDUCE_SUM, value, partial, threads / NPU_SIMD_WIDTH, self);

  // x may be y: a thread writes only what it alone reads.
  const bool empty = p.safe != 0 && largest == -NPU_INFINITY;
  for (npu_u64 k = self.index; k < p.x_k; k += threads) {
    const npu_f32 weight = empty ? 0.0f : npu_exp(NPU_MASKED(k) - largest) / sum;
    y[y_row + k * npu_u64(p.y_sk)] = npu_narrow<T>(weight);
  }
}
