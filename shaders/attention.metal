// Attention with an online softmax: a threadgroup computes 32 queries of one head against 32 keys
// at a time, for 64 columns of v, and never keeps more scores than those. Blocks of keys start at
// multiples of 32, so that the order of sums does not depend on what else is computed.
#include "attention.h"
#include "common.h"
#include "tile.h"

#define NPU_ATTENTION_COLUMNS 64
// Each thread sums four rows by every eighth of the 64 columns.
#define NPU_ATTENTION_STEP 8
#define NPU_ATTENTION_SUMS 8
#define NPU_ATTENTION_PITCH 33

#if NPU_ATTENTION_Q_TILE_ELEMENTS < NPU_TILE_DEPTH * NPU_TILE_PITCH || \
    NPU_ATTENTION_K_TILE_ELEMENTS < NPU_TILE_DEPTH * NPU_TILE_PITCH || \
    NPU_ATTENTION_P_TILE_ELEMENTS < NPU_TILE * NPU_ATTENTION_PITCH ||  \
    NPU_ATTENTION_ROWS_ELEMENTS < 3 * NPU_TILE
#error "attention: the record's threadgroup arrays are smaller than a tile"
#endif

template <class T>
NPU_FUNC void npu_attention(DEVICE_PTR(const T) q, DEVICE_PTR(const T) k, DEVICE_PTR(const T) v,
                            DEVICE_PTR(const npu_u8) mask, DEVICE_PTR(const npu_u8) positions,
                            DEVICE_PTR(T) y, CONSTANT_REF(AttentionParams) p,
                            THREADGROUP_PTR(npu_f32) q_tile, THREADGROUP_PTR(npu_f32) k_tile,
                            THREADGROUP_PTR(npu_f32) p_tile, THREADGROUP_PTR(npu_f32) rows,
                            NpuThread self) {
  const npu_u32 batch = self.group_z / p.y_h;
  const npu_u32 head = self.group_z % p.y_h;
  const npu_u32 kv_head = head / (p.q_h / p.k_h);
  const npu_u32 first_row = self.group_x * NPU_TILE;
  const npu_u32 first_column = self.group_y * NPU_ATTENTION_COLUMNS;
  const npu_u64 q_base = batch * npu_u64(p.q_sb) + head * npu_u64(p.q_sh);
  const npu_u64 k_base = batch * npu_u64(p.k_sb) + kv_head * npu_u64(p.k_sh);
  const npu_u64 v_base = batch * npu_u64(p.v_sb) + kv_head * npu_u64(p.v_sh);
  const npu_u64 mask_base = batch * npu_u64(p.mask_sb) + head * npu_u64(p.mask_sh);

  const npu_u32 depth = self.index % NPU_TILE_DEPTH;
  const npu_u32 load_row = self.index / NPU_TILE_DEPTH;
  const npu_u32 block_row = npu_block_row(self.index);
  const npu_u32 block_column = npu_block_column(self.index);
  const npu_u32 sum_column = self.index % NPU_ATTENTION_STEP;

  // Of each row: the largest score so far, the sum of exponentials, and what the sums so far are
  // scaled by.
  if (self.index < NPU_TILE) {
    rows[self.index] = -NPU_INFINITY;
    rows[NPU_TILE + self.index] = 0.0f;
  }
  npu_f32 sums[NPU_TILE_BLOCK][NPU_ATTENTION_SUMS];
  for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
    for (npu_u32 j = 0; j < NPU_ATTENTION_SUMS; ++j) sums[i][j] = 0.0f;
  }

  // What any of the rows sees, and what each of this thread's rows does.
  const NpuKeys seen = npu_seen_keys(positions, p, batch, first_row, first_row + NPU_TILE);
  NpuKeys visible[NPU_TILE_BLOCK];
  for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
    visible[i] = npu_visible_keys(positions, p, batch, first_row + block_row + i);
  }
  for (npu_u32 first_key = seen.first / NPU_TILE * NPU_TILE; first_key < seen.end;
       first_key += NPU_TILE) {
    NpuBlock block;
    npu_block_clear(block);
    for (npu_u32 first_depth = 0; first_depth < p.q_d; first_depth += NPU_TILE_DEPTH) {
      const npu_u32 d = first_depth + depth;
      for (npu_u32 j = 0; j < NPU_TILE_LOADS; ++j) {
        const npu_u32 row = load_row + j * NPU_TILE_STEP;
        const npu_u32 m = first_row + row;
        const npu_u32 n = first_key + row;
        npu_f32 query = 0.0f;
        if (d < p.q_d && m < p.q_m) {
          query = npu_widen(q[q_base + m * npu_u64(p.q_sm) + d * npu_u64(p.q_sd)]);
        }
        npu_f32 key = 0.0f;
        if (d < p.q_d && n >= seen.first && n < seen.end) {
          key = npu_widen(k[k_base + n * npu_u64(p.k_sn) + d * npu_u64(p.k_sd)]);
        }
        q_tile[depth * NPU_TILE_PITCH + row] = query;
        k_tile[depth * NPU_TILE_PITCH + row] = key;
      }
      npu_barrier();
      npu_block_multiply(block, q_tile, k_tile, self.index);
      npu_barrier();
    }

    for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
      const npu_u32 m = first_row + block_row + i;
      for (npu_u32 j = 0; j < NPU_TILE_BLOCK; ++j) {
        const npu_u32 n = first_key + block_column + j;
        npu_f32 score = -NPU_INFINITY;
        if (n >= visible[i].first && n < visible[i].end) {
          score = npu_attention_score(block.v[i][j], mask, p, mask_base, m, n);
        }
        p_tile[(block_row + i) * NPU_ATTENTION_PITCH + block_column + j] = score;
      }
    }
    npu_barrier();

    if (self.index < NPU_TILE) {
      const npu_u32 row = self.index * NPU_ATTENTION_PITCH;
      const npu_f32 before = rows[self.index];
      npu_f32 largest = before;
      for (npu_u32 n = 0; n < NPU_TILE; ++n) largest = npu_max(largest, p_tile[row + n]);
      // While all scores are -inf any finite shift makes their exponentials 0.
      const npu_f32 shift = largest == -NPU_INFINITY ? 0.0f : largest;
      npu_f32 total = 0.0f;
      for (npu_u32 n = 0; n < NPU_TILE; ++n) {
        const npu_f32 e = npu_exp(p_tile[row + n] - shift);
        p_tile[row + n] = e;
        total += e;
      }
      const npu_f32 factor = npu_exp(before - shift);
      rows[self.index] = largest;
      rows[NPU_TILE + self.index] = rows[NPU_TILE + self.index] * factor + total;
      rows[2 * NPU_TILE + self.index] = factor;
    }
    npu_barrier();

    for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
      const npu_f32 factor = rows[2 * NPU_TILE + block_row + i];
      for (npu_u32 j = 0; j < NPU_ATTENTION_SUMS; ++j) sums[i][j] *= factor;
    }
    for (npu_u32 n = 0; n < NPU_TILE && first_key + n < seen.end; ++n) {
      if (first_key + n < seen.first) continue;
      for (npu_u32 j = 0; j < NPU_ATTENTION_SUMS; ++j) {
        const npu_u32 column = first_column + sum_column + j * NPU_ATTENTION_STEP;
        if (column >= p.v_d) continue;
        const npu_f32 value =
            npu_widen(v[v_base + (first_key + n) * npu_u64(p.v_sn) + column * npu_u64(p.v_sd)]);
        for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
          sums[i][j] += p_tile[(block_row + i) * NPU_ATTENTION_PITCH + n] * value;
        }
      }
    }
    npu_barrier();
  }

  npu_barrier();
  for (npu_u32 i = 0; i < NPU_TILE_BLOCK; ++i) {
    const npu_u32 m = first_row + block_row + i;
    const npu_f32 total = rows[NPU_TILE + block_row + i];
    const bool empty = rows[block_row + i] == -NPU_INFINITY;
    for (npu_u32 j = 0; j < NPU_ATTENTION_SUMS; ++j) {
      const npu_u32 column = first_column + sum_column + j * NPU_ATTENTION_STEP;
      if (m >= p.y_m || column >= p.y_d) continue;
      const npu_f32 value = empty && p.empty_is_nan == 0 ? 0.0f : sums[i][j] / total;
      y[batch * npu_u64(p.y_sb) + head * npu_u64(p.y_sh) + m * npu_u64(p.y_sm) +
        column * npu_u64(p.y_sd)] = npu_narrow<T>(value);
    }
  }
}
