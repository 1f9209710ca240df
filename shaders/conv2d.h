// What follows the sums of kernel conv2d and its schedules.
#ifndef NPU_CONV2D_H_
#define NPU_CONV2D_H_

#include "scalar_activation.h"

// Stores channel `channel` of pixel `pixel` (counted row by row) of an image.
template <class T>
NPU_FUNC void npu_conv2d_store(npu_f32 sum, DEVICE_PTR(const npu_f32) bias,
                               DEVICE_PTR(const T) residual, DEVICE_PTR(T) y,
                               CONSTANT_REF(Conv2dParams) p, npu_u32 image, npu_u32 pixel,
                               npu_u32 channel) {
  const npu_u32 out_y = pixel / p.y_w;
  const npu_u32 out_x = pixel % p.y_w;
  npu_f32 value = sum;
  if (p.bias_c != 0) value += bias[channel * npu_u64(p.bias_sc)];
  if (p.residual_n != 0) {
    value += npu_widen(residual[image * npu_u64(p.residual_sn) + channel * npu_u64(p.residual_sc) +
                                out_y * npu_u64(p.residual_sh) + out_x * npu_u64(p.residual_sw)]);
  }
  value = npu_activate(p.activation, value);
  y[image * npu_u64(p.y_sn) + channel * npu_u64(p.y_sc) + out_y * npu_u64(p.y_sh) +
    out_x * npu_u64(p.y_sw)] = npu_narrow<T>(npu_clamp(value, p.clamp_lo, p.clamp_hi));
}

#endif  // NPU_CONV2D_H_
