// What the ways to run kernel arg_reduce share: the best of a threadgroup, and storing it.
#ifndef NPU_ARG_REDUCE_H_
#define NPU_ARG_REDUCE_H_

#include "common.h"
#include "typed.h"

// The best of what the threads of a threadgroup found: the largest key, of equal ones that at the
// first place; a place below 0 is none. It ends in keys[0] and places[0].
NPU_FUNC void npu_best_of_group(npu_i64 best, npu_i64 place, THREADGROUP_PTR(npu_i64) keys,
                                THREADGROUP_PTR(npu_i64) places, npu_u32 threads, NpuThread self) {
  keys[self.index] = best;
  places[self.index] = place;
  npu_barrier();
  for (npu_u32 reach = threads / 2; reach != 0; reach /= 2) {
    if (self.index < reach && places[self.index + reach] >= 0) {
      const npu_i64 other = keys[self.index + reach];
      const npu_i64 there = places[self.index + reach];
      const npu_i64 mine = keys[self.index];
      const npu_i64 here = places[self.index];
      if (here < 0 || other > mine || (other == mine && there < here)) {
        keys[self.index] = other;
        places[self.index] = there;
      }
    }
    npu_barrier();
  }
}

// The extreme and its index, once it is found.
NPU_FUNC void npu_store_extreme(DEVICE_PTR(const npu_u8) x, DEVICE_PTR(npu_u8) y,
                                DEVICE_PTR(npu_i64) index, CONSTANT_REF(ArgReduceParams) p,
                                npu_u32 a, npu_u32 b, npu_u32 c, npu_i64 place) {
  if (p.y_a != 0) {
    const npu_u64 row = a * npu_u64(p.x_sa) + b * npu_u64(p.x_sb) + c * npu_u64(p.x_sc);
    npu_copy_element(x, p.x_dtype, row + npu_u64(place) * npu_u64(p.x_sk), y, p.y_dtype,
                     a * npu_u64(p.y_sa) + b * npu_u64(p.y_sb) + c * npu_u64(p.y_sc));
  }
  if (p.index_a != 0) {
    index[a * npu_u64(p.index_sa) + b * npu_u64(p.index_sb) + c * npu_u64(p.index_sc)] = place;
  }
}

#endif  // NPU_ARG_REDUCE_H_
