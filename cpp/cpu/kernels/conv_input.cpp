// Fills the forms of convolution input that conv_input.hpp describes.
#include "conv_input.hpp"

#include <algorithm>
#include <cstring>

#include "panels.hpp"

namespace npu::cpu {
namespace {

// How far ahead of the copy to request input pixels: the input has usually left L2 since it was
// written.
constexpr std::int64_t kPixelsAhead = 6;

// Runs up to this long are copied at this fixed size, which takes a quarter of the time of a call
// to memcpy; what is written too much is overwritten by the next run or lies in the slack behind
// the buffer.
constexpr std::int64_t kShortRun = 64;

void copy_short_run(std::byte* dst, const std::byte* src) {
  std::byte copy[kShortRun];
  std::memcpy(copy, src, sizeof(copy));
  std::memcpy(dst, copy, sizeof(copy));
}

}  // namespace

ConvInput::ConvInput(const ConvProblem& problem, const GemmKernels& gemm)
    : s_(problem.shape), xs_(problem.layout.x), dtype_(problem.dtype), g_(gemm) {
  icg_ = s_.ic / s_.groups;
  k_ = s_.kh * s_.kw * icg_;
  k_padded_ = round_up(k_, g_.k_unit);
  lda_ = odd_lines(k_padded_ * g_.a_planes, g_.a_size);
  window_width_ =
      std::max<std::int64_t>(0, s_.ow - 1) * s_.stride_w + (s_.kw - 1) * s_.dilation_w + 1;
  form_ = choose_form();
  plan_runs();
}

void ConvInput::reserve(std::int64_t rows) {
  if (form_ == Form::lowered)
    a_bytes_ = round_up((rows * s_.ow + g_.row_overread) * lda_ * g_.a_size, 64) + kShortRun;
  if (form_ == Form::window || (form_ == Form::lowered && !pointwise())) {
    const std::int64_t pixels = window_rows(rows) * window_width_ + g_.row_overread * s_.stride_w;
    window_bytes_ = (round_up(pixels * pixel_ * g_.a_size, 64) + kShortRun) * g_.a_planes;
  }
}

double ConvInput::copied_per_pixel() const {
  const double elements = form_ == Form::in_place ? 0
                          : form_ == Form::lowered
                              ? static_cast<double>(k_padded_)
                              : static_cast<double>(icg_ * s_.stride_h * s_.stride_w);
  return elements * g_.a_size * g_.a_planes;
}

ConvInput::Form ConvInput::choose_form() const {
  // Rows that are a multiple of 2 KiB apart share two cache sets of a 32 KiB L1: their lines would
  // evict
  // each other before all their elements are used.
  const auto collides = [&](std::int64_t elements) { return elements * g_.a_size % 2048 == 0; };
  if (pointwise() && unpadded() && xs_.c == 1 && g_.a_planes == 1 && k_ == k_padded_ &&
      g_.a_size == static_cast<int>(dtype_size(dtype_)) && g_.row_overread == 0 &&
      !collides(s_.stride_w * xs_.w)) {
    return Form::in_place;
  }
  const bool whole_runs = icg_ % g_.k_unit == 0;
  const bool fills_tiles = 2 * s_.ow >= g_.max_rows;
  return !pointwise() && whole_runs && fills_tiles ? Form::window : Form::lowered;
}

// Where the taps lie relative to a pixel of A, in elements.
void ConvInput::plan_runs() {
  pixel_ = icg_;
  run_k_ = k_padded_;
  runs_ = {0};
  if (form_ != Form::window) return;
  // Neighbouring taps are one run when pixels are dense; wide pixels get an odd number of cache
  // lines.
  const bool wide = icg_ * g_.a_size % 64 == 0;
  if (wide) pixel_ = odd_lines(icg_, g_.a_size);
  const std::int64_t taps_per_run =
      !wide && s_.dilation_w == 1 && (s_.kw * icg_) % g_.k_unit == 0 ? s_.kw : 1;
  run_k_ = taps_per_run * icg_;
  runs_.clear();
  for (std::int64_t ky = 0; ky < s_.kh; ++ky) {
    for (std::int64_t kx = 0; kx < s_.kw; kx += taps_per_run) {
      runs_.push_back((ky * s_.dilation_h * window_width_ + kx * s_.dilation_w) * pixel_);
    }
  }
}

// Brings the input of output rows [oy, oy + rows) into the plan's form and says where it is.
PanelBlock ConvInput::block(const std::byte* x, std::int64_t oy, std::int64_t rows,
                            std::byte* scratch) const {
  PanelBlock block{};
  block.source.run_offsets = runs_.data();
  block.source.runs = static_cast<std::int64_t>(runs_.size());
  block.source.run_k = run_k_;
  block.segments = rows;
  block.segment_rows = s_.ow;
  switch (form_) {
    case Form::in_place:
      block.source.base = element(x, dtype_, oy * s_.stride_h * xs_.h);
      block.source.lda = s_.stride_w * xs_.w;
      block.segment_stride = s_.stride_h * xs_.h;
      break;
    case Form::window:
      fill_window(x, oy, rows, scratch);
      block.source.base = scratch;
      block.source.lda = s_.stride_w * pixel_;
      block.source.plane = window_bytes_ / g_.a_planes / g_.a_size;
      block.segment_stride = s_.stride_h * window_width_ * pixel_;
      break;
    case Form::lowered:
      if (pointwise()) {
        lower_pointwise(x, oy, rows, scratch);
      } else {
        fill_window(x, oy, rows, scratch + a_bytes_);
        lower(scratch + a_bytes_, rows, scratch);
      }
      block.source.base = scratch;
      block.source.lda = lda_;
      block.source.plane = k_padded_;
      block.segment_stride = s_.ow * lda_;
      break;
  }
  // Equally spaced rows of pixels are one long row, which divides into full tiles.
  if (block.segment_stride == s_.ow * block.source.lda) {
    block.segments = 1;
    block.segment_rows = rows * s_.ow;
  }
  return block;
}

// Copies `pixels` pixels of icg_ channels, `stride` elements apart, to pixels of A-type elements.
void ConvInput::widen_pixels(const std::byte* x, std::int64_t pixels, std::int64_t stride,
                             std::byte* dst, std::int64_t dst_stride, std::int64_t plane) const {
  const auto size = static_cast<std::int64_t>(dtype_size(dtype_));
  if (xs_.c == 1) {
    if (stride == icg_ && dst_stride == icg_) {
      g_.widen(x, pixels * icg_, dst, dst + plane);
      return;
    }
    for (std::int64_t i = 0; i < pixels; ++i) {
      const std::byte* ahead = x + std::min(i + kPixelsAhead, pixels - 1) * stride * size;
      for (std::int64_t line = 0; line < icg_ * size; line += 64) __builtin_prefetch(ahead + line);
      std::byte* d = dst + i * dst_stride * g_.a_size;
      g_.widen(x + i * stride * size, icg_, d, d + plane);
    }
    return;
  }
  // Any other layout: gather some pixels' channels, then convert them.
  alignas(64) std::byte gathered[1024 * 4];
  const std::int64_t channels = std::min<std::int64_t>(icg_, 1024);
  const std::int64_t step = dst_stride == icg_ && channels == icg_ ? 1024 / channels : 1;
  for (std::int64_t i = 0; i < pixels; i += step) {
    const std::int64_t count = std::min(step, pixels - i);
    for (std::int64_t c0 = 0; c0 < icg_; c0 += channels) {
      const std::int64_t c1 = std::min(icg_ - c0, channels);
      for (std::int64_t c = 0; c < c1; ++c) {
        const std::byte* src = x + (i * stride + (c0 + c) * xs_.c) * size;
        for (std::int64_t q = 0; q < count; ++q) {
          std::memcpy(gathered + (q * c1 + c) * size, src + q * stride * size,
                      static_cast<std::size_t>(size));
        }
      }
      std::byte* d = dst + (i * dst_stride + c0) * g_.a_size;
      g_.widen(gathered, count * c1, d, d + plane);
    }
  }
}

// The input rows that `rows` output rows from oy look at, with zeros where they reach into the
// padding.
void ConvInput::fill_window(const std::byte* x, std::int64_t oy, std::int64_t rows,
                            std::byte* window) const {
  const std::int64_t pixel_bytes = pixel_ * g_.a_size;
  const std::int64_t plane = window_bytes_ / g_.a_planes;
  const std::int64_t first = std::clamp<std::int64_t>(s_.pad_left, 0, window_width_);
  const std::int64_t last = std::clamp<std::int64_t>(s_.iw + s_.pad_left, first, window_width_);
  const auto clear = [&](std::byte* p, std::int64_t pixels) {
    for (int q = 0; q < g_.a_planes; ++q) {
      std::memset(p + q * plane, 0, static_cast<std::size_t>(pixels * pixel_bytes));
    }
  };
  for (std::int64_t r = 0; r < window_rows(rows); ++r) {
    std::byte* dst = window + r * window_width_ * pixel_bytes;
    const std::int64_t y = oy * s_.stride_h - s_.pad_top + r;
    if (y < 0 || y >= s_.ih) {
      clear(dst, window_width_);
      continue;
    }
    clear(dst, first);
    clear(dst + last * pixel_bytes, window_width_ - last);
    widen_pixels(element(x, dtype_, y * xs_.h + (first - s_.pad_left) * xs_.w), last - first, xs_.w,
                 dst + first * pixel_bytes, pixel_, plane);
  }
}

void ConvInput::lower(const std::byte* window, std::int64_t rows, std::byte* a) const {
  // Taps that are neighbours in the window row are copied as one run.
  const std::int64_t taps_per_run = s_.dilation_w == 1 ? s_.kw : 1;
  const std::int64_t pixel_bytes = pixel_ * g_.a_size;
  const std::int64_t run_bytes = taps_per_run * pixel_bytes;
  const std::int64_t tail_bytes = (k_padded_ - k_) * g_.a_size;
  const bool short_runs = taps_per_run == s_.kw && run_bytes <= kShortRun && g_.a_planes == 1;
  for (int q = 0; q < g_.a_planes; ++q) {
    const std::byte* src = window + q * (window_bytes_ / g_.a_planes);
    for (std::int64_t oy = 0; oy < rows; ++oy) {
      for (std::int64_t ox = 0; ox < s_.ow; ++ox) {
        std::byte* dst = a + ((oy * s_.ow + ox) * lda_ + q * k_padded_) * g_.a_size;
        for (std::int64_t ky = 0; ky < s_.kh; ++ky) {
          const std::byte* row =
              src + ((oy * s_.stride_h + ky * s_.dilation_h) * window_width_ + ox * s_.stride_w) *
                        pixel_bytes;
          if (short_runs) {
            copy_short_run(dst, row);
            dst += run_bytes;
            continue;
          }
          for (std::int64_t kx = 0; kx < s_.kw; kx += taps_per_run) {
            std::memcpy(dst, row + kx * s_.dilation_w * pixel_bytes,
                        static_cast<std::size_t>(run_bytes));
            dst += run_bytes;
          }
        }
        std::memset(dst, 0, static_cast<std::size_t>(tail_bytes));
      }
    }
  }
}

void ConvInput::lower_pointwise(const std::byte* x, std::int64_t oy, std::int64_t rows,
                                std::byte* a) const {
  const std::int64_t row_bytes = lda_ * g_.a_size;
  const std::int64_t plane = k_padded_ * g_.a_size;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::byte* dst = a + r * s_.ow * row_bytes;
    const std::int64_t y = (oy + r) * s_.stride_h - s_.pad_top;
    // Output columns whose pixel lies inside the input.
    const bool inside = y >= 0 && y < s_.ih;
    const auto column = [&](std::int64_t ix) {
      return std::clamp<std::int64_t>(ceil_div(ix, s_.stride_w), 0, s_.ow);
    };
    const std::int64_t first = inside ? column(s_.pad_left) : s_.ow;
    const std::int64_t last = inside ? std::max(first, column(s_.iw + s_.pad_left)) : s_.ow;
    std::memset(dst, 0, static_cast<std::size_t>(first * row_bytes));
    std::memset(dst + last * row_bytes, 0, static_cast<std::size_t>((s_.ow - last) * row_bytes));
    widen_pixels(element(x, dtype_, y * xs_.h + (first * s_.stride_w - s_.pad_left) * xs_.w),
                 last - first, s_.stride_w * xs_.w, dst + first * row_bytes, lda_, plane);
    const auto tail_bytes = static_cast<std::size_t>((k_padded_ - k_) * g_.a_size);
    for (std::int64_t i = first; tail_bytes > 0 && i < last; ++i) {
      for (int q = 0; q < g_.a_planes; ++q) {
        std::memset(dst + i * row_bytes + q * plane + k_ * g_.a_size, 0, tail_bytes);
      }
    }
  }
}

}  // namespace npu::cpu
