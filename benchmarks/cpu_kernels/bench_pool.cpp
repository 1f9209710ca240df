// What an empty fork-join costs, with workers still spinning and with one task only.
#include <cstdio>

#include "bench.hpp"

namespace npu::cpu::bench {

void bench_thread_pool(const Options& o, ThreadPool& pool) {
  const auto nothing = [](std::int64_t, int) {};
  for (const std::int64_t tasks : {std::int64_t{1}, static_cast<std::int64_t>(pool.threads())}) {
    std::vector<double> ms;
    for (int round = 0; round < std::max(o.rounds, 9); ++round) {
      ms.push_back(time_ms([&] { pool.parallel_for(tasks, nothing); }, 20000));
    }
    const Timing t = summarise(std::move(ms));
    std::printf(o.json
                    ? "{\"bench\": \"fork_join\", \"tasks\": %d, \"threads\": %d, \"us\": %.4f}\n"
                    : "fork-join of %d empty tasks on %d threads: %.3f us\n",
                int(tasks), pool.threads(), 1000 * t.median_ms);
  }
}

}  // namespace npu::cpu::bench
