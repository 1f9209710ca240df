// 2-D convolution as an implicit matrix product by tiles of 64 or 128 output pixels and channels,
// schedules of kernel conv2d for channels that lie side by side: 16 bytes of them are read at once.
// The common axis runs over kernel rows, kernel columns and input channels, as the weights lie.
#include "common.h"
#include "conv2d.h"
#include "panel.h"

// A piece of the common axis as kernel row, kernel column and channel. Divides only where a tap
// ends.
struct NpuConvPlace {
  npu_u32 channel, tap_x, tap_y;
};
NPU_FUNC void npu_conv_carry(THREAD_REF(NpuConvPlace) place, CONSTANT_REF(Conv2dParams) p) {
  if (place.channel < p.w_ic) return;
  place.tap_x += place.channel / p.w_ic;
  place.channel %= p.w_ic;
  place.tap_y += place.tap_x / p.w_kw;
  place.tap_x %= p.w_kw;
}

// Coordinates are unsigned and wrap: what lies above or left of the image becomes large, and one
// comparison with the image's size finds every pixel outside it.
template <npu_u32 DEPTH, class T, class Pieces>
NPU_FUNC void npu_conv_load_x(THREAD_REF(Pieces) pieces, THREAD_REF(NpuConvPlace) place,
                              DEVICE_PTR(const T) x, CONSTANT_REF(Conv2dParams) p, npu_u64 base,
                              npu_u32 top, npu_u32 left, bool exists, npu_u32 k, npu_u32 end,
                              npu_u32 thread_index) {
  // The pieces of a thread follow each other along the common axis.
  NpuConvPlace at = place;
  NPU_UNROLL
  for (npu_u32 piece = 0; piece < Pieces::count; ++piece) {
    npu_conv_carry(at, p);
    if (piece == 0) place = at;
    const npu_u32 in_y = top + at.tap_y * p.dilation_h;
    const npu_u32 in_x = left + at.tap_x * p.dilation_w;
    const npu_u32 depth = k + npu_piece_depth<Pieces>(thread_index, piece);
    pieces.v[piece] = npu_wide_zero();
    if (exists && depth < end && in_y < p.x_h && in_x < p.x_w &&
        npu_piece_exists<Pieces>(thread_index, piece)) {
      pieces.v[piece] =
          npu_load_wide(x, base + in_y * npu_u64(p.x_sh) + in_x * npu_u64(p.x_sw) + at.channel);
    }
    at.channel += NPU_PANEL_THREADS / Pieces::rows * Pieces::elements;
  }
  place.channel += DEPTH;
}

// The sums of a tile over positions [begin, end) of the common axis.
template <class T, npu_u32 DEPTH, class Panel>
NPU_FUNC void npu_conv_tile(THREAD_REF(Panel) panel, DEVICE_PTR(const T) x, DEVICE_PTR(const T) w,
                            CONSTANT_REF(Conv2dParams) p, npu_u32 image, npu_u32 group,
                            npu_u32 first_pixel, npu_u32 first_channel, npu_u32 begin, npu_u32 end,
                            THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,
                            npu_u32 thread_index) {
  const npu_u32 x_rows = Panel::rows * 16;
  const npu_u32 w_rows = Panel::columns * 16;
  typedef NpuPieces<T, x_rows, DEPTH> XPieces;
  typedef NpuPieces<T, w_rows, DEPTH> WPieces;
  XPieces x_pieces;
  WPieces w_pieces;
  const npu_u32 group_channels = p.w_oc / p.groups;
  const npu_u32 pixel = first_pixel + thread_index % x_rows;
  const bool inside = pixel < p.y_h * p.y_w;
  const npu_u32 top = pixel / p.y_w * p.stride_h - p.pad_top;
  const npu_u32 left = pixel % p.y_w * p.stride_w - p.pad_left;
  const npu_u64 base = image * npu_u64(p.x_sn) + group * p.w_ic;
  const npu_u32 channel = first_channel + thread_index % w_rows;
  const npu_u64 w_row = npu_u64(group * group_channels + channel) * npu_u64(p.w_soc);
  NpuConvPlace place = {begin + npu_piece_depth<XPieces>(thread_index, 0), 0, 0};

  npu_panel_clear(panel);
  npu_conv_load_x<DEPTH>(x_pieces, place, x, p, base, top, left, inside, begin, end, thread_index);
  npu_pieces_load<WPieces>(w_pieces, w, w_row, channel < group_channels, begin, end, thread_index);
  for (npu_u32 k = begin; k < end; k += DEPTH) {
    npu_pieces_store<XPieces>(x_tile, x_pieces, thread_index);
    npu_pieces_store<WPieces>(w_tile, w_pieces, thread_index);
    npu_barrier();
    npu_conv_load_x<DEPTH>(x_pieces, place, x, p, base, top, left, inside, k + DEPTH, end,
                           thread_index);
    npu_pieces_load<WPieces>(w_pieces, w, w_row, channel < group_channels, k + DEPTH, end,
                             thread_index);
    npu_panel_multiply<DEPTH>(panel, x_tile, w_tile, thread_index);
    npu_barrier();
  }
}

template <class T, npu_u32 R, npu_u32 C, npu_u32 DEPTH>
NPU_FUNC void npu_conv_whole(DEVICE_PTR(const T) x, DEVICE_PTR(const T) w,
                             DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                             DEVICE_PTR(T) y, CONSTANT_REF(Conv2dParams) p,
                             THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,
                             NpuThread self) {
  const npu_u32 image = self.group_z / p.groups;
  const npu_u32 group = self.group_z % p.groups;
  const npu_u32 group_channels = p.w_oc / p.groups;
  const npu_u32 first_pixel = self.group_y * (R * 16);
  const npu_u32 first_channel = self.group_x * (C * 16);
  NpuPanel<R, C> panel;
  npu_conv_tile<T, DEPTH>(panel, x, w, p, image, group, first_pixel, first_channel, 0,
                          p.w_kh * p.w_kw * p.w_ic, x_tile, w_tile, self.index);
  NPU_UNROLL
  for (npu_u32 i = 0; i < R; ++i) {
    const npu_u32 pixel = first_pixel + npu_panel_row(self.index, i);
    NPU_UNROLL
    for (npu_u32 j = 0; j < C; ++j) {
      const npu_u32 channel = first_channel + npu_panel_column(self.index, j);
      if (pixel >= p.y_h * p.y_w || channel >= group_channels) continue;
      npu_conv2d_store<T>(panel.v[i][j], bias, residual, y, p, image, pixel,
                          group * group_channels + channel);
    }
  }
}

template <class T>
NPU_FUNC void npu_conv2d_tiles_large(DEVICE_PTR(const T) x, DEVICE_PTR(const T) w,
                                     DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                                     DEVICE_PTR(T) y, CONSTANT_REF(Conv2dParams) p,
                                     THREADGROUP_PTR(npu_f32) x_tile,
                                     THREADGROUP_PTR(npu_f32) w_tile, NpuThread self) {
  npu_conv_whole<T, 8, 8, 16>(x, w, bias, residual, y, p, x_tile, w_tile, self);
}

template <class T>
NPU_FUNC void npu_conv2d_tiles(DEVICE_PTR(const T) x, DEVICE_PTR(const T) w,
                               DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                               DEVICE_PTR(T) y, CONSTANT_REF(Conv2dParams) p,
                               THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,
                               NpuThread self) {
  npu_conv_whole<T, 4, 4, 32>(x, w, bias, residual, y, p, x_tile, w_tile, self);
}

// Several threadgroups share a tile: each sums a chunk of the common axis...
template <class T>
NPU_FUNC void npu_conv2d_split_sums(DEVICE_PTR(const T) x, DEVICE_PTR(const T) w,
                                    DEVICE_PTR(const npu_f32), DEVICE_PTR(const T), DEVICE_PTR(T),
                                    DEVICE_PTR(npu_f32) sums, CONSTANT_REF(Conv2dParams) p,
                                    THREADGROUP_PTR(npu_f32) x_tile,
                                    THREADGROUP_PTR(npu_f32) w_tile, NpuThread self) {
  const npu_u32 product = self.group_z % (p.y_n * p.groups);
  const npu_u32 chunk = self.group_z / (p.y_n * p.groups);
  const npu_u32 image = product / p.groups;
  const npu_u32 group = product % p.groups;
  const npu_u32 group_channels = p.w_oc / p.groups;
  const npu_u32 first_pixel = self.group_y * NPU_PANEL_STEP;
  const npu_u32 first_channel = self.group_x * NPU_PANEL_STEP;
  const npu_u32 common = p.w_kh * p.w_kw * p.w_ic;
  const npu_u32 begin = chunk * NPU_PANEL_CHUNK;
  const npu_u32 end = common - begin < NPU_PANEL_CHUNK ? common : begin + NPU_PANEL_CHUNK;
  NpuPanel<4, 4> panel;
  npu_conv_tile<T, 32>(panel, x, w, p, image, group, first_pixel, first_channel, begin, end, x_tile,
                       w_tile, self.index);
  const npu_u32 pixels = p.y_h * p.y_w;
  NPU_UNROLL
  for (npu_u32 i = 0; i < 4; ++i) {
    const npu_u32 pixel = first_pixel + npu_panel_row(self.index, i);
    NPU_UNROLL
    for (npu_u32 j = 0; j < 4; ++j) {
      const npu_u32 channel = first_channel + npu_panel_column(self.index, j);
      if (pixel >= pixels || channel >= group_channels) continue;
      sums[((chunk * npu_u64(p.y_n) + image) * pixels + pixel) * p.w_oc + group * group_channels +
           channel] = panel.v[i][j];
    }
  }
}

// ...and a thread per element of y adds the chunks up, in order.
template <class T>
NPU_FUNC void npu_conv2d_split_finish(DEVICE_PTR(const T), DEVICE_PTR(const T),
                                      DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                                      DEVICE_PTR(T) y, DEVICE_PTR(npu_f32) sums,
                                      CONSTANT_REF(Conv2dParams) p, NpuThread self) {
  const npu_u32 pixels = p.y_h * p.y_w;
  if (self.x >= p.w_oc || self.y >= pixels || self.z >= p.y_n) return;
  const npu_u32 chunks = (p.w_kh * p.w_kw * p.w_ic - 1) / NPU_PANEL_CHUNK + 1;
  npu_f32 sum = 0.0f;
  for (npu_u32 chunk = 0; chunk < chunks; ++chunk) {
    sum += sums[((chunk * npu_u64(p.y_n) + self.z) * pixels + self.y) * p.w_oc + self.x];
  }
  npu_conv2d_store<T>(sum, bias, residual, y, p, self.z, self.y, self.x);
}
