// Where the pixels of a resized image lie in the original, along one axis.
#ifndef NPU_RESIZE_H_
#define NPU_RESIZE_H_

#define NPU_RESIZE_TAPS 4

// Pixels of the original and their weights.
struct NpuTapSet {
  npu_u32 at[NPU_RESIZE_TAPS];
  npu_f32 weight[NPU_RESIZE_TAPS];
  npu_u32 count;
};

// Taps of the cubic convolution with a = -0.75, as PyTorch's: |x| <= 1 and 1 < |x| < 2.
NPU_FUNC npu_f32 npu_cubic_near(npu_f32 x) { return ((1.25f * x) - 2.25f) * x * x + 1.0f; }
NPU_FUNC npu_f32 npu_cubic_far(npu_f32 x) { return ((-0.75f * x + 3.75f) * x - 6.0f) * x + 3.0f; }

// The taps of pixel `index`. Whatever `scale` is, they lie in [0, extent).
NPU_FUNC NpuTapSet npu_resize_taps(npu_u32 mode, npu_u32 align_corners, npu_f32 scale,
                                   npu_u32 index, npu_u32 extent) {
  const npu_f32 last = npu_f32(extent - 1);
  const bool nearest = mode == NPU_RESIZE_NEAREST || mode == NPU_RESIZE_NEAREST_EXACT;
  npu_f32 place = npu_f32(index) * scale;
  if (mode == NPU_RESIZE_NEAREST_EXACT) place = (npu_f32(index) + 0.5f) * scale;
  if (!nearest && align_corners == 0) place = (npu_f32(index) + 0.5f) * scale - 0.5f;
  if (!(place > -1.0f)) place = -1.0f;
  if (mode != NPU_RESIZE_BICUBIC && place < 0.0f) place = 0.0f;
  place = npu_min(place, nearest ? last : last + 1.0f);
  npu_i32 base = npu_i32(place);
  if (npu_f32(base) > place) base -= 1;
  if (base > npu_i32(extent) - 1) base = npu_i32(extent) - 1;

  NpuTapSet taps;
  taps.count = nearest ? 1 : mode == NPU_RESIZE_BILINEAR ? 2 : 4;
  const npu_i32 first = mode == NPU_RESIZE_BICUBIC ? base - 1 : base;
  for (npu_u32 t = 0; t < NPU_RESIZE_TAPS; ++t) {
    npu_i32 at = first + npu_i32(t);
    if (at < 0) at = 0;
    if (at > npu_i32(extent) - 1) at = npu_i32(extent) - 1;
    taps.at[t] = npu_u32(at);
    taps.weight[t] = 0.0f;
  }
  const npu_f32 beyond = npu_clamp(place - npu_f32(base), 0.0f, 1.0f);
  if (nearest) {
    taps.weight[0] = 1.0f;
  } else if (mode == NPU_RESIZE_BILINEAR) {
    taps.weight[0] = 1.0f - beyond;
    taps.weight[1] = beyond;
  } else {
    taps.weight[0] = npu_cubic_far(beyond + 1.0f);
    taps.weight[1] = npu_cubic_near(beyond);
    taps.weight[2] = npu_cubic_near(1.0f - beyond);
    taps.weight[3] = npu_cubic_far(2.0f - beyond);
  }
  return taps;
}

#endif  // NPU_RESIZE_H_
