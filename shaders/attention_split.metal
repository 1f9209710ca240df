// Attention of few queries over many keys (schedule split of kernel attention): what counts is how
// fast keys and values come.
//
// part: a threadgroup takes 64 keys of one head of keys, for up to 8 queries of all the heads that
// share it, so that keys and values are read once. Their scores, the softmax among those keys and
// the sums of values go to scratch memory. Threadgroups whose keys no query sees leave at once.
// join: adds up what the parts found for a query, rescaled to the largest of all its scores.
//
// Parts begin at multiples of 64 keys and are joined in a fixed order, so that the order of a
// query's sums depends on its position alone.
#include "attention.h"
#include "attention_join.h"
#include "attention_split.h"
#include "common.h"
#include "group_reduce.h"
#include "wide.h"

// Parts that a threadgroup joins side by side.
#define NPU_JOIN_PARTS 32
#define NPU_JOIN_PITCH (NPU_JOIN_COLUMNS + 1)

#if NPU_ATTENTION_SPLIT_PART_ROOM_ELEMENTS < 2048 ||                              \
    NPU_ATTENTION_SPLIT_PART_SCORES_ELEMENTS < NPU_SPLIT_ROWS * NPU_SPLIT_KEYS || \
    NPU_ATTENTION_SPLIT_JOIN_PARTIAL_ELEMENTS < NPU_JOIN_PARTS * NPU_JOIN_PITCH
#error "attention: the schedule's threadgroup arrays are too small"
#endif

template <class T>
NPU_FUNC void npu_attention_split_part(DEVICE_PTR(const T) q, DEVICE_PTR(const T) k,
                                       DEVICE_PTR(const T) v, DEVICE_PTR(const npu_u8) mask,
                                       DEVICE_PTR(const npu_u8) positions, DEVICE_PTR(T),
                                       DEVICE_PTR(npu_f32) sums, DEVICE_PTR(npu_f32) stats,
                                       CONSTANT_REF(AttentionParams) p,
                                       THREADGROUP_PTR(npu_f32) room,
                                       THREADGROUP_PTR(npu_f32) scores, NpuThread self) {
  const npu_u32 batch = self.group_z / p.k_h;
  const npu_u32 kv_head = self.group_z % p.k_h;
  const npu_u32 groups = p.q_h / p.k_h;
  const npu_u32 all_rows = p.q_m * groups;
  const npu_u32 first_row = self.group_y * NPU_SPLIT_ROWS;
  const npu_u32 left = all_rows - first_row;
  const npu_u32 rows = left < NPU_SPLIT_ROWS ? left : NPU_SPLIT_ROWS;
  const npu_u32 first_key = self.group_x * NPU_SPLIT_KEYS;
  const NpuKeys seen =
      npu_seen_keys(positions, p, batch, first_row / groups, (first_row + rows - 1) / groups + 1);
  // All threads or none.
  if (seen.end <= first_key || seen.first >= first_key + NPU_SPLIT_KEYS) return;

  // Elements of 16 bytes, and how many times those a query, key or value has.
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  const npu_u32 pieces = p.q_d / count;
  const npu_u32 part = self.lane / NPU_SPLIT_LANES;
  const npu_u32 piece = self.lane % NPU_SPLIT_LANES;
  const npu_u32 place = self.simd * 2 * NPU_SPLIT_EACH + part * NPU_SPLIT_EACH;
  const npu_u32 own_key = first_key + place;
  const npu_u64 k_base = batch * npu_u64(p.k_sb) + kv_head * npu_u64(p.k_sh);
  const npu_u64 v_base = batch * npu_u64(p.v_sb) + kv_head * npu_u64(p.v_sh);
  NpuSplitWide keys =
      npu_split_load<T>(k, k_base + piece * count, npu_u64(p.k_sn), own_key, seen, piece < pieces);
  NpuSplitWide values = npu_split_load<T>(v, v_base + piece * count, npu_u64(p.v_sn), own_key, seen,
                                          piece * count < p.v_d);

  npu_split_queries(room, q, p, batch, kv_head, first_row, rows, NPU_SPLIT_ROWS,
                    NPU_SPLIT_SIMD_GROUPS * NPU_SIMD_WIDTH, self.index);
  npu_barrier();

  // Products of the rows with the lane's keys, as far as its pieces go.
  NpuSplitDots<NPU_SPLIT_ROWS> dots;
  NPU_UNROLL
  for (npu_u32 i = 0; i < NPU_SPLIT_ROWS * NPU_SPLIT_EACH; ++i) dots.v[i] = 0.0f;
  for (npu_u32 turn = piece; turn < pieces; turn += NPU_SPLIT_LANES) {
    if (turn != piece) {
      keys = npu_split_load<T>(k, k_base + turn * count, npu_u64(p.k_sn), own_key, seen, true);
    }
    npu_split_multiply<T, NPU_SPLIT_ROWS>(dots, keys, room, turn * count, p.q_d, rows);
  }
  // Over the 16 lanes that share a key; lane number `piece` ends with two of its products.
  npu_split_fold<16>(dots, piece, 8);
  npu_split_fold<8>(dots, piece, 4);
  npu_split_fold<4>(dots, piece, 2);
  npu_split_fold<2>(dots, piece, 1);
  {
    const npu_u32 row = piece / 2;
    const NpuAttentionQuery query = npu_attention_query(p, kv_head, first_row + row);
    NpuKeys visible = {0, 0};
    if (row < rows) visible = npu_visible_keys(positions, p, batch, query.m);
    const npu_u64 mask_base = batch * npu_u64(p.mask_sb) + query.head * npu_u64(p.mask_sh);
    NPU_UNROLL
    for (npu_u32 i = 0; i < 2; ++i) {
      const npu_u32 at = piece % 2 * 2 + i;
      const npu_u32 n = own_key + at;
      npu_f32 score = -NPU_INFINITY;
      if (n >= visible.first && n < visible.end) {
        score = npu_attention_score(dots.v[i], mask, p, mask_base, query.m, n);
      }
      scores[row * NPU_SPLIT_KEYS + place + at] = score;
    }
  }
  npu_barrier();

  // A SIMD group for the softmax of each row.
  const npu_u64 parts = (npu_u64(p.k_n) + NPU_SPLIT_KEYS - 1) / NPU_SPLIT_KEYS;
  const npu_u64 first_place = self.group_z * npu_u64(all_rows) + first_row;
  const NpuSplitStats found = npu_split_softmax(scores, self.simd * NPU_SPLIT_KEYS, self.lane);
  if (self.lane == 0 && self.simd < rows) {
    const npu_u64 to = 2 * ((first_place + self.simd) * parts + self.group_x);
    stats[to] = found.largest;
    stats[to + 1] = found.total;
  }
  npu_barrier();

  // Sums of the values, as many columns at a time as 16 lanes have elements.
  const npu_u32 columns = NPU_SPLIT_LANES * count;
  // Rows of each half of a SIMD group that fit into the room for all SIMD groups.
  const npu_u32 fit = 8 / count;
  for (npu_u32 first_column = 0; first_column < p.v_d; first_column += columns) {
    NPU_SPLIT_SUMS(T, NPU_SPLIT_ROWS) sum;
    npu_split_weigh<T, NPU_SPLIT_ROWS>(sum, values, scores, place, rows, part != 0);
    const npu_u32 next = first_column + columns + piece * count;
    values = npu_split_load<T>(v, v_base + next, npu_u64(p.v_sn), own_key, seen, next < p.v_d);
    NPU_UNROLL
    for (npu_u32 pass = 0; pass < NPU_SPLIT_ROWS / 2; pass += fit) {
      NPU_UNROLL
      for (npu_u32 r = 0; r < fit; ++r) {
        const npu_u32 to = ((self.simd * 2 + part) * fit + r) * columns + piece * count;
        npu_split_store<T, NPU_SPLIT_ROWS>(room, to, sum, pass + r);
      }
      npu_barrier();
      // As many sums as there are threads.
      const npu_u32 slots = 2 * fit * columns;
      npu_f32 total = 0.0f;
      NPU_UNROLL
      for (npu_u32 s = 0; s < NPU_SPLIT_SIMD_GROUPS; ++s) total += room[s * slots + self.index];
      const npu_u32 line = self.index / columns;
      const npu_u32 row = line / fit * (NPU_SPLIT_ROWS / 2) + pass + line % fit;
      const npu_u32 column = first_column + self.index % columns;
      if (row < rows && column < p.v_d) {
        sums[((first_place + row) * parts + self.group_x) * p.v_d + column] = total;
      }
      npu_barrier();
    }
  }
}

template <class T>
NPU_FUNC void npu_attention_split_join(DEVICE_PTR(const T), DEVICE_PTR(const T),
                                       DEVICE_PTR(const T), DEVICE_PTR(const npu_u8),
                                       DEVICE_PTR(const npu_u8) positions, DEVICE_PTR(T) y,
                                       DEVICE_PTR(npu_f32) sums, DEVICE_PTR(npu_f32) stats,
                                       CONSTANT_REF(AttentionParams) p,
                                       THREADGROUP_PTR(npu_f32) partial, NpuThread self) {
  const npu_u32 groups = p.q_h / p.k_h;
  const npu_u32 all_rows = p.q_m * groups;
  const npu_u32 outer = self.group_x / all_rows;
  const npu_u32 batch = outer / p.k_h;
  const NpuAttentionQuery query = npu_attention_query(p, outer % p.k_h, self.group_x % all_rows);
  const NpuAttentionParts parts = npu_attention_parts(positions, p, batch, query.m, NPU_SPLIT_KEYS);
  const npu_u64 base = self.group_x * ((npu_u64(p.k_n) + NPU_SPLIT_KEYS - 1) / NPU_SPLIT_KEYS);

  // Eight lanes for four columns each of a part; every 32nd part is theirs.
  const npu_u32 slot = self.simd * 4 + self.lane / 8;
  const npu_u32 place = self.lane % 8 * 4;
  const npu_u32 turn = NPU_JOIN_PARTS * NPU_JOIN_AT_ONCE;
  NpuAttentionJoined joined =
      npu_attention_join(sums, stats, p, base, parts, parts.first / turn * turn + slot,
                         NPU_JOIN_PARTS, self.group_y * NPU_JOIN_COLUMNS + place);

  // All of them to the largest score of all. Every fourth part is summed apart from the others.
  const npu_f32 most =
      npu_group_reduce(NPU_REDUCE_MAX, joined.largest, partial, NPU_SPLIT_SIMD_GROUPS, self);
  const npu_f32 factor = npu_exp(joined.largest - (most == -NPU_INFINITY ? 0.0f : most));
  const npu_u32 to = slot * NPU_JOIN_PITCH;
  NPU_UNROLL
  for (npu_u32 e = 0; e < 4; ++e) partial[to + place + e] = joined.sum[e] * factor;
  if (place == 0) partial[to + NPU_JOIN_COLUMNS] = joined.total * factor;
  npu_barrier();
  const npu_u32 own = self.group_y * NPU_JOIN_COLUMNS + self.index;
  if (self.index >= NPU_JOIN_COLUMNS || own >= p.y_d) return;
  npu_f32 all[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  npu_f32 weights[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (npu_u32 first = 0; first < NPU_JOIN_PARTS; first += 4) {
    NPU_UNROLL
    for (npu_u32 i = 0; i < 4; ++i) {
      all[i] += partial[(first + i) * NPU_JOIN_PITCH + self.index];
      weights[i] += partial[(first + i) * NPU_JOIN_PITCH + NPU_JOIN_COLUMNS];
    }
  }
  const bool empty = most == -NPU_INFINITY && p.empty_is_nan == 0;
  const npu_f32 value = ((all[0] + all[2]) + (all[1] + all[3])) /
                        ((weights[0] + weights[2]) + (weights[1] + weights[3]));
  y[batch * npu_u64(p.y_sb) + query.head * npu_u64(p.y_sh) + query.m * npu_u64(p.y_sm) +
    own * npu_u64(p.y_sd)] = npu_narrow<T>(empty ? 0.0f : value);
}
