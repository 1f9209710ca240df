// Workers sleep between launches and take threadgroups from a shared counter during one.
#include "reference/worker_pool.hpp"

#include <algorithm>
#include <system_error>

namespace npu::reference {

WorkerPool::WorkerPool(std::uint32_t threads) {
  for (std::uint32_t i = 0; i < std::max(threads, 1u); ++i) {
    groups_.push_back(std::make_unique<Threadgroup>());
  }
  threads_.reserve(groups_.size());
  for (std::size_t i = 1; i < groups_.size(); ++i) {
    try {
      threads_.emplace_back([this, i] { work(i); });
    } catch (const std::system_error&) {
      break;  // The system gives no more threads; those there are do the work, and threads() tells.
    }
  }
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::run(const EntryPoint& entry, const Launch& launch, const Size3& grid,
                     const Size3& threads, ThreadOrder order) {
  const std::lock_guard one_launch(launch_mutex_);
  const std::uint64_t count = std::uint64_t{grid[0]} * grid[1] * grid[2];
  {
    const std::lock_guard lock(mutex_);
    job_ = {&entry, &launch, grid, threads, order, count};
    next_ = 0;
    error_ = nullptr;
    busy_ = threads_.size();
    ++generation_;
  }
  start_.notify_all();
  take_threadgroups(0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return busy_ == 0; });
  if (error_) std::rethrow_exception(error_);
}

void WorkerPool::work(std::size_t worker) {
  std::uint64_t seen = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      start_.wait(lock, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      seen = generation_;
    }
    take_threadgroups(worker);
    {
      const std::lock_guard lock(mutex_);
      --busy_;
    }
    done_.notify_one();
  }
}

void WorkerPool::take_threadgroups(std::size_t worker) {
  try {
    for (std::uint64_t taken = next_++; taken < job_.count; taken = next_++) {
      const std::uint64_t i = job_.order == ThreadOrder::kForward ? taken : job_.count - 1 - taken;
      const Size3 group{static_cast<std::uint32_t>(i % job_.grid[0]),
                        static_cast<std::uint32_t>(i / job_.grid[0] % job_.grid[1]),
                        static_cast<std::uint32_t>(i / job_.grid[0] / job_.grid[1])};
      groups_[worker]->run(*job_.entry, *job_.launch, group, job_.threads, job_.order);
    }
  } catch (...) {
    next_ = job_.count;
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

}  // namespace npu::reference
