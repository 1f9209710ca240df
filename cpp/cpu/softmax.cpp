// The softmax kernel: row by row where the reduced axis is contiguous, else many rows side by side.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "cpu/host_kernels.hpp"

namespace npu::cpu {
namespace {

// Values summed at a time along a row, in several lanes, before the result joins the row's sum.
constexpr std::int64_t kChunk = 4096;
// Additions in one float32 chain before the partial sum joins the total, where rows lie side by
// side.
constexpr std::int64_t kChain = 256;
// Rows computed side by side: a few runs of them stay in the L1 cache.
constexpr std::int64_t kLanes = 256;
// Elements worth waking a thread for.
constexpr std::int64_t kTaskElements = 4096;
constexpr std::int64_t kTasksPerThread = 8;

struct Axis {
  std::int64_t extent, x_stride, y_stride;
};

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

class SoftmaxKernel final : public HostKernel {
 public:
  SoftmaxKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool), tiles_(context.tiles) {
    const auto& p = dispatch.params_as<SoftmaxParams>();
    rows_ = {Axis{p.x_a, p.x_sa, p.y_sa}, Axis{p.x_b, p.x_sb, p.y_sb}, Axis{p.x_c, p.x_sc, p.y_sc}};
    k_ = {p.x_k, p.x_sk, p.y_sk};
    log_ = p.log != 0;
    load_ = tiles_.load[dispatch.operands[0].dtype];
    store_ = tiles_.store[dispatch.operands[1].dtype];
    size_ = static_cast<std::int64_t>(schema::dtype_size(dispatch.operands[0].dtype));
    side_by_side_ = choose_side_by_side();
    // The last axis is the lane axis, walked in blocks.
    lanes_ = side_by_side_ ? std::min(rows_[2].extent, kLanes) : 1;
    blocks_ = ceil_div(rows_[2].extent, lanes_);
    units_ = k_.extent == 0 ? 0 : rows_[0].extent * rows_[1].extent * blocks_;
    units_per_task_ =
        std::max({std::int64_t{1}, kTaskElements / std::max<std::int64_t>(1, k_.extent * lanes_),
                  ceil_div(units_, kTasksPerThread * pool_.threads())});
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(worker_floats() * pool_.threads()) * sizeof(float);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    const auto task = [&](std::int64_t index, int worker) {
      float* buffer = reinterpret_cast<float*>(scratch) + worker * worker_floats();
      const std::int64_t end = std::min((index + 1) * units_per_task_, units_);
      for (std::int64_t unit = index * units_per_task_; unit < end; ++unit) {
        run_unit(unit, operands[0], operands[1], buffer);
      }
    };
    pool_.parallel_for(ceil_div(units_, units_per_task_), task);
  }

 private:
  // With k strided, an axis that is contiguous in x and y serves as lanes; it becomes the last row
  // axis.
  bool choose_side_by_side() {
    if (k_.extent <= 1 || (k_.x_stride == 1 && k_.y_stride == 1)) return false;
    for (Axis& axis : rows_) {
      if (axis.extent >= 8 && axis.x_stride == 1 && axis.y_stride == 1) {
        std::swap(axis, rows_[2]);
        return true;
      }
    }
    return false;
  }

  // A row, or a run of lanes for each of values, maxima, sums and partial sums; on cache lines of
  // its own.
  std::int64_t worker_floats() const {
    return round_up(side_by_side_ ? 4 * kLanes : k_.extent, 16);
  }

  void run_unit(std::int64_t unit, const std::byte* x, std::byte* y, float* buffer) const {
    const std::int64_t c = unit % blocks_ * lanes_;
    const std::int64_t b = unit / blocks_ % rows_[1].extent;
    const std::int64_t a = unit / blocks_ / rows_[1].extent;
    x += (a * rows_[0].x_stride + b * rows_[1].x_stride + c * rows_[2].x_stride) * size_;
    y += (a * rows_[0].y_stride + b * rows_[1].y_stride + c * rows_[2].y_stride) * size_;
    if (side_by_side_) {
      run_lanes(x, y, std::min(lanes_, rows_[2].extent - c), buffer);
    } else {
      run_row(x, y, buffer);
    }
  }

  void run_row(const std::byte* x, std::byte* y, float* row) const {
    const std::int64_t n = k_.extent;
    load_(bits(row), x, k_.x_stride, n);
    const float shift = tiles_.fold[static_cast<std::size_t>(Combine::kMax)](row, n);
    float sum = 0.0f;
    for (std::int64_t i = 0; i < n; i += kChunk) {
      const std::int64_t m = std::min(kChunk, n - i);
      sum += log_ ? tiles_.sum_exp(row + i, shift, m) : tiles_.exp_sum(row + i, shift, m);
    }
    if (log_) {
      tiles_.subtract(row, shift, std::log(sum), n);
    } else {
      tiles_.scale(row, 1.0f / sum, n);
    }
    store_(y, bits(row), k_.y_stride, n);
  }

  // Reads x three times rather than keep k x lanes values.
  void run_lanes(const std::byte* x, std::byte* y, std::int64_t n, float* buffer) const {
    float* values = buffer;
    float* shift = buffer + kLanes;
    float* sum = buffer + 2 * kLanes;
    const auto load = [&](std::int64_t k) {
      load_(bits(values), x + k * k_.x_stride * size_, 1, n);
    };
    std::fill_n(shift, n, identity(Combine::kMax));
    for (std::int64_t k = 0; k < k_.extent; ++k) {
      load(k);
      tiles_.accumulate[static_cast<std::size_t>(Combine::kMax)](shift, values, n);
    }
    float* partial = buffer + 3 * kLanes;
    std::fill_n(sum, n, 0.0f);
    for (std::int64_t first = 0; first < k_.extent; first += kChain) {
      std::fill_n(partial, n, 0.0f);
      for (std::int64_t k = first; k < std::min(first + kChain, k_.extent); ++k) {
        load(k);
        tiles_.accumulate_exp(partial, values, shift, n);
      }
      tiles_.accumulate[static_cast<std::size_t>(Combine::kSum)](sum, partial, n);
    }
    log_ ? tiles_.log(sum, n) : tiles_.reciprocal(sum, n);
    const auto finish = log_ ? tiles_.log_softmax : tiles_.softmax;
    for (std::int64_t k = 0; k < k_.extent; ++k) {
      load(k);
      finish(values, shift, sum, n);
      store_(y + k * k_.y_stride * size_, bits(values), 1, n);
    }
  }

  ThreadPool& pool_;
  const TileKernels& tiles_;
  std::array<Axis, 3> rows_{};
  Axis k_{};
  bool log_ = false;
  bool side_by_side_ = false;
  RunLoad load_ = nullptr;
  RunStore store_ = nullptr;
  std::int64_t size_ = 0;
  std::int64_t lanes_ = 1, blocks_ = 1, units_ = 0, units_per_task_ = 1;
};

}  // namespace

std::unique_ptr<HostKernel> make_softmax(const DispatchInfo& dispatch, const CpuContext& context) {
  return std::make_unique<SoftmaxKernel>(dispatch, context);
}

}  // namespace npu::cpu
