// Fork-join over a task counter for each thread: workers spin briefly for the next job, then park
// on a futex.
#include "thread_pool.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>

#if defined(__linux__)
#include <sched.h>
#endif

namespace npu::cpu {
namespace {

// How long a worker looks out for the next job before it parks: long enough to bridge the end of a
// layer that another thread is still busy with, and short enough to leave the processor to others
// soon after a run. A worker that parks is late for the next layer by the time to wake it, tens of
// microseconds on a virtual machine; its last task is then taken by another thread, at whose end it
// parks again, and so on for all the run.
constexpr std::chrono::microseconds kLookOut{200};
constexpr int kSpinsPerCheck = 64;  // of the clock

// With more runnable threads than processors the worker waited for may need this one's time slice.
constexpr int kSpinsBeforeYield = 20000;

void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

int allowed_cpus() {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

int default_threads() {
  if (const char* text = std::getenv("NPU_SIM_NUM_THREADS")) {
    const long n = std::strtol(text, nullptr, 10);
    if (n >= 1 && n <= 4096) return static_cast<int>(n);
  }
  return std::max(1, allowed_cpus());
}

}  // namespace

ThreadPool::ThreadPool(int threads)
    : shares_(static_cast<std::size_t>(threads > 0 ? threads : default_threads())) {
  const auto n = static_cast<int>(shares_.size());
  workers_.reserve(static_cast<std::size_t>(n - 1));
  for (int i = 1; i < n; ++i) workers_.emplace_back([this, i] { worker_main(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& t : workers_) t.join();
}

ThreadPool& ThreadPool::shared() {
  static ThreadPool pool;
  return pool;
}

void ThreadPool::run_tasks(int worker) {
  const Task& task = *task_;
  const std::size_t n = shares_.size();
  for (std::size_t s = 0; s < n; ++s) {
    Share& share = shares_[(static_cast<std::size_t>(worker) + s) % n];
    for (;;) {
      const std::int64_t i = share.next.fetch_add(1, std::memory_order_relaxed);
      if (i >= share.end) break;
      task(i, worker);
    }
  }
}

void ThreadPool::parallel_for(std::int64_t n_tasks, Task fn) {
  if (n_tasks <= 1 || workers_.empty() || busy_.exchange(true, std::memory_order_acquire)) {
    for (std::int64_t i = 0; i < n_tasks; ++i) fn(i, 0);
    return;
  }
  task_ = &fn;
  const auto n_shares = static_cast<std::int64_t>(shares_.size());
  for (std::int64_t s = 0; s < n_shares; ++s) {
    Share& share = shares_[static_cast<std::size_t>(s)];
    share.next.store(n_tasks * s / n_shares, std::memory_order_relaxed);
    share.end = n_tasks * (s + 1) / n_shares;
  }
  gate_.store(0, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_seq_cst);
  // A worker counts itself a sleeper before it re-reads epoch_, so one of the two sides sees the
  // other.
  if (const int asleep = sleepers_.load(std::memory_order_seq_cst); asleep > 0) {
    if (n_tasks > asleep) {
      epoch_.notify_all();
    } else {
      for (std::int64_t i = 1; i < n_tasks; ++i) epoch_.notify_one();
    }
  }
  run_tasks(0);
  // Only workers that joined need waiting for: one still waking up finds the gate shut.
  gate_.fetch_or(kClosed, std::memory_order_acq_rel);
  for (int spins = 0; gate_.load(std::memory_order_acquire) != kClosed; ++spins) {
    cpu_relax();
    if (spins > kSpinsBeforeYield) std::this_thread::yield();
  }
  busy_.store(false, std::memory_order_release);
}

void ThreadPool::worker_main(int worker) {
  std::uint32_t seen = 0;
  for (;;) {
    const auto parks_at = std::chrono::steady_clock::now() + kLookOut;
    int spins = 0;
    while (epoch_.load(std::memory_order_acquire) == seen) {
      if (++spins % kSpinsPerCheck != 0 || std::chrono::steady_clock::now() < parks_at) {
        cpu_relax();
        continue;
      }
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      epoch_.wait(seen, std::memory_order_seq_cst);
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    }
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_.load()) return;

    std::uint32_t gate = gate_.load(std::memory_order_acquire);
    while ((gate & kClosed) == 0) {
      if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) {
        run_tasks(worker);
        gate_.fetch_sub(1, std::memory_order_release);
        break;
      }
    }
  }
}

}  // namespace npu::cpu
