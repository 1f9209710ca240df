// ExpertLinearPlan: rows are sorted by their expert; a task is a stretch of columns of one expert,
// whose weights are multiplied as they stream past few rows, or packed for many.
#include "expert_linear.hpp"

#include <algorithm>
#include <limits>
#include <optional>

#include "cpu_features.hpp"
#include "kernel_table.hpp"
#include "linear.hpp"
#include "linear_epilogue.hpp"
#include "linear_rows.hpp"
#include "panel_product.hpp"
#include "panels.hpp"
#include "row_panels.hpp"

namespace npu::cpu {
namespace {

// Columns of a task at most, and the least that are worth one.
constexpr std::int64_t kMostColumns = 256;
constexpr std::int64_t kLeastBytes = 64 * 1024;
// Weights that stay in L2 while several blocks of rows pass by, and a block of rows that stays in
// L1 meanwhile.
constexpr std::int64_t kCachedBytes = 256 * 1024;
constexpr std::int64_t kRowsBytes = 16 * 1024;
// Rows per expert from which on packing its weights pays, and how many are multiplied at a time.
constexpr std::int64_t kPanelRows = 48;
constexpr std::int64_t kMostPanelRows = 256;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

class ExpertLinearPlan::Impl {
 public:
  Impl(const ExpertShape& shape, const ExpertLayout& layout, DType dtype, bool int8,
       ThreadPool& pool);

  std::size_t scratch_bytes() const { return static_cast<std::size_t>(scratch_bytes_); }
  void run(const ExpertArgs& args) const;

 private:
  // Rows of one expert: places [first, first + count) of the sorted order.
  struct Group {
    std::int64_t expert, first, count;
  };
  struct Job {
    const ExpertArgs& args;
    const std::uint64_t* order;  // the row at each place
    const std::byte* x;          // prepared rows, by place
  };

  std::int64_t sort(const ExpertArgs& args, Group* groups, std::uint64_t* order) const;
  void prepare(const ExpertArgs& args, const std::uint64_t* order, std::byte* x,
               std::byte* workers) const;
  void plan_dots();
  void plan_panels();
  void multiply_dots(const Job& job, const Group& group, Range columns) const;
  void multiply_panel(const Job& job, const Group& group, Range columns, std::byte* scratch) const;
  const std::byte* weights(const Job& job, const Group& group, std::int64_t part,
                           std::int64_t column) const {
    return static_cast<const std::byte*>(job.args.w) +
           (group.expert * l_.w_e + part * l_.w_p + column * l_.w_n) * weight_size_;
  }
  void finish(const Job& job, const Group& group, Range places, Range columns,
              LinearSums sums) const;

  ExpertShape s_;
  ExpertLayout l_;
  DType dtype_;
  ThreadPool& pool_;
  const KernelTable& t_;
  const GemmKernels& g_;
  LinearEpilogue epilogue_;
  std::optional<RowPreparation> preparation_;
  bool int8_;
  std::int64_t rows_, weight_size_;
  std::int64_t columns_ = 0, row_bytes_ = 0, overread_ = 0, worker_bytes_ = 0;  // of a task, a row
  std::int64_t groups_at_, order_at_, x_at_, workers_at_, scratch_bytes_;
  // Dots:
  const DotKernels* dots_ = nullptr;
  std::int64_t cached_columns_ = 0, block_rows_ = 0;
  // Panels:
  std::optional<RowPanels> row_panels_;
  std::int64_t k_padded_ = 0, lda_ = 0, panel_bytes_ = 0, sums_bytes_ = 0;
};

ExpertLinearPlan::Impl::Impl(const ExpertShape& shape, const ExpertLayout& layout, DType dtype,
                             bool int8, ThreadPool& pool)
    : s_(shape),
      l_(layout),
      dtype_(dtype),
      pool_(pool),
      t_(kernel_table(active_isa())),
      g_(t_.gemm[static_cast<std::size_t>(dtype)]),
      epilogue_(t_, {.parts = shape.parts, .m = 1, .n = shape.n, .k = shape.k}, {.y_n = layout.y_n},
                dtype),
      int8_(int8),
      rows_(shape.tokens * shape.choices),
      weight_size_(int8 ? 1 : static_cast<std::int64_t>(dtype_size(dtype))) {
  const bool contiguous = l_.w_k == 1 || s_.k <= 1;
  if (contiguous && rows_ < kPanelRows * s_.experts) {
    plan_dots();
  } else {
    plan_panels();
  }
  groups_at_ = 0;
  order_at_ = round_up(rows_ * static_cast<std::int64_t>(sizeof(Group)), 64);
  x_at_ = order_at_ + round_up(rows_ * 8, 64);
  workers_at_ = x_at_ + round_up((rows_ + overread_) * row_bytes_, 64);
  worker_bytes_ = std::max(worker_bytes_, preparation_->scratch_bytes());
  scratch_bytes_ = workers_at_ + pool_.threads() * worker_bytes_;
}

void ExpertLinearPlan::Impl::plan_dots() {
  const auto d = static_cast<std::size_t>(dtype_);
  dots_ = int8_ ? &t_.dots_i8[d] : &t_.dots[d];
  const WidenFn widen = dots_->x_size == 2 ? g_.widen : t_.widen_f32[d];
  preparation_.emplace(t_, dtype_, widen, dots_->x_size, 1, s_.k, s_.k, false, 0.0f);
  row_bytes_ = odd_lines(std::max<std::int64_t>(1, s_.k), dots_->x_size) * dots_->x_size;

  // Tasks are long, since long stretches of weights stream best, but a few for each thread even
  // where all rows are of one token.
  const std::int64_t column_bytes = std::max<std::int64_t>(1, s_.parts * s_.k * weight_size_);
  const std::int64_t share = s_.n * std::min(rows_, s_.experts) / (8 * pool_.threads());
  const std::int64_t least = std::max<std::int64_t>(8, kLeastBytes / column_bytes);
  columns_ = round_up(std::clamp(share, std::min(least, kMostColumns), kMostColumns), 8);
  block_rows_ = std::clamp<std::int64_t>(kRowsBytes / row_bytes_, 2, kMaxDotBlockRows);
  cached_columns_ = std::clamp<std::int64_t>(kCachedBytes / column_bytes / 8 * 8, 8, kMostColumns);
}

void ExpertLinearPlan::Impl::plan_panels() {
  k_padded_ = round_up(s_.k, g_.k_unit);
  lda_ = odd_lines(std::max<std::int64_t>(1, k_padded_ * g_.a_planes), g_.a_size);
  preparation_.emplace(t_, dtype_, g_.widen, g_.a_size, g_.a_planes, s_.k, k_padded_, false, 0.0f);
  row_bytes_ = lda_ * g_.a_size;
  overread_ = g_.row_overread;
  row_panels_.emplace(t_, g_, dtype_, int8_, s_.k);
  columns_ = g_.nr;
  panel_bytes_ = panel_bytes(g_, k_padded_);
  const std::int64_t rows = std::min(rows_, kMostPanelRows);
  sums_bytes_ = round_up(rows * g_.nr * 4, 64);
  worker_bytes_ = s_.parts * (panel_bytes_ + sums_bytes_) + row_panels_->scratch_bytes() +
                  round_up(product_workspace_bytes(g_, rows, k_padded_), 64);
}

void ExpertLinearPlan::Impl::run(const ExpertArgs& args) const {
  auto* groups = reinterpret_cast<Group*>(args.scratch + groups_at_);
  auto* order = reinterpret_cast<std::uint64_t*>(args.scratch + order_at_);
  const std::int64_t count = sort(args, groups, order);
  std::byte* x = args.scratch + x_at_;
  std::byte* workers = args.scratch + workers_at_;
  prepare(args, order, x, workers);
  const Job job{args, order, x};
  const std::int64_t stretches = ceil_div(s_.n, columns_);
  pool_.parallel_for(count * stretches, [&](std::int64_t task, int worker) {
    const Group& group = groups[task / stretches];
    const std::int64_t first = task % stretches * columns_;
    const Range columns{first, std::min(columns_, s_.n - first)};
    if (dots_ != nullptr) {
      multiply_dots(job, group, columns);
    } else {
      multiply_panel(job, group, columns, workers + worker * worker_bytes_);
    }
  });
}

// Rows of an expert stay in their order. Returns the number of groups.
std::int64_t ExpertLinearPlan::Impl::sort(const ExpertArgs& args, Group* groups,
                                          std::uint64_t* order) const {
  for (std::int64_t row = 0; row < rows_; ++row) {
    order[row] =
        static_cast<std::uint64_t>(args.experts[row]) << 32 | static_cast<std::uint64_t>(row);
  }
  std::sort(order, order + rows_);
  std::int64_t found = 0;
  for (std::int64_t place = 0; place < rows_; ++place) {
    const auto expert = static_cast<std::int64_t>(order[place] >> 32);
    if (found == 0 || groups[found - 1].expert != expert) groups[found++] = {expert, place, 0};
    ++groups[found - 1].count;
    order[place] &= 0xffffffffu;
  }
  return found;
}

void ExpertLinearPlan::Impl::prepare(const ExpertArgs& args, const std::uint64_t* order,
                                     std::byte* x, std::byte* workers) const {
  const auto row = [&](std::int64_t place, int worker) {
    const std::int64_t at = order[place] / s_.choices * l_.x_t + order[place] % s_.choices * l_.x_c;
    const RowSource source{element(args.x, dtype_, at), 0, l_.x_k, nullptr};
    preparation_->prepare(source, 0, x + place * row_bytes_, workers + worker * worker_bytes_);
  };
  // Those of a token or two are not worth waking threads for.
  if (rows_ <= 2 * kMaxDotBlockRows) {
    for (std::int64_t place = 0; place < rows_; ++place) row(place, 0);
  } else {
    pool_.parallel_for(rows_, row);
  }
}

void ExpertLinearPlan::Impl::multiply_dots(const Job& job, const Group& group,
                                           Range columns) const {
  alignas(64) float sums[2][kMaxDotBlockRows * kMostColumns];
  const std::int64_t most = group.count > block_rows_ ? cached_columns_ : kMostColumns;
  const std::int64_t end = columns.first + columns.count;
  for (std::int64_t column = columns.first; column < end; column += most) {
    const std::int64_t count = std::min(most, end - column);
    for (std::int64_t at = 0; at < group.count; at += block_rows_) {
      const Range places{group.first + at, std::min(block_rows_, group.count - at)};
      for (std::int64_t q = 0; q < s_.parts; ++q) {
        const DotBlock block{weights(job, group, q, column),
                             l_.w_n * weight_size_,
                             count,
                             job.x + places.first * row_bytes_,
                             row_bytes_,
                             s_.k};
        dots_->multiply[places.count](block, sums[q], kMostColumns);
      }
      finish(job, group, places, {column, count}, {{sums[0], sums[1]}, kMostColumns});
    }
  }
}

void ExpertLinearPlan::Impl::multiply_panel(const Job& job, const Group& group, Range columns,
                                            std::byte* scratch) const {
  std::byte* sums_at = scratch + s_.parts * panel_bytes_;
  std::byte* spare = sums_at + s_.parts * sums_bytes_;
  std::byte* workspace = spare + row_panels_->scratch_bytes();
  for (std::int64_t q = 0; q < s_.parts; ++q) {
    row_panels_->pack(weights(job, group, q, columns.first), l_.w_n, l_.w_k, columns.count,
                      scratch + q * panel_bytes_, spare);
  }
  const std::int64_t start = 0;
  for (std::int64_t at = 0; at < group.count; at += kMostPanelRows) {
    const Range places{group.first + at, std::min(kMostPanelRows, group.count - at)};
    LinearSums sums{{}, g_.nr};
    if (t_.enter != nullptr) t_.enter();
    for (std::int64_t q = 0; q < s_.parts; ++q) {
      auto* to = reinterpret_cast<float*>(sums_at + q * sums_bytes_);
      const PanelBlock block{
          {job.x + places.first * row_bytes_, lda_, &start, 1, k_padded_, k_padded_},
          1,
          places.count,
          0,
          scratch + q * panel_bytes_,
          panel_bytes_,
          columns.count,
          workspace};
      multiply_panels(t_, g_, block,
                      {DType::f32,
                       nullptr,
                       nullptr,
                       to,
                       {0, places.count, g_.nr, 0, 1},
                       {0, places.count, 0, 0, 1},
                       -kInfinity,
                       kInfinity});
      sums.part[static_cast<std::size_t>(q)] = to;
    }
    if (t_.leave != nullptr) t_.leave();
    finish(job, group, places, columns, sums);
  }
}

// Rows of y are anywhere: one at a time.
void ExpertLinearPlan::Impl::finish(const Job& job, const Group& group, Range places, Range columns,
                                    LinearSums sums) const {
  float scales[2][kMostColumns];
  LinearArgs out{};
  out.lo = -kInfinity;
  out.hi = kInfinity;
  out.activate = s_.parts == 2 ? job.args.activate : nullptr;
  for (std::int64_t q = 0; int8_ && q < s_.parts; ++q) {
    const float* from = job.args.w_scale + group.expert * l_.w_scale_e + q * l_.w_scale_p +
                        columns.first * l_.w_scale_n;
    for (std::int64_t j = 0; j < columns.count; ++j) scales[q][j] = from[j * l_.w_scale_n];
    out.w_scale[q] = scales[q];
  }
  for (std::int64_t i = 0; i < places.count; ++i) {
    const auto row = static_cast<std::int64_t>(job.order[places.first + i]);
    const std::int64_t at =
        row / s_.choices * l_.y_t + row % s_.choices * l_.y_c + columns.first * l_.y_n;
    out.y = element(job.args.y, dtype_, at);
    epilogue_.finish(out, sums, {0, 1}, {0, columns.count});
    for (float*& part : sums.part) part += sums.ld;
  }
}

ExpertLinearPlan::ExpertLinearPlan(const ExpertShape& shape, const ExpertLayout& layout,
                                   DType dtype, bool int8_weights, ThreadPool& pool)
    : impl_(std::make_unique<const Impl>(shape, layout, dtype, int8_weights, pool)) {}
ExpertLinearPlan::~ExpertLinearPlan() = default;
ExpertLinearPlan::ExpertLinearPlan(ExpertLinearPlan&&) noexcept = default;
ExpertLinearPlan& ExpertLinearPlan::operator=(ExpertLinearPlan&&) noexcept = default;

std::size_t ExpertLinearPlan::scratch_bytes() const { return impl_->scratch_bytes(); }
void ExpertLinearPlan::run(const ExpertArgs& args) const { impl_->run(args); }

}  // namespace npu::cpu
