// 2-D max, average and adaptive average pooling over strided tensors.
#pragma once

#include <cstdint>

#include "conv.hpp"
#include "dtype.hpp"
#include "thread_pool.hpp"

namespace npu::cpu {

// oh and ow are given by the caller, so floor and ceil_mode are the same to these functions.
// Windows may reach past the end of the input; they must contain at least one element for
// max_pool2d.
struct PoolShape {
  std::int64_t n = 1, c = 0, ih = 0, iw = 0, oh = 0, ow = 0;
  std::int64_t kh = 1, kw = 1, stride_h = 1, stride_w = 1;
  std::int64_t pad_top = 0, pad_left = 0;
  std::int64_t dilation_h = 1, dilation_w = 1;
};

struct AvgPoolOptions {
  bool count_include_pad = true;
  // 0 divides by the window's size; for windows that ceil_mode lets run past the padding, by the
  // part inside input and padding, as PyTorch does.
  std::int64_t divisor_override = 0;
  // Padding after the input; with count_include_pad it bounds what counts as padding.
  std::int64_t pad_bottom = 0, pad_right = 0;
};

// A NaN anywhere in a window makes its maximum NaN, as in PyTorch.
void max_pool2d(const PoolShape& shape, DType dtype, const Strides4& xs, const Strides4& ys,
                const void* x, void* y, ThreadPool& pool);

// Dilation is ignored: average pooling has none. Sums are float32, rounded once.
void avg_pool2d(const PoolShape& shape, const AvgPoolOptions& options, DType dtype,
                const Strides4& xs, const Strides4& ys, const void* x, void* y, ThreadPool& pool);

// Window i spans [floor(i * in / out), ceil((i + 1) * in / out)); only n, c, ih, iw, oh, ow are
// read.
void adaptive_avg_pool2d(const PoolShape& shape, DType dtype, const Strides4& xs,
                         const Strides4& ys, const void* x, void* y, ThreadPool& pool);

}  // namespace npu::cpu
