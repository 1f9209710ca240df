// The scan kernel: running sums and products of floats in float64, along a row or across many rows
// side by side; everything else row by row.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "cpu/host_kernels.hpp"
#include "cpu/row_space.hpp"

namespace npu::cpu {
namespace {

constexpr std::int64_t kChunk = 1024;
constexpr std::int64_t kLanes = 256;

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

double log_add_exp(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  const double larger = std::max(a, b);
  return std::isinf(larger) ? larger : larger + std::log1p(std::exp(std::min(a, b) - larger));
}

class ScanKernel final : public HostKernel {
 public:
  ScanKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool), rows_(context.rows), space_(dispatch, 3) {
    const auto& p = dispatch.params_as<ScanParams>();
    const schema::Operand& x = dispatch.operands[0];
    const schema::Operand& y = dispatch.operands[1];
    op_ = p.op;
    extreme_ = op_ == NPU_SCAN_MAX || op_ == NPU_SCAN_MIN;
    if (extreme_ && x.dtype != y.dtype) {
      throw Error(ErrorCode::kInvalidProgram,
                  "dispatch '" + std::string(dispatch.name) +
                      "', kernel 'scan': y must have x's dtype; compile the model again");
    }
    n_ = p.x_k;
    x_stride_ = p.x_sk;
    y_stride_ = p.y_sk;
    index_stride_ = p.index_sk;
    x_size_ = static_cast<std::int64_t>(schema::dtype_size(x.dtype));
    y_size_ = static_cast<std::int64_t>(schema::dtype_size(y.dtype));
    load64_ = rows_.load64[x.dtype];
    floating_ = load64_ == nullptr || op_ == NPU_SCAN_LOGSUMEXP;
    load_ = rows_.load_float[x.dtype];
    store_ = rows_.store_float[y.dtype];
    store64_ = rows_.store64[y.dtype];
    side_by_side_ = floating_ && (op_ == NPU_SCAN_SUM || op_ == NPU_SCAN_PROD) && n_ > 1 &&
                    x_stride_ != 1 && space_.choose_lanes(3u, kLanes, pool_.threads());
    space_.plan(pool_.threads(), n_);
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(kWorkerBytes * pool_.threads());
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    const auto load_float = [this](float* dst, const std::byte* src, std::int64_t stride,
                                   std::int64_t n) { load_(bits(dst), src, stride, n); };
    space_.run(pool_, operands, [&](const RowSpace::Pointers& at, std::int64_t lanes, int worker) {
      std::byte* buffer = scratch + worker * kWorkerBytes;
      if (side_by_side_) {
        run_lanes(at, lanes, buffer);
      } else if (extreme_) {
        floating_ ? run_extreme(at, reinterpret_cast<float*>(buffer), load_float)
                  : run_extreme(at, reinterpret_cast<std::int64_t*>(buffer), load64_);
      } else if (floating_) {
        run_float(at, reinterpret_cast<float*>(buffer));
      } else {
        run_integer(at, reinterpret_cast<std::int64_t*>(buffer));
      }
    });
  }

 private:
  static constexpr std::int64_t kWorkerBytes = kChunk * 8;

  // Calls fn(first, n) for every chunk of a row.
  template <class Fn>
  void for_chunks(const Fn& fn) const {
    for (std::int64_t first = 0; first < n_; first += kChunk) {
      fn(first, std::min(kChunk, n_ - first));
    }
  }

  void run_float(const RowSpace::Pointers& at, float* values) const {
    double total = op_ == NPU_SCAN_SUM    ? 0.0
                   : op_ == NPU_SCAN_PROD ? 1.0
                                          : -std::numeric_limits<double>::infinity();
    for_chunks([&](std::int64_t first, std::int64_t n) {
      load_(bits(values), at[0] + first * x_stride_ * x_size_, x_stride_, n);
      if (op_ == NPU_SCAN_LOGSUMEXP) {
        for (std::int64_t i = 0; i < n; ++i) {
          total = log_add_exp(total, static_cast<double>(values[i]));
          values[i] = static_cast<float>(total);
        }
      } else {
        total = rows_.scan(values, total, op_ == NPU_SCAN_PROD, n);
      }
      store_(at[1] + first * y_stride_ * y_size_, bits(values), y_stride_, n);
    });
  }

  void run_integer(const RowSpace::Pointers& at, std::int64_t* values) const {
    std::int64_t total = op_ == NPU_SCAN_PROD ? 1 : 0;
    for_chunks([&](std::int64_t first, std::int64_t n) {
      load64_(values, at[0] + first * x_stride_ * x_size_, x_stride_, n);
      total = rows_.scan64(values, total, op_ == NPU_SCAN_PROD, n);
      store64_(at[1] + first * y_stride_ * y_size_, values, y_stride_, n);
    });
  }

  template <class V, class Load>
  void run_extreme(const RowSpace::Pointers& at, V* values, const Load& load) const {
    V best{};
    std::int64_t place = -1;
    const bool least = op_ == NPU_SCAN_MIN;
    for_chunks([&](std::int64_t first, std::int64_t n) {
      load(values, at[0] + first * x_stride_ * x_size_, x_stride_, n);
      for (std::int64_t i = 0; i < n; ++i) {
        const V v = values[i];
        // NaN, which alone differs from itself, stays; the last of equal values counts.
        const bool beats = v != v || (best == best && (least ? v <= best : v >= best));
        if (place < 0 || beats) {
          best = v;
          place = first + i;
        }
        // What stands at `place` is its own extreme, so x may be y.
        std::memmove(at[1] + (first + i) * y_stride_ * y_size_, at[0] + place * x_stride_ * x_size_,
                     static_cast<std::size_t>(x_size_));
        if (at[2] != nullptr) {
          reinterpret_cast<std::int64_t*>(at[2])[(first + i) * index_stride_] = place;
        }
      }
    });
  }

  void run_lanes(const RowSpace::Pointers& at, std::int64_t lanes, std::byte* buffer) const {
    static_assert(kWorkerBytes >= kLanes * 12);
    auto* total = reinterpret_cast<double*>(buffer);
    auto* values = reinterpret_cast<float*>(buffer + kLanes * 8);
    const bool product = op_ == NPU_SCAN_PROD;
    std::fill_n(total, lanes, product ? 1.0 : 0.0);
    for (std::int64_t k = 0; k < n_; ++k) {
      load_(bits(values), at[0] + k * x_stride_ * x_size_, 1, lanes);
      rows_.scan_lanes(values, total, product, lanes);
      store_(at[1] + k * y_stride_ * y_size_, bits(values), 1, lanes);
    }
  }

  ThreadPool& pool_;
  const RowKernels& rows_;
  RowSpace space_;
  std::uint32_t op_ = NPU_SCAN_SUM;
  bool extreme_ = false;
  bool floating_ = false;
  bool side_by_side_ = false;
  std::int64_t n_ = 0, x_stride_ = 0, y_stride_ = 0, index_stride_ = 0, x_size_ = 0, y_size_ = 0;
  RunLoad load_ = nullptr;
  RunStore store_ = nullptr;
  RunLoad64 load64_ = nullptr;  // null for floating dtypes
  RunStore64 store64_ = nullptr;
};

}  // namespace

std::unique_ptr<HostKernel> make_scan(const DispatchInfo& dispatch, const CpuContext& context) {
  return std::make_unique<ScanKernel>(dispatch, context);
}

}  // namespace npu::cpu
