// Register programs: what instructions load, store and compute, shared by the kernels that
// interpret them.
#ifndef NPU_REGISTER_PROGRAM_H_
#define NPU_REGISTER_PROGRAM_H_

// A register holds an int64, or in its lower half a float32 or int32.
NPU_FUNC npu_u64 npu_register(npu_f32 v) { return npu_u64(npu_as_u32(v)); }
NPU_FUNC npu_u64 npu_register(npu_i32 v) { return npu_u64(npu_u32(v)); }
NPU_FUNC npu_u64 npu_register(npu_i64 v) { return npu_u64(v); }

// Element `index` of an operand as a register: int64, float32, or int32 for the other integers and
// bools.
NPU_FUNC npu_u64 npu_load(DEVICE_PTR(const npu_u8) from, npu_u32 dtype, npu_u64 index) {
  switch (dtype) {
    case NPU_DTYPE_F32:
      return npu_register(DEVICE_CAST(const npu_f32, from)[index]);
    case NPU_DTYPE_F16:
      return npu_register(npu_widen(DEVICE_CAST(const npu_f16, from)[index]));
    case NPU_DTYPE_BF16:
      return npu_register(npu_widen(DEVICE_CAST(const npu_bf16, from)[index]));
    case NPU_DTYPE_I64:
      return npu_register(DEVICE_CAST(const npu_i64, from)[index]);
    case NPU_DTYPE_I32:
      return npu_register(DEVICE_CAST(const npu_i32, from)[index]);
    case NPU_DTYPE_I16:
      return npu_register(npu_i32(DEVICE_CAST(const npu_i16, from)[index]));
    case NPU_DTYPE_I8:
      return npu_register(npu_i32(DEVICE_CAST(const npu_i8, from)[index]));
    case NPU_DTYPE_U8:
      return npu_u64(from[index]);
    case NPU_DTYPE_B8:
      return from[index] != 0 ? 1 : 0;
    default:
      return 0;
  }
}

NPU_FUNC void npu_store(DEVICE_PTR(npu_u8) to, npu_u32 dtype, npu_u64 index, npu_u64 value) {
  const npu_u32 bits = npu_u32(value);
  switch (dtype) {
    case NPU_DTYPE_F32:
      DEVICE_CAST(npu_f32, to)[index] = npu_as_f32(bits);
      break;
    case NPU_DTYPE_F16:
      DEVICE_CAST(npu_f16, to)[index] = npu_narrow<npu_f16>(npu_as_f32(bits));
      break;
    case NPU_DTYPE_BF16:
      DEVICE_CAST(npu_bf16, to)[index] = npu_narrow<npu_bf16>(npu_as_f32(bits));
      break;
    case NPU_DTYPE_I64:
      DEVICE_CAST(npu_i64, to)[index] = npu_i64(value);
      break;
    case NPU_DTYPE_I32:
      DEVICE_CAST(npu_i32, to)[index] = npu_i32(bits);
      break;
    case NPU_DTYPE_I16:
      DEVICE_CAST(npu_i16, to)[index] = npu_i16(bits);
      break;
    case NPU_DTYPE_I8:
      DEVICE_CAST(npu_i8, to)[index] = npu_i8(bits);
      break;
    case NPU_DTYPE_U8:
      to[index] = npu_u8(bits);
      break;
    case NPU_DTYPE_B8:
      to[index] = bits != 0 ? 1 : 0;
      break;
    default:
      break;
  }
}

// This thread's place in an elementwise kernel's iteration space, the first of `lanes` neighbours
// along d5, whose extent is a multiple of it. Threads behind the last return.
#define NPU_PLACE(lanes)                                     \
  npu_u32 rest = self.x;                                     \
  const npu_u32 d5 = rest % (p.out0_d5 / (lanes)) * (lanes); \
  rest /= p.out0_d5 / (lanes);                               \
  const npu_u32 d4 = rest % p.out0_d4;                       \
  rest /= p.out0_d4;                                         \
  const npu_u32 d3 = rest % p.out0_d3;                       \
  rest /= p.out0_d3;                                         \
  const npu_u32 d2 = rest % p.out0_d2;                       \
  rest /= p.out0_d2;                                         \
  const npu_u32 d1 = rest % p.out0_d1;                       \
  const npu_u32 d0 = rest / p.out0_d1;                       \
  if (d0 >= p.out0_d0) return;
// The offset of this thread's element in operand `o`; d0 to d5 are its place in the iteration
// space.
#define NPU_OFFSET(o)                                                            \
  (d0 * npu_u64(p.o##_sd0) + d1 * npu_u64(p.o##_sd1) + d2 * npu_u64(p.o##_sd2) + \
   d3 * npu_u64(p.o##_sd3) + d4 * npu_u64(p.o##_sd4) + d5 * npu_u64(p.o##_sd5))
#define NPU_LOAD_CASE(n)                                          \
  case n:                                                         \
    r[dst] = npu_load(in##n, p.in##n##_dtype, NPU_OFFSET(in##n)); \
    break;
// The same for an operand that has the first three axes alone.
#define NPU_KEPT_OFFSET(o) \
  (d0 * npu_u64(p.o##_sd0) + d1 * npu_u64(p.o##_sd1) + d2 * npu_u64(p.o##_sd2))
#define NPU_STORE_CASE(n)                                             \
  case n:                                                             \
    npu_store(out##n, p.out##n##_dtype, NPU_OFFSET(out##n), r[a_at]); \
    break;
#define NPU_STORE_KEPT_CASE(n)                                             \
  case n:                                                                  \
    npu_store(out##n, p.out##n##_dtype, NPU_KEPT_OFFSET(out##n), r[a_at]); \
    break;

// How a scalar operation's operands come out of the registers, by operand types, and its result
// goes in.
#define NPU_READ_f(at) npu_as_f32(npu_u32(r[at]))
#define NPU_READ_i(at) npu_i32(npu_u32(r[at]))
#define NPU_READ_l(at) npu_i64(r[at])
#define NPU_OPERANDS_f const npu_f32 a = NPU_READ_f(a_at);
#define NPU_OPERANDS_i const npu_i32 a = NPU_READ_i(a_at);
#define NPU_OPERANDS_l const npu_i64 a = NPU_READ_l(a_at);
#define NPU_OPERANDS_ff NPU_OPERANDS_f const npu_f32 b = NPU_READ_f(b_at);
#define NPU_OPERANDS_ii NPU_OPERANDS_i const npu_i32 b = NPU_READ_i(b_at);
#define NPU_OPERANDS_ll NPU_OPERANDS_l const npu_i64 b = NPU_READ_l(b_at);
#define NPU_OPERANDS_iff                             \
  NPU_OPERANDS_i const npu_f32 b = NPU_READ_f(b_at); \
  const npu_f32 c = NPU_READ_f(c_at);
#define NPU_OPERANDS_iii NPU_OPERANDS_ii const npu_i32 c = NPU_READ_i(c_at);
#define NPU_OPERANDS_ill                             \
  NPU_OPERANDS_i const npu_i64 b = NPU_READ_l(b_at); \
  const npu_i64 c = NPU_READ_l(c_at);
#define NPU_TYPE_f npu_f32
#define NPU_TYPE_i npu_i32
#define NPU_TYPE_l npu_i64
#define NPU_SCALAR_CASE(id, name, args, result, formula)                   \
  case id: {                                                               \
    NPU_OPERANDS_##args r[dst] = npu_register(NPU_TYPE_##result(formula)); \
    break;                                                                 \
  }

#endif  // NPU_REGISTER_PROGRAM_H_
