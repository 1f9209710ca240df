// Elements of operands whose dtype is known at run time only: loaded as float32 or int64, stored
// with one rounding (floats), wrapped (integers) or tested against zero (bool).
#ifndef NPU_ANY_DTYPE_H_
#define NPU_ANY_DTYPE_H_

NPU_FUNC bool npu_is_float(npu_u32 dtype) {
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

// For a floating dtype.
NPU_FUNC npu_f32 npu_load_float(DEVICE_PTR(const npu_u8) from, npu_u32 dtype, npu_u64 index) {
  switch (dtype) {
    case NPU_DTYPE_F16:
      return npu_widen(DEVICE_CAST(const npu_f16, from)[index]);
    case NPU_DTYPE_BF16:
      return npu_widen(DEVICE_CAST(const npu_bf16, from)[index]);
    default:
      return DEVICE_CAST(const npu_f32, from)[index];
  }
}

NPU_FUNC void npu_store_float(DEVICE_PTR(npu_u8) to, npu_u32 dtype, npu_u64 index, npu_f32 value) {
  switch (dtype) {
    case NPU_DTYPE_F16:
      DEVICE_CAST(npu_f16, to)[index] = npu_narrow<npu_f16>(value);
      break;
    case NPU_DTYPE_BF16:
      DEVICE_CAST(npu_bf16, to)[index] = npu_narrow<npu_bf16>(value);
      break;
    default:
      DEVICE_CAST(npu_f32, to)[index] = value;
  }
}

// For an integer dtype or bool.
NPU_FUNC npu_i64 npu_load_integer(DEVICE_PTR(const npu_u8) from, npu_u32 dtype, npu_u64 index) {
  switch (dtype) {
    case NPU_DTYPE_I64:
      return DEVICE_CAST(const npu_i64, from)[index];
    case NPU_DTYPE_I32:
      return DEVICE_CAST(const npu_i32, from)[index];
    case NPU_DTYPE_I16:
      return DEVICE_CAST(const npu_i16, from)[index];
    case NPU_DTYPE_I8:
      return DEVICE_CAST(const npu_i8, from)[index];
    case NPU_DTYPE_B8:
      return from[index] != 0 ? 1 : 0;
    default:
      return from[index];
  }
}

NPU_FUNC void npu_store_integer(DEVICE_PTR(npu_u8) to, npu_u32 dtype, npu_u64 index,
                                npu_i64 value) {
  switch (dtype) {
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
    case NPU_DTYPE_B8:
      to[index] = value != 0 ? 1 : 0;
      break;
    default:
      to[index] = npu_u8(value);
  }
}

#endif  // NPU_ANY_DTYPE_H_
