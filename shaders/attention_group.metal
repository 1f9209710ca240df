// Attention of few queries over a cache that is not long (schedule group of kernel attention): in
// one launch, a threadgroup for NPU_GROUP_ROWS queries that share a head of keys.
//
// The threadgroup goes through the keys that they see, NPU_GROUP_PARTS parts of NPU_SPLIT_KEYS keys
// at a time, eight SIMD groups for each, and keeps each part's sums of values until all largest
// scores are known. Parts, their sums and the order of adding them up are those of schedule split,
// so that a query's result does not depend on which of both is taken.
#include "attention.h"
#include "attention_join.h"
#include "attention_split.h"
#include "common.h"
#include "group_reduce.h"
#include "wide.h"

#define NPU_GROUP_THREADS (NPU_GROUP_PARTS * NPU_SPLIT_SIMD_GROUPS * NPU_SIMD_WIDTH)
// Columns of values, and how many times as many as 16 lanes have elements of 16 bytes.
#define NPU_GROUP_COLUMNS 256
#define NPU_GROUP_PASSES(T) (NPU_GROUP_COLUMNS * sizeof(T) / (NPU_SPLIT_LANES * NPU_WIDE_BYTES))

#if NPU_ATTENTION_GROUP_QUERIES_ELEMENTS < NPU_GROUP_ROWS * 256 ||                                 \
    NPU_ATTENTION_GROUP_SCORES_ELEMENTS < NPU_GROUP_PARTS * NPU_GROUP_ROWS * NPU_SPLIT_KEYS ||     \
    NPU_ATTENTION_GROUP_ROOM_ELEMENTS <                                                            \
        NPU_GROUP_PARTS * NPU_SPLIT_SIMD_GROUPS * NPU_GROUP_ROWS * 128 ||                          \
    NPU_ATTENTION_GROUP_STATS_ELEMENTS < 2 * NPU_GROUP_TURNS * NPU_GROUP_PARTS * NPU_GROUP_ROWS || \
    NPU_ATTENTION_GROUP_THREADGROUP_X != NPU_GROUP_THREADS || NPU_GROUP_ROWS > 2 ||                \
    NPU_GROUP_PARTS != 2
#error "attention: the record's schedule group is not the shader's"
#endif

template <class T>
NPU_FUNC void npu_attention_group(DEVICE_PTR(const T) q, DEVICE_PTR(const T) k,
                                  DEVICE_PTR(const T) v, DEVICE_PTR(const npu_u8) mask,
                                  DEVICE_PTR(const npu_u8) positions, DEVICE_PTR(T) y,
                                  CONSTANT_REF(AttentionParams) p, THREADGROUP_PTR(npu_f32) queries,
                                  THREADGROUP_PTR(npu_f32) scores, THREADGROUP_PTR(npu_f32) room,
                                  THREADGROUP_PTR(npu_f32) stats, NpuThread self) {
  const npu_u32 batch = self.group_z / p.k_h;
  const npu_u32 kv_head = self.group_z % p.k_h;
  const npu_u32 groups = p.q_h / p.k_h;
  const npu_u32 first_row = self.group_x * NPU_GROUP_ROWS;
  const npu_u32 left = p.q_m * groups - first_row;
  const npu_u32 rows = left < NPU_GROUP_ROWS ? left : NPU_GROUP_ROWS;
  const NpuKeys seen =
      npu_seen_keys(positions, p, batch, first_row / groups, (first_row + rows - 1) / groups + 1);
  const npu_u32 turn_keys = NPU_GROUP_PARTS * NPU_SPLIT_KEYS;
  const npu_u32 first_turn = seen.first < seen.end ? seen.first / turn_keys : 0;
  const npu_u32 end_turn = seen.first < seen.end ? (seen.end - 1) / turn_keys + 1 : 0;

  // Elements of 16 bytes, and how many times those a query, key or value has.
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  const npu_u32 pieces = p.q_d / count;
  const npu_u32 columns = NPU_SPLIT_LANES * count;
  const npu_u32 side = self.lane / NPU_SPLIT_LANES;
  const npu_u32 piece = self.lane % NPU_SPLIT_LANES;
  const npu_u32 part = self.simd / NPU_SPLIT_SIMD_GROUPS;
  const npu_u32 place =
      self.simd % NPU_SPLIT_SIMD_GROUPS * 2 * NPU_SPLIT_EACH + side * NPU_SPLIT_EACH;
  // Where the lane's keys and values are in a turn.
  const npu_u32 own = part * NPU_SPLIT_KEYS + place;
  const npu_u64 k_base = batch * npu_u64(p.k_sb) + kv_head * npu_u64(p.k_sh);
  const npu_u64 v_base = batch * npu_u64(p.v_sb) + kv_head * npu_u64(p.v_sh);

  // What of a turn's scores is this lane's, after the products are summed over 16 lanes.
  const npu_u32 score_row = piece * NPU_GROUP_ROWS / 16;
  const npu_u32 score_key = piece * NPU_GROUP_ROWS / 4 % 4;
  const NpuAttentionQuery score_query = npu_attention_query(p, kv_head, first_row + score_row);
  NpuKeys visible = {0, 0};
  if (score_row < rows) visible = npu_visible_keys(positions, p, batch, score_query.m);
  const npu_u64 mask_base = batch * npu_u64(p.mask_sb) + score_query.head * npu_u64(p.mask_sh);

  // What of a turn's sums is this thread's.
  const npu_u32 own_part = self.index / (NPU_GROUP_ROWS * columns);
  const npu_u32 own_row = self.index / columns % NPU_GROUP_ROWS;
  const npu_u32 own_column = self.index % columns;
  const NpuAttentionQuery query = npu_attention_query(p, kv_head, first_row + own_row);
  NpuAttentionParts parts = {0, 0};
  if (own_row < rows) parts = npu_attention_parts(positions, p, batch, query.m, NPU_SPLIT_KEYS);
  npu_f32 kept[NPU_GROUP_PASSES(T)][NPU_GROUP_TURNS];
  NPU_UNROLL
  for (npu_u32 pass = 0; pass < NPU_GROUP_PASSES(T); ++pass) {
    NPU_UNROLL
    for (npu_u32 t = 0; t < NPU_GROUP_TURNS; ++t) kept[pass][t] = 0.0f;
  }

  npu_u32 own_key = first_turn * turn_keys + own;
  NpuSplitWide keys =
      npu_split_load<T>(k, k_base + piece * count, npu_u64(p.k_sn), own_key, seen, piece < pieces);
  NpuSplitWide values = npu_split_load<T>(v, v_base + piece * count, npu_u64(p.v_sn), own_key, seen,
                                          piece * count < p.v_d);
  npu_split_queries(queries, q, p, batch, kv_head, first_row, rows, NPU_GROUP_ROWS,
                    NPU_GROUP_THREADS, self.index);
  npu_barrier();
  for (npu_u32 turn = first_turn; turn < end_turn; ++turn) {
    NpuSplitDots<NPU_GROUP_ROWS> dots;
    NPU_UNROLL
    for (npu_u32 i = 0; i < NPU_GROUP_ROWS * NPU_SPLIT_EACH; ++i) dots.v[i] = 0.0f;
    for (npu_u32 at = piece; at < pieces; at += NPU_SPLIT_LANES) {
      if (at != piece) {
        keys = npu_split_load<T>(k, k_base + at * count, npu_u64(p.k_sn), own_key, seen, true);
      }
      npu_split_multiply<T, NPU_GROUP_ROWS>(dots, keys, queries, at * count, p.q_d, rows);
    }
    // The next turn's keys, while this one's scores are found.
    keys = npu_split_load<T>(k, k_base + piece * count, npu_u64(p.k_sn), own_key + turn_keys, seen,
                             piece < pieces);
    npu_split_fold<2 * NPU_GROUP_ROWS>(dots, piece, 8);
    npu_split_fold<NPU_GROUP_ROWS>(dots, piece, 4);
    if (NPU_GROUP_ROWS == 2) {
      npu_split_fold<1>(dots, piece, 2);
    } else {
      dots.v[0] += npu_simd_shuffle_xor(dots.v[0], 2);
    }
    const npu_f32 dot = dots.v[0] + npu_simd_shuffle_xor(dots.v[0], 1);
    if (piece % (4 / NPU_GROUP_ROWS) == 0) {
      const npu_u32 n = own_key + score_key;
      npu_f32 score = -NPU_INFINITY;
      if (n >= visible.first && n < visible.end) {
        score = npu_attention_score(dot, mask, p, mask_base, score_query.m, n);
      }
      scores[(part * NPU_GROUP_ROWS + score_row) * NPU_SPLIT_KEYS + place + score_key] = score;
    }
    npu_barrier();

    // A SIMD group for the softmax of each part's rows.
    if (self.simd < NPU_GROUP_PARTS * NPU_GROUP_ROWS) {
      const NpuSplitStats found = npu_split_softmax(scores, self.simd * NPU_SPLIT_KEYS, self.lane);
      const npu_u32 to = 2 * (turn * NPU_GROUP_PARTS * NPU_GROUP_ROWS + self.simd);
      if (self.lane == 0) {
        stats[to] = found.largest;
        stats[to + 1] = found.total;
      }
    }
    npu_barrier();

    NPU_UNROLL
    for (npu_u32 pass = 0; pass < NPU_GROUP_PASSES(T); ++pass) {
      // All threads or none.
      if (pass * columns >= p.v_d) continue;
      NPU_SPLIT_SUMS(T, NPU_GROUP_ROWS) sum;
      npu_split_weigh<T, NPU_GROUP_ROWS>(
          sum, values, scores, part * NPU_GROUP_ROWS * NPU_SPLIT_KEYS + place, rows, side != 0);
      // Those of the columns behind, or of the next turn.
      const bool last = (pass + 1) * columns >= p.v_d;
      const npu_u32 next = (last ? 0 : (pass + 1) * columns) + piece * count;
      values = npu_split_load<T>(v, v_base + next, npu_u64(p.v_sn),
                                 last ? own_key + turn_keys : own_key, seen, next < p.v_d);
      // Those of the pass before have been read by all.
      if (pass != 0) npu_barrier();
      if (side < NPU_GROUP_ROWS) {
        npu_split_store<T, NPU_GROUP_ROWS>(
            room, (self.simd * NPU_GROUP_ROWS + side) * columns + piece * count, sum, 0);
      }
      npu_barrier();
      // What the query does not see may be no number.
      const npu_u32 found = turn * NPU_GROUP_PARTS + own_part;
      if (own_part >= NPU_GROUP_PARTS || found < parts.first || found >= parts.end) continue;
      npu_f32 total = 0.0f;
      NPU_UNROLL
      for (npu_u32 s = 0; s < NPU_SPLIT_SIMD_GROUPS; ++s) {
        const npu_u32 line = (own_part * NPU_SPLIT_SIMD_GROUPS + s) * NPU_GROUP_ROWS + own_row;
        total += room[line * columns + own_column];
      }
      NPU_UNROLL
      for (npu_u32 t = 0; t < NPU_GROUP_TURNS; ++t) {
        if (t == turn) kept[pass][t] = total;
      }
    }
    own_key += turn_keys;
  }
  npu_barrier();

  // All of them to the largest score of all.
  npu_f32 most = -NPU_INFINITY;
  for (npu_u32 c = parts.first; c < parts.end; ++c) {
    most = npu_max(most, stats[2 * (c * NPU_GROUP_ROWS + own_row)]);
  }
  const npu_f32 shift = most == -NPU_INFINITY ? 0.0f : most;
  npu_f32 factor[NPU_GROUP_TURNS];
  npu_f32 weight[NPU_GROUP_TURNS];
  NPU_UNROLL
  for (npu_u32 t = 0; t < NPU_GROUP_TURNS; ++t) {
    const npu_u32 c = t * NPU_GROUP_PARTS + own_part;
    factor[t] = 0.0f;
    weight[t] = 0.0f;
    if (c < parts.first || c >= parts.end) continue;
    const npu_u32 at = 2 * (c * NPU_GROUP_ROWS + own_row);
    factor[t] = npu_exp(stats[at] - shift);
    weight[t] = stats[at + 1] * factor[t];
  }
  // Every fourth part is summed apart from the others: every other turn of a thread.
  npu_f32 weights[2] = {0.0f, 0.0f};
  NPU_UNROLL
  for (npu_u32 t = 0; t < NPU_GROUP_TURNS; ++t) weights[t % 2] += weight[t];

  NPU_UNROLL
  for (npu_u32 pass = 0; pass < NPU_GROUP_PASSES(T); ++pass) {
    if (pass * columns >= p.v_d) continue;
    npu_f32 sums[2] = {0.0f, 0.0f};
    NPU_UNROLL
    for (npu_u32 t = 0; t < NPU_GROUP_TURNS; ++t) {
      sums[t % 2] += kept[pass][t] * factor[t];
    }
    const npu_u32 lines = NPU_GROUP_ROWS * columns;
    const npu_u32 at = own_row * columns + own_column;
    if (own_part < NPU_GROUP_PARTS) {
      room[own_part * lines + at] = sums[0] + sums[1];
      room[(NPU_GROUP_PARTS + own_part) * lines + at] = weights[0] + weights[1];
    }
    npu_barrier();
    const npu_u32 column = pass * columns + own_column;
    if (own_part == 0 && own_row < rows && column < p.y_d) {
      const bool empty = most == -NPU_INFINITY && p.empty_is_nan == 0;
      const npu_u32 behind = NPU_GROUP_PARTS * lines + at;
      const npu_f32 sum = room[at] + room[at + lines];
      const npu_f32 value = sum / (room[behind] + room[behind + lines]);
      y[batch * npu_u64(p.y_sb) + query.head * npu_u64(p.y_sh) + query.m * npu_u64(p.y_sm) +
        column * npu_u64(p.y_sd)] = npu_narrow<T>(empty ? 0.0f : value);
    }
    npu_barrier();
  }
}
