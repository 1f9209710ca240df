// The elements of 16 bytes that were loaded at once, as float32.
#ifndef NPU_WIDE_H_
#define NPU_WIDE_H_

#define NPU_WIDE_BYTES 16

// Element `j` of `wide`, whose elements are of the type of the last argument; `j` should be known
// when the kernel is compiled.
NPU_FUNC npu_f32 npu_element(NpuWide wide, npu_u32 j, npu_f32) { return npu_as_f32(wide.v[j]); }
NPU_FUNC npu_f32 npu_element(NpuWide wide, npu_u32 j, npu_f16) {
  return npu_widen_f16_bits(wide.v[j / 2] >> (j % 2 * 16));
}
NPU_FUNC npu_f32 npu_element(NpuWide wide, npu_u32 j, npu_bf16) {
  const npu_u32 pair = wide.v[j / 2];
  return npu_as_f32(j % 2 != 0 ? pair & 0xffff0000u : pair << 16);
}
// The byte plus 128 as the low bits of 2^23: conversions are slow on some GPUs.
NPU_FUNC npu_f32 npu_element(NpuWide wide, npu_u32 j, npu_i8) {
  const npu_u32 biased = wide.v[j / 4] ^ 0x80808080u;
  return npu_as_f32(0x4b000000u | (biased >> (j % 4 * 8) & 0xffu)) - 8388736.0f;
}

NPU_FUNC NpuWide npu_wide_zero() { return {{0, 0, 0, 0}}; }

#endif  // NPU_WIDE_H_
