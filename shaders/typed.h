// Elements of operands whose dtype is known at run time only: loaded and stored as float32 or
// int64, and compared in PyTorch's order.
#ifndef NPU_TYPED_H_
#define NPU_TYPED_H_

NPU_FUNC bool npu_is_floating(npu_u32 dtype) {
  return dtype == NPU_DTYPE_F32 || dtype == NPU_DTYPE_F16 || dtype == NPU_DTYPE_BF16;
}

// 0 for a dtype that the NPU does not compute in.
NPU_FUNC npu_u32 npu_element_bytes(npu_u32 dtype) {
  switch (dtype) {
    case NPU_DTYPE_I64:
      return 8;
    case NPU_DTYPE_F32:
    case NPU_DTYPE_I32:
      return 4;
    case NPU_DTYPE_F16:
    case NPU_DTYPE_BF16:
    case NPU_DTYPE_I16:
      return 2;
    case NPU_DTYPE_I8:
    case NPU_DTYPE_U8:
    case NPU_DTYPE_B8:
      return 1;
    default:
      return 0;
  }
}

// Integers and bools (0 or 1) exactly; floating values towards zero.
NPU_FUNC npu_i64 npu_load_i64(DEVICE_PTR(const npu_u8) from, npu_u32 dtype, npu_u64 index) {
  switch (dtype) {
    case NPU_DTYPE_F32:
      return npu_to_int(DEVICE_CAST(const npu_f32, from)[index]);
    case NPU_DTYPE_F16:
      return npu_to_int(npu_widen(DEVICE_CAST(const npu_f16, from)[index]));
    case NPU_DTYPE_BF16:
      return npu_to_int(npu_widen(DEVICE_CAST(const npu_bf16, from)[index]));
    case NPU_DTYPE_I64:
      return DEVICE_CAST(const npu_i64, from)[index];
    case NPU_DTYPE_I32:
      return DEVICE_CAST(const npu_i32, from)[index];
    case NPU_DTYPE_I16:
      return DEVICE_CAST(const npu_i16, from)[index];
    case NPU_DTYPE_I8:
      return DEVICE_CAST(const npu_i8, from)[index];
    case NPU_DTYPE_U8:
      return from[index];
    case NPU_DTYPE_B8:
      return from[index] != 0 ? 1 : 0;
    default:
      return 0;
  }
}

NPU_FUNC npu_f32 npu_load_f32(DEVICE_PTR(const npu_u8) from, npu_u32 dtype, npu_u64 index) {
  switch (dtype) {
    case NPU_DTYPE_F32:
      return DEVICE_CAST(const npu_f32, from)[index];
    case NPU_DTYPE_F16:
      return npu_widen(DEVICE_CAST(const npu_f16, from)[index]);
    case NPU_DTYPE_BF16:
      return npu_widen(DEVICE_CAST(const npu_bf16, from)[index]);
    default:
      return npu_f32(npu_load_i64(from, dtype, index));
  }
}

NPU_FUNC bool npu_is_nonzero(DEVICE_PTR(const npu_u8) from, npu_u32 dtype, npu_u64 index) {
  return npu_is_floating(dtype) ? npu_load_f32(from, dtype, index) != 0.0f
                                : npu_load_i64(from, dtype, index) != 0;
}

// Integer dtypes keep the low bits; bool is true for everything but 0.
NPU_FUNC void npu_store_i64(DEVICE_PTR(npu_u8) to, npu_u32 dtype, npu_u64 index, npu_i64 value) {
  switch (dtype) {
    case NPU_DTYPE_F32:
      DEVICE_CAST(npu_f32, to)[index] = npu_f32(value);
      break;
    case NPU_DTYPE_F16:
      DEVICE_CAST(npu_f16, to)[index] = npu_narrow<npu_f16>(npu_f32(value));
      break;
    case NPU_DTYPE_BF16:
      DEVICE_CAST(npu_bf16, to)[index] = npu_narrow<npu_bf16>(npu_f32(value));
      break;
    case NPU_DTYPE_I64:
      DEVICE_CAST(npu_i64, to)[index] = value;
      break;
    case NPU_DTYPE_I32:
      DEVICE_CAST(npu_i32, to)[index] = npu_i32(value);
      break;
    case NPU_DTYPE_I16:
      DEVICE_CAST(npu_i16, to)[index] = npu_i16(value);
      break;
    case NPU_DTYPE_I8:
      DEVICE_CAST(npu_i8, to)[index] = npu_i8(value);
      break;
    case NPU_DTYPE_U8:
      to[index] = npu_u8(value);
      break;
    case NPU_DTYPE_B8:
      to[index] = value != 0 ? 1 : 0;
      break;
    default:
      break;
  }
}

NPU_FUNC void npu_store_f32(DEVICE_PTR(npu_u8) to, npu_u32 dtype, npu_u64 index, npu_f32 value) {
  switch (dtype) {
    case NPU_DTYPE_F32:
      DEVICE_CAST(npu_f32, to)[index] = value;
      break;
    case NPU_DTYPE_F16:
      DEVICE_CAST(npu_f16, to)[index] = npu_narrow<npu_f16>(value);
      break;
    case NPU_DTYPE_BF16:
      DEVICE_CAST(npu_bf16, to)[index] = npu_narrow<npu_bf16>(value);
      break;
    case NPU_DTYPE_B8:
      to[index] = value != 0.0f ? 1 : 0;
      break;
    default:
      npu_store_i64(to, dtype, index, npu_to_int(value));
      break;
  }
}

// One element to another place, unchanged where the dtypes are the same.
NPU_FUNC void npu_copy_element(DEVICE_PTR(const npu_u8) from, npu_u32 from_dtype, npu_u64 at,
                               DEVICE_PTR(npu_u8) to, npu_u32 to_dtype, npu_u64 place) {
  if (npu_is_floating(from_dtype)) {
    npu_store_f32(to, to_dtype, place, npu_load_f32(from, from_dtype, at));
  } else {
    npu_store_i64(to, to_dtype, place, npu_load_i64(from, from_dtype, at));
  }
}

// Beyond the key of every number.
#define NPU_NAN_KEY npu_i64(0x80000000u)

// An integer that compares as the element does: -0 equals 0, NaN is the greatest.
NPU_FUNC npu_i64 npu_order_key(DEVICE_PTR(const npu_u8) from, npu_u32 dtype, npu_u64 index) {
  if (!npu_is_floating(dtype)) return npu_load_i64(from, dtype, index);
  const npu_f32 v = npu_load_f32(from, dtype, index);
  if (v != v) return NPU_NAN_KEY;
  const npu_i64 magnitude = npu_i64(npu_as_u32(v) & 0x7fffffffu);
  return (npu_as_u32(v) >> 31) != 0 ? -magnitude : magnitude;
}

// The same for the search of an extreme, where the largest key wins: the smallest number is the
// greatest key with `least`, and NaN wins either way.
NPU_FUNC npu_i64 npu_extreme_key(DEVICE_PTR(const npu_u8) from, npu_u32 dtype, npu_u64 index,
                                 bool least) {
  const npu_i64 key = npu_order_key(from, dtype, index);
  const bool nan = npu_is_floating(dtype) && key == NPU_NAN_KEY;
  return least && !nan ? ~key : key;
}

#endif  // NPU_TYPED_H_
