// Attention of many queries: schedule tiles in one launch; schedule tiles_split, for few tiles with
// many keys each, in parts of NPU_TILES_SPLIT_KEYS keys, whose softmaxes and sums of values are
// then joined.
#include "attention_join.h"
#include "attention_tiles.h"
#include "common.h"

template <class T>
NPU_FUNC void npu_attention_tiles(DEVICE_PTR(const T) q, DEVICE_PTR(const T) k,
                                  DEVICE_PTR(const T) v, DEVICE_PTR(const npu_u8) mask,
                                  DEVICE_PTR(const npu_u8) positions, DEVICE_PTR(T) y,
                                  CONSTANT_REF(AttentionParams) p, THREADGROUP_PTR(npu_f32) room,
                                  THREADGROUP_PTR(npu_f32) scores, NpuThread self) {
  const NpuTilesBlock at = npu_tiles_block(p, self.group_x, self.group_y, self.group_z);
  const NpuKeys seen =
      npu_simd_seen_keys(positions, p, at.batch, at.first_row, at.end_row, self.lane);
  NpuTilesFound found;
  npu_tiles_attend<T>(found, at, seen, q, k, v, mask, positions, p, room, scores, self);
  NPU_UNROLL
  for (npu_u32 i = 0; i < NPU_TILES_OWN; ++i) {
    const npu_u32 m = at.first_row + self.index / NPU_TILES_LANES * NPU_TILES_OWN + i;
    const bool empty = found.largest[i] == -NPU_INFINITY && p.empty_is_nan == 0;
    const npu_f32 factor = 1.0f / found.total[i];
    const npu_u64 to = at.batch * npu_u64(p.y_sb) + at.head * npu_u64(p.y_sh) + m * npu_u64(p.y_sm);
    NPU_UNROLL
    for (npu_u32 g = 0; g < NPU_TILES_GROUPS; ++g) {
      const npu_u32 lane = self.index % NPU_TILES_LANES;
      const npu_u32 column = at.first_column + (g * NPU_TILES_LANES + lane) * 4;
      // y has as many columns as v, a multiple of four.
      if (m >= p.y_m || column >= p.y_d) continue;
      NPU_UNROLL
      for (npu_u32 c = 0; c < 4; ++c) {
        const npu_f32 value = empty ? 0.0f : found.sums[i][g][c] * factor;
        y[to + (column + c) * npu_u64(p.y_sd)] = npu_narrow<T>(value);
      }
    }
  }
}

template <class T>
NPU_FUNC void npu_attention_tiles_split_part(DEVICE_PTR(const T) q, DEVICE_PTR(const T) k,
                                             DEVICE_PTR(const T) v, DEVICE_PTR(const npu_u8) mask,
                                             DEVICE_PTR(const npu_u8) positions, DEVICE_PTR(T),
                                             DEVICE_PTR(npu_f32) sums, DEVICE_PTR(npu_f32) stats,
                                             CONSTANT_REF(AttentionParams) p,
                                             THREADGROUP_PTR(npu_f32) room,
                                             THREADGROUP_PTR(npu_f32) scores, NpuThread self) {
  const npu_u32 row_blocks = (p.y_m + NPU_TILES_ROWS - 1) / NPU_TILES_ROWS;
  const NpuTilesBlock at =
      npu_tiles_block(p, self.group_x % row_blocks, self.group_y, self.group_z);
  const npu_u32 part = self.group_x / row_blocks;
  NpuKeys seen = npu_simd_seen_keys(positions, p, at.batch, at.first_row, at.end_row, self.lane);
  const npu_u32 first_key = part * NPU_TILES_SPLIT_KEYS;
  if (seen.first < first_key) seen.first = first_key;
  if (seen.end > first_key + NPU_TILES_SPLIT_KEYS) seen.end = first_key + NPU_TILES_SPLIT_KEYS;
  // All threads or none.
  if (seen.first >= seen.end) return;
  NpuTilesFound found;
  npu_tiles_attend<T>(found, at, seen, q, k, v, mask, positions, p, room, scores, self);
  const npu_u64 parts = (npu_u64(p.k_n) + NPU_TILES_SPLIT_KEYS - 1) / NPU_TILES_SPLIT_KEYS;
  NPU_UNROLL
  for (npu_u32 i = 0; i < NPU_TILES_OWN; ++i) {
    const npu_u32 m = at.first_row + self.index / NPU_TILES_LANES * NPU_TILES_OWN + i;
    if (m >= p.y_m) continue;
    const npu_u64 to = npu_attention_row(p, at.batch, at.head, m) * parts + part;
    const npu_u32 lane = self.index % NPU_TILES_LANES;
    if (lane == 0 && at.first_column == 0) {
      stats[2 * to] = found.largest[i];
      stats[2 * to + 1] = found.total[i];
    }
    NPU_UNROLL
    for (npu_u32 g = 0; g < NPU_TILES_GROUPS; ++g) {
      const npu_u32 column = at.first_column + (g * NPU_TILES_LANES + lane) * 4;
      if (column >= p.v_d) continue;
      NPU_UNROLL
      for (npu_u32 c = 0; c < 4; ++c) sums[to * p.v_d + column + c] = found.sums[i][g][c];
    }
  }
}

// A SIMD group for each query, four columns in each lane.
template <class T>
NPU_FUNC void npu_attention_tiles_split_join(DEVICE_PTR(const T), DEVICE_PTR(const T),
                                             DEVICE_PTR(const T), DEVICE_PTR(const npu_u8),
                                             DEVICE_PTR(const npu_u8) positions, DEVICE_PTR(T) y,
                                             DEVICE_PTR(npu_f32) sums, DEVICE_PTR(npu_f32) stats,
                                             CONSTANT_REF(AttentionParams) p, NpuThread self) {
  const npu_u32 groups = p.q_h / p.k_h;
  const npu_u64 all_rows = npu_u64(p.q_m) * groups;
  const npu_u64 row =
      self.group_x * npu_u64(NPU_ATTENTION_TILES_SPLIT_JOIN_THREADGROUP_X / NPU_SIMD_WIDTH) +
      self.simd;
  const npu_u32 outer = npu_u32(row / all_rows);
  const npu_u32 batch = outer / p.k_h;
  const npu_u32 column = self.group_y * NPU_TILES_COLUMNS + self.lane * 4;
  if (batch >= p.y_b || column >= p.y_d) return;
  const NpuAttentionQuery query = npu_attention_query(p, outer % p.k_h, npu_u32(row % all_rows));
  const NpuAttentionParts parts =
      npu_attention_parts(positions, p, batch, query.m, NPU_TILES_SPLIT_KEYS);
  const npu_u64 base = row * ((npu_u64(p.k_n) + NPU_TILES_SPLIT_KEYS - 1) / NPU_TILES_SPLIT_KEYS);
  const NpuAttentionJoined joined =
      npu_attention_join(sums, stats, p, base, parts, parts.first, 1, column);
  const bool empty = joined.largest == -NPU_INFINITY && p.empty_is_nan == 0;
  const npu_f32 factor = 1.0f / joined.total;
  const npu_u64 to =
      batch * npu_u64(p.y_sb) + query.head * npu_u64(p.y_sh) + query.m * npu_u64(p.y_sm);
  NPU_UNROLL
  for (npu_u32 e = 0; e < 4; ++e) {
    const npu_f32 value = empty ? 0.0f : joined.sum[e] * factor;
    y[to + (column + e) * npu_u64(p.y_sd)] = npu_narrow<T>(value);
  }
}
