// Rotary embedding of queries and keys, and the cache rows of keys and values: one thread per
// element.
#include "common.h"
#include "index.h"
#include "typed.h"

// Element `lane` of a head that starts at `base` and whose elements are `stride` apart, turned.
template <class T>
NPU_FUNC npu_f32 npu_rotated(DEVICE_PTR(const T) x, npu_u64 base, npu_u64 stride, npu_u32 lane,
                             DEVICE_PTR(const npu_u8) cosine, DEVICE_PTR(const npu_u8) sine,
                             CONSTANT_REF(RotaryCacheParams) p, npu_u32 b, npu_u32 t) {
  const npu_f32 own = npu_widen(x[base + lane * stride]);
  const npu_u32 half_size = p.cos_r;
  if (lane >= 2 * half_size) return own;
  const bool low = lane < half_size;
  const npu_u32 pair = low ? lane : lane - half_size;
  const npu_f32 other = npu_widen(x[base + (low ? lane + half_size : pair) * stride]);
  const npu_f32 c =
      npu_load_f32(cosine, p.cos_dtype,
                   b * npu_u64(p.cos_sb) + t * npu_u64(p.cos_st) + pair * npu_u64(p.cos_sr));
  const npu_f32 s = npu_load_f32(
      sine, p.sin_dtype, b * npu_u64(p.sin_sb) + t * npu_u64(p.sin_st) + pair * npu_u64(p.sin_sr));
  return low ? own * c - other * s : own * c + other * s;
}

template <class T>
NPU_FUNC void npu_rotary_cache(DEVICE_PTR(const T) q, DEVICE_PTR(const T) k, DEVICE_PTR(const T) v,
                               DEVICE_PTR(const npu_u8) cosine, DEVICE_PTR(const npu_u8) sine,
                               DEVICE_PTR(const npu_u8) slots, DEVICE_PTR(T) q_out,
                               DEVICE_PTR(T) k_cache, DEVICE_PTR(T) v_cache,
                               CONSTANT_REF(RotaryCacheParams) p, NpuThread self) {
  const npu_u32 tokens = p.q_b * p.q_t;
  const npu_u32 token = self.y;
  if (token >= tokens) return;
  const npu_u32 b = token / p.q_t;
  const npu_u32 t = token % p.q_t;

  npu_u32 lane = self.x;
  const npu_u32 query_lanes = p.q_h * p.q_d;
  if (lane < query_lanes) {
    const npu_u32 h = lane / p.q_d;
    lane = lane % p.q_d;
    const npu_u64 base = b * npu_u64(p.q_sb) + t * npu_u64(p.q_st) + h * npu_u64(p.q_sh);
    const npu_f32 value = npu_rotated(q, base, npu_u64(p.q_sd), lane, cosine, sine, p, b, t);
    q_out[b * npu_u64(p.q_out_sb) + t * npu_u64(p.q_out_st) + h * npu_u64(p.q_out_sh) +
          lane * npu_u64(p.q_out_sd)] = npu_narrow<T>(value);
    return;
  }
  lane -= query_lanes;
  const npu_u32 key_lanes = p.k_g * p.k_d;
  const bool is_key = lane < key_lanes;
  if (!is_key) lane -= key_lanes;
  if (!is_key && lane >= p.v_g * p.v_e) return;

  const npu_u32 row = npu_index(slots, p.slots_dtype,
                                b * npu_u64(p.slots_sb) + t * npu_u64(p.slots_st), p.k_cache_n, 0);
  if (row >= p.k_cache_n) return;
  // A later token with the same slot of the same cache wins.
  const bool one_cache = p.k_cache_c == 1;
  const npu_u32 end = one_cache ? tokens : (b + 1) * p.q_t;
  const npu_u32 cache = one_cache ? 0 : b;
  for (npu_u32 later = token + 1; later < end; ++later) {
    const npu_u64 at = later / p.q_t * npu_u64(p.slots_sb) + later % p.q_t * npu_u64(p.slots_st);
    if (npu_index(slots, p.slots_dtype, at, p.k_cache_n, 0) == row) return;
  }
  if (is_key) {
    const npu_u32 g = lane / p.k_d;
    lane = lane % p.k_d;
    const npu_u64 base = b * npu_u64(p.k_sb) + t * npu_u64(p.k_st) + g * npu_u64(p.k_sg);
    const npu_f32 value = npu_rotated(k, base, npu_u64(p.k_sd), lane, cosine, sine, p, b, t);
    k_cache[cache * npu_u64(p.k_cache_sc) + row * npu_u64(p.k_cache_sn) +
            g * npu_u64(p.k_cache_sg) + lane * npu_u64(p.k_cache_sd)] = npu_narrow<T>(value);
    return;
  }
  const npu_u32 g = lane / p.v_e;
  lane = lane % p.v_e;
  v_cache[cache * npu_u64(p.v_cache_sc) + row * npu_u64(p.v_cache_sn) + g * npu_u64(p.v_cache_sg) +
          lane * npu_u64(p.v_cache_se)] =
      v[b * npu_u64(p.v_sb) + t * npu_u64(p.v_st) + g * npu_u64(p.v_sg) + lane * npu_u64(p.v_se)];
}
