// How a matrix product is cut into tasks: by rows and by panels, weighing balance against repeated
// work.
#pragma once

#include <cstdint>

namespace npu::cpu {

// Costs are in cycles of one vector multiply-add per cycle; only their ratios matter.
struct BlockingProblem {
  std::int64_t units = 1;          // rows of output pixels (conv) or of the matrix
  std::int64_t rows_per_unit = 1;  // matrix rows in one of them
  std::int64_t instances = 1;      // images x groups, or batches: always separate tasks
  std::int64_t panels = 1;
  std::int64_t max_units = 1;  // per task, so that its rows stay in cache
  std::int64_t threads = 1;
  int tile_rows = 1;
  double lower_cost = 0;    // preparing one matrix row
  double product_cost = 0;  // one matrix row times one panel
  double panel_cost = 0;    // bringing one panel into cache
};

// Part i of `units` split over `unit_tasks` is [units * i / unit_tasks, units * (i + 1) /
// unit_tasks), and likewise for panels: parts differ by at most one.
struct Blocking {
  std::int64_t unit_tasks = 1, panel_tasks = 1;
  std::int64_t max_units = 1;  // of the largest part
};

Blocking choose_blocking(const BlockingProblem& problem);

}  // namespace npu::cpu
