// Interpreter of a reduction's elementwise programs: one threadgroup per result, whose threads
// share the reduced elements.
#include "common.h"
#include "group_reduce.h"
#include "register_program.h"

// A place in the iteration space.
struct NpuMapIndex {
  npu_u64 d0;
  npu_u64 d1;
  npu_u64 d2;
  npu_u64 d3;
  npu_u64 d4;
  npu_u64 d5;
};

// Runs instructions `first` to `last` at a place of the inputs, with `reduced` as the accumulator's
// value. Stores to the outputs only where `stores`. Returns what was stored to the accumulator.
NPU_FUNC npu_u64 npu_map_reduce_part(DEVICE_PTR(const npu_u8) in0, DEVICE_PTR(const npu_u8) in1,
                                     DEVICE_PTR(const npu_u8) in2, DEVICE_PTR(const npu_u8) in3,
                                     DEVICE_PTR(const npu_u8) in4, DEVICE_PTR(const npu_u8) in5,
                                     DEVICE_PTR(const npu_u8) in6, DEVICE_PTR(npu_u8) out0,
                                     DEVICE_PTR(npu_u8) out1, DEVICE_PTR(npu_u8) out2,
                                     CONSTANT_REF(MapReduceParams) p, npu_u32 first, npu_u32 last,
                                     NpuMapIndex at, npu_u64 reduced, bool stores) {
  const npu_u64 d0 = at.d0;
  const npu_u64 d1 = at.d1;
  const npu_u64 d2 = at.d2;
  const npu_u64 d3 = at.d3;
  const npu_u64 d4 = at.d4;
  const npu_u64 d5 = at.d5;
  npu_u64 accumulated = 0;
  npu_u64 r[NPU_MAX_REGISTERS];
  for (npu_u32 i = 0; i < NPU_MAX_REGISTERS; ++i) r[i] = 0;
  for (npu_u32 i = first; i < last; ++i) {
    // Register numbers are masked, so that no program whatever reaches beyond the registers.
    const npu_u32 word = p.code[4 * i];
    const npu_u32 dst = (word >> 8) % NPU_MAX_REGISTERS;
    const npu_u32 a_at = (word >> 16) % NPU_MAX_REGISTERS;
    const npu_u32 b_at = (word >> 24) % NPU_MAX_REGISTERS;
    const npu_u32 c_at = p.code[4 * i + 1] % NPU_MAX_REGISTERS;
    switch (word & 0xffu) {
      case NPU_OP_LOAD:
        switch (a_at) {
          NPU_LOAD_CASE(0)
          NPU_LOAD_CASE(1)
          NPU_LOAD_CASE(2)
          NPU_LOAD_CASE(3)
          NPU_LOAD_CASE(4)
          NPU_LOAD_CASE(5)
          NPU_LOAD_CASE(6)
          case NPU_ACCUMULATOR_INPUT:
            r[dst] = reduced;
            break;
          default:
            break;
        }
        break;
      case NPU_OP_STORE:
        if (dst == NPU_ACCUMULATOR_OUTPUT) accumulated = r[a_at];
        if (!stores) break;
        switch (dst) {
          NPU_STORE_KEPT_CASE(0)
          NPU_STORE_KEPT_CASE(1)
          NPU_STORE_KEPT_CASE(2)
          default:
            break;
        }
        break;
      case NPU_OP_CONSTANT:
        r[dst] = p.code[4 * i + 2];
        break;
      case NPU_OP_CONSTANT_L:
        r[dst] = npu_u64(p.code[4 * i + 3]) << 32 | p.code[4 * i + 2];
        break;
        NPU_SCALAR_OPS(NPU_SCALAR_CASE)
      default:
        break;
    }
  }
  return accumulated;
}

NPU_FUNC npu_u64 npu_map_identity(npu_u32 op, npu_u32 dtype) {
  if (dtype == NPU_DTYPE_F32) return npu_register(npu_identity(op));
  if (dtype == NPU_DTYPE_I64 || op == NPU_REDUCE_SUM || op == NPU_REDUCE_PROD) {
    return npu_register(npu_exact_identity(op));
  }
  return npu_u64(op == NPU_REDUCE_MAX ? 0x80000000u : 0x7fffffffu);
}

// Two accumulators' values combined; int32 keeps the low bits.
NPU_FUNC npu_u64 npu_map_combine(npu_u32 op, npu_u32 dtype, npu_u64 a, npu_u64 b) {
  if (dtype == NPU_DTYPE_F32) {
    return npu_register(npu_combine(op, npu_as_f32(npu_u32(a)), npu_as_f32(npu_u32(b))));
  }
  if (dtype == NPU_DTYPE_I64) return npu_register(npu_exact_combine(op, npu_i64(a), npu_i64(b)));
  const npu_i64 wide =
      npu_exact_combine(op, npu_i64(npu_i32(npu_u32(a))), npu_i64(npu_i32(npu_u32(b))));
  return npu_u64(npu_u32(npu_u64(wide)));
}

NPU_FUNC void npu_map_reduce(DEVICE_PTR(const npu_u8) in0, DEVICE_PTR(const npu_u8) in1,
                             DEVICE_PTR(const npu_u8) in2, DEVICE_PTR(const npu_u8) in3,
                             DEVICE_PTR(const npu_u8) in4, DEVICE_PTR(const npu_u8) in5,
                             DEVICE_PTR(const npu_u8) in6, DEVICE_PTR(npu_u8) out0,
                             DEVICE_PTR(npu_u8) out1, DEVICE_PTR(npu_u8) out2,
                             CONSTANT_REF(MapReduceParams) p, THREADGROUP_PTR(npu_f32) partial,
                             THREADGROUP_PTR(npu_i64) exact, NpuThread self) {
  const npu_u32 threads = NPU_MAP_REDUCE_THREADGROUP_X;
  const npu_u64 inner = npu_u64(p.in0_d4) * p.in0_d5;
  const npu_u64 count = inner * p.in0_d3;
  NpuMapIndex at;
  at.d0 = self.group_z;
  at.d1 = self.group_y;
  at.d2 = self.group_x;
  npu_u64 value = npu_map_identity(p.op, p.dtype);
  for (npu_u64 e = self.index; e < count; e += threads) {
    at.d3 = e / inner;
    at.d4 = e % inner / p.in0_d5;
    at.d5 = e % p.in0_d5;
    const npu_u64 mapped = npu_map_reduce_part(in0, in1, in2, in3, in4, in5, in6, out0, out1, out2,
                                               p, 0, p.num_map, at, 0, false);
    value = npu_map_combine(p.op, p.dtype, value, mapped);
  }
  if (p.dtype == NPU_DTYPE_F32) {
    value = npu_register(npu_group_reduce(p.op, npu_as_f32(npu_u32(value)), partial,
                                          threads / NPU_SIMD_WIDTH, self));
  } else {
    exact[self.index] = npu_i64(value);
    npu_barrier();
    for (npu_u32 reach = threads / 2; reach != 0; reach /= 2) {
      if (self.index < reach) {
        exact[self.index] = npu_i64(npu_map_combine(p.op, p.dtype, npu_u64(exact[self.index]),
                                                    npu_u64(exact[self.index + reach])));
      }
      npu_barrier();
    }
    value = npu_u64(exact[0]);
  }
  at.d3 = 0;
  at.d4 = 0;
  at.d5 = 0;
  npu_map_reduce_part(in0, in1, in2, in3, in4, in5, in6, out0, out1, out2, p, p.num_map,
                      p.num_instructions, at, value, self.index == 0);
}
