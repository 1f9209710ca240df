// The map_reduce kernel: a register program makes values tile by tile, they are combined while they
// are in the L1 cache, and another program turns every result into what is stored.
#include <algorithm>
#include <array>
#include <cstdint>

#include "cpu/host_kernels.hpp"
#include "cpu/map_reduce_fold.hpp"
#include "cpu/map_reduce_space.hpp"
#include "cpu/tile_runner.hpp"

namespace npu::cpu {
namespace {

// Work (elements times cost) worth waking a thread for; a few microseconds.
constexpr std::int64_t kTaskWork = 1 << 16;
constexpr std::int64_t kTasksPerThread = 8;
// Fewer units for each thread than this are cut into parts.
constexpr std::int64_t kPartsPerThread = 4;
// Values that one float32 sum takes up before it joins the total.
constexpr std::int64_t kChain = 256;

using AllOperands = std::array<schema::Operand, kElementwiseOperands>;

// The operands as instructions number them: inputs, the accumulator, outputs, the accumulator.
AllOperands numbered(const DispatchInfo& dispatch, bool maps) {
  AllOperands all;
  schema::Operand absent{};
  absent.buffer = schema::kNone;
  all.fill(absent);
  std::copy_n(dispatch.operands.begin(), NPU_ACCUMULATOR_INPUT, all.begin());
  if (maps) return all;
  std::copy_n(dispatch.operands.begin() + NPU_ACCUMULATOR_INPUT, NPU_ACCUMULATOR_OUTPUT,
              all.begin() + NPU_MAX_INPUTS);
  schema::Operand& accumulator = all[NPU_ACCUMULATOR_INPUT];
  accumulator.buffer = 0;  // present; where it lies is known when it runs
  accumulator.dtype = static_cast<std::uint8_t>(dispatch.params_as<MapReduceParams>().dtype);
  return all;
}

std::int64_t aligned(std::int64_t words) { return round_up(words, std::int64_t{16}); }

class MapReduceKernel final : public HostKernel {
 public:
  MapReduceKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool), space_(numbered(dispatch, false)) {
    const auto& p = dispatch.params_as<MapReduceParams>();
    fold_ = MapFold(context, p.op, p.dtype);
    const auto code = std::span(p.code).first(4 * p.num_instructions);
    const AllOperands inputs = numbered(dispatch, true), all = numbered(dispatch, false);
    map_ = runner({.name = dispatch.name,
                   .code = code.first(4 * p.num_map),
                   .operands = inputs,
                   .maps = true},
                  context, space_.map());
    finish_ = runner({.name = dispatch.name, .code = code.subspan(4 * p.num_map), .operands = all},
                     context, space_.results());
    space_.cut(map_.capacity(), pool_.threads());
    plan();
  }

  std::size_t scratch_bytes() const override {
    const std::int64_t totals = parts_ == 1 ? 0 : space_.units() * parts_ * total_words();
    return static_cast<std::size_t>(worker_words() * pool_.threads() + totals) *
           sizeof(std::uint32_t);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    auto* words = reinterpret_cast<std::uint32_t*>(scratch);
    if (parts_ == 1) {
      const auto task = [&](std::int64_t index, int worker) {
        Task work(*this, operands, words + worker * worker_words());
        const std::int64_t first = index * units_per_task_;
        for (std::int64_t u = first; u < std::min(first + units_per_task_, space_.units()); ++u) {
          const Tile unit = space_.unit(u);
          if (few_) {
            work.reduce_few(unit);
          } else {
            work.reduce(unit, 0, space_.steps(), work.totals());
          }
          work.finish(unit);
        }
      };
      pool_.parallel_for(ceil_div(space_.units(), units_per_task_), task);
      return;
    }
    std::uint32_t* totals = words + pool_.threads() * worker_words();
    const auto total = [&](std::int64_t unit, std::int64_t part) {
      return totals + (unit * parts_ + part) * total_words();
    };
    pool_.parallel_for(space_.units() * parts_, [&](std::int64_t index, int worker) {
      Task work(*this, operands, words + worker * worker_words());
      const std::int64_t u = index / parts_, part = index % parts_;
      work.reduce(space_.unit(u), space_.steps() * part / parts_,
                  space_.steps() * (part + 1) / parts_, total(u, part));
    });
    Task last(*this, operands, words);
    for (std::int64_t u = 0; u < space_.units(); ++u) {
      const Tile unit = space_.unit(u);
      for (std::int64_t part = 1; part < parts_; ++part) {
        fold_.join(total(u, 0), total(u, part), unit.columns);
      }
      last.take(unit, total(u, 0));
      last.finish(unit);
    }
  }

 private:
  using Tile = IterationSpace::Tile;
  using Form = MapReduceSpace::Form;

  static TileRunner runner(const ProgramSource& source, const CpuContext& context,
                           const IterationSpace& space) {
    return TileRunner(lower_elementwise(source, context.tiles, space), space.rows(),
                      space.columns(), source.operands);
  }

  // Spreads units over tasks, or steps of each over parts where there are too few units.
  void plan() {
    const std::int64_t work = space_.lanes() * space_.reduced_elements() * std::max(1, map_.cost());
    const std::int64_t threads = pool_.threads();
    units_per_task_ = std::max({std::int64_t{1}, kTaskWork / std::max<std::int64_t>(1, work),
                                ceil_div(space_.units(), kTasksPerThread * threads)});
    few_ =
        space_.form() == Form::kLanes ? space_.reduced_elements() <= kChain : space_.steps() == 1;
    const std::uint8_t handed = map_.handed_operand();
    // One row or column after the other, without other reduced axes.
    const bool simple = space_.form() != Form::kWhole && few_ &&
                        space_.reduced_elements() == (space_.form() == Form::kLanes
                                                          ? space_.map().rows().extent
                                                          : space_.map().columns().extent);
    if (handed != kNoOperand && simple && space_.map().columns().stride[handed] == 1) {
      handed_ = handed;
    }
    const std::int64_t wanted = kPartsPerThread * threads;
    if (threads > 1 && space_.units() < wanted && work >= 2 * kTaskWork) {
      parts_ = std::min({space_.steps(), work / kTaskWork, ceil_div(wanted, space_.units())});
    }
  }

  std::int64_t total_words() const { return aligned(fold_.total_words() * space_.lanes()); }
  std::int64_t value_words() const { return aligned(fold_.words() * space_.lanes()); }
  // Both register files, partial results, results and totals.
  std::int64_t worker_words() const {
    return aligned(map_.file_words()) + aligned(finish_.file_words()) + 2 * value_words() +
           total_words();
  }

  // A thread's work on some units.
  class Task {
   public:
    Task(const MapReduceKernel& kernel, std::span<std::byte* const> operands, std::uint32_t* words)
        : kernel_(kernel) {
      map_.file = words;
      finish_.file = map_.file + aligned(kernel.map_.file_words());
      partial_ = finish_.file + aligned(kernel.finish_.file_words());
      results_ = partial_ + kernel.value_words();
      totals_ = results_ + kernel.value_words();
      std::copy_n(operands.begin(), NPU_ACCUMULATOR_INPUT, operands_.begin());
      operands_[NPU_ACCUMULATOR_INPUT] = reinterpret_cast<std::byte*>(results_);
      std::copy_n(operands.begin() + NPU_ACCUMULATOR_INPUT, NPU_ACCUMULATOR_OUTPUT,
                  operands_.begin() + NPU_MAX_INPUTS);
      kernel_.map_.begin(operands_, kernel_.space_.tile_elements(), map_);
      kernel_.finish_.begin(operands_, chunk(), finish_);
    }

    std::uint32_t* totals() const { return totals_; }

    // Combines steps `first` to `last` of a unit into `total`.
    void reduce(const Tile& unit, std::int64_t first, std::int64_t last, std::uint32_t* total) {
      kernel_.fold_.clear_total(total, unit.columns);
      for (std::int64_t i = 0; i < unit.columns; i += kernel_.space_.tile_lanes()) {
        reduce_part(kernel_.space_.part(unit, i), first, last,
                    total + i * kernel_.fold_.total_words());
      }
      take(unit, total);
    }

    // Makes totals the results.
    void take(const Tile& unit, const std::uint32_t* total) {
      kernel_.fold_.finish(results_, total, unit.columns);
    }

    // All steps of a unit of few values, straight to where results are.
    void reduce_few(const Tile& unit) {
      const MapFold& fold = kernel_.fold_;
      if (kernel_.handed_ != kNoOperand) return reduce_in_place(unit);
      for (std::int64_t i = 0; i < unit.columns; i += kernel_.space_.tile_lanes()) {
        const Tile part = kernel_.space_.part(unit, i);
        std::uint32_t* result = results_ + i * fold.words();
        if (kernel_.space_.form() == Form::kLanes) fold.clear_partial(result, part.columns);
        for (std::int64_t s = 0; s < kernel_.space_.steps(); ++s) combine(part, s, result);
      }
    }

    // Runs the second program on results.
    void finish(const Tile& unit) {
      const IterationSpace::Axis& columns = kernel_.space_.results().columns();
      for (std::int64_t i = 0; i < unit.columns; i += chunk()) {
        Tile tile = unit;
        tile.columns = std::min(chunk(), unit.columns - i);
        for (std::size_t k = 0; i != 0 && k < tile.offset.size(); ++k) {
          tile.offset[k] += i * columns.stride[k];
        }
        tile.offset[NPU_ACCUMULATOR_INPUT] = i;
        kernel_.finish_.run(operands_, tile, finish_);
      }
    }

   private:
    // Results that the second program takes at a time.
    std::int64_t chunk() const {
      return std::min(kernel_.finish_.capacity(), kernel_.space_.lanes());
    }

    // The same where the values are an operand's own.
    void reduce_in_place(const Tile& unit) {
      const IterationSpace& space = kernel_.space_.map();
      const std::size_t k = kernel_.handed_;
      const std::int64_t bytes = kernel_.fold_.words() * std::int64_t{sizeof(std::uint32_t)};
      const auto* values =
          reinterpret_cast<const std::uint32_t*>(operands_[k] + unit.offset[k] * bytes);
      const std::int64_t stride = space.rows().stride[k];
      if (kernel_.space_.form() == Form::kLanes) {
        kernel_.fold_.clear_partial(results_, unit.columns);
        kernel_.fold_.accumulate(results_, values, stride, space.rows().extent, unit.columns);
      } else {
        kernel_.fold_.fold(results_, values, stride, unit.columns, space.columns().extent);
      }
    }

    // Step `s` of some results: what it makes of rows or of all of it, or in lanes what that makes
    // of `partial`. Returns how many values each lane of `partial` has taken up.
    std::int64_t combine(const Tile& part, std::int64_t s, std::uint32_t* partial) {
      const Tile tile = kernel_.space_.step(part, s);
      const std::uint32_t* values = kernel_.map_.run(operands_, tile, map_);
      const MapFold& fold = kernel_.fold_;
      switch (kernel_.space_.form()) {
        case Form::kLanes:
          fold.accumulate(partial, values, tile.columns, tile.rows, tile.columns);
          break;
        case Form::kRows:
          fold.fold(partial, values, tile.columns, tile.rows, tile.columns);
          break;
        case Form::kWhole:
          fold.fold(partial, values, 0, 1, tile.rows * tile.columns);
          break;
      }
      return tile.rows;
    }

    void reduce_part(const Tile& part, std::int64_t first, std::int64_t last,
                     std::uint32_t* total) {
      const MapFold& fold = kernel_.fold_;
      const bool lanes = kernel_.space_.form() == Form::kLanes;
      if (lanes) fold.clear_partial(partial_, part.columns);
      std::int64_t chained = 0;
      for (std::int64_t s = first; s < last; ++s) {
        chained += combine(part, s, partial_);
        if (lanes && chained < kChain && s + 1 < last) continue;
        fold.add(total, partial_, part.columns);
        if (lanes) fold.clear_partial(partial_, part.columns);
        chained = 0;
      }
    }

    const MapReduceKernel& kernel_;
    std::array<std::byte*, kElementwiseOperands> operands_{};
    TileRunner::Registers map_{}, finish_{};
    std::uint32_t* partial_ = nullptr;
    std::uint32_t* results_ = nullptr;
    std::uint32_t* totals_ = nullptr;
  };

  ThreadPool& pool_;
  MapReduceSpace space_;
  MapFold fold_;
  TileRunner map_, finish_;
  std::int64_t units_per_task_ = 1;
  std::int64_t parts_ = 1;
  std::uint8_t handed_ = kNoOperand;  // the operand whose memory is reduced as it lies
  bool few_ = false;                  // results need no totals beside float32 sums
};

}  // namespace

std::unique_ptr<HostKernel> make_map_reduce(const DispatchInfo& dispatch,
                                            const CpuContext& context) {
  return std::make_unique<MapReduceKernel>(dispatch, context);
}

}  // namespace npu::cpu
