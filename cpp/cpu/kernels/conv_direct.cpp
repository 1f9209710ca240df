// Convolution as a matrix product: each task lowers some output rows to a matrix (im2col), then multiplies.
//
// Lowering copies every input element up to kh * kw times, yet costs little: an element copied once is
// then used by every output channel. In return the inner loop sees one plain matrix whatever the stride,
// dilation, padding or layout of the input.
#include <algorithm>
#include <cstring>

#include "blocking.hpp"
#include "conv_impl.hpp"
#include "panels.hpp"

namespace npu::cpu {
namespace {

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
  void plan_tasks();
  void run_task(const ConvArgs& args, std::int64_t task, std::byte* scratch) const;
  void fill_window_rows(const std::byte* x, std::int64_t oy, std::int64_t rows, std::byte* window) const;
  void lower(const std::byte* window, std::int64_t rows, std::byte* a) const;
  void lower_pointwise(const std::byte* x, std::int64_t oy, std::int64_t rows, std::byte* a) const;
  void widen_pixels(const std::byte* x, std::int64_t pixels, std::int64_t stride, std::byte* dst,
                    std::int64_t dst_stride, std::int64_t plane) const;

  bool pointwise() const { return p_.shape.kh == 1 && p_.shape.kw == 1; }
  std::int64_t window_rows(std::int64_t rows) const {
    return (rows - 1) * p_.shape.stride_h + (p_.shape.kh - 1) * p_.shape.dilation_h + 1;
  }

  const GemmKernels& g_;
  std::int64_t icg_, ocg_;        // channels per group
  std::int64_t k_, k_padded_;     // length of the sums
  std::int64_t lda_;              // row of the lowered matrix, in elements of A
  std::int64_t panels_, panel_bytes_;
  std::int64_t window_width_;     // pixels of a padded input row that windows touch
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
  lda_ = odd_lines(k_padded_ * g_.a_planes, g_.a_size);
  panels_ = ceil_div(ocg_, g_.nr);
  panel_bytes_ = panel_bytes(g_, k_padded_);
  window_width_ = std::max<std::int64_t>(0, s.ow - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1;
  plan_tasks();
  a_bytes_ = round_up((tasks_.max_units * s.ow + g_.row_overread) * lda_ * g_.a_size, 64);
  window_bytes_ =
      pointwise() ? 0
                  : round_up(window_rows(tasks_.max_units) * window_width_ * icg_ * g_.a_size, 64) * g_.a_planes;
  work_bytes_ = product_workspace_bytes(g_, tasks_.max_units * s.ow, k_padded_);
  worker_bytes_ = round_up(a_bytes_ + window_bytes_ + work_bytes_, 64);
}

void DirectConv::plan_tasks() {
  const ConvShape& s = p_.shape;
  const CacheSizes caches = cache_sizes();
  const std::int64_t row_bytes = std::max<std::int64_t>(1, s.ow * lda_ * g_.a_size);
  const double k_bytes = static_cast<double>(k_padded_ * g_.a_size * g_.a_planes);
  BlockingProblem b;
  b.units = s.oh;
  b.rows_per_unit = s.ow;
  b.instances = s.n * s.groups;
  b.panels = panels_;
  b.max_units = std::clamp<std::int64_t>(caches.l2 / 2 / row_bytes, 1, std::max<std::int64_t>(1, s.oh));
  b.threads = p_.pool->threads();
  b.tile_rows = g_.max_rows;
  b.lower_cost = k_bytes / 20 + (pointwise() ? 10.0 : 10.0 * static_cast<double>(s.kh));
  b.product_cost = static_cast<double>(k_padded_ * g_.nr) / g_.macs_per_cycle;
  // Weights that do not fit L2 beside the rows come from further out for every task.
  const bool outside = panels_ * panel_bytes_ > caches.l2 / 2;
  b.panel_cost = static_cast<double>(panel_bytes_) / (outside ? 10.0 : 64.0);
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
  const std::byte* x = element(args.x, p_.dtype, n * xs.n + group * icg_ * xs.c);
  std::byte* a = scratch;
  if (pointwise()) {
    lower_pointwise(x, oy, rows, a);
  } else {
    fill_window_rows(x, oy, rows, scratch + a_bytes_);
    lower(scratch + a_bytes_, rows, a);
  }
  const std::int64_t column = panel * g_.nr;
  const PanelBlock block{a,
                         lda_,
                         rows * s.ow,
                         k_padded_,
                         static_cast<const std::byte*>(args.packed) + (group * panels_ + panel) * panel_bytes_,
                         panel_bytes_,
                         std::min(panels * g_.nr, ocg_ - column),
                         scratch + a_bytes_ + window_bytes_};
  const KernelTable& t = *p_.kernels;
  if (t.enter != nullptr) t.enter();
  multiply_panels(t, g_, block, output_at(args, n, oy, group * ocg_ + column));
  if (t.leave != nullptr) t.leave();
}

// Copies `pixels` pixels of icg_ channels, `stride` elements apart, to rows of A-type elements.
void DirectConv::widen_pixels(const std::byte* x, std::int64_t pixels, std::int64_t stride, std::byte* dst,
                              std::int64_t dst_stride, std::int64_t plane) const {
  const auto size = static_cast<std::int64_t>(dtype_size(p_.dtype));
  if (p_.layout.x.c == 1) {
    if (stride == icg_ && dst_stride == icg_) {
      g_.widen(x, pixels * icg_, dst, dst + plane);
      return;
    }
    for (std::int64_t i = 0; i < pixels; ++i) {
      std::byte* d = dst + i * dst_stride * g_.a_size;
      g_.widen(x + i * stride * size, icg_, d, d + plane);
    }
    return;
  }
  // Any other layout: gather one pixel's channels, then convert them like a contiguous pixel.
  alignas(64) std::byte gathered[64 * 4];
  for (std::int64_t i = 0; i < pixels; ++i) {
    for (std::int64_t c0 = 0; c0 < icg_; c0 += 64) {
      const std::int64_t c1 = std::min<std::int64_t>(icg_ - c0, 64);
      for (std::int64_t c = 0; c < c1; ++c) {
        std::memcpy(gathered + c * size, x + (i * stride + (c0 + c) * p_.layout.x.c) * size,
                    static_cast<std::size_t>(size));
      }
      std::byte* d = dst + (i * dst_stride + c0) * g_.a_size;
      g_.widen(gathered, c1, d, d + plane);
    }
  }
}

// The input rows that `rows` output rows from oy look at, padded with zeros, dense, in A's type.
void DirectConv::fill_window_rows(const std::byte* x, std::int64_t oy, std::int64_t rows,
                                  std::byte* window) const {
  const ConvShape& s = p_.shape;
  const Strides4& xs = p_.layout.x;
  const std::int64_t row_bytes = window_width_ * icg_ * g_.a_size;
  const std::int64_t plane = window_bytes_ / g_.a_planes;
  const std::int64_t first = std::clamp<std::int64_t>(s.pad_left, 0, window_width_);
  const std::int64_t last = std::clamp<std::int64_t>(s.iw + s.pad_left, first, window_width_);
  const auto clear = [&](std::byte* p, std::int64_t bytes) {
    for (int q = 0; q < g_.a_planes; ++q) std::memset(p + q * plane, 0, static_cast<std::size_t>(bytes));
  };
  for (std::int64_t r = 0; r < window_rows(rows); ++r) {
    std::byte* dst = window + r * row_bytes;
    const std::int64_t y = oy * s.stride_h - s.pad_top + r;
    if (y < 0 || y >= s.ih) {
      clear(dst, row_bytes);
      continue;
    }
    clear(dst, first * icg_ * g_.a_size);
    clear(dst + last * icg_ * g_.a_size, (window_width_ - last) * icg_ * g_.a_size);
    widen_pixels(element(x, p_.dtype, y * xs.h + (first - s.pad_left) * xs.w), last - first, xs.w,
                 dst + first * icg_ * g_.a_size, icg_, plane);
  }
}

void DirectConv::lower(const std::byte* window, std::int64_t rows, std::byte* a) const {
  const ConvShape& s = p_.shape;
  // Taps that are neighbours in the window row are copied as one run.
  const std::int64_t taps_per_run = s.dilation_w == 1 ? s.kw : 1;
  const std::int64_t run_bytes = taps_per_run * icg_ * g_.a_size;
  const std::int64_t pixel_bytes = icg_ * g_.a_size;
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
    const bool row_inside = y >= 0 && y < s.ih;
    // Output columns whose pixel lies inside the input.
    const std::int64_t first = row_inside ? std::clamp<std::int64_t>(ceil_div(s.pad_left, s.stride_w), 0, s.ow) : s.ow;
    const std::int64_t last = row_inside
        ? std::clamp<std::int64_t>(ceil_div(s.iw + s.pad_left, s.stride_w), first, s.ow) : s.ow;
    std::memset(dst, 0, static_cast<std::size_t>(first * row_bytes));
    std::memset(dst + last * row_bytes, 0, static_cast<std::size_t>((s.ow - last) * row_bytes));
    widen_pixels(element(x, p_.dtype, y * xs.h + (first * s.stride_w - s.pad_left) * xs.w), last - first,
                 s.stride_w * xs.w, dst + first * row_bytes, lda_, plane);
    if (k_padded_ > k_) {
      for (std::int64_t i = first; i < last; ++i) {
        for (int q = 0; q < g_.a_planes; ++q) {
          std::memset(dst + i * row_bytes + q * plane + k_ * g_.a_size, 0,
                      static_cast<std::size_t>((k_padded_ - k_) * g_.a_size));
        }
      }
    }
  }
}

}  // namespace

std::unique_ptr<const ConvPlan::Impl> make_direct_conv(const ConvProblem& problem) {
  return std::make_unique<DirectConv>(problem);
}

}  // namespace npu::cpu
