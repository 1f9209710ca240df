// Convolution as a matrix product: each task brings the input of some output rows into form (see
// conv_input.hpp), then multiplies it with some panels of weights.
#include <algorithm>

#include "blocking.hpp"
#include "conv_impl.hpp"
#include "conv_input.hpp"
#include "panels.hpp"

namespace npu::cpu {
namespace {

// Panels of half-precision weights are widened in the inner loop, or once per task, which costs
// about 6% either way. With enough pixels per weight it is cheaper to read float32 panels of twice
// the size.
constexpr std::int64_t kMinPixelsForWidePanels = 32;

GemmKernels choose_kernels(const ConvProblem& p) {
  const GemmKernels& g = p.kernels->gemm[static_cast<std::size_t>(p.dtype)];
  const bool widened = g.format == PanelFormat::f16 || g.format == PanelFormat::bf16;
  if (!widened || p.shape.n * p.shape.oh * p.shape.ow < kMinPixelsForWidePanels) return g;
  GemmKernels wide = p.kernels->gemm_f32;
  wide.widen = g.widen;
  return wide;
}

class DirectConv final : public ConvPlan::Impl {
 public:
  explicit DirectConv(const ConvProblem& problem);

  std::size_t packed_weights_bytes() const override {
    return static_cast<std::size_t>(p_.shape.groups * panels_ * panel_bytes_);
  }
  void pack_weights(const void* w, void* packed) const override;
  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(p_.pool->threads() * worker_bytes_);
  }
  void run(const ConvArgs& args) const override;

 private:
  struct TaskParts {
    std::int64_t rows, panels;  // which part of each
  };

  void plan_tasks();
  TaskParts task_parts(std::int64_t task) const;
  void run_task(const ConvArgs& args, std::int64_t task, std::byte* scratch) const;

  GemmKernels g_;
  ConvInput input_;
  std::int64_t ocg_;  // output channels per group
  std::int64_t panels_, panel_bytes_;
  Blocking tasks_;
  std::int64_t worker_bytes_;
};

DirectConv::DirectConv(const ConvProblem& problem)
    : Impl(problem, "direct"), g_(choose_kernels(problem)), input_(problem, g_) {
  ocg_ = p_.shape.oc / p_.shape.groups;
  panels_ = ceil_div(ocg_, g_.nr);
  panel_bytes_ = panel_bytes(g_, input_.k_padded());
  plan_tasks();
  input_.reserve(tasks_.max_units);
  worker_bytes_ =
      round_up(input_.bytes() +
                   product_workspace_bytes(g_, tasks_.max_units * p_.shape.ow, input_.k_padded()),
               64);
}

void DirectConv::plan_tasks() {
  const ConvShape& s = p_.shape;
  const CacheSizes caches = cache_sizes();
  const auto pixel_bytes = static_cast<double>(input_.channels() * g_.a_size * g_.a_planes);
  const double row_bytes =
      std::max(64.0, static_cast<double>(s.ow) * std::max(input_.copied_per_pixel(), pixel_bytes));
  BlockingProblem b;
  b.units = s.oh;
  b.rows_per_unit = s.ow;
  b.instances = s.n * s.groups;
  b.panels = panels_;
  b.max_units = std::clamp<std::int64_t>(
      static_cast<std::int64_t>(static_cast<double>(caches.l2) / 2 / row_bytes), 1,
      std::max<std::int64_t>(1, s.oh));
  b.threads = p_.pool->threads();
  b.tile_rows = g_.max_rows;
  b.lower_cost =
      input_.copied_per_pixel() / 20 + (input_.lowered() ? 10.0 * static_cast<double>(s.kh) : 10.0);
  b.product_cost = static_cast<double>(input_.k_padded() * g_.nr) / g_.macs_per_cycle;
  // Weights that do not fit L2 beside the rows come from further out for every task.
  const bool outside = panels_ * panel_bytes_ > caches.l2 / 2;
  b.panel_cost = static_cast<double>(panel_bytes_) / (outside ? 40.0 : 80.0);
  tasks_ = choose_blocking(b);
}

void DirectConv::pack_weights(const void* w, void* packed) const {
  const std::int64_t k = input_.k();
  const std::int64_t total = p_.shape.groups * panels_;
  p_.pool->parallel_for(total, [&](std::int64_t i, int) {
    const std::int64_t group = i / panels_;
    const std::int64_t column = i % panels_ * g_.nr;
    const WeightView view{element(w, p_.dtype, group * ocg_ * k), p_.dtype, k, 1};
    pack_panel(g_, view, column, std::min<std::int64_t>(g_.nr, ocg_ - column), k, input_.k_padded(),
               static_cast<std::byte*>(packed) + i * panel_bytes_);
  });
}

void DirectConv::run(const ConvArgs& args) const {
  const ConvShape& s = p_.shape;
  if (s.oh == 0 || s.ow == 0) return;
  const std::int64_t tasks = s.n * s.groups * tasks_.unit_tasks * tasks_.panel_tasks;
  p_.pool->parallel_for(tasks, [&](std::int64_t task, int worker) {
    run_task(args, task, static_cast<std::byte*>(args.scratch) + worker * worker_bytes_);
  });
}

// Each thread's share of the tasks (see ThreadPool) is a range of rows, which it most likely wrote
// itself as the layer before. Within it panels vary slowest, so that they are used while in cache.
DirectConv::TaskParts DirectConv::task_parts(std::int64_t task) const {
  const std::int64_t rows = p_.shape.n * p_.shape.groups * tasks_.unit_tasks;
  const std::int64_t shares = std::min<std::int64_t>(p_.pool->threads(), rows);
  const std::int64_t share = ((task / tasks_.panel_tasks + 1) * shares - 1) / rows;
  const std::int64_t first = rows * share / shares;
  const std::int64_t count = rows * (share + 1) / shares - first;
  const std::int64_t within = task - first * tasks_.panel_tasks;
  return {first + within % count, within / count};
}

void DirectConv::run_task(const ConvArgs& args, std::int64_t task, std::byte* scratch) const {
  const ConvShape& s = p_.shape;
  const auto [row_part, panel_part] = task_parts(task);
  const std::int64_t part = row_part % tasks_.unit_tasks;
  const std::int64_t n = row_part / tasks_.unit_tasks % s.n;
  const std::int64_t group = row_part / (tasks_.unit_tasks * s.n);
  const std::int64_t oy = s.oh * part / tasks_.unit_tasks;
  const std::int64_t rows = s.oh * (part + 1) / tasks_.unit_tasks - oy;
  const std::int64_t panel = panels_ * panel_part / tasks_.panel_tasks;
  const std::int64_t panels = panels_ * (panel_part + 1) / tasks_.panel_tasks - panel;

  const Strides4& xs = p_.layout.x;
  const std::int64_t column = panel * g_.nr;
  PanelBlock block = input_.block(
      element(args.x, p_.dtype, n * xs.n + group * input_.channels() * xs.c), oy, rows, scratch);
  block.panels =
      static_cast<const std::byte*>(args.packed) + (group * panels_ + panel) * panel_bytes_;
  block.panel_bytes = panel_bytes_;
  block.columns = std::min(panels * g_.nr, ocg_ - column);
  block.workspace = scratch + input_.bytes();
  const KernelTable& t = *p_.kernels;
  if (t.enter != nullptr) t.enter();
  multiply_panels(t, g_, block, output_at(args, n, oy, group * ocg_ + column));
  if (t.leave != nullptr) t.leave();
}

}  // namespace

std::unique_ptr<const ConvPlan::Impl> make_direct_conv(const ConvProblem& problem) {
  return std::make_unique<DirectConv>(problem);
}

}  // namespace npu::cpu
