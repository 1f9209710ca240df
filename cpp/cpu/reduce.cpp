// The reduce kernel: floating values in float32, along contiguous values or for many outputs side
// by side; integers and counts exactly in int64.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <utility>

#include "cpu/host_kernels.hpp"
#include "cpu/row_fold.hpp"
#include "cpu/row_space.hpp"

namespace npu::cpu {
namespace {

// Elements of a row that are worth a thread of their own.
constexpr std::int64_t kPartElements = 1 << 15;
// Values of an integer run at a time.
constexpr std::int64_t kRun = 1024;

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

bool is_floating(std::uint32_t dtype) {
  return dtype == NPU_DTYPE_F32 || dtype == NPU_DTYPE_F16 || dtype == NPU_DTYPE_BF16 ||
         dtype == NPU_DTYPE_F64;
}

bool counts(std::uint32_t op) {
  return op == NPU_REDUCE_ANY || op == NPU_REDUCE_ALL || op == NPU_REDUCE_COUNT_NONZERO;
}

bool combines(std::uint32_t op) {
  return op == NPU_REDUCE_SUM || op == NPU_REDUCE_MAX || op == NPU_REDUCE_MIN ||
         op == NPU_REDUCE_PROD;
}

// How partial results of an operation become one.
Combine combine_of(std::uint32_t op) {
  switch (op) {
    case NPU_REDUCE_MAX:
    case NPU_REDUCE_NORM_INF:
      return Combine::kMax;
    case NPU_REDUCE_MIN:
    case NPU_REDUCE_NORM_NEG_INF:
      return Combine::kMin;
    case NPU_REDUCE_PROD:
      return Combine::kProd;
    default:
      return Combine::kSum;
  }
}

class FloatReduce final : public HostKernel {
 public:
  FloatReduce(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool), tiles_(context.tiles), space_(dispatch, 3) {
    const auto& p = dispatch.params_as<ReduceParams>();
    op_ = p.op;
    choose_map();
    const std::uint32_t dtype = dispatch.operands[0].dtype;
    size_ = static_cast<std::int64_t>(schema::dtype_size(dtype));
    fold_ =
        RowFold(context, dtype, context.rows.load_float[dtype], {p.x_k, p.x_sk}, {p.x_l, p.x_sl});
    store_ = context.rows.store_float[dispatch.operands[1].dtype];
    const int threads = pool_.threads();
    side_by_side_ = !fold_.dense() && space_.choose_lanes(1u, RowFold::kLanes, threads);
    if (!side_by_side_ && fold_.takes_rows(map_)) {
      short_rows_ = true;
      space_.set_lanes(
          std::clamp<std::int64_t>(ceil_div(space_.last_extent(), threads), 1, RowFold::kLanes));
    }
    space_.plan(threads, fold_.count());
    // Few but long rows are cut into parts, one or more for each thread.
    const std::int64_t work = fold_.count() * space_.lanes();
    if (map_ != Map::kExp && !short_rows_ && space_.units() < threads &&
        work >= 2 * kPartElements) {
      parts_ = std::min<std::int64_t>(work / kPartElements, 2 * ceil_div(threads, space_.units()));
    }
  }

  std::size_t scratch_bytes() const override {
    const std::int64_t partial = parts_ == 1 ? 0 : space_.units() * parts_ * RowFold::kLanes;
    return static_cast<std::size_t>(worker_floats() * pool_.threads() + partial) * sizeof(float);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    float* buffers = reinterpret_cast<float*>(scratch);
    if (parts_ == 1) {
      space_.run(pool_, operands,
                 [&](const RowSpace::Pointers& at, std::int64_t lanes, int worker) {
                   float* buffer = buffers + worker * worker_floats();
                   float* total = buffer + RowFold::kScratch;
                   fold(fold_, at[0], lanes, total, buffer);
                   finish(at[1], lanes, total);
                 });
      return;
    }
    float* partial = buffers + pool_.threads() * worker_floats();
    pool_.parallel_for(space_.units() * parts_, [&](std::int64_t task, int worker) {
      std::int64_t lanes = 1, start = 0;
      const RowSpace::Pointers at = space_.at(task / parts_, operands, &lanes);
      const RowFold part = fold_.part(task % parts_, parts_, &start);
      fold(part, at[0] + start * size_, lanes, partial + task * RowFold::kLanes,
           buffers + worker * worker_floats());
    });
    for (std::int64_t unit = 0; unit < space_.units(); ++unit) {
      std::int64_t lanes = 1;
      const RowSpace::Pointers at = space_.at(unit, operands, &lanes);
      float* total = partial + unit * parts_ * RowFold::kLanes;
      for (std::int64_t k = 1; k < parts_; ++k) {
        tiles_.accumulate[static_cast<std::size_t>(combine_)](total, total + k * RowFold::kLanes,
                                                              lanes);
      }
      finish(at[1], lanes, total);
    }
  }

 private:
  // Scratch of a fold, then totals and shifts.
  static constexpr std::int64_t worker_floats() { return RowFold::kScratch + 2 * RowFold::kLanes; }

  void choose_map() {
    combine_ = combine_of(op_);
    switch (op_) {
      case NPU_REDUCE_NORM_0:
        map_ = Map::kNonzero;
        break;
      case NPU_REDUCE_NORM_1:
      case NPU_REDUCE_NORM_INF:
      case NPU_REDUCE_NORM_NEG_INF:
        map_ = Map::kAbsolute;
        break;
      case NPU_REDUCE_NORM_2:
        map_ = Map::kSquare;
        break;
      case NPU_REDUCE_LOGSUMEXP:
        map_ = Map::kExp;
        break;
      default:
        break;
    }
  }

  void fold(const RowFold& fold, const std::byte* x, std::int64_t lanes, float* total,
            float* buffer) const {
    float* shift = total + RowFold::kLanes;  // used by logsumexp alone, which has no parts
    const bool exp = map_ == Map::kExp;
    if (short_rows_) {
      fold.rows(x, space_.lane_stride(0), lanes, combine_, map_, total, buffer);
    } else if (side_by_side_) {
      if (exp) fold.lanes(x, lanes, Combine::kMax, Map::kValue, nullptr, shift, buffer);
      fold.lanes(x, lanes, combine_, map_, exp ? shift : nullptr, total, buffer);
    } else {
      if (exp) {
        *shift = static_cast<float>(fold.row(x, Combine::kMax, Map::kValue, 0.0f, buffer));
      }
      const double result = fold.row(x, combine_, map_, exp ? *shift : 0.0f, buffer);
      *total = static_cast<float>(result);
      if (op_ == NPU_REDUCE_MEAN && parts_ == 1) {
        *total = static_cast<float>(result / static_cast<double>(fold_.count()));
      }
    }
    if (exp) {
      for (std::int64_t i = 0; i < lanes; ++i) {
        total[i] = std::isinf(shift[i]) ? shift[i] : std::log(total[i]) + shift[i];
      }
    }
  }

  void finish(std::byte* y, std::int64_t lanes, float* total) const {
    if (op_ == NPU_REDUCE_MEAN && (side_by_side_ || short_rows_ || parts_ > 1)) {
      const float count = static_cast<float>(fold_.count());
      for (std::int64_t i = 0; i < lanes; ++i) total[i] /= count;
    }
    if (op_ == NPU_REDUCE_NORM_2) {
      for (std::int64_t i = 0; i < lanes; ++i) total[i] = std::sqrt(total[i]);
    }
    store_(y, bits(total), space_.lane_stride(1), lanes);
  }

  ThreadPool& pool_;
  const TileKernels& tiles_;
  RowSpace space_;
  RowFold fold_;
  std::uint32_t op_ = NPU_REDUCE_SUM;
  Combine combine_ = Combine::kSum;
  Map map_ = Map::kValue;
  bool side_by_side_ = false;
  bool short_rows_ = false;  // several dense rows at a time
  RunStore store_ = nullptr;
  std::int64_t size_ = 0;
  std::int64_t parts_ = 1;
};

class ExactReduce final : public HostKernel {
 public:
  ExactReduce(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool), space_(dispatch, 3) {
    const auto& p = dispatch.params_as<ReduceParams>();
    op_ = p.op;
    const std::uint32_t dtype = dispatch.operands[0].dtype;
    size_ = static_cast<std::int64_t>(schema::dtype_size(dtype));
    outer_ = {p.x_k, p.x_sk};
    inner_ = {p.x_l, p.x_sl};
    if (inner_.extent == 1 ||
        (outer_.extent != 1 && std::abs(outer_.stride) < std::abs(inner_.stride))) {
      std::swap(outer_, inner_);
    }
    const auto combine = static_cast<std::size_t>(combine_of(op_));
    fold_ = context.rows.fold64[combine];
    accumulate_ = context.rows.accumulate64[combine];
    in_place_ = dtype == NPU_DTYPE_I64 && !counts(op_) && inner_.stride == 1;
    load_ = (counts(op_) ? context.rows.load_nonzero : context.rows.load64)[dtype];
    store_ = context.rows.store64[dispatch.operands[1].dtype];
    side_by_side_ = inner_.stride != 1 && space_.choose_lanes(1u, kRun / 2, context.pool.threads());
    space_.plan(pool_.threads(), outer_.extent * inner_.extent);
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(2 * kRun * pool_.threads()) * sizeof(std::int64_t);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    space_.run(pool_, operands, [&](const RowSpace::Pointers& at, std::int64_t lanes, int worker) {
      auto* buffer = reinterpret_cast<std::int64_t*>(scratch) + worker * 2 * kRun;
      std::int64_t* total = buffer + kRun;
      if (side_by_side_) {
        run_lanes(at[0], lanes, total, buffer);
      } else {
        *total = run_row(at[0], buffer);
      }
      if (op_ == NPU_REDUCE_ANY) {
        for (std::int64_t i = 0; i < lanes; ++i) total[i] = total[i] != 0 ? 1 : 0;
      } else if (op_ == NPU_REDUCE_ALL) {
        const std::int64_t count = outer_.extent * inner_.extent;
        for (std::int64_t i = 0; i < lanes; ++i) total[i] = total[i] == count ? 1 : 0;
      }
      store_(at[1], total, space_.lane_stride(1), lanes);
    });
  }

 private:
  std::int64_t run_row(const std::byte* x, std::int64_t* buffer) const {
    std::int64_t parts[2] = {fold_(nullptr, 0), 0};
    for (std::int64_t k = 0; k < outer_.extent; ++k) {
      for (std::int64_t l = 0; l < inner_.extent; l += kRun) {
        const std::int64_t n = std::min(kRun, inner_.extent - l);
        const std::byte* from = x + (k * outer_.stride + l * inner_.stride) * size_;
        const std::int64_t* values = buffer;
        if (in_place_) {
          values = reinterpret_cast<const std::int64_t*>(from);
        } else {
          load_(buffer, from, inner_.stride, n);
        }
        parts[1] = fold_(values, n);
        parts[0] = fold_(parts, 2);
      }
    }
    return parts[0];
  }

  void run_lanes(const std::byte* x, std::int64_t lanes, std::int64_t* total,
                 std::int64_t* buffer) const {
    std::fill_n(total, lanes, fold_(nullptr, 0));
    for (std::int64_t k = 0; k < outer_.extent; ++k) {
      for (std::int64_t l = 0; l < inner_.extent; ++l) {
        load_(buffer, x + (k * outer_.stride + l * inner_.stride) * size_, 1, lanes);
        accumulate_(total, buffer, lanes);
      }
    }
  }

  ThreadPool& pool_;
  RowSpace space_;
  RowFold::Axis outer_, inner_;
  std::uint32_t op_ = NPU_REDUCE_SUM;
  std::int64_t size_ = 0;
  bool side_by_side_ = false;
  bool in_place_ = false;  // dense int64 is read as it lies
  RunLoad64 load_ = nullptr;
  std::int64_t (*fold_)(const std::int64_t* x, std::int64_t n) = nullptr;
  void (*accumulate_)(std::int64_t* acc, const std::int64_t* x, std::int64_t n) = nullptr;
  RunStore64 store_ = nullptr;
};

}  // namespace

std::unique_ptr<HostKernel> make_reduce(const DispatchInfo& dispatch, const CpuContext& context) {
  const std::uint32_t op = dispatch.params_as<ReduceParams>().op;
  if (counts(op) || (combines(op) && !is_floating(dispatch.operands[0].dtype))) {
    return std::make_unique<ExactReduce>(dispatch, context);
  }
  return std::make_unique<FloatReduce>(dispatch, context);
}

}  // namespace npu::cpu
