// The thread pool: every task once, worker numbers exclusive, several user threads, nesting.
#include <atomic>
#include <thread>

#include "check.hpp"
#include "thread_pool.hpp"

namespace npu::cpu::test {
namespace {

void test_each_task_once(int threads) {
  ThreadPool pool(threads);
  NPU_CHECK(pool.threads() == threads, "%d", pool.threads());
  bool once = true;
  bool exclusive = true;
  for (int round = 0; round < 2000; ++round) {
    const std::int64_t n = round % 37;
    std::vector<std::atomic<int>> hits(static_cast<std::size_t>(n));
    std::vector<std::atomic<int>> inside(static_cast<std::size_t>(threads));
    std::atomic<bool> clash{false};
    pool.parallel_for(n, [&](std::int64_t task, int worker) {
      if (inside[static_cast<std::size_t>(worker)].fetch_add(1) != 0) clash = true;
      hits[static_cast<std::size_t>(task)].fetch_add(1);
      inside[static_cast<std::size_t>(worker)].fetch_sub(1);
    });
    for (auto& h : hits) once = once && h.load() == 1;
    exclusive = exclusive && !clash.load();
  }
  NPU_CHECK(once, "threads %d", threads);
  NPU_CHECK(exclusive, "threads %d", threads);
}

// Two threads at once, each with jobs of its own, some nested.
void test_concurrent_users() {
  ThreadPool pool(3);
  std::atomic<std::int64_t> total{0};
  const auto user = [&] {
    for (int round = 0; round < 500; ++round) {
      pool.parallel_for(16, [&](std::int64_t task, int) {
        total.fetch_add(task);
        if (task == 7)
          pool.parallel_for(4, [&](std::int64_t inner, int) { total.fetch_add(inner); });
      });
    }
  };
  std::thread a(user);
  std::thread b(user);
  user();
  a.join();
  b.join();
  NPU_CHECK(total.load() == 3 * 500 * (120 + 6), "%lld", static_cast<long long>(total.load()));
}

// Workers that have gone to sleep must come back.
void test_parked_workers() {
  ThreadPool pool(4);
  std::atomic<int> count{0};
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    pool.parallel_for(64, [&](std::int64_t, int) { count.fetch_add(1); });
  }
  NPU_CHECK(count.load() == 20 * 64, "%d", count.load());
}

}  // namespace

void test_thread_pool() {
  for (int threads = 1; threads <= 4; ++threads) test_each_task_once(threads);
  test_concurrent_users();
  test_parked_workers();
}

}  // namespace npu::cpu::test
