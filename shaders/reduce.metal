// Sum, mean, maximum, minimum and product over the last two axes: one threadgroup per result.
#include "common.h"
#include "group_reduce.h"

template <class T>
NPU_FUNC void npu_reduce(DEVICE_PTR(const T) x, DEVICE_PTR(T) y, CONSTANT_REF(ReduceParams) p,
                         THREADGROUP_PTR(npu_f32) partial, NpuThread self) {
  const npu_u32 threads = NPU_REDUCE_THREADGROUP_X;
  const npu_u32 op = p.op == NPU_REDUCE_MEAN ? NPU_REDUCE_SUM : p.op;
  const npu_u64 row = self.group_z * npu_u64(p.x_sa) + self.group_y * npu_u64(p.x_sb) +
                      self.group_x * npu_u64(p.x_sc);

  npu_f32 value = npu_identity(op);
  if (p.x_l != 0) {
    // This thread's place in (k, l), moved on by a whole threadgroup each time.
    npu_u64 k = self.index / p.x_l;
    npu_u64 l = self.index % p.x_l;
    while (k < p.x_k) {
      value = npu_combine(op, value, npu_widen(x[row + k * npu_u64(p.x_sk) + l * npu_u64(p.x_sl)]));
      k += threads / p.x_l;
      l += threads % p.x_l;
      if (l >= p.x_l) {
        l -= p.x_l;
        k += 1;
      }
    }
  }
  npu_f32 result = npu_group_reduce(op, value, partial, threads / NPU_SIMD_WIDTH, self);
  if (p.op == NPU_REDUCE_MEAN) result /= npu_f32(npu_u64(p.x_k) * p.x_l);
  if (self.index == 0) {
    y[self.group_z * npu_u64(p.y_sa) + self.group_y * npu_u64(p.y_sb) +
      self.group_x * npu_u64(p.y_sc)] = npu_narrow<T>(result);
  }
}
