// Attention in tiles, for the schedules of many queries: a threadgroup of 128 threads takes 32
// queries of one head, for 128 columns of v, and 64 keys at a time. Each thread keeps the scores of
// four queries with four keys, and the sums of those queries for two groups of four columns, in
// registers; 16 neighbours share four queries and find their softmax by shuffles.
//
// Blocks of keys start at multiples of 64, so that the order of sums does not depend on what else
// is computed.
#ifndef NPU_ATTENTION_TILES_H_
#define NPU_ATTENTION_TILES_H_

#include "attention.h"
#include "group_reduce.h"
#include "wide.h"

#define NPU_TILES_THREADS 128
#define NPU_TILES_KEYS 64
// Values of the common axis of queries and keys that are multiplied at a time.
#define NPU_TILES_DEPTH 16
// Queries of a thread, its keys, and the columns that it sums at a time.
#define NPU_TILES_OWN 4
// Threads that share queries; their keys are 16 apart, their groups of columns too.
#define NPU_TILES_LANES 16
// Groups of columns of a thread.
#define NPU_TILES_GROUPS 2
// Keys whose values are in threadgroup memory at a time.
#define NPU_TILES_VALUES 16
// The pitches keep quads of neighbouring rows off the same banks.
#define NPU_TILES_PITCH 20
#define NPU_TILES_SCORE_PITCH 68
#define NPU_TILES_K_PLACE (NPU_TILES_ROWS * NPU_TILES_PITCH)

#if NPU_ATTENTION_TILES_ROOM_ELEMENTS < (NPU_TILES_ROWS + NPU_TILES_KEYS) * NPU_TILES_PITCH || \
    NPU_ATTENTION_TILES_ROOM_ELEMENTS < NPU_TILES_VALUES * NPU_TILES_COLUMNS ||                \
    NPU_ATTENTION_TILES_SCORES_ELEMENTS < NPU_TILES_ROWS * NPU_TILES_SCORE_PITCH
#error "attention: the schedule's threadgroup arrays are too small"
#endif

// 16 bytes of a row as float32 into threadgroup memory.
template <class T>
NPU_FUNC void npu_tiles_store(THREADGROUP_PTR(npu_f32) room, npu_u32 to, NpuWide wide) {
  NPU_UNROLL
  for (npu_u32 e = 0; e < NPU_WIDE_BYTES / sizeof(T); e += 4) {
    NpuQuad quad;
    NPU_UNROLL
    for (npu_u32 c = 0; c < 4; ++c) quad.v[c] = npu_element(wide, e + c, T());
    npu_store_quad(room, to + e, quad);
  }
}

// Part of a matrix whose rows are loaded in pieces of 16 bytes: rows [first, end) are there.
struct NpuTilesRows {
  npu_u64 base, stride;
  npu_u32 first, end, depth;
};

// Piece `number` of the rows from `row` on, `per_row` pieces of each from column `column` on.
template <class T>
NPU_FUNC NpuWide npu_tiles_load(DEVICE_PTR(const T) from, NpuTilesRows rows, npu_u32 row,
                                npu_u32 column, npu_u32 number, npu_u32 per_row) {
  const npu_u32 n = row + number / per_row;
  const npu_u32 d = column + number % per_row * (NPU_WIDE_BYTES / sizeof(T));
  if (n < rows.first || n >= rows.end || d >= rows.depth) return npu_wide_zero();
  return npu_load_wide(from, rows.base + n * rows.stride + d);
}

struct NpuTilesScores {
  npu_f32 v[NPU_TILES_OWN][NPU_TILES_OWN];
};

// Products of 32 queries and 64 keys; the next pieces of both are on their way while one is
// multiplied.
template <class T>
NPU_FUNC NpuTilesScores npu_tiles_products(DEVICE_PTR(const T) q, DEVICE_PTR(const T) k,
                                           NpuTilesRows queries, NpuTilesRows keys,
                                           npu_u32 first_row, npu_u32 first_key,
                                           THREADGROUP_PTR(npu_f32) room, npu_u32 thread) {
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  const npu_u32 per_row = NPU_TILES_DEPTH / count;
  const npu_u32 k_loads = NPU_TILES_KEYS * per_row / NPU_TILES_THREADS;
  NpuTilesScores scores;
  NPU_UNROLL
  for (npu_u32 i = 0; i < NPU_TILES_OWN; ++i) {
    NPU_UNROLL
    for (npu_u32 j = 0; j < NPU_TILES_OWN; ++j) scores.v[i][j] = 0.0f;
  }
  const bool loads_query = thread < NPU_TILES_ROWS * per_row;
  NpuWide query = npu_wide_zero();
  NpuWide key[k_loads];
  if (loads_query) query = npu_tiles_load<T>(q, queries, first_row, 0, thread, per_row);
  NPU_UNROLL
  for (npu_u32 l = 0; l < k_loads; ++l) {
    key[l] = npu_tiles_load<T>(k, keys, first_key, 0, thread + l * NPU_TILES_THREADS, per_row);
  }
  const npu_u32 row = thread / NPU_TILES_LANES * NPU_TILES_OWN;
  const npu_u32 lane = thread % NPU_TILES_LANES;
  for (npu_u32 depth = 0; depth < keys.depth; depth += NPU_TILES_DEPTH) {
    if (loads_query) {
      const npu_u32 to = thread / per_row * NPU_TILES_PITCH + thread % per_row * count;
      npu_tiles_store<T>(room, to, query);
    }
    NPU_UNROLL
    for (npu_u32 l = 0; l < k_loads; ++l) {
      const npu_u32 piece = thread + l * NPU_TILES_THREADS;
      const npu_u32 to = piece / per_row * NPU_TILES_PITCH + piece % per_row * count;
      npu_tiles_store<T>(room, NPU_TILES_K_PLACE + to, key[l]);
    }
    npu_barrier();
    const npu_u32 next = depth + NPU_TILES_DEPTH;
    if (loads_query) query = npu_tiles_load<T>(q, queries, first_row, next, thread, per_row);
    NPU_UNROLL
    for (npu_u32 l = 0; l < k_loads; ++l) {
      key[l] = npu_tiles_load<T>(k, keys, first_key, next, thread + l * NPU_TILES_THREADS, per_row);
    }
    NPU_UNROLL
    for (npu_u32 d = 0; d < NPU_TILES_DEPTH; d += 4) {
      NpuQuad a[NPU_TILES_OWN];
      NpuQuad b[NPU_TILES_OWN];
      NPU_UNROLL
      for (npu_u32 i = 0; i < NPU_TILES_OWN; ++i) {
        a[i] = npu_load_quad(room, (row + i) * NPU_TILES_PITCH + d);
        b[i] = npu_load_quad(
            room, NPU_TILES_K_PLACE + (lane + i * NPU_TILES_LANES) * NPU_TILES_PITCH + d);
      }
      NPU_UNROLL
      for (npu_u32 i = 0; i < NPU_TILES_OWN; ++i) {
        NPU_UNROLL
        for (npu_u32 j = 0; j < NPU_TILES_OWN; ++j) {
          NPU_UNROLL
          for (npu_u32 c = 0; c < 4; ++c) scores.v[i][j] += a[i].v[c] * b[j].v[c];
        }
      }
    }
    npu_barrier();
  }
  return scores;
}

// Over the 16 threads that share queries.
NPU_FUNC npu_f32 npu_tiles_reduce(npu_u32 op, npu_f32 v) {
  NPU_UNROLL
  for (npu_u32 mask = NPU_TILES_LANES / 2; mask != 0; mask /= 2) {
    v = npu_combine(op, v, npu_simd_shuffle_xor(v, mask));
  }
  return v;
}

// What a threadgroup computes.
struct NpuTilesBlock {
  npu_u32 batch, head, first_row, end_row, first_column;
};

NPU_FUNC NpuTilesBlock npu_tiles_block(CONSTANT_REF(AttentionParams) p, npu_u32 rows_at,
                                       npu_u32 columns_at, npu_u32 outer) {
  // The last queries first: those of a causal prompt have the most to do.
  const npu_u32 blocks = (p.y_m + NPU_TILES_ROWS - 1) / NPU_TILES_ROWS;
  const npu_u32 first_row = (blocks - 1 - rows_at) * NPU_TILES_ROWS;
  const npu_u32 left = p.y_m - first_row;
  return {outer / p.y_h, outer % p.y_h, first_row,
          first_row + (left < NPU_TILES_ROWS ? left : NPU_TILES_ROWS),
          columns_at * NPU_TILES_COLUMNS};
}

// Of each of a thread's queries: the largest score, the sum of exponentials, sums of values.
struct NpuTilesFound {
  npu_f32 largest[NPU_TILES_OWN];
  npu_f32 total[NPU_TILES_OWN];
  npu_f32 sums[NPU_TILES_OWN][NPU_TILES_GROUPS][4];
};

// Among the keys `seen`; all threads of the threadgroup take part.
template <class T>
NPU_FUNC void npu_tiles_attend(THREAD_REF(NpuTilesFound) found, NpuTilesBlock at, NpuKeys seen,
                               DEVICE_PTR(const T) q, DEVICE_PTR(const T) k, DEVICE_PTR(const T) v,
                               DEVICE_PTR(const npu_u8) mask, DEVICE_PTR(const npu_u8) positions,
                               CONSTANT_REF(AttentionParams) p, THREADGROUP_PTR(npu_f32) room,
                               THREADGROUP_PTR(npu_f32) scores, NpuThread self) {
  const npu_u32 batch = at.batch;
  const npu_u32 head = at.head;
  const npu_u32 kv_head = head / (p.q_h / p.k_h);
  const npu_u32 first_row = at.first_row;
  const npu_u32 end_row = at.end_row;
  const npu_u32 first_column = at.first_column;
  const npu_u64 mask_base = batch * npu_u64(p.mask_sb) + head * npu_u64(p.mask_sh);
  const NpuTilesRows queries = {batch * npu_u64(p.q_sb) + head * npu_u64(p.q_sh), npu_u64(p.q_sm),
                                first_row, end_row, p.q_d};
  const NpuTilesRows keys = {batch * npu_u64(p.k_sb) + kv_head * npu_u64(p.k_sh), npu_u64(p.k_sn),
                             seen.first, seen.end, p.q_d};
  const NpuTilesRows values = {batch * npu_u64(p.v_sb) + kv_head * npu_u64(p.v_sh), npu_u64(p.v_sn),
                               seen.first, seen.end, p.v_d};
  const npu_u32 row = self.index / NPU_TILES_LANES * NPU_TILES_OWN;
  const npu_u32 lane = self.index % NPU_TILES_LANES;
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  const npu_u32 pieces = NPU_TILES_COLUMNS / count;
  const npu_u32 v_loads = NPU_TILES_VALUES * pieces / NPU_TILES_THREADS;
  const bool plain = p.softcap <= 0.0f && p.mask_n == 0;

  NpuKeys visible[NPU_TILES_OWN];
  NPU_UNROLL
  for (npu_u32 i = 0; i < NPU_TILES_OWN; ++i) {
    visible[i] = npu_visible_keys(positions, p, batch, first_row + row + i);
    found.largest[i] = -NPU_INFINITY;
    found.total[i] = 0.0f;
    NPU_UNROLL
    for (npu_u32 g = 0; g < NPU_TILES_GROUPS; ++g) {
      NPU_UNROLL
      for (npu_u32 c = 0; c < 4; ++c) found.sums[i][g][c] = 0.0f;
    }
  }

  for (npu_u32 first_key = seen.first / NPU_TILES_KEYS * NPU_TILES_KEYS; first_key < seen.end;
       first_key += NPU_TILES_KEYS) {
    NpuTilesScores block =
        npu_tiles_products<T>(q, k, queries, keys, first_row, first_key, room, self.index);
    // The first values are on their way while the softmax is found.
    NpuWide value[v_loads];
    NPU_UNROLL
    for (npu_u32 l = 0; l < v_loads; ++l) {
      value[l] = npu_tiles_load<T>(v, values, first_key, first_column,
                                   self.index + l * NPU_TILES_THREADS, pieces);
    }
    const npu_u32 place = row * NPU_TILES_SCORE_PITCH + lane;
    if (!plain) {
      // Soft caps and masks are long: one score after the other, through threadgroup memory.
      NPU_UNROLL
      for (npu_u32 i = 0; i < NPU_TILES_OWN * NPU_TILES_OWN; ++i) {
        scores[place + i / NPU_TILES_OWN * NPU_TILES_SCORE_PITCH +
               i % NPU_TILES_OWN * NPU_TILES_LANES] = block.v[i / NPU_TILES_OWN][i % NPU_TILES_OWN];
      }
      NPU_NO_UNROLL
      for (npu_u32 i = 0; i < NPU_TILES_OWN * NPU_TILES_OWN; ++i) {
        const npu_u32 m = first_row + row + i / NPU_TILES_OWN;
        const npu_u32 n = first_key + lane + i % NPU_TILES_OWN * NPU_TILES_LANES;
        const npu_u32 at =
            place + i / NPU_TILES_OWN * NPU_TILES_SCORE_PITCH + i % NPU_TILES_OWN * NPU_TILES_LANES;
        if (m >= p.q_m || n >= p.k_n) continue;
        scores[at] = npu_attention_score(scores[at], mask, p, mask_base, m, n);
      }
    }
    NPU_UNROLL
    for (npu_u32 i = 0; i < NPU_TILES_OWN; ++i) {
      npu_f32 most = found.largest[i];
      NPU_UNROLL
      for (npu_u32 j = 0; j < NPU_TILES_OWN; ++j) {
        const npu_u32 n = first_key + lane + j * NPU_TILES_LANES;
        const npu_u32 at = place + i * NPU_TILES_SCORE_PITCH + j * NPU_TILES_LANES;
        npu_f32 score = -NPU_INFINITY;
        if (n >= visible[i].first && n < visible[i].end) {
          score = plain ? block.v[i][j] * p.scale : scores[at];
        }
        block.v[i][j] = score;
        most = npu_max(most, score);
      }
      most = npu_tiles_reduce(NPU_REDUCE_MAX, most);
      // While all scores are -inf any finite shift makes their exponentials 0.
      const npu_f32 shift = most == -NPU_INFINITY ? 0.0f : most;
      npu_f32 sum = 0.0f;
      NPU_UNROLL
      for (npu_u32 j = 0; j < NPU_TILES_OWN; ++j) {
        const npu_f32 e = npu_exp(block.v[i][j] - shift);
        scores[place + i * NPU_TILES_SCORE_PITCH + j * NPU_TILES_LANES] = e;
        sum += e;
      }
      const npu_f32 factor = npu_exp(found.largest[i] - shift);
      found.largest[i] = most;
      found.total[i] = found.total[i] * factor + npu_tiles_reduce(NPU_REDUCE_SUM, sum);
      NPU_UNROLL
      for (npu_u32 g = 0; g < NPU_TILES_GROUPS; ++g) {
        NPU_UNROLL
        for (npu_u32 c = 0; c < 4; ++c) found.sums[i][g][c] *= factor;
      }
    }

    for (npu_u32 n = 0; n < NPU_TILES_KEYS && first_key + n < seen.end; n += NPU_TILES_VALUES) {
      NPU_UNROLL
      for (npu_u32 l = 0; l < v_loads; ++l) {
        npu_tiles_store<T>(room, (self.index + l * NPU_TILES_THREADS) * count, value[l]);
      }
      npu_barrier();
      NPU_UNROLL
      for (npu_u32 l = 0; l < v_loads; ++l) {
        value[l] = npu_tiles_load<T>(v, values, first_key + n + NPU_TILES_VALUES, first_column,
                                     self.index + l * NPU_TILES_THREADS, pieces);
      }
      NPU_UNROLL
      for (npu_u32 key = 0; key < NPU_TILES_VALUES; key += 4) {
        NpuQuad weight[NPU_TILES_OWN];
        NPU_UNROLL
        for (npu_u32 i = 0; i < NPU_TILES_OWN; ++i) {
          weight[i] = npu_load_quad(scores, (row + i) * NPU_TILES_SCORE_PITCH + n + key);
        }
        NPU_UNROLL
        for (npu_u32 j = 0; j < 4; ++j) {
          NPU_UNROLL
          for (npu_u32 g = 0; g < NPU_TILES_GROUPS; ++g) {
            const NpuQuad quad = npu_load_quad(
                room, (key + j) * NPU_TILES_COLUMNS + (g * NPU_TILES_LANES + lane) * 4);
            NPU_UNROLL
            for (npu_u32 i = 0; i < NPU_TILES_OWN; ++i) {
              NPU_UNROLL
              for (npu_u32 c = 0; c < 4; ++c) found.sums[i][g][c] += weight[i].v[j] * quad.v[c];
            }
          }
        }
      }
      npu_barrier();
    }
  }
}

#endif  // NPU_ATTENTION_TILES_H_
