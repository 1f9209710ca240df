// Matrix panels, shared by the tiled schedules of linear, gemm and conv2d: 256 threads multiply 64
// or 128 rows of x by 64 or 128 rows of w. Operands are read 16 bytes at a time along the common
// axis, the next piece while the present one is multiplied, and lie depth-major in threadgroup
// memory; each thread keeps 4 or 8 rows and columns of the result in registers.
#ifndef NPU_PANEL_H_
#define NPU_PANEL_H_

#include "wide.h"

#define NPU_PANEL_THREADS 256
// Neighbouring rows (columns) of a thread; the next group of a thread lies 64 further on.
#define NPU_PANEL_GROUP 4
#define NPU_PANEL_STEP 64

template <npu_u32 R, npu_u32 C>
struct NpuPanel {
  enum { rows = R, columns = C };
  npu_f32 v[R][C];
};

template <class Panel>
NPU_FUNC void npu_panel_clear(THREAD_REF(Panel) panel) {
  NPU_UNROLL
  for (npu_u32 i = 0; i < Panel::rows; ++i) {
    NPU_UNROLL
    for (npu_u32 j = 0; j < Panel::columns; ++j) panel.v[i][j] = 0.0f;
  }
}

// Which row of x and which row of w a thread's values belong to.
NPU_FUNC npu_u32 npu_panel_row(npu_u32 thread_index, npu_u32 i) {
  return i / NPU_PANEL_GROUP * NPU_PANEL_STEP + thread_index / 16 * NPU_PANEL_GROUP +
         i % NPU_PANEL_GROUP;
}
NPU_FUNC npu_u32 npu_panel_column(npu_u32 thread_index, npu_u32 j) {
  return npu_panel_row(thread_index % 16 * 16, j);
}

// panel += x_tile * transpose(w_tile), between two barriers of the caller.
template <npu_u32 DEPTH, class Panel>
NPU_FUNC void npu_panel_multiply(THREAD_REF(Panel) panel, THREADGROUP_PTR(npu_f32) x_tile,
                                 THREADGROUP_PTR(npu_f32) w_tile, npu_u32 thread_index) {
  const npu_u32 row = npu_panel_row(thread_index, 0);
  const npu_u32 column = npu_panel_column(thread_index, 0);
  NPU_UNROLL_FOUR
  for (npu_u32 k = 0; k < DEPTH; ++k) {
    npu_f32 a[Panel::rows];
    npu_f32 b[Panel::columns];
    NPU_UNROLL
    for (npu_u32 g = 0; g < Panel::rows / NPU_PANEL_GROUP; ++g) {
      const NpuQuad quad = npu_load_quad(x_tile, k * (Panel::rows * 16) + g * NPU_PANEL_STEP + row);
      NPU_UNROLL
      for (npu_u32 i = 0; i < NPU_PANEL_GROUP; ++i) a[g * NPU_PANEL_GROUP + i] = quad.v[i];
    }
    NPU_UNROLL
    for (npu_u32 g = 0; g < Panel::columns / NPU_PANEL_GROUP; ++g) {
      const NpuQuad quad =
          npu_load_quad(w_tile, k * (Panel::columns * 16) + g * NPU_PANEL_STEP + column);
      NPU_UNROLL
      for (npu_u32 j = 0; j < NPU_PANEL_GROUP; ++j) b[g * NPU_PANEL_GROUP + j] = quad.v[j];
    }
    NPU_UNROLL
    for (npu_u32 i = 0; i < Panel::rows; ++i) {
      NPU_UNROLL
      for (npu_u32 j = 0; j < Panel::columns; ++j) panel.v[i][j] += a[i] * b[j];
    }
  }
}

// What a thread reads of ROWS rows and DEPTH positions of the common axis: pieces of 16 bytes of
// one row, `thread_index % ROWS`. Neighbouring threads have neighbouring rows, so that storing them
// depth-major meets no bank twice.
template <class T, npu_u32 ROWS, npu_u32 DEPTH>
struct NpuPieces {
  typedef T Element;
  enum {
    elements = NPU_WIDE_BYTES / sizeof(T),
    total = ROWS * DEPTH / elements,
    count = (total + NPU_PANEL_THREADS - 1) / NPU_PANEL_THREADS,
    rows = ROWS
  };
  NpuWide v[count];
};

// Where along the common axis piece `piece` of a thread begins; whether there is one.
template <class Pieces>
NPU_FUNC npu_u32 npu_piece_depth(npu_u32 thread_index, npu_u32 piece) {
  return (thread_index + piece * NPU_PANEL_THREADS) / Pieces::rows * Pieces::elements;
}
template <class Pieces>
NPU_FUNC bool npu_piece_exists(npu_u32 thread_index, npu_u32 piece) {
  return thread_index + piece * NPU_PANEL_THREADS < Pieces::total;
}

// The pieces from position `k` on of the row that begins at element `row`; zero where the row does
// not exist and from position `end` on, which is a multiple of a piece. They are laid out as
// `Layout` says, which has no more of them than `pieces` has room for.
template <class Layout, class T, class Pieces>
NPU_FUNC void npu_pieces_load(THREAD_REF(Pieces) pieces, DEVICE_PTR(const T) from, npu_u64 row,
                              bool exists, npu_u32 k, npu_u32 end, npu_u32 thread_index) {
  NPU_UNROLL
  for (npu_u32 piece = 0; piece < Layout::count; ++piece) {
    const npu_u32 at = k + npu_piece_depth<Layout>(thread_index, piece);
    pieces.v[piece] = npu_wide_zero();
    if (exists && at < end && npu_piece_exists<Layout>(thread_index, piece)) {
      pieces.v[piece] = npu_load_wide(from, row + at);
    }
  }
}

// Into threadgroup memory, widened.
template <class Layout, class Pieces>
NPU_FUNC void npu_pieces_store(THREADGROUP_PTR(npu_f32) tile, THREAD_REF(const Pieces) pieces,
                               npu_u32 thread_index) {
  const npu_u32 row = thread_index % Layout::rows;
  NPU_UNROLL
  for (npu_u32 piece = 0; piece < Layout::count; ++piece) {
    if (!npu_piece_exists<Layout>(thread_index, piece)) continue;
    const npu_u32 depth = npu_piece_depth<Layout>(thread_index, piece);
    NPU_UNROLL
    for (npu_u32 j = 0; j < Layout::elements; ++j) {
      tile[(depth + j) * Layout::rows + row] =
          npu_element(pieces.v[piece], j, typename Layout::Element());
    }
  }
}

#endif  // NPU_PANEL_H_
