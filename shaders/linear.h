// What the linear kernel and its schedules share: norm of x, what follows the sums.
#ifndef NPU_LINEAR_H_
#define NPU_LINEAR_H_

#include "scalar_activation.h"

// 1 / sqrt(mean square + eps) of a row whose squares sum to `squares`.
NPU_FUNC npu_f32 npu_linear_row_scale(npu_f32 squares, CONSTANT_REF(LinearParams) p) {
  return 1.0f / npu_sqrt(squares / npu_f32(p.x_k) + p.eps);
}

// A normed element of x, rounded as the record says.
template <class T>
NPU_FUNC npu_f32 npu_linear_rounded(npu_f32 v) {
  return npu_widen(npu_narrow<T>(v));
}

// An element of x, normed.
template <class T>
NPU_FUNC npu_f32 npu_linear_normed(npu_f32 v, npu_f32 row_scale, DEVICE_PTR(const npu_f32) scale,
                                   CONSTANT_REF(LinearParams) p, npu_u32 k) {
  const npu_f32 normed = v * row_scale;
  return npu_linear_rounded<T>(p.scale_k != 0 ? normed * scale[k * npu_u64(p.scale_sk)] : normed);
}

// A sum times its weights' scale, plus bias.
NPU_FUNC npu_f32 npu_linear_scaled(npu_f32 sum, DEVICE_PTR(const npu_f32) w_scale,
                                   DEVICE_PTR(const npu_f32) bias, CONSTANT_REF(LinearParams) p,
                                   npu_u32 part, npu_u32 n) {
  if (p.w_scale_n != 0) {
    sum *= w_scale[part * npu_u64(p.w_scale_sp) + n * npu_u64(p.w_scale_sn)];
  }
  if (p.bias_n != 0) sum += bias[part * npu_u64(p.bias_sp) + n * npu_u64(p.bias_sn)];
  return sum;
}

// Stores y[m, n] of the last part's value and, where there are two parts, the first one's.
template <class T>
NPU_FUNC void npu_linear_store(npu_f32 value, npu_f32 gate, DEVICE_PTR(const T) residual,
                               DEVICE_PTR(T) y, CONSTANT_REF(LinearParams) p, npu_u32 m,
                               npu_u32 n) {
  if (p.w_p == 2) value *= npu_activate(p.activation, gate);
  if (p.residual_m != 0) {
    value += npu_widen(residual[m * npu_u64(p.residual_sm) + n * npu_u64(p.residual_sn)]);
  }
  if (p.w_p == 1) value = npu_activate(p.activation, value);
  y[m * npu_u64(p.y_sm) + n * npu_u64(p.y_sn)] =
      npu_narrow<T>(npu_clamp(value, p.clamp_lo, p.clamp_hi));
}

#endif  // NPU_LINEAR_H_
