// Integer functions of scalar formulas, for every kernel compiler and for the cpu device. Nothing
// here overflows: arithmetic wraps, as PyTorch's does.
#ifndef NPU_SCALAR_INTEGER_H_
#define NPU_SCALAR_INTEGER_H_

NPU_FUNC npu_i32 npu_wrap_add(npu_i32 a, npu_i32 b) { return npu_i32(npu_u32(a) + npu_u32(b)); }
NPU_FUNC npu_i64 npu_wrap_add(npu_i64 a, npu_i64 b) { return npu_i64(npu_u64(a) + npu_u64(b)); }
NPU_FUNC npu_i32 npu_wrap_sub(npu_i32 a, npu_i32 b) { return npu_i32(npu_u32(a) - npu_u32(b)); }
NPU_FUNC npu_i64 npu_wrap_sub(npu_i64 a, npu_i64 b) { return npu_i64(npu_u64(a) - npu_u64(b)); }
NPU_FUNC npu_i32 npu_wrap_mul(npu_i32 a, npu_i32 b) { return npu_i32(npu_u32(a) * npu_u32(b)); }
NPU_FUNC npu_i64 npu_wrap_mul(npu_i64 a, npu_i64 b) { return npu_i64(npu_u64(a) * npu_u64(b)); }

// Shifts by less than 0 or more than the width shift everything out.
NPU_FUNC npu_i32 npu_shift_left(npu_i32 a, npu_i32 b) {
  return npu_u32(b) < 32u ? npu_i32(npu_u32(a) << npu_u32(b & 31)) : 0;
}
NPU_FUNC npu_i64 npu_shift_left(npu_i64 a, npu_i64 b) {
  return npu_u64(b) < 64u ? npu_i64(npu_u64(a) << npu_u64(b & 63)) : 0;
}
NPU_FUNC npu_i32 npu_shift_right(npu_i32 a, npu_i32 b) { return a >> (npu_u32(b) < 32u ? b : 31); }
NPU_FUNC npu_i64 npu_shift_right(npu_i64 a, npu_i64 b) { return a >> (npu_u64(b) < 64u ? b : 63); }

// Quotients: 0 where the divisor is (PyTorch raises); the one that overflows wraps.
NPU_FUNC npu_i32 npu_div_trunc(npu_i32 a, npu_i32 b) {
  return b == -1 ? npu_wrap_sub(0, a) : b == 0 ? 0 : a / b;
}
NPU_FUNC npu_i64 npu_div_trunc(npu_i64 a, npu_i64 b) {
  return b == -1 ? npu_wrap_sub(npu_i64(0), a) : b == 0 ? 0 : a / b;
}
NPU_FUNC npu_i32 npu_div_floor(npu_i32 a, npu_i32 b) {
  const npu_i32 q = npu_div_trunc(a, b);
  return b != 0 && (a < 0) != (b < 0) && npu_wrap_mul(q, b) != a ? q - 1 : q;
}
NPU_FUNC npu_i64 npu_div_floor(npu_i64 a, npu_i64 b) {
  const npu_i64 q = npu_div_trunc(a, b);
  return b != 0 && (a < 0) != (b < 0) && npu_wrap_mul(q, b) != a ? q - 1 : q;
}

// Powers; a fraction (of a negative exponent) is 0.
NPU_FUNC npu_i64 npu_power(npu_i64 a, npu_i64 b) {
  npu_u64 result = 1;
  npu_u64 factor = npu_u64(a);
  for (npu_u64 rest = b < 0 ? 0 : npu_u64(b); rest != 0; rest >>= 1) {
    if ((rest & 1) != 0) result *= factor;
    factor *= factor;
  }
  if (b < 0) return a == 1 ? 1 : a == -1 ? 1 - 2 * (b & 1) : 0;
  return npu_i64(result);
}
NPU_FUNC npu_i32 npu_power(npu_i32 a, npu_i32 b) {
  return npu_i32(npu_power(npu_i64(a), npu_i64(b)));
}

// Towards zero; beyond the integer's range its nearest value; NaN and infinities give 0.
NPU_FUNC npu_i32 npu_to_int(npu_f32 v) {
  const bool finite = npu_fabs(v) < NPU_INFINITY;
  const bool above = v >= 2147483648.0f;
  const bool below = v < -2147483648.0f;
  const npu_i32 within = npu_i32(!finite || above || below ? 0.0f : v);
  const npu_i32 beyond = above ? 2147483647 : npu_i32(0x80000000u);
  return !finite ? 0 : above || below ? beyond : within;
}
NPU_FUNC npu_i64 npu_to_long(npu_f32 v) {
  const bool finite = npu_fabs(v) < NPU_INFINITY;
  const bool above = v >= 9223372036854775808.0f;
  const bool below = v < -9223372036854775808.0f;
  const npu_i64 within = npu_i64(!finite || above || below ? 0.0f : v);
  const npu_u64 lowest = npu_u64(1) << 63;
  const npu_i64 beyond = npu_i64(above ? lowest - 1 : lowest);
  return !finite ? 0 : above || below ? beyond : within;
}

#endif  // NPU_SCALAR_INTEGER_H_
