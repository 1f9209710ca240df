// The extreme of long rows. Schedule wide: one large threadgroup a row, which reads 16 bytes at a
// time, of floating values side by side. Schedule long: few rows of any kind, in parts.
#include "arg_reduce.h"
#include "common.h"
#include "group_reduce.h"
#include "typed.h"
#include "wide.h"

// Loads of a thread that are under way at a time.
#define NPU_ARG_AT_ONCE 4
#define NPU_ARG_NONE npu_i32(-1)

// An extreme: its key, which is larger for what wins, and its place; a place below 0 is none.
struct NpuArgFound {
  npu_i32 key, place;
};

NPU_FUNC NpuArgFound npu_arg_better(NpuArgFound a, NpuArgFound b) {
  if (b.place < 0) return a;
  if (a.place < 0 || b.key > a.key || (b.key == a.key && b.place < a.place)) return b;
  return a;
}

// An element whose largest is looked for.
template <class T, bool LEAST>
NPU_FUNC npu_f32 npu_arg_value(NpuWide wide, npu_u32 e) {
  const npu_f32 v = npu_element(wide, e, T());
  return LEAST ? -v : v;
}

// What a thread finds in its share of the `length` elements from `row` on, which lie at a multiple
// of 16 bytes. In 16 bytes only the largest is looked for, and where they are once it is known.
template <class T, bool LEAST>
NPU_FUNC NpuArgFound npu_arg_search(DEVICE_PTR(const T) x, npu_u64 row, npu_u32 length,
                                    NpuThread self) {
  const npu_u32 threads = NPU_ARG_REDUCE_WIDE_THREADGROUP_X;
  const npu_u32 count = NPU_WIDE_BYTES / sizeof(T);
  const npu_u32 wides = length / count;
  npu_f32 best = -NPU_INFINITY;
  npu_u32 best_wide = wides;
  npu_i32 nan = NPU_ARG_NONE;
  for (npu_u32 first = self.index; first < wides; first += NPU_ARG_AT_ONCE * threads) {
    NpuWide wide[NPU_ARG_AT_ONCE];
    NPU_UNROLL
    for (npu_u32 i = 0; i < NPU_ARG_AT_ONCE; ++i) {
      const npu_u32 at = first + i * threads;
      wide[i] = npu_wide_zero();
      if (at < wides) wide[i] = npu_load_wide(x, row + at * count);
    }
    NPU_UNROLL
    for (npu_u32 i = 0; i < NPU_ARG_AT_ONCE; ++i) {
      const npu_u32 at = first + i * threads;
      if (at >= wides) continue;
      npu_f32 most = npu_arg_value<T, LEAST>(wide[i], 0);
      // NaN where a value is NaN (or infinite).
      npu_f32 strange = most * 0.0f;
      NPU_UNROLL
      for (npu_u32 e = 1; e < count; ++e) {
        const npu_f32 v = npu_arg_value<T, LEAST>(wide[i], e);
        most = v > most ? v : most;
        strange += v * 0.0f;
      }
      if (strange != strange && nan < 0) {
        NPU_UNROLL
        for (npu_u32 e = count; e-- != 0;) {
          const npu_f32 v = npu_arg_value<T, LEAST>(wide[i], e);
          if (v != v) nan = npu_i32(at * count + e);
        }
      }
      if (best_wide == wides || most > best) {
        best = most;
        best_wide = at;
      }
    }
  }
  npu_i32 place = NPU_ARG_NONE;
  if (best_wide < wides) {
    const NpuWide wide = npu_load_wide(x, row + best_wide * count);
    NPU_UNROLL
    for (npu_u32 e = count; e-- != 0;) {
      if (npu_arg_value<T, LEAST>(wide, e) == best) place = npu_i32(best_wide * count + e);
    }
  }
  // What does not fill 16 bytes.
  const npu_u32 k = wides * count + self.index;
  if (k < length) {
    npu_f32 v = npu_widen(x[row + k]);
    if (LEAST) v = -v;
    if (v != v && nan < 0) nan = npu_i32(k);
    if (place < 0 || v > best) {
      best = v;
      place = npu_i32(k);
    }
  }
  // -0 equals 0, the first NaN wins.
  const npu_i32 magnitude = npu_i32(npu_as_u32(best) & 0x7fffffffu);
  NpuArgFound found = {npu_as_u32(best) >> 31 != 0 ? -magnitude : magnitude, place};
  if (nan >= 0) found = {0x7fffffff, nan};
  return found;
}

template <class T>
NPU_FUNC NpuArgFound npu_arg_search_either(DEVICE_PTR(const T) x, npu_u64 row, npu_u32 length,
                                           bool least, NpuThread self) {
  return least ? npu_arg_search<T, true>(x, row, length, self)
               : npu_arg_search<T, false>(x, row, length, self);
}

// The best that the lanes of a SIMD group found.
NPU_FUNC NpuArgFound npu_arg_best_of_lanes(NpuArgFound found NPU_SITE_PARAM) {
  for (npu_u32 mask = NPU_SIMD_WIDTH / 2; mask != 0; mask /= 2) {
    const npu_f32 key = npu_as_f32(npu_u32(found.key));
    const npu_f32 place = npu_as_f32(npu_u32(found.place));
    const npu_u32 other = npu_as_u32(npu_simd_shuffle_xor(key, mask NPU_SITE_ARG));
    const npu_u32 there = npu_as_u32(npu_simd_shuffle_xor(place, mask NPU_SITE_ARG));
    found = npu_arg_better(found, {npu_i32(other), npu_i32(there)});
  }
  return found;
}

NPU_FUNC void npu_arg_reduce_wide(DEVICE_PTR(const npu_u8) x, DEVICE_PTR(npu_u8) y,
                                  DEVICE_PTR(npu_i64) index, CONSTANT_REF(ArgReduceParams) p,
                                  THREADGROUP_PTR(npu_i32) keys, THREADGROUP_PTR(npu_i32) places,
                                  NpuThread self) {
  const npu_u64 row = self.group_z * npu_u64(p.x_sa) + self.group_y * npu_u64(p.x_sb) +
                      self.group_x * npu_u64(p.x_sc);
  const bool least = p.op == NPU_ARG_MIN;
  NpuArgFound found = {0, NPU_ARG_NONE};
  if (p.x_dtype == NPU_DTYPE_F32) {
    found = npu_arg_search_either(DEVICE_CAST(const npu_f32, x), row, p.x_k, least, self);
  } else if (p.x_dtype == NPU_DTYPE_F16) {
    found = npu_arg_search_either(DEVICE_CAST(const npu_f16, x), row, p.x_k, least, self);
  } else {
    found = npu_arg_search_either(DEVICE_CAST(const npu_bf16, x), row, p.x_k, least, self);
  }
  found = npu_arg_best_of_lanes(found);
  if (self.lane == 0) {
    keys[self.simd] = found.key;
    places[self.simd] = found.place;
  }
  npu_barrier();
  // As many SIMD groups as lanes.
  found = npu_arg_best_of_lanes({keys[self.lane], places[self.lane]});
  if (self.index != 0) return;
  npu_store_extreme(x, y, index, p, self.group_z, self.group_y, self.group_x, found.place);
}

// Schedule long: part finds the best of NPU_ARG_PART elements of a row, join that of all parts.
// Rows are numbered by b, then c.

NPU_FUNC void npu_arg_reduce_long_part(DEVICE_PTR(const npu_u8) x, DEVICE_PTR(npu_u8),
                                       DEVICE_PTR(npu_i64), DEVICE_PTR(npu_i64) found_keys,
                                       DEVICE_PTR(npu_i64) found_places,
                                       CONSTANT_REF(ArgReduceParams) p,
                                       THREADGROUP_PTR(npu_i64) keys,
                                       THREADGROUP_PTR(npu_i64) places, NpuThread self) {
  const npu_u32 threads = NPU_ARG_REDUCE_LONG_PART_THREADGROUP_X;
  const npu_u64 row = self.group_z * npu_u64(p.x_sa) + self.group_y / p.x_c * npu_u64(p.x_sb) +
                      self.group_y % p.x_c * npu_u64(p.x_sc);
  const npu_u64 first = self.group_x * npu_u64(NPU_ARG_PART);
  npu_i64 best = 0;
  npu_i64 place = -1;
  NPU_UNROLL
  for (npu_u32 i = 0; i < NPU_ARG_PART / threads; ++i) {
    const npu_u64 k = first + i * threads + self.index;
    if (k >= p.x_k) continue;
    const npu_i64 key =
        npu_extreme_key(x, p.x_dtype, row + k * npu_u64(p.x_sk), p.op == NPU_ARG_MIN);
    if (place < 0 || key > best) {
      best = key;
      place = npu_i64(k);
    }
  }
  npu_best_of_group(best, place, keys, places, threads, self);
  if (self.index != 0) return;
  const npu_u64 parts = (npu_u64(p.x_k) + NPU_ARG_PART - 1) / NPU_ARG_PART;
  const npu_u64 to =
      (self.group_z * (npu_u64(p.x_b) * p.x_c) + self.group_y) * parts + self.group_x;
  found_keys[to] = keys[0];
  found_places[to] = places[0];
}

NPU_FUNC void npu_arg_reduce_long_join(DEVICE_PTR(const npu_u8) x, DEVICE_PTR(npu_u8) y,
                                       DEVICE_PTR(npu_i64) index, DEVICE_PTR(npu_i64) found_keys,
                                       DEVICE_PTR(npu_i64) found_places,
                                       CONSTANT_REF(ArgReduceParams) p,
                                       THREADGROUP_PTR(npu_i64) keys,
                                       THREADGROUP_PTR(npu_i64) places, NpuThread self) {
  const npu_u32 threads = NPU_ARG_REDUCE_LONG_JOIN_THREADGROUP_X;
  const npu_u64 parts = (npu_u64(p.x_k) + NPU_ARG_PART - 1) / NPU_ARG_PART;
  const npu_u64 base = (self.group_z * (npu_u64(p.x_b) * p.x_c) + self.group_y) * parts;
  npu_i64 best = 0;
  npu_i64 place = -1;
  for (npu_u64 i = self.index; i < parts; i += threads) {
    const npu_i64 key = found_keys[base + i];
    if (place < 0 || key > best) {
      best = key;
      place = found_places[base + i];
    }
  }
  npu_best_of_group(best, place, keys, places, threads, self);
  if (self.index != 0) return;
  npu_store_extreme(x, y, index, p, self.group_z, self.group_y / p.x_c, self.group_y % p.x_c,
                    places[0]);
}
