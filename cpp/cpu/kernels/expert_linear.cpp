// ExpertLinearPlan: rows are sorted by their expert; a task is a stretch of columns of one expert.
#include "expert_linear.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

#include "cpu_features.hpp"
#include "kernel_table.hpp"
#include "linear.hpp"
#include "linear_epilogue.hpp"
#include "linear_rows.hpp"
#include "panels.hpp"

namespace npu::cpu {
namespace {

// Columns of a task at most, and the least that are worth one.
constexpr std::int64_t kMostColumns = 256;
constexpr std::int64_t kLeastBytes = 64 * 1024;
// Weights that stay in L2 while several blocks of rows pass by.
constexpr std::int64_t kCachedBytes = 256 * 1024;

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
  void multiply(const Job& job, const Group& group, Range columns, std::byte* staging) const;
  void finish(const Job& job, const Group& group, Range places, Range columns,
              LinearSums sums) const;
  const std::byte* staged(const std::byte* w, std::int64_t columns, std::byte* to) const;

  ExpertShape s_;
  ExpertLayout l_;
  DType dtype_;
  ThreadPool& pool_;
  const KernelTable& t_;
  const DotKernels& dots_;
  LinearEpilogue epilogue_;
  std::optional<RowPreparation> preparation_;
  std::int64_t rows_, weight_size_, columns_, cached_columns_, row_bytes_;
  bool int8_, in_place_;
  std::int64_t groups_at_, order_at_, x_at_, workers_at_, worker_bytes_;
  std::int64_t scratch_bytes_;
};

ExpertLinearPlan::Impl::Impl(const ExpertShape& shape, const ExpertLayout& layout, DType dtype,
                             bool int8, ThreadPool& pool)
    : s_(shape),
      l_(layout),
      dtype_(dtype),
      pool_(pool),
      t_(kernel_table(active_isa())),
      dots_((int8 ? t_.dots_i8 : t_.dots)[static_cast<std::size_t>(dtype)]),
      epilogue_(t_, {.parts = shape.parts, .m = 1, .n = shape.n, .k = shape.k}, {.y_n = layout.y_n},
                dtype),
      rows_(shape.tokens * shape.choices),
      weight_size_(int8 ? 1 : static_cast<std::int64_t>(dtype_size(dtype))),
      int8_(int8),
      in_place_(layout.w_k == 1 || shape.k <= 1) {
  const auto d = static_cast<std::size_t>(dtype_);
  const WidenFn widen = dots_.x_size == 2 ? t_.gemm[d].widen : t_.widen_f32[d];
  preparation_.emplace(t_, dtype_, widen, dots_.x_size, 1, s_.k, s_.k, false, 0.0f);
  row_bytes_ = odd_lines(std::max<std::int64_t>(1, s_.k), dots_.x_size) * dots_.x_size;

  // Tasks are long, since long stretches of weights stream best, but a few for each thread even
  // where all rows are of one token.
  const std::int64_t column_bytes = std::max<std::int64_t>(1, s_.parts * s_.k * weight_size_);
  const std::int64_t share = s_.n * std::min(rows_, s_.experts) / (8 * pool_.threads());
  const std::int64_t least = std::max<std::int64_t>(8, kLeastBytes / column_bytes);
  columns_ = round_up(std::clamp(share, std::min(least, kMostColumns), kMostColumns), 8);
  cached_columns_ = std::clamp<std::int64_t>(kCachedBytes / column_bytes / 8 * 8, 8, kMostColumns);

  groups_at_ = 0;
  order_at_ = round_up(rows_ * static_cast<std::int64_t>(sizeof(Group)), 64);
  x_at_ = order_at_ + round_up(rows_ * 8, 64);
  workers_at_ = x_at_ + rows_ * row_bytes_;
  worker_bytes_ = preparation_->scratch_bytes();
  if (!in_place_) {
    worker_bytes_ = std::max(worker_bytes_, round_up(cached_columns_ * s_.k * weight_size_, 64));
  }
  scratch_bytes_ = workers_at_ + pool_.threads() * worker_bytes_;
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
    const std::int64_t first = task % stretches * columns_;
    multiply(job, groups[task / stretches], {first, std::min(columns_, s_.n - first)},
             workers + worker * worker_bytes_);
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

void ExpertLinearPlan::Impl::multiply(const Job& job, const Group& group, Range columns,
                                      std::byte* staging) const {
  alignas(64) float sums[2][kMaxDotBlockRows * kMostColumns];
  const bool cached = group.count > kMaxDotBlockRows || !in_place_;
  const std::int64_t most = cached ? cached_columns_ : kMostColumns;
  const std::int64_t end = columns.first + columns.count;
  for (std::int64_t column = columns.first; column < end; column += most) {
    const std::int64_t count = std::min(most, end - column);
    for (std::int64_t at = 0; at < group.count; at += kMaxDotBlockRows) {
      const std::int64_t block = std::min<std::int64_t>(kMaxDotBlockRows, group.count - at);
      const Range places{group.first + at, block};
      for (std::int64_t q = 0; q < s_.parts; ++q) {
        const auto* w = static_cast<const std::byte*>(job.args.w) +
                        (group.expert * l_.w_e + q * l_.w_p + column * l_.w_n) * weight_size_;
        const DotBlock dots{in_place_ ? w : staged(w, count, staging),
                            (in_place_ ? l_.w_n : s_.k) * weight_size_,
                            count,
                            job.x + places.first * row_bytes_,
                            row_bytes_,
                            s_.k};
        dots_.multiply[block](dots, sums[q], kMostColumns);
      }
      finish(job, group, places, {column, count}, {{sums[0], sums[1]}, kMostColumns});
    }
  }
}

// Rows of weights whose elements are apart, copied together.
const std::byte* ExpertLinearPlan::Impl::staged(const std::byte* w, std::int64_t columns,
                                                std::byte* to) const {
  const auto size = static_cast<std::size_t>(weight_size_);
  for (std::int64_t kk = 0; kk < s_.k; ++kk) {
    for (std::int64_t j = 0; j < columns; ++j) {
      std::memcpy(to + (j * s_.k + kk) * weight_size_,
                  w + (j * l_.w_n + kk * l_.w_k) * weight_size_, size);
    }
  }
  return to;
}

// Rows of y are anywhere: one at a time.
void ExpertLinearPlan::Impl::finish(const Job& job, const Group& group, Range places, Range columns,
                                    LinearSums sums) const {
  float scales[2][kMostColumns];
  LinearArgs out{};
  out.lo = -std::numeric_limits<float>::infinity();
  out.hi = std::numeric_limits<float>::infinity();
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
