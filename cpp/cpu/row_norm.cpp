// The row_norm kernel: row by row where the elements lie densely, else many rows side by side
// (group and instance norm of channels-last images).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "cpu/host_kernels.hpp"
#include "cpu/row_space.hpp"

namespace npu::cpu {
namespace {

enum : std::size_t { kX, kW, kBias, kResidual, kY, kSum, kOperands };

// Elements worked on at a time.
constexpr std::int64_t kChunk = 2048;
// A row of up to so many elements is kept as float32 between the passes.
constexpr std::int64_t kKeptRow = 1 << 16;
// Elements of rows side by side, and additions in one float32 chain.
constexpr std::int64_t kLanes = 512;
constexpr std::int64_t kChain = 256;
// Dense runs shorter than this are worth joining with those of the rows beside them.
constexpr std::int64_t kShortRun = 64;

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

struct Axis {
  std::int64_t extent = 1;
  std::array<std::int64_t, kOperands> stride{};  // elements
};

class RowNormKernel final : public HostKernel {
 public:
  RowNormKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool), tiles_(context.tiles), rows_(context.rows), space_(dispatch, 2) {
    const auto& p = dispatch.params_as<RowNormParams>();
    eps_ = p.eps;
    rms_ = p.rms != 0;
    outer_ = {p.x_k, {p.x_sk, p.w_sk, p.bias_sk, p.residual_sk, p.y_sk, p.sum_sk}};
    inner_ = {p.x_l, {p.x_sl, p.w_sl, p.bias_sl, p.residual_sl, p.y_sl, p.sum_sl}};
    count_ = outer_.extent * inner_.extent;
    for (std::size_t k = 0; k < kOperands; ++k) {
      const schema::Operand& operand = dispatch.operands[k];
      present_[k] = operand.buffer != schema::kNone;
      if (!present_[k]) continue;
      size_[k] = static_cast<std::int64_t>(schema::dtype_size(operand.dtype));
      load_[k] = tiles_.load[operand.dtype];
      is_float32_[k] = operand.dtype == NPU_DTYPE_F32;
      is_integer_[k] = operand.dtype >= NPU_DTYPE_I64 && operand.dtype <= NPU_DTYPE_B8;
    }
    if (is_integer_[kW] || is_integer_[kBias]) {
      throw Error(ErrorCode::kInvalidProgram,
                  "dispatch '" + std::string(dispatch.name) +
                      "', kernel 'row_norm': weight and bias must be floating; compile the model "
                      "again");
    }
    store_ = tiles_.store[dispatch.operands[kX].dtype];
    store_y_ = rows_.store_float[dispatch.operands[kY].dtype];
    order_elements();
    side_by_side_ = choose_side_by_side();
    kept_ = !side_by_side_ && count_ <= kKeptRow;
    in_place_ = is_float32_[kX] && inner_.stride[kX] == 1 && !present_[kResidual];
    space_.plan(pool_.threads(), count_);
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(worker_floats() * pool_.threads()) * sizeof(float);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    space_.run(pool_, operands, [&](const RowSpace::Pointers& at, std::int64_t rows, int worker) {
      float* buffer = reinterpret_cast<float*>(scratch) + worker * worker_floats();
      side_by_side_ ? run_lanes(at, rows, buffer) : run_row(at, buffer);
    });
  }

 private:
  // One element axis where all operands allow, else the one inside along which x is dense.
  void order_elements() {
    const auto mergeable = [&](const Axis& outer, const Axis& inner) {
      for (std::size_t k = 0; k < kOperands; ++k) {
        if (present_[k] && outer.stride[k] != inner.extent * inner.stride[k]) return false;
      }
      return true;
    };
    if (inner_.extent == 1 ||
        (outer_.extent != 1 && std::abs(outer_.stride[kX]) < std::abs(inner_.stride[kX]))) {
      std::swap(outer_, inner_);
    }
    if (outer_.extent != 1 && mergeable(outer_, inner_)) {
      inner_.extent *= outer_.extent;
      outer_.extent = 1;
    }
  }

  // Short dense runs (or single elements) of neighbouring rows that lie behind each other.
  bool choose_side_by_side() {
    Axis outer = outer_, inner = inner_;
    if (outer.extent == 1 && std::abs(inner.stride[kX]) > 1) {
      std::swap(outer, inner);
      inner = {1, {1, 0, 0, 1, 1, 1}};
    }
    if (outer.extent < 8 || inner.extent >= kShortRun || space_.last_extent() < 2) return false;
    for (const std::size_t k : {kX, kResidual, kY, kSum}) {
      if (!present_[k]) continue;
      if ((inner.extent != 1 && inner.stride[k] != 1) || space_.lane_stride(k) != inner.extent) {
        return false;
      }
    }
    if (outer.stride[kW] != 0 || outer.stride[kBias] != 0) return false;
    outer_ = outer;
    inner_ = inner;
    const std::int64_t threads = pool_.threads();
    const std::int64_t wanted = ceil_div(threads, std::max<std::int64_t>(1, space_.other_extent()));
    space_.set_lanes(std::max<std::int64_t>(
        1, std::min(kLanes / inner_.extent, ceil_div(space_.last_extent(), wanted))));
    return true;
  }

  // Side by side: eight runs of lanes. A row: its values, or a chunk, and four more chunks.
  std::int64_t worker_floats() const {
    if (side_by_side_) return 8 * kLanes;
    return round_up(kept_ ? count_ : kChunk, 16) + 4 * kChunk;
  }

  // Elements of x (plus the residual, rounded as if stored) as float32; `spare` holds n more.
  void load(float* values, const std::byte* x, const std::byte* residual, std::int64_t x_stride,
            std::int64_t residual_stride, std::int64_t n, float* spare) const {
    load_[kX](bits(values), x, x_stride, n);
    if (residual == nullptr) return;
    load_[kResidual](bits(spare), residual, residual_stride, n);
    rows_.add(values, spare, n);
    if (is_float32_[kX]) return;
    store_(reinterpret_cast<std::byte*>(spare), bits(values), 1, n);
    load_[kX](bits(values), reinterpret_cast<const std::byte*>(spare), 1, n);
  }

  // n elements of a row from (o, i) on.
  std::byte* place(const RowSpace::Pointers& at, std::size_t k, std::int64_t o,
                   std::int64_t i) const {
    return at[k] == nullptr ? nullptr
                            : at[k] + (o * outer_.stride[k] + i * inner_.stride[k]) * size_[k];
  }

  const float* fetch(const RowSpace::Pointers& at, std::int64_t o, std::int64_t i, std::int64_t n,
                     bool first_pass, float* buffer) const {
    const std::byte* x = place(at, kX, o, i);
    if (in_place_) return reinterpret_cast<const float*>(x);
    float* values = kept_ ? buffer + o * inner_.extent + i : buffer;
    if (first_pass || !kept_) {
      load(values, x, place(at, kResidual, o, i), inner_.stride[kX], inner_.stride[kResidual], n,
           spare(buffer, 3));
    }
    return values;
  }

  float* spare(float* buffer, int index) const {
    return buffer + round_up(kept_ ? count_ : kChunk, 16) + index * kChunk;
  }

  // Calls fn(o, i, n) for every chunk of a row.
  template <class Fn>
  void for_chunks(const Fn& fn) const {
    for (std::int64_t o = 0; o < outer_.extent; ++o) {
      for (std::int64_t i = 0; i < inner_.extent; i += kChunk) {
        fn(o, i, std::min(kChunk, inner_.extent - i));
      }
    }
  }

  double fold(Map map, const float* values, std::int64_t n, float shift) const {
    float sum = 0.0f;
    rows_.fold_rows[static_cast<std::size_t>(Combine::kSum)][static_cast<std::size_t>(map)](
        &sum, values, 0, 1, n, shift);
    return static_cast<double>(sum);
  }

  void run_row(const RowSpace::Pointers& at, float* buffer) const {
    float mean = 0.0f;
    if (!rms_) {
      double total = 0.0;
      for_chunks([&](std::int64_t o, std::int64_t i, std::int64_t n) {
        total += fold(Map::kValue, fetch(at, o, i, n, true, buffer), n, 0.0f);
      });
      mean = static_cast<float>(total / static_cast<double>(count_));
    }
    double squares = 0.0;
    for_chunks([&](std::int64_t o, std::int64_t i, std::int64_t n) {
      squares += fold(Map::kSquare, fetch(at, o, i, n, rms_, buffer), n, mean);
    });
    const float variance = static_cast<float>(squares / static_cast<double>(count_));
    const float scale = 1.0f / std::sqrt(variance + eps_);
    for_chunks([&](std::int64_t o, std::int64_t i, std::int64_t n) {
      const float* values = fetch(at, o, i, n, false, buffer);
      if (at[kSum] != nullptr) {
        store_(place(at, kSum, o, i), reinterpret_cast<const std::uint32_t*>(values),
               inner_.stride[kSum], n);
      }
      std::byte* y = place(at, kY, o, i);
      const bool direct = is_float32_[kY] && inner_.stride[kY] == 1;
      float* out = direct ? reinterpret_cast<float*>(y) : spare(buffer, 2);
      normalize(at, o, i, n, mean, scale, values, out, buffer);
      if (!direct) store_y_(y, bits(out), inner_.stride[kY], n);
    });
  }

  void normalize(const RowSpace::Pointers& at, std::int64_t o, std::int64_t i, std::int64_t n,
                 float mean, float scale, const float* values, float* out, float* buffer) const {
    const bool even = (at[kW] == nullptr || inner_.stride[kW] == 0) &&
                      (at[kBias] == nullptr || inner_.stride[kBias] == 0);
    if (even && (at[kW] != nullptr || at[kBias] != nullptr)) {
      const float w = at[kW] == nullptr ? 1.0f : parameter(at, kW, o);
      const float b = at[kBias] == nullptr ? 0.0f : parameter(at, kBias, o);
      rows_.normalize_evenly(out, values, mean, scale * w, b, n);
    } else {
      rows_.normalize(out, values, mean, scale, parameters(at, kW, o, i, n, spare(buffer, 0)),
                      parameters(at, kBias, o, i, n, spare(buffer, 1)), n);
    }
  }

  float parameter(const RowSpace::Pointers& at, std::size_t k, std::int64_t o) const {
    float value = 0.0f;
    load_[k](bits(&value), place(at, k, o, 0), 1, 1);
    return value;
  }

  const float* parameters(const RowSpace::Pointers& at, std::size_t k, std::int64_t o,
                          std::int64_t i, std::int64_t n, float* into) const {
    const std::byte* from = place(at, k, o, i);
    if (from == nullptr) return nullptr;
    if (is_float32_[k] && inner_.stride[k] == 1) return reinterpret_cast<const float*>(from);
    load_[k](bits(into), from, inner_.stride[k], n);
    return into;
  }

  // `rows` rows of inner_.extent neighbouring elements each, times outer_.extent.
  void run_lanes(const RowSpace::Pointers& at, std::int64_t rows, float* buffer) const {
    const std::int64_t n = rows * inner_.extent;
    float* values = buffer;
    float* spare = buffer + kLanes;
    float* partial = buffer + 2 * kLanes;
    float* total = buffer + 3 * kLanes;
    float* mean = buffer + 4 * kLanes;
    float* scale = buffer + 5 * kLanes;
    float* shift = buffer + 6 * kLanes;
    const auto sum = tiles_.accumulate[static_cast<std::size_t>(Combine::kSum)];
    const auto fetch = [&](std::int64_t o) {
      load(values, place(at, kX, o, 0), place(at, kResidual, o, 0), 1, 1, n, spare);
    };
    // total[i] = sum over o of add(value), in chains, then summed within each row.
    const auto fold = [&](const auto& add) {
      std::fill_n(total, n, 0.0f);
      for (std::int64_t first = 0; first < outer_.extent; first += kChain) {
        std::fill_n(partial, n, 0.0f);
        for (std::int64_t o = first; o < std::min(first + kChain, outer_.extent); ++o) {
          fetch(o);
          add();
        }
        sum(total, partial, n);
      }
      for (std::int64_t i = 0; i < n; i += inner_.extent) {
        double row = 0.0;
        for (std::int64_t j = 0; j < inner_.extent; ++j) row += static_cast<double>(total[i + j]);
        std::fill_n(total + i, inner_.extent,
                    static_cast<float>(row / static_cast<double>(count_)));
      }
    };
    std::fill_n(mean, n, 0.0f);
    if (!rms_) {
      fold([&] { sum(partial, values, n); });
      std::copy_n(total, n, mean);
    }
    fold([&] { rows_.accumulate_squares(partial, values, mean, n); });
    lane_parameters(at, kW, rows, 1.0f, scale);
    lane_parameters(at, kBias, rows, 0.0f, shift);
    for (std::int64_t i = 0; i < n; ++i) scale[i] *= 1.0f / std::sqrt(total[i] + eps_);
    for (std::int64_t o = 0; o < outer_.extent; ++o) {
      fetch(o);
      if (at[kSum] != nullptr) store_(place(at, kSum, o, 0), bits(values), 1, n);
      rows_.normalize_lanes(values, values, mean, scale, shift, n);
      store_y_(place(at, kY, o, 0), bits(values), 1, n);
    }
  }

  void lane_parameters(const RowSpace::Pointers& at, std::size_t k, std::int64_t rows, float absent,
                       float* into) const {
    if (at[k] == nullptr) {
      std::fill_n(into, rows * inner_.extent, absent);
      return;
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      load_[k](bits(into + r * inner_.extent), at[k] + r * space_.lane_stride(k) * size_[k],
               inner_.stride[k], inner_.extent);
    }
  }

  ThreadPool& pool_;
  const TileKernels& tiles_;
  const RowKernels& rows_;
  RowSpace space_;
  Axis outer_, inner_;  // of a row's elements
  std::int64_t count_ = 0;
  float eps_ = 0.0f;
  bool rms_ = false;
  bool side_by_side_ = false;
  bool kept_ = false;
  bool in_place_ = false;  // x is read as it lies
  std::array<bool, kOperands> present_{}, is_float32_{}, is_integer_{};
  std::array<std::int64_t, kOperands> size_{};
  std::array<RunLoad, kOperands> load_{};
  RunStore store_ = nullptr;  // x's dtype
  RunStore store_y_ = nullptr;
};

}  // namespace

std::unique_ptr<HostKernel> make_row_norm(const DispatchInfo& dispatch, const CpuContext& context) {
  return std::make_unique<RowNormKernel>(dispatch, context);
}

}  // namespace npu::cpu
