// GemmPlan: a blocked product over packed panels, or dot products over weights read in place for
// few rows.
#include "gemm.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "blocking.hpp"
#include "cpu_features.hpp"
#include "kernel_table.hpp"
#include "panel_product.hpp"
#include "panels.hpp"

namespace npu::cpu {

struct GemmArgs {
  const void* x;
  const void* w;
  const float* bias;
  const void* residual;
  void* y;
  float lo, hi;
  ActivateFn activate;
  std::byte* scratch;
};

class GemmPlan::Impl {
 public:
  Impl(const GemmShape& shape, const GemmLayout& layout, DType dtype, WeightMode mode,
       ThreadPool& pool);

  std::size_t packed_bytes() const {
    return mode_ == WeightMode::constant && !dots_ ? static_cast<std::size_t>(panels_bytes_) : 0;
  }
  std::size_t scratch_bytes() const { return static_cast<std::size_t>(scratch_bytes_); }
  const std::string& name() const { return name_; }
  void pack(const void* w, std::byte* packed) const;
  void run(const GemmArgs& args) const;

 private:
  void plan_panels();
  void plan_dots();
  void run_panels(const GemmArgs& args) const;
  void run_dots(const GemmArgs& args) const;
  void widen_rows(const WidenFn widen, const void* x, std::int64_t b, std::int64_t row,
                  std::int64_t rows, std::byte* dst, std::int64_t ld, std::int64_t size,
                  std::int64_t plane, std::int64_t k_padded, int planes) const;
  Output output_at(const GemmArgs& args, std::int64_t b, std::int64_t row,
                   std::int64_t column) const;

  GemmShape s_;
  GemmLayout l_;
  DType dtype_;
  WeightMode mode_;
  ThreadPool& pool_;
  const KernelTable& t_;
  const GemmKernels& g_;
  std::string name_;
  bool dots_ = false;
  std::int64_t w_batches_ = 1;
  std::int64_t scratch_bytes_ = 0;
  // Panels:
  std::int64_t k_padded_ = 0, lda_ = 0, panels_ = 0, panel_bytes_ = 0, panels_bytes_ = 0;
  std::int64_t a_bytes_ = 0, worker_bytes_ = 0;
  Blocking tasks_;
  // Dots:
  std::int64_t columns_per_task_ = 1, column_tasks_ = 1, ldx_ = 0;
};

namespace {

// Up to here the weights, read once per run, cost more than multiplying each of them a few times
// over.
constexpr std::int64_t kMaxDotRows = 4;

}  // namespace

GemmPlan::Impl::Impl(const GemmShape& shape, const GemmLayout& layout, DType dtype, WeightMode mode,
                     ThreadPool& pool)
    : s_(shape),
      l_(layout),
      dtype_(dtype),
      mode_(mode),
      pool_(pool),
      t_(kernel_table(active_isa())),
      g_(t_.gemm[static_cast<std::size_t>(dtype)]) {
  if (shape.batch < 0 || shape.m < 0 || shape.n < 0 || shape.k < 0) {
    throw std::invalid_argument("GemmPlan: batch, m, n and k must not be negative");
  }
  w_batches_ = l_.w_b == 0 ? 1 : s_.batch;
  dots_ = s_.m <= kMaxDotRows && l_.w_k == 1;
  name_ = std::string(dots_ ? "gemv/" : "gemm/") + isa_name(t_.isa);
  if (dots_) {
    plan_dots();
  } else {
    plan_panels();
  }
}

void GemmPlan::Impl::plan_dots() {
  ldx_ = odd_lines(std::max<std::int64_t>(1, s_.k), 4);
  // About 128 KiB of weights a task: enough to hide its start, little enough to balance threads.
  const std::int64_t row_bytes =
      std::max<std::int64_t>(1, s_.k * static_cast<std::int64_t>(dtype_size(dtype_)));
  columns_per_task_ = round_up(std::clamp<std::int64_t>(128 * 1024 / row_bytes, 8, 1024), 8);
  column_tasks_ = ceil_div(s_.n, columns_per_task_);
  scratch_bytes_ = s_.batch * s_.m * ldx_ * 4;
}

void GemmPlan::Impl::plan_panels() {
  k_padded_ = round_up(s_.k, g_.k_unit);
  lda_ = odd_lines(std::max<std::int64_t>(1, k_padded_ * g_.a_planes), g_.a_size);
  panels_ = ceil_div(s_.n, g_.nr);
  panel_bytes_ = panel_bytes(g_, k_padded_);
  panels_bytes_ = w_batches_ * panels_ * panel_bytes_;

  // As in convolution, the lowered rows should stay in L2 while the panels pass by.
  const CacheSizes caches = cache_sizes();
  const std::int64_t row_bytes = lda_ * g_.a_size;
  BlockingProblem b;
  b.units = s_.m;
  b.instances = s_.batch;
  b.panels = panels_;
  b.max_units = std::clamp<std::int64_t>(caches.l2 / 2 / row_bytes, g_.max_rows, 32 * g_.max_rows);
  b.threads = pool_.threads();
  b.tile_rows = g_.max_rows;
  b.lower_cost = 10.0 + static_cast<double>(row_bytes) / 20;
  b.product_cost = static_cast<double>(k_padded_ * g_.nr) / g_.macs_per_cycle;
  b.panel_cost =
      static_cast<double>(panel_bytes_) / (panels_ * panel_bytes_ > caches.l2 / 2 ? 10.0 : 20.0);
  tasks_ = choose_blocking(b);
  a_bytes_ = round_up((tasks_.max_units + g_.row_overread) * row_bytes, 64);
  worker_bytes_ = a_bytes_ + round_up(product_workspace_bytes(g_, tasks_.max_units, k_padded_), 64);
  scratch_bytes_ =
      pool_.threads() * worker_bytes_ + (mode_ == WeightMode::activation ? panels_bytes_ : 0);
}

void GemmPlan::Impl::pack(const void* w, std::byte* packed) const {
  if (dots_) return;
  pool_.parallel_for(w_batches_ * panels_, [&](std::int64_t i, int) {
    const std::int64_t column = i % panels_ * g_.nr;
    const WeightView view{element(w, dtype_, i / panels_ * l_.w_b), dtype_, l_.w_n, l_.w_k};
    pack_panel(g_, view, column, std::min<std::int64_t>(g_.nr, s_.n - column), s_.k, k_padded_,
               packed + i * panel_bytes_);
  });
}

void GemmPlan::Impl::run(const GemmArgs& args) const {
  if (dots_) {
    run_dots(args);
  } else {
    run_panels(args);
  }
}

Output GemmPlan::Impl::output_at(const GemmArgs& args, std::int64_t b, std::int64_t row,
                                 std::int64_t column) const {
  const RowMap y{b * l_.y_b + row * l_.y_m + column * l_.y_n, s_.m, l_.y_m, 0, l_.y_n};
  const RowMap r{b * l_.residual_b + row * l_.residual_m + column * l_.residual_n, s_.m,
                 l_.residual_m, 0, l_.residual_n};
  return Output{dtype_,
                args.bias != nullptr ? args.bias + column : nullptr,
                args.residual,
                args.y,
                y,
                r,
                args.lo,
                args.hi,
                args.activate};
}

// Rows of x to dense rows of converted elements, zero from k to k_padded.
void GemmPlan::Impl::widen_rows(const WidenFn widen, const void* x, std::int64_t b,
                                std::int64_t row, std::int64_t rows, std::byte* dst,
                                std::int64_t ld, std::int64_t size, std::int64_t plane,
                                std::int64_t k_padded, int planes) const {
  const auto src_size = static_cast<std::int64_t>(dtype_size(dtype_));
  alignas(64) std::byte gathered[256 * 4];
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::byte* src = element(x, dtype_, b * l_.x_b + (row + i) * l_.x_m);
    std::byte* d = dst + i * ld * size;
    if (l_.x_k == 1) {
      widen(src, s_.k, d, d + plane);
    } else {
      for (std::int64_t k0 = 0; k0 < s_.k; k0 += 256) {
        const std::int64_t n = std::min<std::int64_t>(256, s_.k - k0);
        for (std::int64_t k = 0; k < n; ++k) {
          std::memcpy(gathered + k * src_size, src + (k0 + k) * l_.x_k * src_size,
                      static_cast<std::size_t>(src_size));
        }
        widen(gathered, n, d + k0 * size, d + k0 * size + plane);
      }
    }
    for (int q = 0; q < planes; ++q) {
      std::memset(d + q * plane + s_.k * size, 0,
                  static_cast<std::size_t>((k_padded - s_.k) * size));
    }
  }
}

void GemmPlan::Impl::run_panels(const GemmArgs& args) const {
  const auto* panels = static_cast<const std::byte*>(args.w);
  if (mode_ == WeightMode::activation) {
    std::byte* packed = args.scratch + pool_.threads() * worker_bytes_;
    pack(args.w, packed);
    panels = packed;
  }
  if (s_.m == 0) return;
  const std::int64_t per_batch = tasks_.unit_tasks * tasks_.panel_tasks;
  pool_.parallel_for(s_.batch * per_batch, [&](std::int64_t task, int worker) {
    const std::int64_t part = task % tasks_.unit_tasks;
    const std::int64_t panel_part = task / tasks_.unit_tasks % tasks_.panel_tasks;
    const std::int64_t b = task / per_batch;
    const std::int64_t row = s_.m * part / tasks_.unit_tasks;
    const std::int64_t rows = s_.m * (part + 1) / tasks_.unit_tasks - row;
    const std::int64_t panel = panels_ * panel_part / tasks_.panel_tasks;
    const std::int64_t panels_here = panels_ * (panel_part + 1) / tasks_.panel_tasks - panel;
    const std::int64_t column = panel * g_.nr;
    std::byte* a = args.scratch + worker * worker_bytes_;
    widen_rows(g_.widen, args.x, b, row, rows, a, lda_, g_.a_size, k_padded_ * g_.a_size, k_padded_,
               g_.a_planes);
    const std::int64_t start = 0;
    const PanelBlock block{{a, lda_, &start, 1, k_padded_, k_padded_},
                           1,
                           rows,
                           0,
                           panels + ((w_batches_ == 1 ? 0 : b) * panels_ + panel) * panel_bytes_,
                           panel_bytes_,
                           std::min(panels_here * g_.nr, s_.n - column),
                           a + a_bytes_};
    if (t_.enter != nullptr) t_.enter();
    multiply_panels(t_, g_, block, output_at(args, b, row, column));
    if (t_.leave != nullptr) t_.leave();
  });
}

void GemmPlan::Impl::run_dots(const GemmArgs& args) const {
  const auto d = static_cast<std::size_t>(dtype_);
  const bool half_x = dtype_ == DType::bf16 && t_.dot_x_bf16;
  const std::int64_t size = half_x ? 2 : 4;
  const WidenFn widen = half_x ? g_.widen : t_.widen_f32[d];
  for (std::int64_t b = 0; b < s_.batch; ++b) {
    widen_rows(widen, args.x, b, 0, s_.m, args.scratch + b * s_.m * ldx_ * 4, ldx_, size, 0, s_.k,
               1);
  }
  pool_.parallel_for(s_.batch * column_tasks_, [&](std::int64_t task, int) {
    constexpr std::int64_t kBlock = 8;
    constexpr std::int64_t kStored = 16 * kBlock;  // columns finished together
    const std::int64_t b = task / column_tasks_;
    const std::int64_t first = task % column_tasks_ * columns_per_task_;
    const std::int64_t last = std::min(first + columns_per_task_, s_.n);
    const std::byte* x = args.scratch + b * s_.m * ldx_ * 4;
    const Output out = output_at(args, b, 0, 0);
    std::int64_t y_offsets[kMaxDotRows];
    std::int64_t residual_offsets[kMaxDotRows];
    out.y_map.offsets(s_.m, y_offsets);
    out.residual_map.offsets(s_.m, residual_offsets);
    float sums[kMaxDotRows * kStored];
    for (std::int64_t column = first; column < last; column += kStored) {
      const std::int64_t stored = std::min(kStored, last - column);
      for (std::int64_t j = 0; j < stored; j += kBlock) {
        const std::byte* w = element(args.w, dtype_, b * l_.w_b + (column + j) * l_.w_n);
        for (std::int64_t i = 0; i < s_.m; ++i) {
          t_.dot_rows[d](w, l_.w_n, x + i * ldx_ * size, s_.k,
                         static_cast<int>(std::min(kBlock, stored - j)), sums + i * kStored + j);
        }
      }
      store_sums(t_, sums, kStored, static_cast<int>(s_.m), {y_offsets, residual_offsets}, column,
                 stored, out);
    }
  });
}

GemmPlan::GemmPlan(const GemmShape& shape, const GemmLayout& layout, DType dtype, WeightMode mode,
                   ThreadPool& pool)
    : impl_(std::make_unique<const Impl>(shape, layout, dtype, mode, pool)) {}
GemmPlan::~GemmPlan() = default;
GemmPlan::GemmPlan(GemmPlan&&) noexcept = default;
GemmPlan& GemmPlan::operator=(GemmPlan&&) noexcept = default;

std::size_t GemmPlan::packed_weights_bytes() const { return impl_->packed_bytes(); }
void GemmPlan::pack_weights(const void* w, void* packed) const {
  if (impl_->packed_bytes() > 0) impl_->pack(w, static_cast<std::byte*>(packed));
}
std::size_t GemmPlan::scratch_bytes() const { return impl_->scratch_bytes(); }
const char* GemmPlan::algorithm() const { return impl_->name().c_str(); }

void GemmPlan::run(const void* x, const void* w, const float* bias, const void* residual, void* y,
                   float clamp_lo, float clamp_hi, void* scratch, ActivateFn activate) const {
  impl_->run(GemmArgs{x, w, bias, residual, y, clamp_lo, clamp_hi, activate,
                      static_cast<std::byte*>(scratch)});
}

}  // namespace npu::cpu
