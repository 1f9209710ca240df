// Indices that come from data: nothing is read or written where one is out of range.
#ifndef NPU_INDEX_H_
#define NPU_INDEX_H_

// Index `at` of an int64 or int32 operand as a place in [0, limit), or `limit` where it is out of
// range. With `wrap` a negative index counts from the end.
NPU_FUNC npu_u32 npu_index(DEVICE_PTR(const npu_u8) idx, npu_u32 dtype, npu_u64 at, npu_u32 limit,
                           npu_u32 wrap) {
  npu_i64 index = npu_i64(limit);
  if (dtype == NPU_DTYPE_I64) index = DEVICE_CAST(const npu_i64, idx)[at];
  if (dtype == NPU_DTYPE_I32) index = DEVICE_CAST(const npu_i32, idx)[at];
  const npu_i64 place = index < 0 && wrap != 0 ? index + npu_i64(limit) : index;
  if (place >= 0 && place < npu_i64(limit)) return npu_u32(place);
  npu_index_fault(index, limit);
  return limit;
}

#endif  // NPU_INDEX_H_
