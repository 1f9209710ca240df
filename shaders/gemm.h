// What follows the sums of kernel gemm and its schedules.
#ifndef NPU_GEMM_H_
#define NPU_GEMM_H_

#include "scalar_activation.h"

// Stores y[batch, m, n].
template <class T>
NPU_FUNC void npu_gemm_store(npu_f32 sum, DEVICE_PTR(const npu_f32) bias,
                             DEVICE_PTR(const T) residual, DEVICE_PTR(T) y,
                             CONSTANT_REF(GemmParams) p, npu_u32 batch, npu_u32 m, npu_u32 n) {
  npu_f32 value = sum;
  if (p.bias_n != 0) value += bias[n * npu_u64(p.bias_sn)];
  if (p.residual_b != 0) {
    value += npu_widen(residual[batch * npu_u64(p.residual_sb) + m * npu_u64(p.residual_sm) +
                                n * npu_u64(p.residual_sn)]);
  }
  value = npu_activate(p.activation, value);
  y[batch * npu_u64(p.y_sb) + m * npu_u64(p.y_sm) + n * npu_u64(p.y_sn)] =
      npu_narrow<T>(npu_clamp(value, p.clamp_lo, p.clamp_hi));
}

#endif  // NPU_GEMM_H_
