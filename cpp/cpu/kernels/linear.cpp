// LinearPlan: dot products that stream the weights for few rows; for many, matrix tiles over the
// weights where they lie, or panels packed on the way.
#include "linear.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu_features.hpp"
#include "kernel_table.hpp"
#include "linear_epilogue.hpp"
#include "linear_rows.hpp"
#include "panel_product.hpp"
#include "panels.hpp"
#include "row_panels.hpp"
#include "row_tile_product.hpp"

namespace npu::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Columns that are multiplied before they are finished.
constexpr std::int64_t kDotColumns = 256;
// Rows are prepared in blocks of at most so many bytes.
constexpr std::int64_t kMaxRowBytes = 16 << 20;
// Rows that matrix tiles take at a time.
constexpr std::int64_t kMostTileRows = 256;

}  // namespace

class LinearPlan::Impl {
 public:
  Impl(const LinearShape& shape, const LinearLayout& layout, DType dtype,
       const LinearOptions& options, ThreadPool& pool);

  std::size_t scratch_bytes() const { return static_cast<std::size_t>(scratch_bytes_); }
  const std::string& name() const { return name_; }
  void run(const LinearArgs& args) const;

 private:
  void plan_dots();
  void plan_row_tiles();
  void plan_panels();
  void run_dots(const LinearArgs& args) const;
  void run_row_tiles(const LinearArgs& args) const;
  void run_panels(const LinearArgs& args) const;
  void run_panel(const LinearArgs& args, Range rows, const std::byte* a, std::int64_t panel,
                 std::byte* scratch) const;
  // Whether sums are finished elsewhere than where panels are multiplied.
  bool separate_sums() const { return s_.parts == 2 || options_.int8_weights; }
  std::int64_t weight_size() const {
    return options_.int8_weights ? 1 : static_cast<std::int64_t>(dtype_size(dtype_));
  }
  const std::byte* weights(const LinearArgs& args, std::int64_t part, std::int64_t column) const {
    return static_cast<const std::byte*>(args.w) +
           (part * l_.w_p + column * l_.w_n) * weight_size();
  }

  LinearShape s_;
  LinearLayout l_;
  DType dtype_;
  LinearOptions options_;
  ThreadPool& pool_;
  const KernelTable& t_;
  const GemmKernels& g_;
  LinearEpilogue epilogue_;
  std::string name_;
  std::optional<RowPreparation> rows_;
  std::int64_t scratch_bytes_ = 0, row_bytes_ = 0, rows_at_ = 0, worker_bytes_ = 0;
  // Dots:
  const DotKernels* dots_ = nullptr;
  std::vector<Range> tasks_;  // columns
  // Matrix tiles, in blocks of rows like panels:
  std::optional<RowTileProduct> row_tiles_;
  // Panels:
  std::optional<RowPanels> row_panels_;
  std::int64_t k_padded_ = 0, lda_ = 0, panels_ = 0, panel_bytes_ = 0, block_rows_ = 0;
  std::int64_t row_parts_ = 1, part_rows_ = 0, spare_bytes_ = 0, sums_bytes_ = 0;
};

LinearPlan::Impl::Impl(const LinearShape& shape, const LinearLayout& layout, DType dtype,
                       const LinearOptions& options, ThreadPool& pool)
    : s_(shape),
      l_(layout),
      dtype_(dtype),
      options_(options),
      pool_(pool),
      t_(kernel_table(active_isa())),
      g_(t_.gemm[static_cast<std::size_t>(dtype)]),
      epilogue_(t_, shape, layout, dtype) {
  if (shape.m < 0 || shape.n < 0 || shape.k < 0) {
    throw std::invalid_argument("LinearPlan: m, n and k must not be negative");
  }
  if (shape.parts != 1 && shape.parts != 2) {
    throw std::invalid_argument("LinearPlan: parts must be 1 or 2");
  }
  const bool dots = s_.m <= kMaxDotBlockRows && (l_.w_k == 1 || s_.k <= 1);
  const bool row_tiles = t_.row_tiles != nullptr && dtype_ == DType::bf16 && l_.w_k == 1;
  if (dots) {
    name_ = "dots/";
    plan_dots();
  } else if (row_tiles) {
    name_ = "tiles/";
    plan_row_tiles();
  } else {
    name_ = "panels/";
    plan_panels();
  }
  name_ += isa_name(t_.isa);
}

void LinearPlan::Impl::plan_dots() {
  const auto d = static_cast<std::size_t>(dtype_);
  dots_ = options_.int8_weights ? &t_.dots_i8[d] : &t_.dots[d];
  const WidenFn widen = dots_->x_size == 2 ? g_.widen : t_.widen_f32[d];
  rows_.emplace(t_, dtype_, widen, dots_->x_size, 1, s_.k, s_.k, options_.rms_norm, options_.eps);
  row_bytes_ = odd_lines(std::max<std::int64_t>(1, s_.k), dots_->x_size) * dots_->x_size;
  rows_at_ = rows_->scratch_bytes();
  scratch_bytes_ = rows_at_ + s_.m * row_bytes_;

  // Threads start with long stretches, which stream best, and end with short ones, so that all are
  // done at about the same time.
  constexpr std::int64_t kLastBytes = 64 * 1024;
  const std::int64_t column_bytes = std::max<std::int64_t>(1, s_.parts * s_.k * weight_size());
  const std::int64_t least =
      round_up(std::clamp<std::int64_t>(kLastBytes / column_bytes, 8, 1024), 8);
  std::vector<Range> ranges;
  for (std::int64_t first = 0; first < s_.n;) {
    const std::int64_t left = s_.n - first;
    const std::int64_t share = round_up(left / (2 * pool_.threads()), 8);
    ranges.push_back({first, std::min(left, std::max(share, least))});
    first += ranges.back().count;
  }
  // Every thread has its share of the tasks, of the long ones as of the short.
  const auto threads = static_cast<std::size_t>(pool_.threads());
  const std::size_t each = (ranges.size() + threads - 1) / threads;
  ranges.resize(each * threads, {s_.n, 0});
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    tasks_.push_back(ranges[i % each * threads + i / each]);
  }
}

void LinearPlan::Impl::plan_row_tiles() {
  const std::int64_t blocks = ceil_div(s_.m, kMostTileRows);
  block_rows_ = std::min(s_.m, round_up(ceil_div(s_.m, blocks), kTileRows));
  row_tiles_.emplace(t_, s_, options_.int8_weights, block_rows_, pool_);
  rows_at_ = row_tiles_->scratch_bytes();
  scratch_bytes_ = rows_at_;
  if (!options_.rms_norm && l_.x_k == 1) return;
  row_bytes_ = odd_lines(std::max<std::int64_t>(1, s_.k), 2) * 2;
  rows_.emplace(t_, dtype_, g_.widen, 2, 1, s_.k, s_.k, options_.rms_norm, options_.eps);
  worker_bytes_ = rows_->scratch_bytes();
  scratch_bytes_ += block_rows_ * row_bytes_ + pool_.threads() * worker_bytes_;
}

void LinearPlan::Impl::plan_panels() {
  k_padded_ = round_up(s_.k, g_.k_unit);
  lda_ = odd_lines(std::max<std::int64_t>(1, k_padded_ * g_.a_planes), g_.a_size);
  rows_.emplace(t_, dtype_, g_.widen, g_.a_size, g_.a_planes, s_.k, k_padded_, options_.rms_norm,
                options_.eps);
  panels_ = ceil_div(s_.n, g_.nr);
  panel_bytes_ = panel_bytes(g_, k_padded_);
  row_bytes_ = lda_ * g_.a_size;
  const std::int64_t most = std::max<std::int64_t>(g_.max_rows, kMaxRowBytes / row_bytes_);
  block_rows_ = ceil_div(s_.m, std::max<std::int64_t>(1, ceil_div(s_.m, most)));
  // With few panels rows are shared out, too, and every share packs its panel itself.
  const std::int64_t wanted = ceil_div(4 * pool_.threads(), std::max<std::int64_t>(1, panels_));
  row_parts_ = std::clamp<std::int64_t>(ceil_div(block_rows_, 4 * g_.max_rows), 1, wanted);
  part_rows_ = ceil_div(block_rows_, row_parts_);

  row_panels_.emplace(t_, g_, dtype_, options_.int8_weights, s_.k);
  spare_bytes_ = row_panels_->scratch_bytes();
  if (separate_sums()) sums_bytes_ = round_up(part_rows_ * g_.nr * 4, 64);
  worker_bytes_ = std::max(rows_->scratch_bytes(),
                           s_.parts * (panel_bytes_ + sums_bytes_) + spare_bytes_ +
                               round_up(product_workspace_bytes(g_, part_rows_, k_padded_), 64));
  rows_at_ = pool_.threads() * worker_bytes_;
  scratch_bytes_ = rows_at_ + round_up((block_rows_ + g_.row_overread) * row_bytes_, 64);
}

void LinearPlan::Impl::run(const LinearArgs& args) const {
  if (s_.m == 0 || s_.n == 0) return;
  if (dots_ != nullptr) {
    run_dots(args);
  } else if (row_tiles_) {
    run_row_tiles(args);
  } else {
    run_panels(args);
  }
}

void LinearPlan::Impl::run_dots(const LinearArgs& args) const {
  std::byte* x = args.scratch + rows_at_;
  const RowSource source{args.x, l_.x_m, l_.x_k, args.scale};
  for (std::int64_t i = 0; i < s_.m; ++i) {
    rows_->prepare(source, i, x + i * row_bytes_, args.scratch);
  }
  const auto multiply = dots_->multiply[s_.m];
  pool_.parallel_for(static_cast<std::int64_t>(tasks_.size()), [&](std::int64_t task, int) {
    alignas(64) float sums[2][kMaxDotBlockRows * kDotColumns];
    const Range range = tasks_[static_cast<std::size_t>(task)];
    const std::int64_t end = range.first + range.count;
    for (std::int64_t column = range.first; column < end; column += kDotColumns) {
      const std::int64_t columns = std::min(kDotColumns, end - column);
      for (std::int64_t q = 0; q < s_.parts; ++q) {
        const DotBlock block{
            weights(args, q, column), l_.w_n * weight_size(), columns, x, row_bytes_, s_.k};
        multiply(block, sums[q], kDotColumns);
      }
      epilogue_.finish(args, {{sums[0], sums[1]}, kDotColumns}, {0, s_.m}, {column, columns});
    }
  });
}

void LinearPlan::Impl::run_row_tiles(const LinearArgs& args) const {
  const RowSource source{args.x, l_.x_m, l_.x_k, args.scale};
  const RowTileWeights tile_weights{weights(args, 0, 0), l_.w_p * weight_size(),
                                    l_.w_n * weight_size()};
  std::byte* prepared = args.scratch + rows_at_;
  std::byte* workers = prepared + block_rows_ * row_bytes_;
  for (std::int64_t first = 0; first < s_.m; first += block_rows_) {
    const std::int64_t rows = std::min(block_rows_, s_.m - first);
    if (rows_) {
      pool_.parallel_for(rows, [&](std::int64_t i, int worker) {
        rows_->prepare(source, first + i, prepared + i * row_bytes_,
                       workers + worker * worker_bytes_);
      });
    }
    const std::byte* x = rows_ ? prepared : element(args.x, dtype_, first * l_.x_m);
    row_tiles_->run(tile_weights, x, rows_ ? row_bytes_ : l_.x_m * 2, rows, args.scratch,
                    [&](const LinearSums& sums, Range block, Range columns) {
                      epilogue_.finish(args, sums, {first + block.first, block.count}, columns);
                    });
  }
}

void LinearPlan::Impl::run_panels(const LinearArgs& args) const {
  std::byte* a = args.scratch + rows_at_;
  const RowSource source{args.x, l_.x_m, l_.x_k, args.scale};
  for (std::int64_t first = 0; first < s_.m; first += block_rows_) {
    const std::int64_t rows = std::min(block_rows_, s_.m - first);
    pool_.parallel_for(rows, [&](std::int64_t i, int worker) {
      rows_->prepare(source, first + i, a + i * row_bytes_, args.scratch + worker * worker_bytes_);
    });
    pool_.parallel_for(panels_ * row_parts_, [&](std::int64_t task, int worker) {
      const std::int64_t part = task % row_parts_;
      const std::int64_t row = rows * part / row_parts_;
      const std::int64_t end = rows * (part + 1) / row_parts_;
      run_panel(args, {first + row, end - row}, a + row * row_bytes_, task / row_parts_,
                args.scratch + worker * worker_bytes_);
    });
  }
}

void LinearPlan::Impl::run_panel(const LinearArgs& args, Range rows, const std::byte* a,
                                 std::int64_t panel, std::byte* scratch) const {
  const Range columns{panel * g_.nr, std::min<std::int64_t>(g_.nr, s_.n - panel * g_.nr)};
  std::byte* sums_at = scratch + s_.parts * panel_bytes_;
  std::byte* spare = sums_at + s_.parts * sums_bytes_;
  std::array<float*, 2> sums{};
  const std::int64_t start = 0;
  for (std::int64_t q = 0; q < s_.parts; ++q) {
    std::byte* packed = scratch + q * panel_bytes_;
    row_panels_->pack(weights(args, q, columns.first), l_.w_n, l_.w_k, columns.count, packed,
                      spare);
    const PanelBlock block{{a, lda_, &start, 1, k_padded_, k_padded_},
                           1,
                           rows.count,
                           0,
                           packed,
                           panel_bytes_,
                           columns.count,
                           spare + spare_bytes_};
    Output out{};
    if (separate_sums()) {
      sums[static_cast<std::size_t>(q)] = reinterpret_cast<float*>(sums_at + q * sums_bytes_);
      out = {DType::f32,
             nullptr,
             nullptr,
             sums[static_cast<std::size_t>(q)],
             {0, rows.count, g_.nr, 0, 1},
             {0, rows.count, 0, 0, 1},
             -kInfinity,
             kInfinity};
    } else {
      out = epilogue_.output(args, rows);
      out.y_map.base += columns.first * l_.y_n;
      out.residual_map.base += columns.first * l_.residual_n;
      if (out.bias != nullptr) out.bias += columns.first;
    }
    if (t_.enter != nullptr) t_.enter();
    multiply_panels(t_, g_, block, out);
    if (t_.leave != nullptr) t_.leave();
  }
  if (!separate_sums()) return;
  for (std::int64_t i = 0; i < rows.count; i += kMaxRows) {
    const std::int64_t n = std::min<std::int64_t>(kMaxRows, rows.count - i);
    LinearSums block{sums, g_.nr};
    for (std::int64_t q = 0; q < s_.parts; ++q)
      block.part[static_cast<std::size_t>(q)] += i * g_.nr;
    epilogue_.finish(args, block, {rows.first + i, n}, columns);
  }
}

LinearPlan::LinearPlan(const LinearShape& shape, const LinearLayout& layout, DType dtype,
                       const LinearOptions& options, ThreadPool& pool)
    : impl_(std::make_unique<const Impl>(shape, layout, dtype, options, pool)) {}
LinearPlan::~LinearPlan() = default;
LinearPlan::LinearPlan(LinearPlan&&) noexcept = default;
LinearPlan& LinearPlan::operator=(LinearPlan&&) noexcept = default;

std::size_t LinearPlan::scratch_bytes() const { return impl_->scratch_bytes(); }
const char* LinearPlan::algorithm() const { return impl_->name().c_str(); }
void LinearPlan::run(const LinearArgs& args) const { impl_->run(args); }

}  // namespace npu::cpu
