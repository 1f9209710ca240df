// OS threads that share out the threadgroups of one launch.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "reference/threadgroup.hpp"

namespace npu::reference {

class WorkerPool {
 public:
  // Starts `threads` - 1 OS threads; the caller of run() is one more.
  explicit WorkerPool(std::uint32_t threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  std::uint32_t threads() const noexcept { return static_cast<std::uint32_t>(threads_.size() + 1); }

  // Runs every threadgroup of a grid and waits. One launch runs at a time; further callers wait
  // their turn. Throws the first error found; the remaining threadgroups are then left out.
  void run(const EntryPoint& entry, const Launch& launch, const Size3& grid, const Size3& threads,
           ThreadOrder order);

 private:
  struct Job {
    const EntryPoint* entry;
    const Launch* launch;
    Size3 grid;
    Size3 threads;
    ThreadOrder order;
    std::uint64_t count;
  };

  void work(std::size_t worker);
  void take_threadgroups(std::size_t worker);

  std::vector<std::unique_ptr<Threadgroup>> groups_;  // one per worker; the caller is worker 0
  std::mutex launch_mutex_;                           // held for a whole launch

  std::mutex mutex_;  // guards what follows
  std::condition_variable start_;
  std::condition_variable done_;
  std::uint64_t generation_ = 0;
  std::size_t busy_ = 0;
  bool stop_ = false;
  std::exception_ptr error_;

  Job job_{};
  std::atomic<std::uint64_t> next_{0};
  std::vector<std::thread> threads_;
};

}  // namespace npu::reference
