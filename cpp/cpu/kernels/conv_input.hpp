// The input of a direct convolution, brought into a form that the inner loop can read:
//
// * in place: a pointwise convolution whose input already has A's type reads it where it is;
// * window: the padded input rows, dense and in A's type; each tap of the filter is a run at a
// fixed
//   offset, and the pixels of one output row are equally spaced;
// * lowered: the matrix itself, one row per output pixel (im2col), where the other forms do not
// fit: taps
//   not a multiple of k_unit, output rows too short to fill a tile, strides that collide in the
//   cache.
#pragma once

#include <cstdint>
#include <vector>

#include "conv_impl.hpp"
#include "kernel_table.hpp"
#include "panel_product.hpp"

namespace npu::cpu {

class ConvInput {
 public:
  ConvInput(const ConvProblem& problem, const GemmKernels& gemm);

  // Sizes the buffers for up to `rows` rows of output pixels at a time.
  void reserve(std::int64_t rows);
  std::int64_t bytes() const { return a_bytes_ + window_bytes_; }

  // Brings the input of output rows [oy, oy + rows) into form, in `scratch` (bytes() bytes), and
  // fills in the block's source and segments. x is the first channel of the image and group.
  PanelBlock block(const std::byte* x, std::int64_t oy, std::int64_t rows,
                   std::byte* scratch) const;

  std::int64_t k() const { return k_; }
  std::int64_t k_padded() const { return k_padded_; }
  std::int64_t channels() const { return icg_; }
  bool lowered() const { return form_ == Form::lowered; }
  // Bytes written for each output pixel.
  double copied_per_pixel() const;

 private:
  enum class Form { in_place, window, lowered };

  Form choose_form() const;
  void plan_runs();
  void fill_window(const std::byte* x, std::int64_t oy, std::int64_t rows, std::byte* window) const;
  void lower(const std::byte* window, std::int64_t rows, std::byte* a) const;
  void lower_pointwise(const std::byte* x, std::int64_t oy, std::int64_t rows, std::byte* a) const;
  void widen_pixels(const std::byte* x, std::int64_t pixels, std::int64_t stride, std::byte* dst,
                    std::int64_t dst_stride, std::int64_t plane) const;

  bool pointwise() const { return s_.kh == 1 && s_.kw == 1; }
  bool unpadded() const {
    return s_.pad_top == 0 && s_.pad_left == 0 && (s_.oh - 1) * s_.stride_h < s_.ih &&
           (s_.ow - 1) * s_.stride_w < s_.iw;
  }
  std::int64_t window_rows(std::int64_t rows) const {
    return (rows - 1) * s_.stride_h + (s_.kh - 1) * s_.dilation_h + 1;
  }

  ConvShape s_;
  Strides4 xs_;
  DType dtype_;
  const GemmKernels& g_;
  Form form_ = Form::lowered;
  std::int64_t icg_ = 0;               // channels per group
  std::int64_t k_ = 0, k_padded_ = 0;  // length of the sums
  std::int64_t lda_ = 0;               // lowered: elements of a row
  std::int64_t window_width_ = 0;      // pixels of a padded input row that windows touch
  std::int64_t pixel_ = 0;             // window: elements of a pixel
  std::vector<std::int64_t> runs_;
  std::int64_t run_k_ = 0;
  std::int64_t a_bytes_ = 0, window_bytes_ = 0;
};

}  // namespace npu::cpu
