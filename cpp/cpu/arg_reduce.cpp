// The arg_reduce kernel: chunk by chunk along a row, or many rows side by side.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/host_kernels.hpp"
#include "cpu/row_space.hpp"

namespace npu::cpu {
namespace {

// Values compared at a time; only the chunk that holds the extreme is searched for its place.
constexpr std::int64_t kChunk = 2048;
constexpr std::int64_t kLanes = 256;

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

class ArgReduceKernel final : public HostKernel {
 public:
  ArgReduceKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool), tiles_(context.tiles), rows_(context.rows), space_(dispatch, 3) {
    const auto& p = dispatch.params_as<ArgReduceParams>();
    const schema::Operand& x = dispatch.operands[0];
    const schema::Operand& y = dispatch.operands[1];
    if (y.buffer != schema::kNone && y.dtype != x.dtype) {
      throw Error(ErrorCode::kInvalidProgram,
                  "dispatch '" + std::string(dispatch.name) +
                      "', kernel 'arg_reduce': y must have x's dtype; compile the model again");
    }
    least_ = p.op == NPU_ARG_MIN;
    n_ = p.x_k;
    stride_ = p.x_sk;
    size_ = static_cast<std::int64_t>(schema::dtype_size(x.dtype));
    load64_ = rows_.load64[x.dtype];
    if (load64_ == nullptr) load_ = rows_.load_float[x.dtype];
    side_by_side_ = load_ != nullptr && n_ > 1 && stride_ != 1 &&
                    space_.choose_lanes(1u, kLanes, pool_.threads());
    space_.plan(pool_.threads(), n_);
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(kWorkerBytes * pool_.threads());
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    space_.run(pool_, operands, [&](const RowSpace::Pointers& at, std::int64_t lanes, int worker) {
      std::byte* buffer = scratch + worker * kWorkerBytes;
      if (side_by_side_) {
        run_lanes(at, lanes, reinterpret_cast<float*>(buffer));
      } else if (load_ != nullptr) {
        store(at, 0, find_float(at[0], reinterpret_cast<float*>(buffer)));
      } else {
        store(at, 0, find_integer(at[0], reinterpret_cast<std::int64_t*>(buffer)));
      }
    });
  }

 private:
  static constexpr std::int64_t kWorkerBytes = kChunk * 8;

  // The result of a unit's row `lane`: the extreme lies at `place`.
  void store(const RowSpace::Pointers& at, std::int64_t lane, std::int64_t place) const {
    if (at[1] != nullptr) {
      std::memcpy(at[1] + lane * space_.lane_stride(1) * size_,
                  at[0] + (lane * space_.lane_stride(0) + place * stride_) * size_,
                  static_cast<std::size_t>(size_));
    }
    if (at[2] != nullptr) {
      reinterpret_cast<std::int64_t*>(at[2])[lane * space_.lane_stride(2)] = place;
    }
  }

  std::int64_t find_float(const std::byte* x, float* values) const {
    const auto fold = tiles_.fold[static_cast<std::size_t>(least_ ? Combine::kMin : Combine::kMax)];
    const auto load = [&](std::int64_t first) {
      const std::int64_t n = std::min(kChunk, n_ - first);
      load_(bits(values), x + first * stride_ * size_, stride_, n);
      return n;
    };
    std::int64_t chunk = 0;
    float best = fold(values, load(0));
    for (std::int64_t first = kChunk; first < n_ && best == best; first += kChunk) {
      const float value = fold(values, load(first));
      if (value != value || (least_ ? value < best : value > best)) {
        best = value;
        chunk = first;
      }
    }
    return chunk + rows_.find(values, best, load(chunk));
  }

  std::int64_t find_integer(const std::byte* x, std::int64_t* values) const {
    std::int64_t best = 0, place = 0;
    for (std::int64_t first = 0; first < n_; first += kChunk) {
      const std::int64_t n = std::min(kChunk, n_ - first);
      load64_(values, x + first * stride_ * size_, stride_, n);
      if (first == 0) best = values[0];
      for (std::int64_t i = 0; i < n; ++i) {
        if (least_ ? values[i] < best : values[i] > best) {
          best = values[i];
          place = first + i;
        }
      }
    }
    return place;
  }

  void run_lanes(const RowSpace::Pointers& at, std::int64_t lanes, float* buffer) const {
    static_assert(kWorkerBytes >= 3 * kLanes * 4);
    float* values = buffer;
    float* best = buffer + kLanes;
    auto* place = reinterpret_cast<std::int32_t*>(buffer + 2 * kLanes);
    load_(bits(best), at[0], 1, lanes);
    std::fill_n(place, lanes, 0);
    for (std::int64_t k = 1; k < n_; ++k) {
      load_(bits(values), at[0] + k * stride_ * size_, 1, lanes);
      rows_.accumulate_extreme(best, place, values, static_cast<std::int32_t>(k), least_, lanes);
    }
    for (std::int64_t i = 0; i < lanes; ++i) store(at, i, place[i]);
  }

  ThreadPool& pool_;
  const TileKernels& tiles_;
  const RowKernels& rows_;
  RowSpace space_;
  bool least_ = false;
  bool side_by_side_ = false;
  std::int64_t n_ = 0, stride_ = 0, size_ = 0;
  RunLoad load_ = nullptr;      // floating dtypes
  RunLoad64 load64_ = nullptr;  // all others
};

}  // namespace

std::unique_ptr<HostKernel> make_arg_reduce(const DispatchInfo& dispatch,
                                            const CpuContext& context) {
  return std::make_unique<ArgReduceKernel>(dispatch, context);
}

}  // namespace npu::cpu
