// Batched matrix product with bias, residual, activation and clamp.
#include "common.h"
#include "gemm.h"
#include "tile.h"

#if NPU_GEMM_X_TILE_ELEMENTS < NPU_TILE_DEPTH * NPU_TILE_PITCH || \
    NPU_GEMM_W_TILE_ELEMENTS < NPU_TILE_DEPTH * NPU_TILE_PITCH
#error "gemm: the record's threadgroup arrays are smaller than a tile"
#endif

template <class T>
NPU_FUNC void npu_gemm(DEVICE_PTR(const T) x, DEVICE_PTR(const T) w, DEVICE_PTR(const npu_f32) bias,
                       DEVICE_PTR(const T) residual, DEVICE_PTR(T) y, CONSTANT_REF(GemmParams) p,
                       THREADGROUP_PTR(npu_f32) x_tile, THREADGROUP_PTR(npu_f32) w_tile,
                       NpuThread self) {
  const npu_u32 batch = self.group_z;
  const npu_u32 first_row = self.group_y * NPU_TILE;
  const npu_u32 first_column = self.group_x * NPU_TILE;
  const npu_u32 depth = self.index % NPU_TILE_DEPTH;
  const npu_u32 load_row = self.index / NPU_TILE_DEPTH;
  const npu_u64 x_base = batch * npu_u64(p.x_sb);
  const npu_u64 w_base = batch * npu_u64(p.w_sb);

  NpuBlock block;
  npu_block_clear(block);
  const npu_u32 tiles = p.x_k / NPU_TILE_DEPTH + (p.x_k % NPU_TILE_DEPTH != 0 ? 1 : 0);
  for (npu_u32 tile = 0; tile < tiles; ++tile) {
    const npu_u32 k = tile * NPU_TILE_DEPTH + depth;
    for (npu_u32 j = 0; j < NPU_TILE_LOADS; ++j) {
      const npu_u32 row = load_row + j * NPU_TILE_STEP;
      const npu_u32 m = first_row + row;
      const npu_u32 n = first_column + row;
      npu_f32 value = 0.0f;
      if (k < p.x_k && m < p.y_m) {
        value = npu_widen(x[x_base + m * npu_u64(p.x_sm) + k * npu_u64(p.x_sk)]);
      }
      npu_f32 weight = 0.0f;
      if (k < p.x_k && n < p.y_n) {
        weight = npu_widen(w[w_base + n * npu_u64(p.w_sn) + k * npu_u64(p.w_sk)]);
      }
      x_tile[depth * NPU_TILE_PITCH + row] = value;
      w_tile[depth * NPU_TILE_PITCH + row] = weight;
    }
    npu_barrier();
    npu_block_multiply(block, x_tile, w_tile, self.index);
    npu_barrier();
  }

  for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
    const npu_u32 m = first_row + npu_block_row(self.index) + i;
    for (npu_u32 j = 0; j < NPU_TILE_BLOCK; ++j) {
      const npu_u32 n = first_column + npu_block_column(self.index) + j;
      if (m >= p.y_m || n >= p.y_n) continue;
      npu_gemm_store<T>(block.v[i][j], bias, residual, y, p, batch, m, n);
    }
  }
}
