// The reduce kernel: along contiguous values, or for many outputs side by side.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "cpu/host_kernels.hpp"

namespace npu::cpu {
namespace {

// Values converted and combined at a time; both runs stay in the L1 cache.
constexpr std::int64_t kChunk = 2048;
// Outputs computed side by side.
constexpr std::int64_t kLanes = 256;
// Additions in one float32 chain before the partial sum joins the total.
constexpr std::int64_t kChain = 256;
constexpr std::int64_t kTaskElements = 1 << 14;
constexpr std::int64_t kTasksPerThread = 8;

struct Axis {
  std::int64_t extent, x_stride, y_stride;
};

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

class ReduceKernel final : public HostKernel {
 public:
  ReduceKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool), tiles_(context.tiles) {
    const auto& p = dispatch.params_as<ReduceParams>();
    kept_ = {Axis{p.x_a, p.x_sa, p.y_sa}, Axis{p.x_b, p.x_sb, p.y_sb}, Axis{p.x_c, p.x_sc, p.y_sc}};
    outer_ = {p.x_k, p.x_sk, 0};
    inner_ = {p.x_l, p.x_sl, 0};
    count_ = outer_.extent * inner_.extent;
    mean_ = p.op == NPU_REDUCE_MEAN;
    combine_ = combine_of(p.op);
    load_ = tiles_.load[dispatch.operands[0].dtype];
    store_ = tiles_.store[dispatch.operands[1].dtype];
    size_ = static_cast<std::int64_t>(schema::dtype_size(dispatch.operands[0].dtype));
    merge_reduced();
    read_in_place_ = dispatch.operands[0].dtype == NPU_DTYPE_F32 && inner_.x_stride == 1;
    side_by_side_ = choose_side_by_side();
    lanes_ = side_by_side_ ? std::min(kept_[2].extent, kLanes) : 1;
    blocks_ = ceil_div(kept_[2].extent, lanes_);
    units_ = kept_[0].extent * kept_[1].extent * blocks_;
    units_per_task_ =
        std::max({std::int64_t{1}, kTaskElements / std::max<std::int64_t>(1, count_ * lanes_),
                  ceil_div(units_, kTasksPerThread * pool_.threads())});
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(kWorkerFloats * pool_.threads()) * sizeof(float);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    const auto task = [&](std::int64_t index, int worker) {
      float* buffer = reinterpret_cast<float*>(scratch) + worker * kWorkerFloats;
      const std::int64_t end = std::min((index + 1) * units_per_task_, units_);
      for (std::int64_t unit = index * units_per_task_; unit < end; ++unit) {
        run_unit(unit, operands[0], operands[1], buffer);
      }
    };
    pool_.parallel_for(ceil_div(units_, units_per_task_), task);
  }

 private:
  static constexpr std::int64_t kWorkerFloats = kChunk;
  static_assert(kWorkerFloats >= 3 * kLanes);

  static Combine combine_of(std::uint32_t op) {
    switch (op) {
      case NPU_REDUCE_MAX:
        return Combine::kMax;
      case NPU_REDUCE_MIN:
        return Combine::kMin;
      case NPU_REDUCE_PROD:
        return Combine::kProd;
      default:
        return Combine::kSum;
    }
  }

  // One reduced axis where the two lie behind each other; otherwise the denser one inside.
  void merge_reduced() {
    const bool outer_is_denser =
        inner_.extent == 1 ||
        (outer_.extent != 1 && std::abs(outer_.x_stride) < std::abs(inner_.x_stride));
    if (outer_is_denser) std::swap(outer_, inner_);
    if (outer_.extent == 1 || outer_.x_stride == inner_.extent * inner_.x_stride) {
      inner_.extent *= outer_.extent;
      outer_.extent = 1;
    }
  }

  // With the reduced axis strided, a contiguous axis of x that is kept serves as lanes, as the last
  // one.
  bool choose_side_by_side() {
    if (count_ <= 1 || inner_.x_stride == 1) return false;
    for (Axis& axis : kept_) {
      if (axis.extent >= 8 && axis.x_stride == 1) {
        std::swap(axis, kept_[2]);
        return true;
      }
    }
    return false;
  }

  void run_unit(std::int64_t unit, const std::byte* x, std::byte* y, float* buffer) const {
    const std::int64_t c = unit % blocks_ * lanes_;
    const std::int64_t b = unit / blocks_ % kept_[1].extent;
    const std::int64_t a = unit / blocks_ / kept_[1].extent;
    x += (a * kept_[0].x_stride + b * kept_[1].x_stride + c * kept_[2].x_stride) * size_;
    y += (a * kept_[0].y_stride + b * kept_[1].y_stride + c * kept_[2].y_stride) * size_;
    if (side_by_side_) {
      run_lanes(x, y, std::min(lanes_, kept_[2].extent - c), buffer);
    } else {
      run_row(x, y, buffer);
    }
  }

  void run_row(const std::byte* x, std::byte* y, float* values) const {
    const auto fold = tiles_.fold[static_cast<std::size_t>(combine_)];
    double sum = 0.0;
    float other[2] = {identity(combine_), 0.0f};
    for (std::int64_t k = 0; k < outer_.extent; ++k) {
      for (std::int64_t l = 0; l < inner_.extent; l += kChunk) {
        const std::int64_t n = std::min(kChunk, inner_.extent - l);
        const std::byte* from = x + (k * outer_.x_stride + l * inner_.x_stride) * size_;
        if (!read_in_place_) load_(bits(values), from, inner_.x_stride, n);
        const float part = fold(read_in_place_ ? reinterpret_cast<const float*>(from) : values, n);
        if (combine_ == Combine::kSum) {
          sum += static_cast<double>(part);
        } else {
          other[1] = part;
          other[0] = fold(other, 2);
        }
      }
    }
    float result = other[0];
    if (combine_ == Combine::kSum) {
      result = static_cast<float>(mean_ ? sum / static_cast<double>(count_) : sum);
    }
    store_(y, bits(&result), 1, 1);
  }

  void run_lanes(const std::byte* x, std::byte* y, std::int64_t n, float* buffer) const {
    const auto accumulate = tiles_.accumulate[static_cast<std::size_t>(combine_)];
    float* values = buffer;
    float* partial = buffer + kLanes;
    float* total = buffer + 2 * kLanes;
    std::fill_n(total, n, identity(combine_));
    for (std::int64_t k = 0; k < outer_.extent; ++k) {
      for (std::int64_t l = 0; l < inner_.extent; l += kChain) {
        std::fill_n(partial, n, identity(combine_));
        for (std::int64_t i = l; i < std::min(l + kChain, inner_.extent); ++i) {
          load_(bits(values), x + (k * outer_.x_stride + i * inner_.x_stride) * size_, 1, n);
          accumulate(partial, values, n);
        }
        accumulate(total, partial, n);
      }
    }
    if (mean_) {
      for (std::int64_t i = 0; i < n; ++i) total[i] /= static_cast<float>(count_);
    }
    store_(y, bits(total), kept_[2].y_stride, n);
  }

  ThreadPool& pool_;
  const TileKernels& tiles_;
  std::array<Axis, 3> kept_{};
  Axis outer_{}, inner_{};  // the reduced axes
  std::int64_t count_ = 0;
  bool mean_ = false;
  bool side_by_side_ = false;
  bool read_in_place_ = false;  // rows of contiguous float32
  Combine combine_ = Combine::kSum;
  RunLoad load_ = nullptr;
  RunStore store_ = nullptr;
  std::int64_t size_ = 0;
  std::int64_t lanes_ = 1, blocks_ = 1, units_ = 0, units_per_task_ = 1;
};

}  // namespace

std::unique_ptr<HostKernel> make_reduce(const DispatchInfo& dispatch, const CpuContext& context) {
  return std::make_unique<ReduceKernel>(dispatch, context);
}

}  // namespace npu::cpu
