// The row_norm kernel: row by row, or side by side where rows lie so.
#include <algorithm>
#include <cmath>

#include "cpu/row_norm_plan.hpp"

namespace npu::cpu {
namespace {

using enum RowNormPlan::Operand;

// Elements worked on at a time.
constexpr std::int64_t kChunk = 2048;
// A row of up to so many elements is kept as float32 between the passes.
constexpr std::int64_t kKeptRow = 1 << 16;

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

class RowNormRows final : public HostKernel {
 public:
  explicit RowNormRows(const RowNormPlan& plan) : plan_(plan) {
    kept_ = plan_.count <= kKeptRow;
    in_place_ = plan_.is_float32[kX] && plan_.inner.stride[kX] == 1 && !plan_.present[kResidual];
    plan_.space.plan(plan_.pool.threads(), plan_.count);
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(worker_floats() * plan_.pool.threads()) * sizeof(float);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    plan_.space.run(plan_.pool, operands,
                    [&](const RowSpace::Pointers& at, std::int64_t /*rows*/, int worker) {
                      run_row(at, reinterpret_cast<float*>(scratch) + worker * worker_floats());
                    });
  }

 private:
  // A row's values, or a chunk of them, and four more chunks.
  std::int64_t row_floats() const { return round_up(kept_ ? plan_.count : kChunk, 16); }
  std::int64_t worker_floats() const { return row_floats() + 4 * kChunk; }

  const float* fetch(const RowSpace::Pointers& at, std::int64_t o, std::int64_t i, std::int64_t n,
                     bool first_pass, float* buffer) const {
    const std::byte* x = plan_.place(at, kX, o, i);
    if (in_place_) return reinterpret_cast<const float*>(x);
    float* values = kept_ ? buffer + o * plan_.inner.extent + i : buffer;
    if (first_pass || !kept_) {
      plan_.load_values(values, x, plan_.place(at, kResidual, o, i), plan_.inner.stride[kX],
                        plan_.inner.stride[kResidual], n, spare(buffer, 3));
    }
    return values;
  }

  float* spare(float* buffer, int index) const { return buffer + row_floats() + index * kChunk; }

  // Calls fn(o, i, n) for every chunk of a row.
  template <class Fn>
  void for_chunks(const Fn& fn) const {
    for (std::int64_t o = 0; o < plan_.outer.extent; ++o) {
      for (std::int64_t i = 0; i < plan_.inner.extent; i += kChunk) {
        fn(o, i, std::min(kChunk, plan_.inner.extent - i));
      }
    }
  }

  double fold(Map map, const float* values, std::int64_t n, float shift) const {
    float sum = 0.0f;
    plan_.rows.fold_rows[static_cast<std::size_t>(Combine::kSum)][static_cast<std::size_t>(map)](
        &sum, values, 0, 1, n, shift);
    return static_cast<double>(sum);
  }

  void run_row(const RowSpace::Pointers& at, float* buffer) const {
    float mean = 0.0f;
    if (!plan_.rms) {
      double total = 0.0;
      for_chunks([&](std::int64_t o, std::int64_t i, std::int64_t n) {
        total += fold(Map::kValue, fetch(at, o, i, n, true, buffer), n, 0.0f);
      });
      mean = static_cast<float>(total / static_cast<double>(plan_.count));
    }
    double squares = 0.0;
    for_chunks([&](std::int64_t o, std::int64_t i, std::int64_t n) {
      squares += fold(Map::kSquare, fetch(at, o, i, n, plan_.rms, buffer), n, mean);
    });
    const float variance = static_cast<float>(squares / static_cast<double>(plan_.count));
    const float scale = 1.0f / std::sqrt(variance + plan_.eps);
    for_chunks([&](std::int64_t o, std::int64_t i, std::int64_t n) {
      const float* values = fetch(at, o, i, n, false, buffer);
      if (at[kSum] != nullptr) {
        plan_.store(plan_.place(at, kSum, o, i), reinterpret_cast<const std::uint32_t*>(values),
                    plan_.inner.stride[kSum], n);
      }
      std::byte* y = plan_.place(at, kY, o, i);
      const bool direct = plan_.is_float32[kY] && plan_.inner.stride[kY] == 1;
      float* out = direct ? reinterpret_cast<float*>(y) : spare(buffer, 2);
      normalize(at, o, i, n, mean, scale, values, out, buffer);
      if (!direct) plan_.store_y(y, bits(out), plan_.inner.stride[kY], n);
    });
  }

  void normalize(const RowSpace::Pointers& at, std::int64_t o, std::int64_t i, std::int64_t n,
                 float mean, float scale, const float* values, float* out, float* buffer) const {
    const bool even = (at[kW] == nullptr || plan_.inner.stride[kW] == 0) &&
                      (at[kBias] == nullptr || plan_.inner.stride[kBias] == 0);
    if (even && (at[kW] != nullptr || at[kBias] != nullptr)) {
      const float w = at[kW] == nullptr ? 1.0f : parameter(at, kW, o);
      const float b = at[kBias] == nullptr ? 0.0f : parameter(at, kBias, o);
      plan_.rows.normalize_evenly(out, values, mean, scale * w, b, n);
    } else {
      plan_.rows.normalize(out, values, mean, scale, parameters(at, kW, o, i, n, spare(buffer, 0)),
                           parameters(at, kBias, o, i, n, spare(buffer, 1)), n);
    }
  }

  float parameter(const RowSpace::Pointers& at, std::size_t k, std::int64_t o) const {
    float value = 0.0f;
    plan_.load[k](bits(&value), plan_.place(at, k, o, 0), 1, 1);
    return value;
  }

  const float* parameters(const RowSpace::Pointers& at, std::size_t k, std::int64_t o,
                          std::int64_t i, std::int64_t n, float* into) const {
    const std::byte* from = plan_.place(at, k, o, i);
    if (from == nullptr) return nullptr;
    if (plan_.is_float32[k] && plan_.inner.stride[k] == 1)
      return reinterpret_cast<const float*>(from);
    plan_.load[k](bits(into), from, plan_.inner.stride[k], n);
    return into;
  }

  RowNormPlan plan_;
  bool kept_ = false;
  bool in_place_ = false;  // x is read as it lies
};

}  // namespace

std::unique_ptr<HostKernel> make_row_norm(const DispatchInfo& dispatch, const CpuContext& context) {
  const RowNormPlan plan(dispatch, context);
  std::unique_ptr<HostKernel> side_by_side = make_row_norm_lanes(plan);
  return side_by_side != nullptr ? std::move(side_by_side) : std::make_unique<RowNormRows>(plan);
}

}  // namespace npu::cpu
