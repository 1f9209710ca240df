// What all ways to run kernel attention share: which keys a query sees, and what becomes of the
// product of a query and a key.
#ifndef NPU_ATTENTION_H_
#define NPU_ATTENTION_H_

#include "common.h"

// What the mask adds to a score.
NPU_FUNC npu_f32 npu_mask_term(DEVICE_PTR(const npu_u8) mask, npu_u32 dtype, npu_u64 index) {
  switch (dtype) {
    case NPU_DTYPE_F32:
      return DEVICE_CAST(const npu_f32, mask)[index];
    case NPU_DTYPE_F16:
      return npu_widen(DEVICE_CAST(const npu_f16, mask)[index]);
    case NPU_DTYPE_BF16:
      return npu_widen(DEVICE_CAST(const npu_bf16, mask)[index]);
    case NPU_DTYPE_B8:
      return mask[index] != 0 ? 0.0f : -NPU_INFINITY;
    default:
      return 0.0f;
  }
}

// The keys that query m sees for its position: [first, end).
struct NpuKeys {
  npu_u32 first, end;
};

NPU_FUNC NpuKeys npu_visible_keys(DEVICE_PTR(const npu_u8) positions,
                                  CONSTANT_REF(AttentionParams) p, npu_u32 batch, npu_u32 m) {
  NpuKeys keys = {0, p.k_n};
  if (m >= p.q_m) {
    keys.end = 0;
    return keys;
  }
  npu_i64 position = npu_i64(m);
  if (p.positions_m != 0) {
    const npu_u64 at = batch * npu_u64(p.positions_sb) + m * npu_u64(p.positions_sm);
    if (p.positions_dtype == NPU_DTYPE_I64) position = DEVICE_CAST(const npu_i64, positions)[at];
    if (p.positions_dtype == NPU_DTYPE_I32) position = DEVICE_CAST(const npu_i32, positions)[at];
  }
  if ((p.positions_m != 0 || p.causal != 0) && position < npu_i64(p.k_n)) {
    keys.end = position < 0 ? 0 : npu_u32(position) + 1;
  }
  if (p.causal != 0 && keys.end > m + 1) keys.end = m + 1;
  if (p.window != 0 && position >= npu_i64(p.window)) {
    const npu_i64 first = position - npu_i64(p.window) + 1;
    keys.first = first < npu_i64(keys.end) ? npu_u32(first) : keys.end;
  }
  return keys;
}

// The keys that any of the queries [first, end) sees, from the first to the last; none: an empty
// range.
NPU_FUNC NpuKeys npu_seen_keys(DEVICE_PTR(const npu_u8) positions, CONSTANT_REF(AttentionParams) p,
                               npu_u32 batch, npu_u32 first, npu_u32 end) {
  NpuKeys seen = {p.k_n, 0};
  for (npu_u32 m = first; m < end; ++m) {
    const NpuKeys keys = npu_visible_keys(positions, p, batch, m);
    if (keys.first < keys.end) {
      seen.first = keys.first < seen.first ? keys.first : seen.first;
      seen.end = keys.end > seen.end ? keys.end : seen.end;
    }
  }
  return seen;
}

// The same of at most 32 queries, one in each lane of a SIMD group.
NPU_FUNC NpuKeys npu_simd_seen_keys(DEVICE_PTR(const npu_u8) positions,
                                    CONSTANT_REF(AttentionParams) p, npu_u32 batch, npu_u32 first,
                                    npu_u32 end, npu_u32 lane NPU_SITE_PARAM) {
  NpuKeys seen =
      npu_seen_keys(positions, p, batch, first + lane, first + lane < end ? first + lane + 1 : 0);
  for (npu_u32 mask = 16; mask != 0; mask /= 2) {
    const npu_u32 other =
        npu_as_u32(npu_simd_shuffle_xor(npu_as_f32(seen.first), mask NPU_SITE_ARG));
    const npu_u32 last = npu_as_u32(npu_simd_shuffle_xor(npu_as_f32(seen.end), mask NPU_SITE_ARG));
    seen.first = other < seen.first ? other : seen.first;
    seen.end = last > seen.end ? last : seen.end;
  }
  return seen;
}

// The score of query m and key n from their product; the head's mask begins at `mask_base`.
NPU_FUNC npu_f32 npu_attention_score(npu_f32 product, DEVICE_PTR(const npu_u8) mask,
                                     CONSTANT_REF(AttentionParams) p, npu_u64 mask_base, npu_u32 m,
                                     npu_u32 n) {
  npu_f32 score = product * p.scale;
  if (p.softcap > 0.0f) score = p.softcap * npu_tanh(score / p.softcap);
  if (p.mask_n != 0) {
    const npu_u64 at = mask_base + m * npu_u64(p.mask_sm) + n * npu_u64(p.mask_sn);
    score += npu_mask_term(mask, p.mask_dtype, at);
  }
  return score;
}

#endif  // NPU_ATTENTION_H_
