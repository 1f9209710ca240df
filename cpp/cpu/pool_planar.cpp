// Pooling row by row: the rows of a window are combined side by side, then each window's columns.
#include "cpu/pool_planar.hpp"

#include <algorithm>
#include <limits>
#include <optional>

#include "cpu/packed_weights.hpp"

namespace npu::cpu {
namespace {

enum Operand : std::size_t { kX, kY };

constexpr std::int64_t kTaskElements = 1 << 14;

// The taps of a window along one axis that lie inside the image.
struct Taps {
  std::int64_t first, count, step;
};

Taps taps_of(std::int64_t start, std::int64_t size, std::int64_t step, std::int64_t extent) {
  const std::int64_t skipped = start < 0 ? ceil_div(-start, step) : 0;
  const std::int64_t first = start + skipped * step;
  const std::int64_t inside = first < extent ? ceil_div(extent - first, step) : 0;
  return {first, std::clamp<std::int64_t>(size - skipped, 0, inside), step};
}

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

class PlanarPoolKernel final : public HostKernel {
 public:
  PlanarPoolKernel(const DispatchInfo& dispatch, const CpuContext& context, const PoolShape& shape,
                   const Strides4& x, const Strides4& y, const AvgPoolOptions* average)
      : s_(shape),
        x_(x),
        y_(y),
        pool_(context.pool),
        load_(context.tiles.load[dispatch.operands[kX].dtype]),
        store_(context.tiles.store[dispatch.operands[kY].dtype]),
        gather_(context.tiles.load[NPU_DTYPE_F32]),
        combine_(context.tiles.accumulate[static_cast<std::size_t>(
            average != nullptr ? Combine::kSum : Combine::kMax)]),
        size_(static_cast<std::int64_t>(schema::dtype_size(dispatch.operands[kX].dtype))) {
    if (average != nullptr) average_ = *average;
    rows_per_task_ = std::max<std::int64_t>(1, kTaskElements / (s_.kh * s_.iw));
    combined_at_ = floats(s_.iw);
    loaded_at_ = floats(s_.iw);
    results_at_ = floats(s_.ow);
  }

  std::size_t scratch_bytes() const override {
    return worker_.size() * static_cast<std::size_t>(pool_.threads());
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    const std::int64_t rows = s_.n * s_.c * s_.oh;
    pool_.parallel_for(ceil_div(rows, rows_per_task_), [&](std::int64_t task, int worker) {
      std::byte* own = scratch + static_cast<std::size_t>(worker) * worker_.size();
      const std::int64_t last = std::min((task + 1) * rows_per_task_, rows);
      for (std::int64_t row = task * rows_per_task_; row < last; ++row) {
        run_row(operands, row / s_.oh / s_.c, row / s_.oh % s_.c, row % s_.oh, own);
      }
    });
  }

 private:
  std::size_t floats(std::int64_t n) {
    return worker_.add(static_cast<std::size_t>(n) * sizeof(float));
  }

  void run_row(std::span<std::byte* const> operands, std::int64_t image, std::int64_t channel,
               std::int64_t row, std::byte* scratch) const {
    auto* combined = reinterpret_cast<float*>(scratch + combined_at_);
    auto* loaded = reinterpret_cast<float*>(scratch + loaded_at_);
    auto* results = reinterpret_cast<float*>(scratch + results_at_);
    const float start = average_ ? 0.0f : -std::numeric_limits<float>::infinity();
    const std::int64_t top = row * s_.stride_h - s_.pad_top;
    const Taps rows = taps_of(top, s_.kh, s_.dilation_h, s_.ih);
    if (rows.count == 0) std::fill_n(combined, s_.iw, start);
    for (std::int64_t r = 0; r < rows.count; ++r) {
      const std::int64_t at = image * x_.n + channel * x_.c + (rows.first + r * rows.step) * x_.h;
      float* to = r == 0 ? combined : loaded;
      load_(bits(to), operands[kX] + at * size_, 1, s_.iw);
      if (r > 0) combine_(combined, loaded, s_.iw);
    }
    std::fill_n(results, s_.ow, start);
    for (std::int64_t tap = 0; tap < s_.kw; ++tap) {
      // The windows whose tap lies inside: 0 <= column * stride + place < width.
      const std::int64_t place = tap * s_.dilation_w - s_.pad_left;
      const std::int64_t first = place < 0 ? ceil_div(-place, s_.stride_w) : 0;
      const std::int64_t last =
          place < s_.iw ? std::min(ceil_div(s_.iw - place, s_.stride_w), s_.ow) : 0;
      if (first >= last) continue;
      gather_(bits(loaded),
              reinterpret_cast<const std::byte*>(combined + first * s_.stride_w + place),
              s_.stride_w, last - first);
      combine_(results + first, loaded, last - first);
    }
    if (average_) divide(results, top, rows.count);
    const std::int64_t at = image * y_.n + channel * y_.c + row * y_.h;
    store_(operands[kY] + at * size_, bits(results), y_.w, s_.ow);
  }

  // Sums become means; a window without taps stays 0.
  void divide(float* sums, std::int64_t top, std::int64_t rows) const {
    const std::int64_t height = std::min(top + s_.kh, s_.ih + average_->pad_bottom) - top;
    for (std::int64_t column = 0; column < s_.ow; ++column) {
      const std::int64_t left = column * s_.stride_w - s_.pad_left;
      const std::int64_t right = left + s_.kw;
      const std::int64_t inside = rows * (std::min(right, s_.iw) - std::max<std::int64_t>(left, 0));
      std::int64_t divisor = inside;
      if (average_->divisor_override != 0) {
        divisor = average_->divisor_override;
      } else if (average_->count_include_pad) {
        divisor = height * (std::min(right, s_.iw + average_->pad_right) - left);
      }
      sums[column] /= inside > 0 ? static_cast<float>(divisor) : 1.0f;
    }
  }

  const PoolShape s_;
  const Strides4 x_, y_;
  ThreadPool& pool_;
  const RunLoad load_;
  const RunStore store_;
  const RunLoad gather_;
  void (*const combine_)(float* acc, const float* x, std::int64_t n);
  const std::int64_t size_;
  std::optional<AvgPoolOptions> average_;
  std::int64_t rows_per_task_ = 1;
  ScratchLayout worker_;
  std::size_t combined_at_ = 0, loaded_at_ = 0, results_at_ = 0;
};

}  // namespace

bool is_planar(const Strides4& x, const PoolShape& shape) {
  return x.w == 1 && (x.c != 1 || shape.c == 1);
}

std::unique_ptr<HostKernel> make_planar_pool(const DispatchInfo& dispatch,
                                             const CpuContext& context, const PoolShape& shape,
                                             const Strides4& x, const Strides4& y,
                                             const AvgPoolOptions* average) {
  return std::make_unique<PlanarPoolKernel>(dispatch, context, shape, x, y, average);
}

}  // namespace npu::cpu
