// 2-D convolution with fused bias, residual, activation and clamp: planned once, run many times
// without allocating.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "dtype.hpp"
#include "panel_product.hpp"
#include "thread_pool.hpp"

namespace npu::cpu {

struct ConvShape {
  std::int64_t n = 1, ic = 0, ih = 0, iw = 0, oc = 0, oh = 0, ow = 0;
  std::int64_t kh = 1, kw = 1, stride_h = 1, stride_w = 1;
  // Zeros in front of the input; how far windows reach past its end follows from oh and ow.
  std::int64_t pad_top = 0, pad_left = 0;
  std::int64_t dilation_h = 1, dilation_w = 1;
  std::int64_t groups = 1;
};

// Distance in elements between neighbours along each dimension. Any values are legal, zero and
// negative included, as long as distinct elements of an output do not share an address.
struct Strides4 {
  std::int64_t n = 0, c = 0, h = 0, w = 0;

  static Strides4 channels_last(std::int64_t c, std::int64_t h, std::int64_t w) {
    return {c * h * w, 1, c * w, c};
  }
  static Strides4 planar(std::int64_t c, std::int64_t h, std::int64_t w) {
    return {c * h * w, h * w, w, 1};
  }
};

struct ConvLayout {
  Strides4 x, y, residual;
};

// y = clamp(activation(conv(x, w) + bias + residual)), rounded once from float32 to the storage
// type.
//
// Products and sums are float32 (bfloat16 products are exact in it). Two methods trade a little of
// that precision for speed, both well below the rounding of a half-precision result: float16 and
// bfloat16 3x3 layers may use Winograd's algorithm, whose error is relative to the largest values
// of a 6x6 patch rather than to each sum; and AMX multiplies float16 as pairs of bfloat16, dropping
// 2^-16 of each product. float32 layers use neither.
class ConvPlan {
 public:
  // Chooses algorithm and blocking. The pool must outlive the plan. Throws std::invalid_argument,
  // naming the field, when the shape is not that of a convolution.
  ConvPlan(const ConvShape& shape, const ConvLayout& layout, DType dtype, ThreadPool& pool);
  ~ConvPlan();
  ConvPlan(ConvPlan&&) noexcept;
  ConvPlan& operator=(ConvPlan&&) noexcept;

  std::size_t packed_weights_bytes() const;

  // `w` is [oc][kh][kw][ic / groups], contiguous, in the plan's dtype; `packed` is 64-byte aligned.
  // The packed form holds for this plan's shape, dtype and instruction set only.
  void pack_weights(const void* w, void* packed) const;

  std::size_t scratch_bytes() const;

  // bias: oc floats or null. residual: null or a tensor of y's shape in layout.residual; it may be
  // y itself when the strides are equal. scratch: scratch_bytes() bytes, 64-byte aligned, not
  // shared with a concurrent run. The clamp lets NaN through; (0, infinity) is relu. activate:
  // applied to float32 values before the clamp, or null.
  void run(const void* x, const void* packed, const float* bias, const void* residual, void* y,
           float clamp_lo, float clamp_hi, void* scratch, ActivateFn activate = nullptr) const;

  // Name of the algorithm and kernel set chosen, for profiles and benchmarks.
  const char* algorithm() const;

  class Impl;

 private:
  std::unique_ptr<const Impl> impl_;
};

}  // namespace npu::cpu
