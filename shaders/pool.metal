// Pooling over images: one thread computes one output value.
#include "common.h"

// The taps [begin, end) of a window along one axis that lie inside the image.
struct NpuTaps {
  npu_u32 begin;
  npu_u32 end;
};

// Window `index` starts at index * stride - pad and has `size` taps, `dilation` apart.
NPU_FUNC NpuTaps npu_taps(npu_u32 index, npu_u32 stride, npu_u32 pad, npu_u32 size,
                          npu_u32 dilation, npu_u32 extent) {
  const npu_i64 start = npu_i64(index) * npu_i64(stride) - npu_i64(pad);
  const npu_i64 step = npu_i64(dilation);
  const npu_i64 begin = start < 0 ? (step - 1 - start) / step : 0;
  const npu_i64 room = npu_i64(extent) - start;
  const npu_i64 fitting = room > 0 ? (room + step - 1) / step : 0;
  const npu_i64 end = fitting < npu_i64(size) ? fitting : npu_i64(size);
  NpuTaps taps;
  taps.begin = npu_u32(begin < end ? begin : end);
  taps.end = npu_u32(end);
  return taps;
}

// The image coordinate of a tap that npu_taps found.
NPU_FUNC npu_u32 npu_tap_at(npu_u32 index, npu_u32 stride, npu_u32 pad, npu_u32 tap,
                            npu_u32 dilation) {
  return index * stride + tap * dilation - pad;
}

template <class T>
NPU_FUNC void npu_max_pool2d(DEVICE_PTR(const T) x, DEVICE_PTR(T) y,
                             CONSTANT_REF(MaxPool2dParams) p, NpuThread self) {
  if (self.x >= p.y_c || self.y >= p.y_w || self.z / p.y_h >= p.y_n) return;
  const npu_u32 image = self.z / p.y_h;
  const npu_u32 out_y = self.z % p.y_h;
  const NpuTaps rows = npu_taps(out_y, p.stride_h, p.pad_h, p.kh, p.dilation_h, p.x_h);
  const NpuTaps columns = npu_taps(self.y, p.stride_w, p.pad_w, p.kw, p.dilation_w, p.x_w);
  const npu_u64 base = image * npu_u64(p.x_sn) + self.x * npu_u64(p.x_sc);
  npu_f32 best = -NPU_INFINITY;
  for (npu_u32 r = rows.begin; r < rows.end; ++r) {
    const npu_u32 in_y = npu_tap_at(out_y, p.stride_h, p.pad_h, r, p.dilation_h);
    for (npu_u32 c = columns.begin; c < columns.end; ++c) {
      const npu_u32 in_x = npu_tap_at(self.y, p.stride_w, p.pad_w, c, p.dilation_w);
      best = npu_max(best, npu_widen(x[base + in_y * npu_u64(p.x_sh) + in_x * npu_u64(p.x_sw)]));
    }
  }
  y[image * npu_u64(p.y_sn) + self.x * npu_u64(p.y_sc) + out_y * npu_u64(p.y_sh) +
    self.y * npu_u64(p.y_sw)] = npu_narrow<T>(best);
}

// The window's length along one axis, clipped to the image and the padding behind it.
NPU_FUNC npu_f32 npu_padded_length(npu_u32 index, npu_u32 stride, npu_u32 pad, npu_u32 size,
                                   npu_u32 extent) {
  const npu_i64 start = npu_i64(index) * npu_i64(stride) - npu_i64(pad);
  const npu_i64 room = npu_i64(extent) + npu_i64(pad) - start;
  return npu_f32(room < npu_i64(size) ? room : npu_i64(size));
}

template <class T>
NPU_FUNC void npu_avg_pool2d(DEVICE_PTR(const T) x, DEVICE_PTR(T) y,
                             CONSTANT_REF(AvgPool2dParams) p, NpuThread self) {
  if (self.x >= p.y_c || self.y >= p.y_w || self.z / p.y_h >= p.y_n) return;
  const npu_u32 image = self.z / p.y_h;
  const npu_u32 out_y = self.z % p.y_h;
  const NpuTaps rows = npu_taps(out_y, p.stride_h, p.pad_h, p.kh, 1, p.x_h);
  const NpuTaps columns = npu_taps(self.y, p.stride_w, p.pad_w, p.kw, 1, p.x_w);
  const npu_u64 base = image * npu_u64(p.x_sn) + self.x * npu_u64(p.x_sc);
  npu_f32 sum = 0.0f;
  for (npu_u32 r = rows.begin; r < rows.end; ++r) {
    const npu_u32 in_y = npu_tap_at(out_y, p.stride_h, p.pad_h, r, 1);
    for (npu_u32 c = columns.begin; c < columns.end; ++c) {
      const npu_u32 in_x = npu_tap_at(self.y, p.stride_w, p.pad_w, c, 1);
      sum += npu_widen(x[base + in_y * npu_u64(p.x_sh) + in_x * npu_u64(p.x_sw)]);
    }
  }
  npu_f32 divisor = npu_f32(rows.end - rows.begin) * npu_f32(columns.end - columns.begin);
  if (p.count_include_pad != 0) {
    divisor = npu_padded_length(out_y, p.stride_h, p.pad_h, p.kh, p.x_h) *
              npu_padded_length(self.y, p.stride_w, p.pad_w, p.kw, p.x_w);
  }
  if (p.divisor_override != 0) divisor = npu_f32(p.divisor_override);
  y[image * npu_u64(p.y_sn) + self.x * npu_u64(p.y_sc) + out_y * npu_u64(p.y_sh) +
    self.y * npu_u64(p.y_sw)] = npu_narrow<T>(sum / divisor);
}

// The window [floor(index * extent / count), ceil((index + 1) * extent / count)).
NPU_FUNC NpuTaps npu_adaptive_taps(npu_u32 index, npu_u32 count, npu_u32 extent) {
  NpuTaps taps;
  taps.begin = npu_u32(npu_u64(index) * extent / count);
  taps.end = npu_u32(((npu_u64(index) + 1) * extent + count - 1) / count);
  return taps;
}

template <class T>
NPU_FUNC void npu_adaptive_avg_pool2d(DEVICE_PTR(const T) x, DEVICE_PTR(T) y,
                                      CONSTANT_REF(AdaptiveAvgPool2dParams) p, NpuThread self) {
  if (self.x >= p.y_c || self.y >= p.y_w || self.z / p.y_h >= p.y_n) return;
  const npu_u32 image = self.z / p.y_h;
  const npu_u32 out_y = self.z % p.y_h;
  const NpuTaps rows = npu_adaptive_taps(out_y, p.y_h, p.x_h);
  const NpuTaps columns = npu_adaptive_taps(self.y, p.y_w, p.x_w);
  const npu_u64 base = image * npu_u64(p.x_sn) + self.x * npu_u64(p.x_sc);
  npu_f32 sum = 0.0f;
  for (npu_u32 r = rows.begin; r < rows.end; ++r) {
    for (npu_u32 c = columns.begin; c < columns.end; ++c) {
      sum += npu_widen(x[base + r * npu_u64(p.x_sh) + c * npu_u64(p.x_sw)]);
    }
  }
  const npu_f32 count = npu_f32(rows.end - rows.begin) * npu_f32(columns.end - columns.begin);
  y[image * npu_u64(p.y_sn) + self.x * npu_u64(p.y_sc) + out_y * npu_u64(p.y_sh) +
    self.y * npu_u64(p.y_sw)] = npu_narrow<T>(sum / count);
}

// The largest value of a window and its place in the plane, as PyTorch chooses it: the first of
// equal values, the last NaN.
struct NpuPlaced {
  npu_f32 value;
  npu_i64 place;
};

NPU_FUNC void npu_take_larger(THREAD_REF(NpuPlaced) best, npu_f32 value, npu_i64 place) {
  if (value > best.value || value != value) {
    best.value = value;
    best.place = place;
  }
}

template <class T>
NPU_FUNC void npu_max_pool2d_with_indices(DEVICE_PTR(const T) x, DEVICE_PTR(T) y,
                                          DEVICE_PTR(npu_i64) index,
                                          CONSTANT_REF(MaxPool2dWithIndicesParams) p,
                                          NpuThread self) {
  if (self.x >= p.y_c || self.y >= p.y_w || self.z / p.y_h >= p.y_n) return;
  const npu_u32 image = self.z / p.y_h;
  const npu_u32 out_y = self.z % p.y_h;
  const NpuTaps rows = npu_taps(out_y, p.stride_h, p.pad_h, p.kh, p.dilation_h, p.x_h);
  const NpuTaps columns = npu_taps(self.y, p.stride_w, p.pad_w, p.kw, p.dilation_w, p.x_w);
  const npu_u64 base = image * npu_u64(p.x_sn) + self.x * npu_u64(p.x_sc);
  NpuPlaced best;
  best.value = -NPU_INFINITY;
  best.place = 0;
  if (rows.begin < rows.end && columns.begin < columns.end) {
    best.place = npu_i64(npu_tap_at(out_y, p.stride_h, p.pad_h, rows.begin, p.dilation_h)) * p.x_w +
                 npu_tap_at(self.y, p.stride_w, p.pad_w, columns.begin, p.dilation_w);
  }
  for (npu_u32 r = rows.begin; r < rows.end; ++r) {
    const npu_u32 in_y = npu_tap_at(out_y, p.stride_h, p.pad_h, r, p.dilation_h);
    for (npu_u32 c = columns.begin; c < columns.end; ++c) {
      const npu_u32 in_x = npu_tap_at(self.y, p.stride_w, p.pad_w, c, p.dilation_w);
      npu_take_larger(best, npu_widen(x[base + in_y * npu_u64(p.x_sh) + in_x * npu_u64(p.x_sw)]),
                      npu_i64(in_y) * p.x_w + in_x);
    }
  }
  y[image * npu_u64(p.y_sn) + self.x * npu_u64(p.y_sc) + out_y * npu_u64(p.y_sh) +
    self.y * npu_u64(p.y_sw)] = npu_narrow<T>(best.value);
  index[image * npu_u64(p.index_sn) + self.x * npu_u64(p.index_sc) + out_y * npu_u64(p.index_sh) +
        self.y * npu_u64(p.index_sw)] = best.place;
}

template <class T>
NPU_FUNC void npu_adaptive_max_pool2d(DEVICE_PTR(const T) x, DEVICE_PTR(T) y,
                                      DEVICE_PTR(npu_i64) index,
                                      CONSTANT_REF(AdaptiveMaxPool2dParams) p, NpuThread self) {
  if (self.x >= p.y_c || self.y >= p.y_w || self.z / p.y_h >= p.y_n) return;
  const npu_u32 image = self.z / p.y_h;
  const npu_u32 out_y = self.z % p.y_h;
  const NpuTaps rows = npu_adaptive_taps(out_y, p.y_h, p.x_h);
  const NpuTaps columns = npu_adaptive_taps(self.y, p.y_w, p.x_w);
  const npu_u64 base = image * npu_u64(p.x_sn) + self.x * npu_u64(p.x_sc);
  NpuPlaced best;
  best.value = -NPU_INFINITY;
  best.place = npu_i64(rows.begin) * p.x_w + columns.begin;
  for (npu_u32 r = rows.begin; r < rows.end; ++r) {
    for (npu_u32 c = columns.begin; c < columns.end; ++c) {
      npu_take_larger(best, npu_widen(x[base + r * npu_u64(p.x_sh) + c * npu_u64(p.x_sw)]),
                      npu_i64(r) * p.x_w + c);
    }
  }
  y[image * npu_u64(p.y_sn) + self.x * npu_u64(p.y_sc) + out_y * npu_u64(p.y_sh) +
    self.y * npu_u64(p.y_sw)] = npu_narrow<T>(best.value);
  if (p.index_n != 0) {
    index[image * npu_u64(p.index_sn) + self.x * npu_u64(p.index_sc) + out_y * npu_u64(p.index_sh) +
          self.y * npu_u64(p.index_sw)] = best.place;
  }
}
