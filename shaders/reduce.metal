// Reductions over the last axes: one threadgroup per result.
#include "arg_reduce.h"
#include "common.h"
#include "group_reduce.h"
#include "typed.h"

// What a pass combines: the values, or a function of each value and `shift`.
#define NPU_MAP_VALUE 0
#define NPU_MAP_NONZERO 1
#define NPU_MAP_ABS 2
#define NPU_MAP_SQUARE 3
#define NPU_MAP_EXP 4

NPU_FUNC npu_f32 npu_map(npu_u32 map, npu_f32 v, npu_f32 shift) {
  switch (map) {
    case NPU_MAP_NONZERO:
      return v != 0.0f ? 1.0f : 0.0f;
    case NPU_MAP_ABS:
      return npu_fabs(v);
    case NPU_MAP_SQUARE:
      return (v - shift) * (v - shift);
    case NPU_MAP_EXP:
      return npu_exp(v - shift);
    default:
      return v;
  }
}

// A thread's place in (k, l); a step moves it on by a whole threadgroup.
struct NpuElement {
  npu_u64 k;
  npu_u64 l;
};

template <class P>
NPU_FUNC NpuElement npu_first_element(CONSTANT_REF(P) p, NpuThread self) {
  NpuElement at;
  // With an empty l there is nothing: k is past the end.
  at.k = p.x_l != 0 ? self.index / p.x_l : p.x_k;
  at.l = p.x_l != 0 ? self.index % p.x_l : 0;
  return at;
}

template <class P>
NPU_FUNC NpuElement npu_next_element(CONSTANT_REF(P) p, NpuElement at, npu_u32 threads) {
  at.k += threads / p.x_l;
  at.l += threads % p.x_l;
  if (at.l >= p.x_l) {
    at.l -= p.x_l;
    at.k += 1;
  }
  return at;
}

// One pass over a row in float32; every thread gets the result.
template <class P>
NPU_FUNC npu_f32 npu_reduce_row(DEVICE_PTR(const npu_u8) x, CONSTANT_REF(P) p, npu_u64 row,
                                npu_u32 op, npu_u32 map, npu_f32 shift,
                                THREADGROUP_PTR(npu_f32) partial, npu_u32 threads, NpuThread self) {
  npu_f32 value = npu_identity(op);
  for (NpuElement e = npu_first_element(p, self); e.k < p.x_k;
       e = npu_next_element(p, e, threads)) {
    const npu_f32 v =
        npu_load_f32(x, p.x_dtype, row + e.k * npu_u64(p.x_sk) + e.l * npu_u64(p.x_sl));
    value = npu_combine(op, value, npu_map(map, v, shift));
  }
  return npu_group_reduce(op, value, partial, threads / NPU_SIMD_WIDTH, self);
}

// The same in int64, for integers and for counting what is not 0 (or with ALL, what is).
NPU_FUNC npu_i64 npu_reduce_exact(DEVICE_PTR(const npu_u8) x, CONSTANT_REF(ReduceParams) p,
                                  npu_u64 row, npu_u32 op, THREADGROUP_PTR(npu_i64) exact,
                                  npu_u32 threads, NpuThread self) {
  const bool counts =
      op == NPU_REDUCE_ANY || op == NPU_REDUCE_ALL || op == NPU_REDUCE_COUNT_NONZERO;
  npu_i64 value = npu_exact_identity(op);
  for (NpuElement e = npu_first_element(p, self); e.k < p.x_k;
       e = npu_next_element(p, e, threads)) {
    const npu_u64 at = row + e.k * npu_u64(p.x_sk) + e.l * npu_u64(p.x_sl);
    if (counts) {
      value += npu_is_nonzero(x, p.x_dtype, at) == (op != NPU_REDUCE_ALL) ? 1 : 0;
    } else {
      value = npu_exact_combine(op, value, npu_load_i64(x, p.x_dtype, at));
    }
  }
  exact[self.index] = value;
  npu_barrier();
  for (npu_u32 reach = threads / 2; reach != 0; reach /= 2) {
    if (self.index < reach) {
      exact[self.index] = npu_exact_combine(op, exact[self.index], exact[self.index + reach]);
    }
    npu_barrier();
  }
  return exact[0];
}

NPU_FUNC void npu_reduce(DEVICE_PTR(const npu_u8) x, DEVICE_PTR(npu_u8) y,
                         CONSTANT_REF(ReduceParams) p, THREADGROUP_PTR(npu_f32) partial,
                         THREADGROUP_PTR(npu_i64) exact, NpuThread self) {
  const npu_u32 threads = NPU_REDUCE_THREADGROUP_X;
  const npu_u32 op = p.op;
  const npu_u64 row = self.group_z * npu_u64(p.x_sa) + self.group_y * npu_u64(p.x_sb) +
                      self.group_x * npu_u64(p.x_sc);
  const npu_u64 place = self.group_z * npu_u64(p.y_sa) + self.group_y * npu_u64(p.y_sb) +
                        self.group_x * npu_u64(p.y_sc);
  const bool counts =
      op == NPU_REDUCE_ANY || op == NPU_REDUCE_ALL || op == NPU_REDUCE_COUNT_NONZERO;
  const bool combines =
      op == NPU_REDUCE_SUM || op == NPU_REDUCE_MAX || op == NPU_REDUCE_MIN || op == NPU_REDUCE_PROD;
  if (counts || (combines && !npu_is_floating(p.x_dtype))) {
    npu_i64 result = npu_reduce_exact(x, p, row, op, exact, threads, self);
    if (op == NPU_REDUCE_ANY) result = result != 0 ? 1 : 0;
    if (op == NPU_REDUCE_ALL) result = result == 0 ? 1 : 0;
    if (self.index == 0) npu_store_i64(y, p.y_dtype, place, result);
    return;
  }
  npu_u32 combine = combines ? op : NPU_REDUCE_SUM;
  npu_u32 map = NPU_MAP_VALUE;
  npu_f32 shift = 0.0f;
  if (op == NPU_REDUCE_NORM_0) map = NPU_MAP_NONZERO;
  if (op == NPU_REDUCE_NORM_1) map = NPU_MAP_ABS;
  if (op == NPU_REDUCE_NORM_2) map = NPU_MAP_SQUARE;
  if (op == NPU_REDUCE_NORM_INF || op == NPU_REDUCE_NORM_NEG_INF) {
    map = NPU_MAP_ABS;
    combine = op == NPU_REDUCE_NORM_INF ? NPU_REDUCE_MAX : NPU_REDUCE_MIN;
  }
  if (op == NPU_REDUCE_LOGSUMEXP) {
    map = NPU_MAP_EXP;
    shift = npu_reduce_row(x, p, row, NPU_REDUCE_MAX, NPU_MAP_VALUE, 0.0f, partial, threads, self);
    // An infinite row is not shifted, so that it gives the infinity and no NaN.
    if (npu_fabs(shift) == NPU_INFINITY) shift = 0.0f;
  }
  npu_f32 result = npu_reduce_row(x, p, row, combine, map, shift, partial, threads, self);
  if (op == NPU_REDUCE_MEAN) result /= npu_f32(npu_u64(p.x_k) * p.x_l);
  if (op == NPU_REDUCE_NORM_2) result = npu_sqrt(result);
  if (op == NPU_REDUCE_LOGSUMEXP) result = npu_log(result) + shift;
  if (self.index == 0) npu_store_f32(y, p.y_dtype, place, result);
}

NPU_FUNC void npu_variance(DEVICE_PTR(const npu_u8) x, DEVICE_PTR(npu_u8) y,
                           DEVICE_PTR(npu_u8) mean, CONSTANT_REF(VarianceParams) p,
                           THREADGROUP_PTR(npu_f32) partial, NpuThread self) {
  const npu_u32 threads = NPU_VARIANCE_THREADGROUP_X;
  const npu_u64 row = self.group_z * npu_u64(p.x_sa) + self.group_y * npu_u64(p.x_sb) +
                      self.group_x * npu_u64(p.x_sc);
  const npu_f32 count = npu_f32(npu_u64(p.x_k) * p.x_l);
  const npu_f32 average =
      npu_reduce_row(x, p, row, NPU_REDUCE_SUM, NPU_MAP_VALUE, 0.0f, partial, threads, self) /
      count;
  const npu_f32 squares =
      npu_reduce_row(x, p, row, NPU_REDUCE_SUM, NPU_MAP_SQUARE, average, partial, threads, self);
  const npu_f32 result = squares / (count > p.correction ? count - p.correction : 0.0f);
  if (self.index != 0) return;
  npu_store_f32(y, p.y_dtype,
                self.group_z * npu_u64(p.y_sa) + self.group_y * npu_u64(p.y_sb) +
                    self.group_x * npu_u64(p.y_sc),
                p.root != 0 ? npu_sqrt(result) : result);
  if (p.mean_a != 0) {
    npu_store_f32(mean, p.mean_dtype,
                  self.group_z * npu_u64(p.mean_sa) + self.group_y * npu_u64(p.mean_sb) +
                      self.group_x * npu_u64(p.mean_sc),
                  average);
  }
}

NPU_FUNC void npu_arg_reduce(DEVICE_PTR(const npu_u8) x, DEVICE_PTR(npu_u8) y,
                             DEVICE_PTR(npu_i64) index, CONSTANT_REF(ArgReduceParams) p,
                             THREADGROUP_PTR(npu_i64) keys, THREADGROUP_PTR(npu_i64) places,
                             NpuThread self) {
  const npu_u32 threads = NPU_ARG_REDUCE_THREADGROUP_X;
  const npu_u64 row = self.group_z * npu_u64(p.x_sa) + self.group_y * npu_u64(p.x_sb) +
                      self.group_x * npu_u64(p.x_sc);
  npu_i64 best = 0;
  npu_i64 place = -1;
  for (npu_u64 k = self.index; k < p.x_k; k += threads) {
    const npu_i64 key =
        npu_extreme_key(x, p.x_dtype, row + k * npu_u64(p.x_sk), p.op == NPU_ARG_MIN);
    if (place < 0 || key > best) {
      best = key;
      place = npu_i64(k);
    }
  }
  npu_best_of_group(best, place, keys, places, threads, self);
  if (self.index != 0) return;
  npu_store_extreme(x, y, index, p, self.group_z, self.group_y, self.group_x, places[0]);
}
