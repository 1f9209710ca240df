// 2-D convolution as an implicit matrix product: rows are output pixels, columns output channels of
// one group, the common axis runs over kernel rows, kernel columns and input channels.
#include "common.h"
#include "conv2d.h"
#include "tile.h"

#if NPU_CONV2D_X_TILE_ELEMENTS < NPU_TILE_DEPTH * NPU_TILE_PITCH || \
    NPU_CONV2D_W_TILE_ELEMENTS < NPU_TILE_DEPTH * NPU_TILE_PITCH
#error "conv2d: the record's threadgroup arrays are smaller than a tile"
#endif

// Coordinates are unsigned and wrap: what lies above or left of the image becomes large, and one
// comparison with the image's size finds every pixel outside it. Offsets wrap too and are used for
// pixels inside only.
template <class T>
NPU_FUNC void npu_conv2d(DEVICE_PTR(const T) x, DEVICE_PTR(const T) w,
                         DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                         DEVICE_PTR(T) y, CONSTANT_REF(Conv2dParams) p,
                         THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,
                         NpuThread self) {
  const npu_u32 image = self.group_z / p.groups;
  const npu_u32 group = self.group_z % p.groups;
  const npu_u32 group_channels = p.w_oc / p.groups;
  const npu_u32 first_channel = self.group_x * NPU_TILE;
  const npu_u32 first_pixel = self.group_y * NPU_TILE;
  const npu_u32 pixels = p.y_h * p.y_w;

  // What this thread loads: position `depth` of the common axis, of every fourth pixel and channel.
  const npu_u32 depth = self.index % NPU_TILE_DEPTH;
  const npu_u32 load_row = self.index / NPU_TILE_DEPTH;
  npu_u32 top[NPU_TILE_LOADS];
  npu_u32 left[NPU_TILE_LOADS];
  for (npu_u32 j = 0; j < NPU_TILE_LOADS; ++j) {
    const npu_u32 pixel = first_pixel + load_row + j * NPU_TILE_STEP;
    top[j] = pixel / p.y_w * p.stride_h - p.pad_top;
    left[j] = pixel % p.y_w * p.stride_w - p.pad_left;
  }
  const npu_u64 x_base = image * npu_u64(p.x_sn) + npu_u64(group * p.w_ic) * npu_u64(p.x_sc);
  const npu_u64 w_base =
      npu_u64(group * group_channels + first_channel + load_row) * npu_u64(p.w_soc);

  NpuBlock block;
  npu_block_clear(block);
  const npu_u32 common = p.w_kh * p.w_kw * p.w_ic;
  const npu_u32 tiles = common / NPU_TILE_DEPTH + (common % NPU_TILE_DEPTH != 0 ? 1 : 0);
  // The common axis position of `depth` as kernel row, kernel column and channel.
  npu_u32 channel = depth;
  npu_u32 tap_x = 0;
  npu_u32 tap_y = 0;
  for (npu_u32 tile = 0; tile < tiles; ++tile) {
    if (channel >= p.w_ic) {
      tap_x += channel / p.w_ic;
      channel %= p.w_ic;
      tap_y += tap_x / p.w_kw;
      tap_x %= p.w_kw;
    }
    const bool inside = tile * NPU_TILE_DEPTH + depth < common;
    const npu_u32 down = tap_y * p.dilation_h;
    const npu_u32 across = tap_x * p.dilation_w;
    const npu_u64 x_channel = x_base + channel * npu_u64(p.x_sc);
    const npu_u64 w_tap =
        w_base + tap_y * npu_u64(p.w_skh) + tap_x * npu_u64(p.w_skw) + channel * npu_u64(p.w_sic);
    for (npu_u32 j = 0; j < NPU_TILE_LOADS; ++j) {
      const npu_u32 row = load_row + j * NPU_TILE_STEP;
      const npu_u32 at = depth * NPU_TILE_PITCH + row;
      const npu_u32 in_y = top[j] + down;
      const npu_u32 in_x = left[j] + across;
      npu_f32 value = 0.0f;
      if (inside && first_pixel + row < pixels && in_y < p.x_h && in_x < p.x_w) {
        value = npu_widen(x[x_channel + in_y * npu_u64(p.x_sh) + in_x * npu_u64(p.x_sw)]);
      }
      x_tile[at] = value;
      npu_f32 weight = 0.0f;
      if (inside && first_channel + row < group_channels) {
        weight = npu_widen(w[w_tap + npu_u64(j * NPU_TILE_STEP) * npu_u64(p.w_soc)]);
      }
      w_tile[at] = weight;
    }
    npu_barrier();
    npu_block_multiply(block, x_tile, w_tile, self.index);
    npu_barrier();
    channel += NPU_TILE_DEPTH;
  }

  for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
    const npu_u32 pixel = first_pixel + npu_block_row(self.index) + i;
    for (npu_u32 j = 0; j < NPU_TILE_BLOCK; ++j) {
      const npu_u32 in_group = first_channel + npu_block_column(self.index) + j;
      if (pixel >= pixels || in_group >= group_channels) continue;
      npu_conv2d_store<T>(block.v[i][j], bias, residual, y, p, image, pixel,
                          group * group_channels + in_group);
    }
  }
}
