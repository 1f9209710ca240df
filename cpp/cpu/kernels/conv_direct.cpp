// Convolution as a matrix product. Each task brings the input of some output rows into the form that the
// inner loop reads, then multiplies. Three forms:
//
// * in place: a pointwise convolution whose input already has A's type reads it where it is;
// * window: the padded input rows, dense and in A's type; each tap of the filter is a run at a fixed
//   offset, and the pixels of one output row are equally spaced;
// * lowered: the matrix itself, one row per output pixel (im2col), where the other forms do not fit: taps
//   not a multiple of k_unit, output rows too short to fill a tile, strides that collide in the cache.
#include <algorithm>
#include <cstring>
#include <vector>

#include "blocking.hpp"
#include "conv_impl.hpp"
#include "panels.hpp"

namespace npu::cpu {
namespace {

// How far ahead of the copy to request input pixels: the input has usually left L2 since it was written.
constexpr std::int64_t kPixelsAhead = 6;

enum class Form { in_place, window, lowered };

class DirectConv final : public ConvPlan::Impl {
 public:
  explicit DirectConv(const ConvProblem& problem);

  std::size_t packed_weights_bytes() const override {
    return static_cast<std::size_t>(p_.shape.groups * panels_ * panel_bytes_);
  }
  void pack_weights(const void* w, void* packed) const override;
  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(p_.pool->threads() * worker_bytes_);
  }
  void run(const ConvArgs& args) const override;

 private:
  Form choose_form() const;
  void plan_runs();
  void plan_tasks();
  void run_task(const ConvArgs& args, std::int64_t task, std::byte* scratch) const;
  PanelBlock source_block(const std::byte* x, std::int64_t oy, std::int64_t rows, std::byte* scratch) const;
  void fill_window(const std::byte* x, std::int64_t oy, std::int64_t rows, std::byte* window) const;
  void lower(const std::byte* window, std::int64_t rows, std::byte* a) const;
  void lower_pointwise(const std::byte* x, std::int64_t oy, std::int64_t rows, std::byte* a) const;
  void widen_pixels(const std::byte* x, std::int64_t pixels, std::int64_t stride, std::byte* dst,
                    std::int64_t dst_stride, std::int64_t plane) const;

  bool pointwise() const { return p_.shape.kh == 1 && p_.shape.kw == 1; }
  bool unpadded() const {
    const ConvShape& s = p_.shape;
    return s.pad_top == 0 && s.pad_left == 0 && (s.oh - 1) * s.stride_h < s.ih && (s.ow - 1) * s.stride_w < s.iw;
  }
  std::int64_t window_rows(std::int64_t rows) const {
    return (rows - 1) * p_.shape.stride_h + (p_.shape.kh - 1) * p_.shape.dilation_h + 1;
  }

  const GemmKernels& g_;
  Form form_;
  std::int64_t icg_, ocg_;     // channels per group
  std::int64_t k_, k_padded_;  // length of the sums
  std::int64_t panels_, panel_bytes_;
  std::int64_t lda_;           // lowered: elements of a row
  std::int64_t window_width_;  // pixels of a padded input row that windows touch
  std::int64_t pixel_;         // window: elements of a pixel
  std::vector<std::int64_t> runs_;
  std::int64_t run_k_ = 0;
  Blocking tasks_;
  std::int64_t a_bytes_ = 0, window_bytes_ = 0, work_bytes_ = 0, worker_bytes_ = 0;
};

DirectConv::DirectConv(const ConvProblem& problem)
    : Impl(problem, "direct"), g_(problem.kernels->gemm[static_cast<std::size_t>(problem.dtype)]) {
  const ConvShape& s = p_.shape;
  icg_ = s.ic / s.groups;
  ocg_ = s.oc / s.groups;
  k_ = s.kh * s.kw * icg_;
  k_padded_ = round_up(k_, g_.k_unit);
  panels_ = ceil_div(ocg_, g_.nr);
  panel_bytes_ = panel_bytes(g_, k_padded_);
  lda_ = odd_lines(k_padded_ * g_.a_planes, g_.a_size);
  window_width_ = std::max<std::int64_t>(0, s.ow - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1;
  form_ = choose_form();
  plan_runs();
  plan_tasks();
  const std::int64_t rows = tasks_.max_units * s.ow;
  if (form_ == Form::lowered) a_bytes_ = round_up((rows + g_.row_overread) * lda_ * g_.a_size, 64);
  if (form_ == Form::window || (form_ == Form::lowered && !pointwise())) {
    const std::int64_t pixels = window_rows(tasks_.max_units) * window_width_ + g_.row_overread * s.stride_w;
    window_bytes_ = round_up(pixels * pixel_ * g_.a_size, 64) * g_.a_planes;
  }
  work_bytes_ = product_workspace_bytes(g_, rows, k_padded_);
  worker_bytes_ = round_up(a_bytes_ + window_bytes_ + work_bytes_, 64);
}

Form DirectConv::choose_form() const {
  const ConvShape& s = p_.shape;
  // Rows that are a multiple of 2 KiB apart share two cache sets of a 32 KiB L1: their lines would evict
  // each other before all their elements are used.
  const auto collides = [&](std::int64_t elements) { return elements * g_.a_size % 2048 == 0; };
  if (pointwise() && unpadded() && p_.layout.x.c == 1 && g_.a_planes == 1 && k_ == k_padded_ &&
      g_.a_size == static_cast<int>(dtype_size(p_.dtype)) && g_.row_overread == 0 &&
      !collides(s.stride_w * p_.layout.x.w)) {
    return Form::in_place;
  }
  const bool whole_runs = icg_ % g_.k_unit == 0;
  const bool fills_tiles = 2 * s.ow > g_.max_rows;
  return !pointwise() && whole_runs && fills_tiles ? Form::window : Form::lowered;
}

// Where the taps lie relative to a pixel of A, in elements.
void DirectConv::plan_runs() {
  const ConvShape& s = p_.shape;
  pixel_ = icg_;
  run_k_ = k_padded_;
  runs_ = {0};
  if (form_ != Form::window) return;
  // Neighbouring taps are one run when pixels are dense; wide pixels get an odd number of cache lines.
  const bool wide = icg_ * g_.a_size % 64 == 0;
  if (wide) pixel_ = odd_lines(icg_, g_.a_size);
  const std::int64_t taps_per_run = !wide && s.dilation_w == 1 && (s.kw * icg_) % g_.k_unit == 0 ? s.kw : 1;
  run_k_ = taps_per_run * icg_;
  runs_.clear();
  for (std::int64_t ky = 0; ky < s.kh; ++ky) {
    for (std::int64_t kx = 0; kx < s.kw; kx += taps_per_run) {
      runs_.push_back((ky * s.dilation_h * window_width_ + kx * s.dilation_w) * pixel_);
    }
  }
}

void DirectConv::plan_tasks() {
  const ConvShape& s = p_.shape;
  const CacheSizes caches = cache_sizes();
  const auto a_size = static_cast<double>(g_.a_size * g_.a_planes);
  const double copied = form_ == Form::in_place  ? 0
                        : form_ == Form::lowered ? static_cast<double>(k_padded_)
                                                 : static_cast<double>(icg_ * s.stride_h * s.stride_w);
  const double row_bytes = std::max(64.0, static_cast<double>(s.ow) * std::max(copied, static_cast<double>(icg_)) * a_size);
  BlockingProblem b;
  b.units = s.oh;
  b.rows_per_unit = s.ow;
  b.instances = s.n * s.groups;
  b.panels = panels_;
  b.max_units = std::clamp<std::int64_t>(static_cast<std::int64_t>(static_cast<double>(caches.l2) / 4 / row_bytes),
                                         1, std::max<std::int64_t>(1, s.oh));
  b.threads = p_.pool->threads();
  b.tile_rows = g_.max_rows;
  b.lower_cost = copied * a_size / 20 + (form_ == Form::lowered ? 10.0 * static_cast<double>(s.kh) : 10.0);
  b.product_cost = static_cast<double>(k_padded_ * g_.nr) / g_.macs_per_cycle;
  // Weights that do not fit L2 beside the rows come from further out for every task.
  const bool outside = panels_ * panel_bytes_ > caches.l2 / 2;
  b.panel_cost = static_cast<double>(panel_bytes_) / (outside ? 10.0 : 20.0);
  tasks_ = choose_blocking(b);
}

void DirectConv::pack_weights(const void* w, void* packed) const {
  const std::int64_t total = p_.shape.groups * panels_;
  p_.pool->parallel_for(total, [&](std::int64_t i, int) {
    const std::int64_t group = i / panels_;
    const std::int64_t column = i % panels_ * g_.nr;
    const WeightView view{element(w, p_.dtype, group * ocg_ * k_), p_.dtype, k_, 1};
    pack_panel(g_, view, column, std::min<std::int64_t>(g_.nr, ocg_ - column), k_, k_padded_,
               static_cast<std::byte*>(packed) + i * panel_bytes_);
  });
}

void DirectConv::run(const ConvArgs& args) const {
  const ConvShape& s = p_.shape;
  if (s.oh == 0 || s.ow == 0) return;
  const std::int64_t tasks = s.n * s.groups * tasks_.unit_tasks * tasks_.panel_tasks;
  p_.pool->parallel_for(tasks, [&](std::int64_t task, int worker) {
    run_task(args, task, static_cast<std::byte*>(args.scratch) + worker * worker_bytes_);
  });
}

void DirectConv::run_task(const ConvArgs& args, std::int64_t task, std::byte* scratch) const {
  const ConvShape& s = p_.shape;
  // Panels vary slowest, so that threads working side by side share the same weights.
  const std::int64_t part = task % tasks_.unit_tasks;
  const std::int64_t n = task / tasks_.unit_tasks % s.n;
  const std::int64_t group = task / (tasks_.unit_tasks * s.n) % s.groups;
  const std::int64_t panel_part = task / (tasks_.unit_tasks * s.n * s.groups);
  const std::int64_t oy = s.oh * part / tasks_.unit_tasks;
  const std::int64_t rows = s.oh * (part + 1) / tasks_.unit_tasks - oy;
  const std::int64_t panel = panels_ * panel_part / tasks_.panel_tasks;
  const std::int64_t panels = panels_ * (panel_part + 1) / tasks_.panel_tasks - panel;

  const Strides4& xs = p_.layout.x;
  const std::int64_t column = panel * g_.nr;
  PanelBlock block = source_block(element(args.x, p_.dtype, n * xs.n + group * icg_ * xs.c), oy, rows, scratch);
  block.panels = static_cast<const std::byte*>(args.packed) + (group * panels_ + panel) * panel_bytes_;
  block.panel_bytes = panel_bytes_;
  block.columns = std::min(panels * g_.nr, ocg_ - column);
  block.workspace = scratch + a_bytes_ + window_bytes_;
  const KernelTable& t = *p_.kernels;
  if (t.enter != nullptr) t.enter();
  multiply_panels(t, g_, block, output_at(args, n, oy, group * ocg_ + column));
  if (t.leave != nullptr) t.leave();
}

// Brings the input of output rows [oy, oy + rows) into the plan's form and says where it is.
PanelBlock DirectConv::source_block(const std::byte* x, std::int64_t oy, std::int64_t rows,
                                    std::byte* scratch) const {
  const ConvShape& s = p_.shape;
  const Strides4& xs = p_.layout.x;
  PanelBlock block{};
  block.source.run_offsets = runs_.data();
  block.source.runs = static_cast<std::int64_t>(runs_.size());
  block.source.run_k = run_k_;
  block.segments = rows;
  block.segment_rows = s.ow;
  switch (form_) {
    case Form::in_place:
      block.source.base = element(x, p_.dtype, oy * s.stride_h * xs.h);
      block.source.lda = s.stride_w * xs.w;
      block.segment_stride = s.stride_h * xs.h;
      break;
    case Form::window:
      fill_window(x, oy, rows, scratch);
      block.source.base = scratch;
      block.source.lda = s.stride_w * pixel_;
      block.source.plane = window_bytes_ / g_.a_planes / g_.a_size;
      block.segment_stride = s.stride_h * window_width_ * pixel_;
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
      block.segment_stride = s.ow * lda_;
      break;
  }
  // Equally spaced rows of pixels are one long row, which divides into full tiles.
  if (block.segment_stride == s.ow * block.source.lda) {
    block.segments = 1;
    block.segment_rows = rows * s.ow;
  }
  return block;
}

// Copies `pixels` pixels of icg_ channels, `stride` elements apart, to pixels of A-type elements.
void DirectConv::widen_pixels(const std::byte* x, std::int64_t pixels, std::int64_t stride, std::byte* dst,
                              std::int64_t dst_stride, std::int64_t plane) const {
  const auto size = static_cast<std::int64_t>(dtype_size(p_.dtype));
  if (p_.layout.x.c == 1) {
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
        const std::byte* src = x + (i * stride + (c0 + c) * p_.layout.x.c) * size;
        for (std::int64_t q = 0; q < count; ++q) {
          std::memcpy(gathered + (q * c1 + c) * size, src + q * stride * size, static_cast<std::size_t>(size));
        }
      }
      std::byte* d = dst + (i * dst_stride + c0) * g_.a_size;
      g_.widen(gathered, count * c1, d, d + plane);
    }
  }
}

// The input rows that `rows` output rows from oy look at, with zeros where they reach into the padding.
void DirectConv::fill_window(const std::byte* x, std::int64_t oy, std::int64_t rows, std::byte* window) const {
  const ConvShape& s = p_.shape;
  const Strides4& xs = p_.layout.x;
  const std::int64_t pixel_bytes = pixel_ * g_.a_size;
  const std::int64_t plane = window_bytes_ / g_.a_planes;
  const std::int64_t first = std::clamp<std::int64_t>(s.pad_left, 0, window_width_);
  const std::int64_t last = std::clamp<std::int64_t>(s.iw + s.pad_left, first, window_width_);
  const auto clear = [&](std::byte* p, std::int64_t pixels) {
    for (int q = 0; q < g_.a_planes; ++q) {
      std::memset(p + q * plane, 0, static_cast<std::size_t>(pixels * pixel_bytes));
    }
  };
  for (std::int64_t r = 0; r < window_rows(rows); ++r) {
    std::byte* dst = window + r * window_width_ * pixel_bytes;
    const std::int64_t y = oy * s.stride_h - s.pad_top + r;
    if (y < 0 || y >= s.ih) {
      clear(dst, window_width_);
      continue;
    }
    clear(dst, first);
    clear(dst + last * pixel_bytes, window_width_ - last);
    widen_pixels(element(x, p_.dtype, y * xs.h + (first - s.pad_left) * xs.w), last - first, xs.w,
                 dst + first * pixel_bytes, pixel_, plane);
  }
}

void DirectConv::lower(const std::byte* window, std::int64_t rows, std::byte* a) const {
  const ConvShape& s = p_.shape;
  // Taps that are neighbours in the window row are copied as one run.
  const std::int64_t taps_per_run = s.dilation_w == 1 ? s.kw : 1;
  const std::int64_t pixel_bytes = pixel_ * g_.a_size;
  const std::int64_t run_bytes = taps_per_run * pixel_bytes;
  const std::int64_t tail_bytes = (k_padded_ - k_) * g_.a_size;
  for (int q = 0; q < g_.a_planes; ++q) {
    const std::byte* src = window + q * (window_bytes_ / g_.a_planes);
    for (std::int64_t oy = 0; oy < rows; ++oy) {
      for (std::int64_t ox = 0; ox < s.ow; ++ox) {
        std::byte* dst = a + ((oy * s.ow + ox) * lda_ + q * k_padded_) * g_.a_size;
        for (std::int64_t ky = 0; ky < s.kh; ++ky) {
          const std::byte* row =
              src + ((oy * s.stride_h + ky * s.dilation_h) * window_width_ + ox * s.stride_w) * pixel_bytes;
          for (std::int64_t kx = 0; kx < s.kw; kx += taps_per_run) {
            std::memcpy(dst, row + kx * s.dilation_w * pixel_bytes, static_cast<std::size_t>(run_bytes));
            dst += run_bytes;
          }
        }
        std::memset(dst, 0, static_cast<std::size_t>(tail_bytes));
      }
    }
  }
}

void DirectConv::lower_pointwise(const std::byte* x, std::int64_t oy, std::int64_t rows, std::byte* a) const {
  const ConvShape& s = p_.shape;
  const Strides4& xs = p_.layout.x;
  const std::int64_t row_bytes = lda_ * g_.a_size;
  const std::int64_t plane = k_padded_ * g_.a_size;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::byte* dst = a + r * s.ow * row_bytes;
    const std::int64_t y = (oy + r) * s.stride_h - s.pad_top;
    // Output columns whose pixel lies inside the input.
    const bool inside = y >= 0 && y < s.ih;
    const auto column = [&](std::int64_t ix) { return std::clamp<std::int64_t>(ceil_div(ix, s.stride_w), 0, s.ow); };
    const std::int64_t first = inside ? column(s.pad_left) : s.ow;
    const std::int64_t last = inside ? std::max(first, column(s.iw + s.pad_left)) : s.ow;
    std::memset(dst, 0, static_cast<std::size_t>(first * row_bytes));
    std::memset(dst + last * row_bytes, 0, static_cast<std::size_t>((s.ow - last) * row_bytes));
    widen_pixels(element(x, p_.dtype, y * xs.h + (first * s.stride_w - s.pad_left) * xs.w), last - first,
                 s.stride_w * xs.w, dst + first * row_bytes, lda_, plane);
    const auto tail_bytes = static_cast<std::size_t>((k_padded_ - k_) * g_.a_size);
    for (std::int64_t i = first; tail_bytes > 0 && i < last; ++i) {
      for (int q = 0; q < g_.a_planes; ++q) {
        std::memset(dst + i * row_bytes + q * plane + k_ * g_.a_size, 0, tail_bytes);
      }
    }
  }
}

}  // namespace

std::unique_ptr<const ConvPlan::Impl> make_direct_conv(const ConvProblem& problem) {
  return std::make_unique<DirectConv>(problem);
}

}  // namespace npu::cpu
