// The elementwise kernel: a register program over broadcast, strided operands.
#include <algorithm>
#include <array>

#include "cpu/host_kernels.hpp"
#include "cpu/iteration_space.hpp"
#include "cpu/tile_runner.hpp"

namespace npu::cpu {
namespace {

// Work (elements times cost) worth waking a thread for; a few microseconds.
constexpr std::int64_t kTaskWork = 1 << 16;
constexpr std::int64_t kTasksPerThread = 8;

ProgramSource source_of(const DispatchInfo& dispatch) {
  const auto& params = dispatch.params_as<ElementwiseParams>();
  return {.name = dispatch.name,
          .code = std::span(params.code).first(4 * params.num_instructions),
          .operands = dispatch.operands};
}

class ElementwiseKernel final : public HostKernel {
 public:
  ElementwiseKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool),
        space_(dispatch.operands),
        runner_(lower_elementwise(source_of(dispatch), context.tiles, space_), space_.rows(),
                space_.columns(), dispatch.operands) {
    space_.cut(runner_.capacity());
    const std::int64_t tile_work =
        std::max<std::int64_t>(1, space_.tile_rows * space_.tile_columns * runner_.cost());
    tiles_per_task_ = std::max({std::int64_t{1}, kTaskWork / tile_work,
                                ceil_div(space_.tiles, kTasksPerThread * pool_.threads())});
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(runner_.file_words() * pool_.threads()) * sizeof(std::uint32_t);
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    auto* files = reinterpret_cast<std::uint32_t*>(scratch);
    const TileRunner::Operands bound = operands.first<kElementwiseOperands>();
    const auto task = [&](std::int64_t index, int worker) {
      const std::int64_t first = index * tiles_per_task_;
      const std::int64_t last = std::min(first + tiles_per_task_, space_.tiles);
      TileRunner::Registers registers{.file = files + worker * runner_.file_words(), .at = {}};
      runner_.begin(bound, space_.tile_rows * space_.tile_columns, registers);
      for (std::int64_t tile = first; tile < last; ++tile) {
        runner_.run(bound, space_.tile(tile), registers);
      }
    };
    pool_.parallel_for(ceil_div(space_.tiles, tiles_per_task_), task);
  }

 private:
  ThreadPool& pool_;
  IterationSpace space_;
  TileRunner runner_;
  std::int64_t tiles_per_task_ = 1;
};

}  // namespace

std::unique_ptr<HostKernel> make_elementwise(const DispatchInfo& dispatch,
                                             const CpuContext& context) {
  return std::make_unique<ElementwiseKernel>(dispatch, context);
}

}  // namespace npu::cpu
