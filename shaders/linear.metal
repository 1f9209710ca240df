// Linear layer: RMS norm of the rows, product with one or two weights, bias, activation, gate and
// residual.
#include "common.h"
#include "group_reduce.h"
#include "linear.h"
#include "tile.h"
#include "typed.h"

#if NPU_LINEAR_X_TILE_ELEMENTS < NPU_TILE_DEPTH * NPU_TILE_PITCH || \
    NPU_LINEAR_W_TILE_ELEMENTS < NPU_TILE_DEPTH * NPU_TILE_PITCH || \
    NPU_LINEAR_ROW_SCALE_ELEMENTS < NPU_TILE
#error "linear: the record's threadgroup arrays are smaller than a tile"
#endif

// 1 / sqrt(mean square + eps) of each row of the tile; each SIMD group takes every other row.
template <class T>
NPU_FUNC void npu_linear_row_scales(DEVICE_PTR(const T) x, CONSTANT_REF(LinearParams) p,
                                    npu_u32 first_row, THREADGROUP_PTR(npu_f32) row_scale,
                                    NpuThread self) {
  const npu_u32 groups = NPU_LINEAR_THREADGROUP_X / NPU_SIMD_WIDTH;
  for (npu_u32 row = self.simd; row < NPU_TILE; row += groups) {
    const npu_u32 m = first_row + row;
    npu_f32 squares = 0.0f;
    if (m < p.x_m && p.norm == NPU_LINEAR_NORM_RMS) {
      for (npu_u32 k = self.lane; k < p.x_k; k += NPU_SIMD_WIDTH) {
        const npu_f32 v = npu_widen(x[m * npu_u64(p.x_sm) + k * npu_u64(p.x_sk)]);
        squares += v * v;
      }
    }
    squares = npu_simd_reduce(NPU_REDUCE_SUM, squares);
    if (self.lane == 0) row_scale[row] = npu_linear_row_scale(squares, p);
  }
  npu_barrier();
}

template <class T>
NPU_FUNC npu_f32 npu_linear_input(DEVICE_PTR(const T) x, DEVICE_PTR(const npu_f32) scale,
                                  CONSTANT_REF(LinearParams) p, npu_u32 m, npu_u32 k,
                                  npu_f32 row_scale) {
  const npu_f32 v = npu_widen(x[m * npu_u64(p.x_sm) + k * npu_u64(p.x_sk)]);
  if (p.norm != NPU_LINEAR_NORM_RMS) return v;
  return npu_linear_normed<T>(v, row_scale, scale, p, k);
}

template <class T>
NPU_FUNC void npu_linear(DEVICE_PTR(const T) x, DEVICE_PTR(const npu_f32) scale,
                         DEVICE_PTR(const npu_u8) w, DEVICE_PTR(const npu_f32) w_scale,
                         DEVICE_PTR(const npu_f32) bias, DEVICE_PTR(const T) residual,
                         DEVICE_PTR(T) y, CONSTANT_REF(LinearParams) p,
                         THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,
                         THREADGROUP_PTR(npu_f32) row_scale, NpuThread self) {
  const npu_u32 first_row = self.group_y * NPU_TILE;
  const npu_u32 first_column = self.group_x * NPU_TILE;
  const npu_u32 depth = self.index % NPU_TILE_DEPTH;
  const npu_u32 load_row = self.index / NPU_TILE_DEPTH;
  npu_linear_row_scales<T>(x, p, first_row, row_scale, self);

  NpuBlock gate;
  NpuBlock block;
  npu_block_clear(block);
  const npu_u32 tiles = p.x_k / NPU_TILE_DEPTH + (p.x_k % NPU_TILE_DEPTH != 0 ? 1 : 0);
  for (npu_u32 part = 0; part < p.w_p; ++part) {
    gate = block;
    npu_block_clear(block);
    for (npu_u32 tile = 0; tile < tiles; ++tile) {
      const npu_u32 k = tile * NPU_TILE_DEPTH + depth;
      for (npu_u32 j = 0; j < NPU_TILE_LOADS; ++j) {
        const npu_u32 row = load_row + j * NPU_TILE_STEP;
        const npu_u32 m = first_row + row;
        const npu_u32 n = first_column + row;
        npu_f32 value = 0.0f;
        if (k < p.x_k && m < p.y_m) value = npu_linear_input<T>(x, scale, p, m, k, row_scale[row]);
        npu_f32 weight = 0.0f;
        if (k < p.x_k && n < p.y_n) {
          const npu_u64 at = part * npu_u64(p.w_sp) + n * npu_u64(p.w_sn) + k * npu_u64(p.w_sk);
          weight = npu_load_f32(w, p.w_dtype, at);
        }
        x_tile[depth * NPU_TILE_PITCH + row] = value;
        w_tile[depth * NPU_TILE_PITCH + row] = weight;
      }
      npu_barrier();
      npu_block_multiply(block, x_tile, w_tile, self.index);
      npu_barrier();
    }
    for (npu_u32 j = 0; j < NPU_TILE_BLOCK; ++j) {
      const npu_u32 n = first_column + npu_block_column(self.index) + j;
      if (n >= p.y_n) continue;
      for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
        block.v[i][j] = npu_linear_scaled(block.v[i][j], w_scale, bias, p, part, n);
      }
    }
  }

  for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
    const npu_u32 m = first_row + npu_block_row(self.index) + i;
    for (npu_u32 j = 0; j < NPU_TILE_BLOCK; ++j) {
      const npu_u32 n = first_column + npu_block_column(self.index) + j;
      if (m >= p.y_m || n >= p.y_n) continue;
      npu_linear_store<T>(block.v[i][j], gate.v[i][j], residual, y, p, m, n);
    }
  }
}
