// The variance kernel: two passes in float32, along contiguous values or for many rows side by
// side.
#include <cmath>
#include <cstdint>

#include "cpu/host_kernels.hpp"
#include "cpu/row_fold.hpp"
#include "cpu/row_space.hpp"

namespace npu::cpu {
namespace {

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

class VarianceKernel final : public HostKernel {
 public:
  VarianceKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool), space_(dispatch, 3) {
    const auto& p = dispatch.params_as<VarianceParams>();
    root_ = p.root != 0;
    const std::uint32_t dtype = dispatch.operands[0].dtype;
    fold_ =
        RowFold(context, dtype, context.rows.load_float[dtype], {p.x_k, p.x_sk}, {p.x_l, p.x_sl});
    count_ = static_cast<float>(fold_.count());
    divisor_ = count_ > p.correction ? count_ - p.correction : 0.0f;
    store_y_ = context.rows.store_float[dispatch.operands[1].dtype];
    if (dispatch.operands[2].buffer != schema::kNone) {
      store_mean_ = context.rows.store_float[dispatch.operands[2].dtype];
    }
    side_by_side_ = !fold_.dense() && space_.choose_lanes(1u, RowFold::kLanes, pool_.threads());
    space_.plan(pool_.threads(), fold_.count());
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(kWorkerFloats * pool_.threads()) * sizeof(float);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    space_.run(pool_, operands, [&](const RowSpace::Pointers& at, std::int64_t lanes, int worker) {
      float* buffer = reinterpret_cast<float*>(scratch) + worker * kWorkerFloats;
      run_unit(at, lanes, buffer);
    });
  }

 private:
  static constexpr std::int64_t kWorkerFloats = RowFold::kScratch + 2 * RowFold::kLanes;

  void run_unit(const RowSpace::Pointers& at, std::int64_t lanes, float* buffer) const {
    float* mean = buffer + RowFold::kScratch;
    float* squares = mean + RowFold::kLanes;
    if (side_by_side_) {
      fold_.lanes(at[0], lanes, Combine::kSum, Map::kValue, nullptr, mean, buffer);
      for (std::int64_t i = 0; i < lanes; ++i) mean[i] /= count_;
      fold_.lanes(at[0], lanes, Combine::kSum, Map::kSquare, mean, squares, buffer);
    } else {
      const double sum = fold_.row(at[0], Combine::kSum, Map::kValue, 0.0f, buffer);
      *mean = static_cast<float>(sum / static_cast<double>(count_));
      *squares = static_cast<float>(fold_.row(at[0], Combine::kSum, Map::kSquare, *mean, buffer));
    }
    for (std::int64_t i = 0; i < lanes; ++i) {
      squares[i] /= divisor_;
      if (root_) squares[i] = std::sqrt(squares[i]);
    }
    store_y_(at[1], bits(squares), space_.lane_stride(1), lanes);
    if (at[2] != nullptr) store_mean_(at[2], bits(mean), space_.lane_stride(2), lanes);
  }

  ThreadPool& pool_;
  RowSpace space_;
  RowFold fold_;
  float count_ = 0.0f;
  float divisor_ = 0.0f;
  bool root_ = false;
  bool side_by_side_ = false;
  RunStore store_y_ = nullptr;
  RunStore store_mean_ = nullptr;
};

}  // namespace

std::unique_ptr<HostKernel> make_variance(const DispatchInfo& dispatch, const CpuContext& context) {
  return std::make_unique<VarianceKernel>(dispatch, context);
}

}  // namespace npu::cpu
