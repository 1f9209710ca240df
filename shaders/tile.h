// Matrix tiles in threadgroup memory, shared by conv2d and gemm: 64 threads multiply 32 rows of x
// by 32 rows of w, 16 values of the common axis at a time; each thread keeps a 4 x 4 block of the
// result in registers.
#ifndef NPU_TILE_H_
#define NPU_TILE_H_

#define NPU_TILE 32
#define NPU_TILE_DEPTH 16
#define NPU_TILE_BLOCK 4
// Tiles lie depth-major: a block's four rows are neighbours, and the pitch keeps stores off the
// same bank.
#define NPU_TILE_PITCH 34
// In a load, 16 threads follow the common axis and 4 go down the rows, so a thread loads every
// fourth row.
#define NPU_TILE_LOADS 8
#define NPU_TILE_STEP 4

struct NpuBlock {
  npu_f32 v[NPU_TILE_BLOCK][NPU_TILE_BLOCK];
};

NPU_FUNC void npu_block_clear(THREAD_REF(NpuBlock) block) {
  for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
    for (npu_u32 j = 0; j < NPU_TILE_BLOCK; ++j) block.v[i][j] = 0.0f;
  }
}

// The first x row and the first w row of a thread's block.
NPU_FUNC npu_u32 npu_block_row(npu_u32 thread_index) {
  return thread_index / (NPU_TILE / NPU_TILE_BLOCK) * NPU_TILE_BLOCK;
}
NPU_FUNC npu_u32 npu_block_column(npu_u32 thread_index) {
  return thread_index % (NPU_TILE / NPU_TILE_BLOCK) * NPU_TILE_BLOCK;
}

// block += x_tile * transpose(w_tile), between two barriers of the caller.
NPU_FUNC void npu_block_multiply(THREAD_REF(NpuBlock) block, THREADGROUP_PTR(npu_f32) x_tile,
                                 THREADGROUP_PTR(npu_f32) w_tile, npu_u32 thread_index) {
  const npu_u32 row = npu_block_row(thread_index);
  const npu_u32 column = npu_block_column(thread_index);
  for (npu_u32 k = 0; k < NPU_TILE_DEPTH; ++k) {
    npu_f32 a[NPU_TILE_BLOCK];
    npu_f32 b[NPU_TILE_BLOCK];
    for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
      a[i] = x_tile[k * NPU_TILE_PITCH + row + i];
      b[i] = w_tile[k * NPU_TILE_PITCH + column + i];
    }
    for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
      for (npu_u32 j = 0; j < NPU_TILE_BLOCK; ++j) block.v[i][j] += a[i] * b[j];
    }
  }
}

#endif  // NPU_TILE_H_
