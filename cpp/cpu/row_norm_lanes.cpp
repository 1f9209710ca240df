// row_norm for rows side by side: short dense runs of neighbouring rows that lie behind each other.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "cpu/row_norm_plan.hpp"

namespace npu::cpu {
namespace {

using enum RowNormPlan::Operand;
using Axis = RowNormPlan::Axis;

// Elements of rows side by side, and additions in one float32 chain.
constexpr std::int64_t kLanes = 512;
constexpr std::int64_t kChain = 256;
// Dense runs shorter than this are worth joining with those of the rows beside them.
constexpr std::int64_t kShortRun = 64;

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

class RowNormLanes final : public HostKernel {
 public:
  explicit RowNormLanes(const RowNormPlan& plan) : plan_(plan) {
    plan_.space.set_lanes(std::max<std::int64_t>(
        1, std::min(kLanes / plan_.inner.extent, plan_.space.last_extent())));
    const std::int64_t threads = plan_.pool.threads();
    if (plan_.space.units() < threads && plan_.outer.extent >= 16 * threads) {
      parts_ = 2 * ceil_div(threads, std::max<std::int64_t>(1, plan_.space.units()));
    }
    plan_.space.plan(static_cast<int>(threads), plan_.count);
  }

  std::size_t scratch_bytes() const override {
    const std::int64_t units = parts_ == 1 ? 0 : plan_.space.units() * unit_floats();
    return static_cast<std::size_t>(kWorkerFloats * plan_.pool.threads() + units) * sizeof(float);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    if (parts_ > 1) return run_parts(operands, reinterpret_cast<float*>(scratch));
    plan_.space.run(
        plan_.pool, operands, [&](const RowSpace::Pointers& at, std::int64_t rows, int worker) {
          run_lanes(at, rows, reinterpret_cast<float*>(scratch) + worker * kWorkerFloats);
        });
  }

 private:
  // Runs of lanes: values, two of scratch, and Lanes.
  static constexpr std::int64_t kWorkerFloats = 7 * kLanes;
  // What the parts of a unit share: Lanes, and a sum for each part.
  std::int64_t unit_floats() const { return (4 + parts_) * kLanes; }

  // Rows side by side: what is common to all their elements.
  struct Lanes {
    float* total;
    float* mean;
    float* scale;
    float* shift;
  };

  static Lanes lanes_in(float* memory) {
    return {memory, memory + kLanes, memory + 2 * kLanes, memory + 3 * kLanes};
  }

  void fetch_lanes(const RowSpace::Pointers& at, std::int64_t n, std::int64_t o,
                   float* values) const {
    plan_.load_values(values, plan_.place(at, kX, o, 0), plan_.place(at, kResidual, o, 0), 1, 1, n,
                      values + kLanes);
  }

  // total[i] = sum over o in [first, end) of the values, or of their squares around `mean`, in
  // chains. `buffer` has three runs of lanes.
  void sum_lanes(const RowSpace::Pointers& at, std::int64_t n, std::int64_t first, std::int64_t end,
                 const float* mean, float* total, float* buffer) const {
    const auto sum = plan_.tiles.accumulate[static_cast<std::size_t>(Combine::kSum)];
    float* partial = buffer + 2 * kLanes;
    std::fill_n(total, n, 0.0f);
    for (std::int64_t start = first; start < end; start += kChain) {
      std::fill_n(partial, n, 0.0f);
      for (std::int64_t o = start; o < std::min(start + kChain, end); ++o) {
        fetch_lanes(at, n, o, buffer);
        if (mean == nullptr) {
          sum(partial, buffer, n);
        } else {
          plan_.rows.accumulate_squares(partial, buffer, mean, n);
        }
      }
      sum(total, partial, n);
    }
  }

  // Every lane gets the average over its row.
  void average_lanes(std::int64_t n, float* total) const {
    for (std::int64_t i = 0; i < n; i += plan_.inner.extent) {
      double row = 0.0;
      for (std::int64_t j = 0; j < plan_.inner.extent; ++j)
        row += static_cast<double>(total[i + j]);
      std::fill_n(total + i, plan_.inner.extent,
                  static_cast<float>(row / static_cast<double>(plan_.count)));
    }
  }

  // From the variances in `total`.
  void scale_lanes(const RowSpace::Pointers& at, std::int64_t rows, const Lanes& lanes) const {
    lane_parameters(at, kW, rows, 1.0f, lanes.scale);
    lane_parameters(at, kBias, rows, 0.0f, lanes.shift);
    for (std::int64_t i = 0; i < rows * plan_.inner.extent; ++i) {
      lanes.scale[i] *= 1.0f / std::sqrt(lanes.total[i] + plan_.eps);
    }
  }

  void write_lanes(const RowSpace::Pointers& at, std::int64_t n, std::int64_t first,
                   std::int64_t end, const Lanes& lanes, float* values) const {
    for (std::int64_t o = first; o < end; ++o) {
      fetch_lanes(at, n, o, values);
      if (at[kSum] != nullptr) plan_.store(plan_.place(at, kSum, o, 0), bits(values), 1, n);
      plan_.rows.normalize_lanes(values, values, lanes.mean, lanes.scale, lanes.shift, n);
      plan_.store_y(plan_.place(at, kY, o, 0), bits(values), 1, n);
    }
  }

  // `rows` rows of plan_.inner.extent neighbouring elements each, times plan_.outer.extent.
  void run_lanes(const RowSpace::Pointers& at, std::int64_t rows, float* buffer) const {
    const std::int64_t n = rows * plan_.inner.extent;
    const Lanes lanes = lanes_in(buffer + 3 * kLanes);
    std::fill_n(lanes.mean, n, 0.0f);
    if (!plan_.rms) {
      sum_lanes(at, n, 0, plan_.outer.extent, nullptr, lanes.mean, buffer);
      average_lanes(n, lanes.mean);
    }
    sum_lanes(at, n, 0, plan_.outer.extent, lanes.mean, lanes.total, buffer);
    average_lanes(n, lanes.total);
    scale_lanes(at, rows, lanes);
    write_lanes(at, n, 0, plan_.outer.extent, lanes, buffer);
  }

  // The same for few units: each is cut into parts along the outer axis. (Cutting it across the
  // lanes instead makes threads write to neighbouring cache lines, which is slower than one
  // thread.)
  void run_parts(std::span<std::byte* const> operands, float* scratch) const {
    float* shared = scratch + kWorkerFloats * plan_.pool.threads();
    const std::int64_t step = ceil_div(plan_.outer.extent, parts_);
    // Calls fn(at, rows, unit's lanes, part, worker) for every part of every unit.
    const auto each_part = [&](const auto& fn) {
      plan_.pool.parallel_for(plan_.space.units() * parts_, [&](std::int64_t task, int worker) {
        std::int64_t rows = 1;
        const RowSpace::Pointers at = plan_.space.at(task / parts_, operands, &rows);
        fn(at, rows, shared + task / parts_ * unit_floats(), task % parts_,
           scratch + worker * kWorkerFloats);
      });
    };
    const auto each_unit = [&](const auto& fn) {
      for (std::int64_t unit = 0; unit < plan_.space.units(); ++unit) {
        std::int64_t rows = 1;
        const RowSpace::Pointers at = plan_.space.at(unit, operands, &rows);
        fn(at, rows, shared + unit * unit_floats());
      }
    };
    // Averages over rows, of the values into `mean` or of the squares into `total`.
    const auto fold = [&](bool squares) {
      each_part(
          [&](const auto& at, std::int64_t rows, float* unit, std::int64_t part, float* buffer) {
            sum_lanes(at, rows * plan_.inner.extent, part * step,
                      std::min((part + 1) * step, plan_.outer.extent),
                      squares ? lanes_in(unit).mean : nullptr, unit + (4 + part) * kLanes, buffer);
          });
      each_unit([&](const auto& /*at*/, std::int64_t rows, float* unit) {
        const std::int64_t n = rows * plan_.inner.extent;
        float* total = squares ? lanes_in(unit).total : lanes_in(unit).mean;
        std::fill_n(total, n, 0.0f);
        for (std::int64_t part = 0; part < parts_; ++part) {
          plan_.tiles.accumulate[static_cast<std::size_t>(Combine::kSum)](
              total, unit + (4 + part) * kLanes, n);
        }
        average_lanes(n, total);
      });
    };
    if (plan_.rms) {
      each_unit([&](const auto& /*at*/, std::int64_t rows, float* unit) {
        std::fill_n(lanes_in(unit).mean, rows * plan_.inner.extent, 0.0f);
      });
    } else {
      fold(false);
    }
    fold(true);
    each_unit([&](const auto& at, std::int64_t rows, float* unit) {
      scale_lanes(at, rows, lanes_in(unit));
    });
    each_part(
        [&](const auto& at, std::int64_t rows, float* unit, std::int64_t part, float* buffer) {
          write_lanes(at, rows * plan_.inner.extent, part * step,
                      std::min((part + 1) * step, plan_.outer.extent), lanes_in(unit), buffer);
        });
  }

  void lane_parameters(const RowSpace::Pointers& at, std::size_t k, std::int64_t rows, float absent,
                       float* into) const {
    if (at[k] == nullptr) {
      std::fill_n(into, rows * plan_.inner.extent, absent);
      return;
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      plan_.load[k](bits(into + r * plan_.inner.extent),
                    at[k] + r * plan_.space.lane_stride(k) * plan_.size[k], plan_.inner.stride[k],
                    plan_.inner.extent);
    }
  }

  RowNormPlan plan_;
  std::int64_t parts_ = 1;  // of a unit of rows side by side
};

}  // namespace

std::unique_ptr<HostKernel> make_row_norm_lanes(const RowNormPlan& plan) {
  Axis outer = plan.outer, inner = plan.inner;
  if (outer.extent == 1 && std::abs(inner.stride[kX]) > 1) {
    std::swap(outer, inner);
    inner = {1, {1, 0, 0, 1, 1, 1}};
  }
  if (outer.extent < 8 || inner.extent >= kShortRun || plan.space.last_extent() < 2) return nullptr;
  for (const std::size_t k : {kX, kResidual, kY, kSum}) {
    if (!plan.present[k]) continue;
    if ((inner.extent != 1 && inner.stride[k] != 1) || plan.space.lane_stride(k) != inner.extent) {
      return nullptr;
    }
  }
  if (outer.stride[kW] != 0 || outer.stride[kBias] != 0) return nullptr;
  RowNormPlan found = plan;
  found.outer = outer;
  found.inner = inner;
  return std::make_unique<RowNormLanes>(found);
}

}  // namespace npu::cpu
