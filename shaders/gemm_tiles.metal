// Matrix products by tiles of 64 or 128 rows and columns, schedules of kernel gemm. Rows of x lie
// along the common axis; those of w do, or, where w is a transposed matrix, its columns do.
#include "common.h"
#include "gemm.h"
#include "panel.h"

// Pieces of transposed weights: neighbours are the rows of w, 16 bytes of them a piece, at one
// position of the common axis.
template <class Pieces>
NPU_FUNC npu_u32 npu_across_row(npu_u32 thread_index, npu_u32 piece) {
  return (thread_index + piece * NPU_PANEL_THREADS) % (Pieces::rows / Pieces::elements) *
         Pieces::elements;
}
template <class Pieces>
NPU_FUNC npu_u32 npu_across_depth(npu_u32 thread_index, npu_u32 piece) {
  return (thread_index + piece * NPU_PANEL_THREADS) / (Pieces::rows / Pieces::elements);
}

template <class T, class Pieces>
NPU_FUNC void npu_gemm_load_w(THREAD_REF(Pieces) pieces, DEVICE_PTR(const T) w,
                              CONSTANT_REF(GemmParams) p, npu_u32 batch, npu_u32 first, npu_u32 k,
                              npu_u32 end, npu_u32 thread_index) {
  const npu_u64 base = batch * npu_u64(p.w_sb);
  if (p.w_sk == 1) {
    const npu_u32 n = first + thread_index % Pieces::rows;
    npu_pieces_load<Pieces>(pieces, w, base + n * npu_u64(p.w_sn), n < p.y_n, k, end, thread_index);
    return;
  }
  NPU_UNROLL
  for (npu_u32 piece = 0; piece < Pieces::count; ++piece) {
    const npu_u32 n = first + npu_across_row<Pieces>(thread_index, piece);
    const npu_u32 at = k + npu_across_depth<Pieces>(thread_index, piece);
    pieces.v[piece] = npu_wide_zero();
    if (n < p.y_n && at < end && npu_piece_exists<Pieces>(thread_index, piece)) {
      pieces.v[piece] = npu_load_wide(w, base + at * npu_u64(p.w_sk) + n);
    }
  }
}

template <class T, class Pieces>
NPU_FUNC void npu_across_store(THREADGROUP_PTR(npu_f32) tile, THREAD_REF(const Pieces) pieces,
                               npu_u32 thread_index) {
  NPU_UNROLL
  for (npu_u32 piece = 0; piece < Pieces::count; ++piece) {
    if (!npu_piece_exists<Pieces>(thread_index, piece)) continue;
    const npu_u32 at = npu_across_depth<Pieces>(thread_index, piece) * Pieces::rows +
                       npu_across_row<Pieces>(thread_index, piece);
    NPU_UNROLL
    for (npu_u32 j = 0; j < Pieces::elements; j += 4) {
      NpuQuad quad;
      NPU_UNROLL
      for (npu_u32 i = 0; i < 4; ++i) quad.v[i] = npu_element(pieces.v[piece], j + i, T());
      npu_store_quad(tile, at + j, quad);
    }
  }
}

// The sums of a tile over positions [begin, end) of the common axis.
template <class T, npu_u32 DEPTH, class Panel>
NPU_FUNC void npu_gemm_tile(THREAD_REF(Panel) panel, DEVICE_PTR(const T) x, DEVICE_PTR(const T) w,
                            CONSTANT_REF(GemmParams) p, npu_u32 batch, npu_u32 first_row,
                            npu_u32 first_column, npu_u32 begin, npu_u32 end,
                            THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,
                            npu_u32 thread_index) {
  typedef NpuPieces<T, Panel::rows * 16, DEPTH> XPieces;
  typedef NpuPieces<T, Panel::columns * 16, DEPTH> WPieces;
  XPieces x_pieces;
  WPieces w_pieces;
  const npu_u32 m = first_row + thread_index % (Panel::rows * 16);
  const npu_u64 x_row = batch * npu_u64(p.x_sb) + m * npu_u64(p.x_sm);

  npu_panel_clear(panel);
  npu_pieces_load<XPieces>(x_pieces, x, x_row, m < p.y_m, begin, end, thread_index);
  npu_gemm_load_w(w_pieces, w, p, batch, first_column, begin, end, thread_index);
  for (npu_u32 k = begin; k < end; k += DEPTH) {
    npu_pieces_store<XPieces>(x_tile, x_pieces, thread_index);
    if (p.w_sk != 1) {
      npu_across_store<T>(w_tile, w_pieces, thread_index);
    } else {
      npu_pieces_store<WPieces>(w_tile, w_pieces, thread_index);
    }
    npu_barrier();
    npu_pieces_load<XPieces>(x_pieces, x, x_row, m < p.y_m, k + DEPTH, end, thread_index);
    npu_gemm_load_w(w_pieces, w, p, batch, first_column, k + DEPTH, end, thread_index);
    npu_panel_multiply<DEPTH>(panel, x_tile, w_tile, thread_index);
    npu_barrier();
  }
}

template <class T, npu_u32 R, npu_u32 C, npu_u32 DEPTH>
NPU_FUNC void npu_gemm_whole(DEVICE_PTR(const T) x, DEVICE_PTR(const T) w,
                             DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                             DEVICE_PTR(T) y, CONSTANT_REF(GemmParams) p,
                             THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,
                             NpuThread self) {
  const npu_u32 first_row = self.group_y * (R * 16);
  const npu_u32 first_column = self.group_x * (C * 16);
  NpuPanel<R, C> panel;
  npu_gemm_tile<T, DEPTH>(panel, x, w, p, self.group_z, first_row, first_column, 0, p.x_k, x_tile,
                          w_tile, self.index);
  NPU_UNROLL
  for (npu_u32 i = 0; i < R; ++i) {
    const npu_u32 m = first_row + npu_panel_row(self.index, i);
    NPU_UNROLL
    for (npu_u32 j = 0; j < C; ++j) {
      const npu_u32 n = first_column + npu_panel_column(self.index, j);
      if (m >= p.y_m || n >= p.y_n) continue;
      npu_gemm_store<T>(panel.v[i][j], bias, residual, y, p, self.group_z, m, n);
    }
  }
}

template <class T>
NPU_FUNC void npu_gemm_tiles_large(DEVICE_PTR(const T) x, DEVICE_PTR(const T) w,
                                   DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                                   DEVICE_PTR(T) y, CONSTANT_REF(GemmParams) p,
                                   THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,
                                   NpuThread self) {
  npu_gemm_whole<T, 8, 8, 16>(x, w, bias, residual, y, p, x_tile, w_tile, self);
}

template <class T>
NPU_FUNC void npu_gemm_tiles(DEVICE_PTR(const T) x, DEVICE_PTR(const T) w,
                             DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                             DEVICE_PTR(T) y, CONSTANT_REF(GemmParams) p,
                             THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,
                             NpuThread self) {
  npu_gemm_whole<T, 4, 4, 32>(x, w, bias, residual, y, p, x_tile, w_tile, self);
}

// Several threadgroups share a tile: each sums a chunk of the common axis...
template <class T>
NPU_FUNC void npu_gemm_split_sums(DEVICE_PTR(const T) x, DEVICE_PTR(const T) w,
                                  DEVICE_PTR(const npu_f32), DEVICE_PTR(const T), DEVICE_PTR(T),
                                  DEVICE_PTR(npu_f32) sums, CONSTANT_REF(GemmParams) p,
                                  THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,
                                  NpuThread self) {
  const npu_u32 first_row = self.group_y * NPU_PANEL_STEP;
  const npu_u32 first_column = self.group_x * NPU_PANEL_STEP;
  const npu_u32 chunk = self.group_z / p.y_b;
  const npu_u32 batch = self.group_z % p.y_b;
  const npu_u32 begin = chunk * NPU_PANEL_CHUNK;
  const npu_u32 end = p.x_k - begin < NPU_PANEL_CHUNK ? p.x_k : begin + NPU_PANEL_CHUNK;
  NpuPanel<4, 4> panel;
  npu_gemm_tile<T, 32>(panel, x, w, p, batch, first_row, first_column, begin, end, x_tile, w_tile,
                       self.index);
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
NPU_FUNC void npu_gemm_split_finish(DEVICE_PTR(const T), DEVICE_PTR(const T),
                                    DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                                    DEVICE_PTR(T) y, DEVICE_PTR(npu_f32) sums,
                                    CONSTANT_REF(GemmParams) p, NpuThread self) {
  if (self.x >= p.y_n || self.y >= p.y_m || self.z >= p.y_b) return;
  const npu_u32 chunks = (p.x_k - 1) / NPU_PANEL_CHUNK + 1;
  npu_f32 sum = 0.0f;
  for (npu_u32 chunk = 0; chunk < chunks; ++chunk) {
    sum += sums[((chunk * npu_u64(p.y_b) + self.z) * p.y_m + self.y) * p.y_n + self.x];
  }
  npu_gemm_store<T>(sum, bias, residual, y, p, self.z, self.y, self.x);
}
