// Interpolation: one thread computes one value of the resized image.
#include "common.h"
#include "resize.h"

template <class T>
NPU_FUNC void npu_resize(DEVICE_PTR(const T) x, DEVICE_PTR(T) y, CONSTANT_REF(ResizeParams) p,
                         NpuThread self) {
  if (self.x >= p.y_c || self.y >= p.y_w || self.z / p.y_h >= p.y_n) return;
  const npu_u32 image = self.z / p.y_h;
  const npu_u32 row = self.z % p.y_h;
  const NpuTapSet rows = npu_resize_taps(p.mode, p.align_corners, p.scale_h, row, p.x_h);
  const NpuTapSet columns = npu_resize_taps(p.mode, p.align_corners, p.scale_w, self.y, p.x_w);
  const npu_u64 base = image * npu_u64(p.x_sn) + self.x * npu_u64(p.x_sc);
  const npu_u64 to = image * npu_u64(p.y_sn) + self.x * npu_u64(p.y_sc) + row * npu_u64(p.y_sh) +
                     self.y * npu_u64(p.y_sw);
  if (rows.count == 1) {
    y[to] = x[base + rows.at[0] * npu_u64(p.x_sh) + columns.at[0] * npu_u64(p.x_sw)];
    return;
  }
  npu_f32 sum = 0.0f;
  for (npu_u32 j = 0; j < columns.count; ++j) {
    npu_f32 column = 0.0f;
    for (npu_u32 i = 0; i < rows.count; ++i) {
      const npu_u64 at = base + rows.at[i] * npu_u64(p.x_sh) + columns.at[j] * npu_u64(p.x_sw);
      column += rows.weight[i] * npu_widen(x[at]);
    }
    sum += columns.weight[j] * column;
  }
  y[to] = npu_narrow<T>(sum);
}
