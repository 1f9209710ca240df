// Linear layers of many rows, schedules of kernel linear: tiles of 64 or 128 rows of x by 64 or 128
// rows of weights. Of a layer of two parts a tile takes 64 rows of each: a thread then holds both
// parts of the same elements of y.
#include "common.h"
#include "group_reduce.h"
#include "linear.h"
#include "panel.h"

// Lanes that share a row of x for its mean square.
#define NPU_SCALE_LANES 8

// 1 / sqrt(mean square + eps) of `rows` rows of x from `first` on.
template <class T>
NPU_FUNC void npu_linear_tile_scales(DEVICE_PTR(const T) x, CONSTANT_REF(LinearParams) p,
                                     npu_u32 first, npu_u32 rows,
                                     THREADGROUP_PTR(npu_f32) row_scale, NpuThread self) {
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  const npu_u32 lane = self.index % NPU_SCALE_LANES;
  for (npu_u32 row = self.index / NPU_SCALE_LANES; row < rows;
       row += NPU_PANEL_THREADS / NPU_SCALE_LANES) {
    const npu_u32 m = first + row;
    npu_f32 squares = 0.0f;
    const npu_u32 end = m < p.x_m ? p.x_k : 0;
    NPU_UNROLL_FOUR
    for (npu_u32 k = lane * count; k < end; k += NPU_SCALE_LANES * count) {
      const NpuWide wide = npu_load_wide(x, m * npu_u64(p.x_sm) + k);
      NPU_UNROLL
      for (npu_u32 j = 0; j < count; ++j) {
        const npu_f32 v = npu_element(wide, j, T());
        squares += v * v;
      }
    }
    for (npu_u32 mask = NPU_SCALE_LANES / 2; mask != 0; mask /= 2) {
      squares += npu_simd_shuffle_xor(squares, mask);
    }
    if (lane == 0) row_scale[row] = npu_linear_row_scale(squares, p);
  }
  npu_barrier();
}

// As npu_pieces_store, x's elements normed; those from position `end` on stay zero.
template <class T, class Pieces>
NPU_FUNC void npu_linear_store_x(THREADGROUP_PTR(npu_f32) tile, THREAD_REF(const Pieces) pieces,
                                 DEVICE_PTR(const npu_f32) scale, CONSTANT_REF(LinearParams) p,
                                 npu_u32 k, npu_f32 row_scale, npu_u32 thread_index) {
  if (p.norm != NPU_LINEAR_NORM_RMS) {
    npu_pieces_store<Pieces>(tile, pieces, thread_index);
    return;
  }
  const npu_u32 row = thread_index % Pieces::rows;
  NPU_UNROLL
  for (npu_u32 piece = 0; piece < Pieces::count; ++piece) {
    if (!npu_piece_exists<Pieces>(thread_index, piece)) continue;
    const npu_u32 depth = npu_piece_depth<Pieces>(thread_index, piece);
    NPU_UNROLL
    for (npu_u32 j = 0; j < Pieces::elements; ++j) {
      npu_f32 v = npu_element(pieces.v[piece], j, T());
      if (k + depth + j < p.x_k) {
        v = npu_linear_normed<T>(v, row_scale, scale, p, k + depth + j);
      }
      tile[(depth + j) * Pieces::rows + row] = v;
    }
  }
}

// Weights of x's dtype, or int8, of which there are fewer pieces.
template <class Pieces, class Int8>
NPU_FUNC void npu_linear_load_w(THREAD_REF(Pieces) pieces, DEVICE_PTR(const npu_u8) w,
                                CONSTANT_REF(LinearParams) p, npu_u64 row, bool exists, npu_u32 k,
                                npu_u32 end, npu_u32 thread_index) {
  if (p.w_dtype == NPU_DTYPE_I8) {
    npu_pieces_load<Int8>(pieces, DEVICE_CAST(const npu_i8, w), row, exists, k, end, thread_index);
  } else {
    npu_pieces_load<Pieces>(pieces, DEVICE_CAST(const typename Pieces::Element, w), row, exists, k,
                            end, thread_index);
  }
}

// The sums of a tile over positions [begin, end) of the common axis.
template <class T, npu_u32 DEPTH, class Panel>
NPU_FUNC void npu_linear_tile(THREAD_REF(Panel) panel, DEVICE_PTR(const T) x,
                              DEVICE_PTR(const npu_f32) scale, DEVICE_PTR(const npu_u8) w,
                              CONSTANT_REF(LinearParams) p, npu_u32 first_row, npu_u32 first_column,
                              npu_u32 begin, npu_u32 end, THREADGROUP_PTR(npu_f32) x_tile,
                              THREADGROUP_PTR(npu_f32) w_tile, THREADGROUP_PTR(npu_f32) row_scales,
                              NpuThread self) {
  const npu_u32 x_rows = Panel::rows * 16;
  const npu_u32 w_rows = Panel::columns * 16;
  npu_f32 row_scale = 1.0f;
  if (p.norm == NPU_LINEAR_NORM_RMS) {
    npu_linear_tile_scales<T>(x, p, first_row, x_rows, row_scales, self);
    row_scale = row_scales[self.index % x_rows];
  }
  typedef NpuPieces<T, x_rows, DEPTH> XPieces;
  typedef NpuPieces<T, w_rows, DEPTH> WPieces;
  typedef NpuPieces<npu_i8, w_rows, DEPTH> Int8Pieces;
  XPieces x_pieces;
  WPieces w_pieces = {};
  const npu_u32 m = first_row + self.index % x_rows;
  const npu_u64 x_row = m * npu_u64(p.x_sm);
  // Rows of the parts of w follow each other in a tile.
  const npu_u32 part_rows = w_rows / p.w_p;
  const npu_u32 part = self.index % w_rows / part_rows;
  const npu_u32 n = first_column + self.index % part_rows;
  const npu_u64 w_row = part * npu_u64(p.w_sp) + n * npu_u64(p.w_sn);

  npu_panel_clear(panel);
  npu_pieces_load<XPieces>(x_pieces, x, x_row, m < p.y_m, begin, end, self.index);
  npu_linear_load_w<WPieces, Int8Pieces>(w_pieces, w, p, w_row, n < p.y_n, begin, end, self.index);
  for (npu_u32 k = begin; k < end; k += DEPTH) {
    npu_linear_store_x<T>(x_tile, x_pieces, scale, p, k, row_scale, self.index);
    if (p.w_dtype == NPU_DTYPE_I8) {
      npu_pieces_store<Int8Pieces>(w_tile, w_pieces, self.index);
    } else {
      npu_pieces_store<WPieces>(w_tile, w_pieces, self.index);
    }
    npu_barrier();
    npu_pieces_load<XPieces>(x_pieces, x, x_row, m < p.y_m, k + DEPTH, end, self.index);
    npu_linear_load_w<WPieces, Int8Pieces>(w_pieces, w, p, w_row, n < p.y_n, k + DEPTH, end,
                                           self.index);
    npu_panel_multiply<DEPTH>(panel, x_tile, w_tile, self.index);
    npu_barrier();
  }
}

template <class T, npu_u32 R, npu_u32 C, npu_u32 DEPTH>
NPU_FUNC void npu_linear_whole(DEVICE_PTR(const T) x, DEVICE_PTR(const npu_f32) scale,
                               DEVICE_PTR(const npu_u8) w, DEVICE_PTR(const npu_f32) w_scale,
                               DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                               DEVICE_PTR(T) y, CONSTANT_REF(LinearParams) p,
                               THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,
                               THREADGROUP_PTR(npu_f32) row_scales, NpuThread self) {
  const npu_u32 first_row = self.group_y * (R * 16);
  const npu_u32 first_column = self.group_x * (C * 16 / p.w_p);
  NpuPanel<R, C> panel;
  npu_linear_tile<T, DEPTH>(panel, x, scale, w, p, first_row, first_column, 0, p.x_k, x_tile,
                            w_tile, row_scales, self);
  NPU_UNROLL
  for (npu_u32 i = 0; i < R; ++i) {
    const npu_u32 m = first_row + npu_panel_row(self.index, i);
    NPU_UNROLL
    for (npu_u32 j = 0; j < C; ++j) {
      const npu_u32 n = first_column + npu_panel_column(self.index, j);
      // The second part's values follow the first one's, in the same thread.
      if (m >= p.y_m || n >= p.y_n || (p.w_p == 2 && j >= C / 2)) continue;
      npu_f32 value = npu_linear_scaled(panel.v[i][j], w_scale, bias, p, 0, n);
      const npu_f32 gate = value;
      if (p.w_p == 2) {
        value = npu_linear_scaled(panel.v[i][(j + C / 2) % C], w_scale, bias, p, 1, n);
      }
      npu_linear_store<T>(value, gate, residual, y, p, m, n);
    }
  }
}

// The schedules: rows and columns of a thread, depth of a tile.
#define NPU_LINEAR_WHOLE(name, rows, columns, depth)                                              \
  template <class T>                                                                              \
  NPU_FUNC void name(DEVICE_PTR(const T) x, DEVICE_PTR(const npu_f32) scale,                      \
                     DEVICE_PTR(const npu_u8) w, DEVICE_PTR(const npu_f32) w_scale,               \
                     DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,                \
                     DEVICE_PTR(T) y, CONSTANT_REF(LinearParams) p,                               \
                     THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,            \
                     THREADGROUP_PTR(npu_f32) row_scale, NpuThread self) {                        \
    npu_linear_whole<T, rows, columns, depth>(x, scale, w, w_scale, bias, residual, y, p, x_tile, \
                                              w_tile, row_scale, self);                           \
  }
NPU_LINEAR_WHOLE(npu_linear_tiles_large, 8, 8, 16)
NPU_LINEAR_WHOLE(npu_linear_tiles_pair, 4, 8, 16)
NPU_LINEAR_WHOLE(npu_linear_tiles, 4, 4, 32)
#undef NPU_LINEAR_WHOLE

// Several threadgroups share a tile of one part: each sums a chunk of the common axis...
template <class T>
NPU_FUNC void npu_linear_split_sums(DEVICE_PTR(const T) x, DEVICE_PTR(const npu_f32) scale,
                                    DEVICE_PTR(const npu_u8) w, DEVICE_PTR(const npu_f32),
                                    DEVICE_PTR(const npu_f32), DEVICE_PTR(const T), DEVICE_PTR(T),
                                    DEVICE_PTR(npu_f32) sums, CONSTANT_REF(LinearParams) p,
                                    THREADGROUP_PTR(npu_f32) x_tile,
                                    THREADGROUP_PTR(npu_f32) w_tile,
                                    THREADGROUP_PTR(npu_f32) row_scale, NpuThread self) {
  const npu_u32 first_row = self.group_y * NPU_PANEL_STEP;
  const npu_u32 first_column = self.group_x * NPU_PANEL_STEP;
  const npu_u32 begin = self.group_z * NPU_PANEL_CHUNK;
  const npu_u32 end = p.x_k - begin < NPU_PANEL_CHUNK ? p.x_k : begin + NPU_PANEL_CHUNK;
  NpuPanel<4, 4> panel;
  npu_linear_tile<T, 32>(panel, x, scale, w, p, first_row, first_column, begin, end, x_tile, w_tile,
                         row_scale, self);
  NPU_UNROLL
  for (npu_u32 i = 0; i < 4; ++i) {
    const npu_u32 m = first_row + npu_panel_row(self.index, i);
    NPU_UNROLL
    for (npu_u32 j = 0; j < 4; ++j) {
      const npu_u32 n = first_column + npu_panel_column(self.index, j);
      if (m >= p.y_m || n >= p.y_n) continue;
      sums[(self.group_z * npu_u64(p.y_m) + m) * p.y_n + n] = panel.v[i][j];
    }
  }
}

// ...and a thread per element of y adds the chunks up, in order.
template <class T>
NPU_FUNC void npu_linear_split_finish(DEVICE_PTR(const T), DEVICE_PTR(const npu_f32),
                                      DEVICE_PTR(const npu_u8), DEVICE_PTR(const npu_f32) w_scale,
                                      DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                                      DEVICE_PTR(T) y, DEVICE_PTR(npu_f32) sums,
                                      CONSTANT_REF(LinearParams) p, NpuThread self) {
  if (self.x >= p.y_n || self.y >= p.y_m) return;
  const npu_u32 chunks = (p.x_k - 1) / NPU_PANEL_CHUNK + 1;
  npu_f32 sum = 0.0f;
  for (npu_u32 chunk = 0; chunk < chunks; ++chunk) {
    sum += sums[(chunk * npu_u64(p.y_m) + self.y) * p.y_n + self.x];
  }
  const npu_f32 value = npu_linear_scaled(sum, w_scale, bias, p, 0, self.x);
  npu_linear_store<T>(value, value, residual, y, p, self.y, self.x);
}
