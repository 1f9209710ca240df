// What schedules split and group of kernel attention share: how keys are read, scores found and
// values summed for a few queries and a part of NPU_SPLIT_KEYS keys, by eight SIMD groups.
//
// 16 lanes share a key (and a value), half a SIMD group takes four of them at a time. Sums are
// added up in the same order whatever the number of queries.
#ifndef NPU_ATTENTION_SPLIT_H_
#define NPU_ATTENTION_SPLIT_H_

#include "attention.h"
#include "attention_join.h"
#include "group_reduce.h"
#include "wide.h"

#define NPU_SPLIT_SIMD_GROUPS 8
#define NPU_SPLIT_LANES 16
#define NPU_SPLIT_EACH 4
// Rows of queries that are computed together, or not at all.
#define NPU_SPLIT_TOGETHER(rows) ((rows) < 4 ? (rows) : 4)

struct NpuSplitWide {
  NpuWide key[NPU_SPLIT_EACH];
};

// 16 bytes of each of a lane's keys (or values), of which `seen` are there; the first is `first`.
template <class T>
NPU_FUNC NpuSplitWide npu_split_load(DEVICE_PTR(const T) from, npu_u64 base, npu_u64 stride,
                                     npu_u32 first, NpuKeys seen, bool inside) {
  NpuSplitWide loaded;
  const npu_u32 all = seen.first < seen.end ? seen.end - seen.first : 0;
  npu_u64 at = base + first * stride;
  NPU_UNROLL
  for (npu_u32 i = 0; i < NPU_SPLIT_EACH; ++i) {
    loaded.key[i] = npu_wide_zero();
    // Wraps where it is before the first.
    if (inside && first + i - seen.first < all) loaded.key[i] = npu_load_wide(from, at);
    at += stride;
  }
  return loaded;
}

// `all` rows of queries from `first_row` on, of which the last ones are zeros beyond `rows`, by the
// `threads` of a threadgroup.
template <class T>
NPU_FUNC void npu_split_queries(THREADGROUP_PTR(npu_f32) queries, DEVICE_PTR(const T) q,
                                CONSTANT_REF(AttentionParams) p, npu_u32 batch, npu_u32 kv_head,
                                npu_u32 first_row, npu_u32 rows, npu_u32 all, npu_u32 threads,
                                npu_u32 index) {
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  const npu_u32 pieces = p.q_d / count;
  for (npu_u32 i = index; i < all * pieces; i += threads) {
    const npu_u32 row = i / pieces;
    const npu_u32 d = i % pieces * count;
    NpuWide wide = npu_wide_zero();
    if (row < rows) {
      const NpuAttentionQuery query = npu_attention_query(p, kv_head, first_row + row);
      wide = npu_load_wide(q, batch * npu_u64(p.q_sb) + query.head * npu_u64(p.q_sh) +
                                  query.m * npu_u64(p.q_sm) + d);
    }
    NPU_UNROLL
    for (npu_u32 e = 0; e < count; e += 4) {
      NpuQuad quad;
      NPU_UNROLL
      for (npu_u32 c = 0; c < 4; ++c) quad.v[c] = npu_element(wide, e + c, T());
      npu_store_quad(queries, row * p.q_d + d + e, quad);
    }
  }
}

// A lane's products, by row, then by key.
template <npu_u32 ROWS>
struct NpuSplitDots {
  npu_f32 v[ROWS * NPU_SPLIT_EACH];
};

// Adds the products of `rows` rows of queries with the lane's keys, for the elements in 16 bytes
// from `first` on.
template <class T, npu_u32 ROWS>
NPU_FUNC void npu_split_multiply(THREAD_REF(NpuSplitDots<ROWS>) dots, NpuSplitWide keys,
                                 THREADGROUP_PTR(npu_f32) queries, npu_u32 first, npu_u32 width,
                                 npu_u32 rows) {
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  const npu_u32 together = NPU_SPLIT_TOGETHER(ROWS);
  NPU_UNROLL
  for (npu_u32 e = 0; e < count; e += 4) {
    npu_f32 key[NPU_SPLIT_EACH][4];
    NPU_UNROLL
    for (npu_u32 i = 0; i < NPU_SPLIT_EACH; ++i) {
      NPU_UNROLL
      for (npu_u32 c = 0; c < 4; ++c) key[i][c] = npu_element(keys.key[i], e + c, T());
    }
    NPU_UNROLL
    for (npu_u32 start = 0; start < ROWS; start += together) {
      if (start >= rows) continue;
      NPU_UNROLL
      for (npu_u32 r = start; r < start + together; ++r) {
        const NpuQuad quad = npu_load_quad(queries, r * width + first + e);
        NPU_UNROLL
        for (npu_u32 i = 0; i < NPU_SPLIT_EACH; ++i) {
          NPU_UNROLL
          for (npu_u32 c = 0; c < 4; ++c) {
            dots.v[r * NPU_SPLIT_EACH + i] += quad.v[c] * key[i][c];
          }
        }
      }
    }
  }
}

// One step of a sum over lanes: a lane keeps one half of the 2 N products that are left, the upper
// one where its bit of `partner` is set, and passes on the half that its partner keeps.
template <npu_u32 N, npu_u32 ROWS>
NPU_FUNC void npu_split_fold(THREAD_REF(NpuSplitDots<ROWS>) dots, npu_u32 lane,
                             npu_u32 partner NPU_SITE_PARAM) {
  const bool upper = (lane & partner) != 0;
  NPU_UNROLL
  for (npu_u32 i = 0; i < N; ++i) {
    const npu_f32 keep = upper ? dots.v[i + N] : dots.v[i];
    const npu_f32 pass = upper ? dots.v[i] : dots.v[i + N];
    dots.v[i] = keep + npu_simd_shuffle_xor(pass, partner NPU_SITE_ARG);
  }
}

// Of a row and a part: the largest score, and the sum of exponentials relative to it.
struct NpuSplitStats {
  npu_f32 largest, total;
};

// By a SIMD group: the softmax of the part's scores from `first` on, which become exponentials.
NPU_FUNC NpuSplitStats npu_split_softmax(THREADGROUP_PTR(npu_f32) scores, npu_u32 first,
                                         npu_u32 lane NPU_SITE_PARAM) {
  const npu_u32 at = first + lane;
  const npu_f32 a = scores[at];
  const npu_f32 b = scores[at + NPU_SIMD_WIDTH];
  const npu_f32 largest = npu_simd_reduce(NPU_REDUCE_MAX, npu_max(a, b) NPU_SITE_ARG);
  // While all scores are -inf any finite shift makes their exponentials 0.
  const npu_f32 shift = largest == -NPU_INFINITY ? 0.0f : largest;
  const npu_f32 e_a = npu_exp(a - shift);
  const npu_f32 e_b = npu_exp(b - shift);
  scores[at] = e_a;
  scores[at + NPU_SIMD_WIDTH] = e_b;
  return {largest, npu_simd_reduce(NPU_REDUCE_SUM, e_a + e_b NPU_SITE_ARG)};
}

// Sums of values, by row, then by element of 16 bytes.
template <npu_u32 COUNT>
struct NpuSplitSums {
  npu_f32 v[COUNT];
};
#define NPU_SPLIT_SUMS(T, rows) NpuSplitSums<(rows) * (NPU_WIDE_BYTES / sizeof(T))>

// The lane's values times the exponentials of `rows` rows: those of row r and the lane's keys are
// from `first` + r * NPU_SPLIT_KEYS on. Half a SIMD group ends with the sums of both halves for
// half of the rows: row r in the first ROWS / 2, or that behind it.
template <class T, npu_u32 ROWS>
NPU_FUNC void npu_split_weigh(THREAD_REF(NPU_SPLIT_SUMS(T, ROWS)) sum, NpuSplitWide values,
                              THREADGROUP_PTR(npu_f32) scores, npu_u32 first, npu_u32 rows,
                              bool upper NPU_SITE_PARAM) {
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  const npu_u32 together = NPU_SPLIT_TOGETHER(ROWS);
  NPU_UNROLL
  for (npu_u32 start = 0; start < ROWS; start += together) {
    NPU_UNROLL
    for (npu_u32 r = start; r < start + together; ++r) {
      NPU_UNROLL
      for (npu_u32 e = 0; e < count; ++e) sum.v[r * count + e] = 0.0f;
    }
    if (start >= rows) continue;
    NpuQuad weight[together];
    NPU_UNROLL
    for (npu_u32 r = 0; r < together; ++r) {
      weight[r] = npu_load_quad(scores, first + (start + r) * NPU_SPLIT_KEYS);
    }
    NPU_UNROLL
    for (npu_u32 i = 0; i < NPU_SPLIT_EACH; ++i) {
      NPU_UNROLL
      for (npu_u32 e = 0; e < count; ++e) {
        const npu_f32 value = npu_element(values.key[i], e, T());
        NPU_UNROLL
        for (npu_u32 r = 0; r < together; ++r) {
          sum.v[(start + r) * count + e] += weight[r].v[i] * value;
        }
      }
    }
  }
  // A single row's sums are in both halves.
  if (ROWS == 1) {
    NPU_UNROLL
    for (npu_u32 i = 0; i < count; ++i) {
      sum.v[i] += npu_simd_shuffle_xor(sum.v[i], NPU_SPLIT_LANES NPU_SITE_ARG);
    }
  }
  NPU_UNROLL
  for (npu_u32 i = 0; i < ROWS / 2 * count; ++i) {
    const npu_f32 low = sum.v[i];
    const npu_f32 high = sum.v[i + ROWS / 2 * count];
    sum.v[i] = (upper ? high : low) +
               npu_simd_shuffle_xor(upper ? low : high, NPU_SPLIT_LANES NPU_SITE_ARG);
  }
}

// Stores 16 bytes' sums of a row, a quad at a time.
template <class T, npu_u32 ROWS>
NPU_FUNC void npu_split_store(THREADGROUP_PTR(npu_f32) room, npu_u32 to,
                              THREAD_REF(NPU_SPLIT_SUMS(T, ROWS)) sum, npu_u32 row) {
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  NPU_UNROLL
  for (npu_u32 e = 0; e < count; e += 4) {
    const npu_u32 at = row * count + e;
    const NpuQuad quad = {{sum.v[at], sum.v[at + 1], sum.v[at + 2], sum.v[at + 3]}};
    npu_store_quad(room, to + e, quad);
  }
}

#endif  // NPU_ATTENTION_SPLIT_H_
