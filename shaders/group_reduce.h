// Reductions over a SIMD group and over a threadgroup of whole SIMD groups. The order is the same
// on every device: a butterfly in each SIMD group, then the SIMD groups in turn.
#ifndef NPU_GROUP_REDUCE_H_
#define NPU_GROUP_REDUCE_H_

#define NPU_SIMD_WIDTH 32

// The value that leaves the other operand of npu_combine unchanged; `op` is one of NPU_REDUCE_*.
NPU_FUNC npu_f32 npu_identity(npu_u32 op) {
  if (op == NPU_REDUCE_MAX) return -NPU_INFINITY;
  if (op == NPU_REDUCE_MIN) return NPU_INFINITY;
  return op == NPU_REDUCE_PROD ? 1.0f : 0.0f;
}

NPU_FUNC npu_f32 npu_combine(npu_u32 op, npu_f32 a, npu_f32 b) {
  if (op == NPU_REDUCE_MAX) return npu_max(a, b);
  if (op == NPU_REDUCE_MIN) return npu_min(a, b);
  return op == NPU_REDUCE_PROD ? a * b : a + b;
}

// The same for int64; sums and products wrap.
NPU_FUNC npu_i64 npu_exact_identity(npu_u32 op) {
  if (op == NPU_REDUCE_MAX) return npu_i64(npu_u64(1) << 63);
  if (op == NPU_REDUCE_MIN) return npu_i64(~(npu_u64(1) << 63));
  return op == NPU_REDUCE_PROD ? 1 : 0;
}

NPU_FUNC npu_i64 npu_exact_combine(npu_u32 op, npu_i64 a, npu_i64 b) {
  if (op == NPU_REDUCE_MAX) return a > b ? a : b;
  if (op == NPU_REDUCE_MIN) return a < b ? a : b;
  return op == NPU_REDUCE_PROD ? npu_i64(npu_u64(a) * npu_u64(b))
                               : npu_i64(npu_u64(a) + npu_u64(b));
}

// Every lane gets the result.
NPU_FUNC npu_f32 npu_simd_reduce(npu_u32 op, npu_f32 v NPU_SITE_PARAM) {
  for (npu_u32 mask = NPU_SIMD_WIDTH / 2; mask != 0; mask /= 2) {
    v = npu_combine(op, v, npu_simd_shuffle_xor(v, mask NPU_SITE_ARG));
  }
  return v;
}

// Every thread gets the result; `partial` has room for one value per SIMD group.
NPU_FUNC npu_f32 npu_group_reduce(npu_u32 op, npu_f32 v, THREADGROUP_PTR(npu_f32) partial,
                                  npu_u32 simd_groups, NpuThread self) {
  v = npu_simd_reduce(op, v);
  if (self.lane == 0) partial[self.simd] = v;
  npu_barrier();
  npu_f32 result = partial[0];
  for (npu_u32 s = 1; s < simd_groups; ++s) result = npu_combine(op, result, partial[s]);
  // `partial` may be written again after this.
  npu_barrier();
  return result;
}

#endif  // NPU_GROUP_REDUCE_H_
