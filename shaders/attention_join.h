// For the second stage of attention in parts of the keys: what the parts found for a query is added
// up, rescaled to the largest of all its scores, always in the same order.
//
// Scratch memory holds, of each query and part, sums of values (as many as v has columns), and in
// `stats` the largest score and the sum of exponentials.
#ifndef NPU_ATTENTION_JOIN_H_
#define NPU_ATTENTION_JOIN_H_

#include "attention.h"
#include "wide.h"

// Parts of a query that a thread loads at a time.
#define NPU_JOIN_AT_ONCE 4

// The queries that share a head of keys are numbered position by position, all heads of one before
// those of the next.
struct NpuAttentionQuery {
  npu_u32 m, head;
};

NPU_FUNC NpuAttentionQuery npu_attention_query(CONSTANT_REF(AttentionParams) p, npu_u32 kv_head,
                                               npu_u32 row) {
  const npu_u32 groups = p.q_h / p.k_h;
  const NpuAttentionQuery found = {row / groups, kv_head * groups + row % groups};
  return found;
}

// The number of a query among those of all heads of keys.
NPU_FUNC npu_u64 npu_attention_row(CONSTANT_REF(AttentionParams) p, npu_u32 batch, npu_u32 head,
                                   npu_u32 m) {
  const npu_u32 groups = p.q_h / p.k_h;
  const npu_u64 outer = batch * npu_u64(p.k_h) + head / groups;
  return (outer * p.q_m + m) * groups + head % groups;
}

// The parts [first, end) of `keys` keys that a query sees.
struct NpuAttentionParts {
  npu_u32 first, end;
};

NPU_FUNC NpuAttentionParts npu_attention_parts(DEVICE_PTR(const npu_u8) positions,
                                               CONSTANT_REF(AttentionParams) p, npu_u32 batch,
                                               npu_u32 m, npu_u32 keys) {
  const NpuKeys visible = npu_visible_keys(positions, p, batch, m);
  if (visible.first >= visible.end) return {0, 0};
  return {visible.first / keys, (visible.end - 1) / keys + 1};
}

// Four columns of a query, of some of its parts.
struct NpuAttentionJoined {
  npu_f32 largest, total;
  npu_f32 sum[4];
};

// Every `step`-th of the parts from `start` on. Column 0 of the first part of the query is element
// `base * p.v_d` of `sums`.
NPU_FUNC NpuAttentionJoined npu_attention_join(DEVICE_PTR(npu_f32) sums, DEVICE_PTR(npu_f32) stats,
                                               CONSTANT_REF(AttentionParams) p, npu_u64 base,
                                               NpuAttentionParts parts, npu_u32 start, npu_u32 step,
                                               npu_u32 column) {
  NpuAttentionJoined joined = {-NPU_INFINITY, 0.0f, {0.0f, 0.0f, 0.0f, 0.0f}};
  for (npu_u32 turn = start; turn < parts.end; turn += NPU_JOIN_AT_ONCE * step) {
    NpuWide wide[NPU_JOIN_AT_ONCE];
    npu_f32 score[NPU_JOIN_AT_ONCE];
    npu_f32 weight[NPU_JOIN_AT_ONCE];
    NPU_UNROLL
    for (npu_u32 i = 0; i < NPU_JOIN_AT_ONCE; ++i) {
      const npu_u32 c = turn + i * step;
      wide[i] = npu_wide_zero();
      score[i] = -NPU_INFINITY;
      weight[i] = 0.0f;
      if (c < parts.first || c >= parts.end) continue;
      score[i] = stats[2 * (base + c)];
      weight[i] = stats[2 * (base + c) + 1];
      if (column < p.v_d) wide[i] = npu_load_wide(sums, (base + c) * p.v_d + column);
    }
    NPU_UNROLL
    for (npu_u32 i = 0; i < NPU_JOIN_AT_ONCE; ++i) {
      const npu_f32 most = npu_max(joined.largest, score[i]);
      // While all scores are -inf any finite shift makes their exponentials 0.
      const npu_f32 shift = most == -NPU_INFINITY ? 0.0f : most;
      const npu_f32 before = npu_exp(joined.largest - shift);
      const npu_f32 now = npu_exp(score[i] - shift);
      joined.largest = most;
      joined.total = joined.total * before + weight[i] * now;
      NPU_UNROLL
      for (npu_u32 e = 0; e < 4; ++e) {
        joined.sum[e] = joined.sum[e] * before + npu_element(wide[i], e, npu_f32()) * now;
      }
    }
  }
  return joined;
}

#endif  // NPU_ATTENTION_JOIN_H_
