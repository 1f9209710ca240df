// Tries every way to cut a product into equal parts and keeps the one whose slowest thread is done
// first.
#include "blocking.hpp"

#include <algorithm>
#include <limits>

#include "dtype.hpp"

namespace npu::cpu {
namespace {

// Starting a task: the shared counter, addresses, cold first cache lines.
constexpr double kTaskCost = 1000;
// A tile's sums going through memory into the epilogue.
constexpr double kTileCost = 120;

double task_cost(const BlockingProblem& p, std::int64_t units, std::int64_t panels) {
  const auto rows = static_cast<double>(units * p.rows_per_unit);
  const auto tiles = static_cast<double>(ceil_div(units * p.rows_per_unit, p.tile_rows));
  return kTaskCost + rows * p.lower_cost +
         static_cast<double>(panels) * (rows * p.product_cost + tiles * kTileCost + p.panel_cost);
}

}  // namespace

Blocking choose_blocking(const BlockingProblem& p) {
  Blocking best;
  double best_time = std::numeric_limits<double>::infinity();
  const std::int64_t units = std::max<std::int64_t>(1, p.units);
  const std::int64_t panels = std::max<std::int64_t>(1, p.panels);
  // More parts than this only add overhead.
  const std::int64_t most =
      16 * p.threads + ceil_div(units, std::max<std::int64_t>(1, p.max_units));
  for (std::int64_t u = ceil_div(units, std::max<std::int64_t>(1, p.max_units));
       u <= std::min(units, most); ++u) {
    for (std::int64_t q = 1; q <= std::min(panels, most); ++q) {
      const double cost = task_cost(p, ceil_div(units, u), ceil_div(panels, q));
      const std::int64_t tasks = std::max<std::int64_t>(1, p.instances) * u * q;
      // A tenth of a task on top: with other work on the machine, shorter tasks even out better.
      const double time = (static_cast<double>(ceil_div(tasks, p.threads)) + 0.1) * cost;
      if (time < best_time) {
        best_time = time;
        best = {u, q, ceil_div(units, u)};
      }
      if (u * q * p.instances > most) break;
    }
  }
  return best;
}

}  // namespace npu::cpu
