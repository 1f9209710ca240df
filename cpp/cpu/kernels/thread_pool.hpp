// A persistent pool of threads for fork-join loops of a few microseconds each.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace npu::cpu {

// Non-owning reference to a callable: passing a lambda costs two pointers and never allocates.
template <class Signature>
class FunctionRef;

template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
  FunctionRef(F&& f)  // NOLINT(google-explicit-constructor): lambdas convert where they are passed
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
        }) {}

  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

class ThreadPool {
 public:
  // `threads` counts the calling thread; 0 takes NPU_SIM_NUM_THREADS, else the CPUs that the
  // process's affinity mask allows.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // The pool that the process shares.
  static ThreadPool& shared();

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls fn(task, worker) for every task in [0, n_tasks) and returns when all are done. `worker`
  // is in [0, threads()) and no two tasks of one call run at once under the same number, so it may
  // index per-thread scratch. Worker w begins with the w-th of threads() equal shares, in ascending
  // order, and then helps with what others have left. Loops over the same rows of successive
  // tensors so find in their own cache what the thread wrote before; that matters most where the
  // threads' cores share no cache. fn must not throw. When another thread is using the pool (or fn
  // itself calls it), the caller runs its tasks alone.
  void parallel_for(std::int64_t n_tasks, FunctionRef<void(std::int64_t task, int worker)> fn);

 private:
  using Task = FunctionRef<void(std::int64_t, int)>;

  // Tasks [next, end) of a share are still to be handed out.
  struct alignas(64) Share {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
  };

  void worker_main(int worker);
  void run_tasks(int worker);

  // gate_: number of workers inside the current job, plus kClosed while there is none to join.
  static constexpr std::uint32_t kClosed = 0x80000000u;

  alignas(64) std::atomic<std::uint32_t> epoch_{0};
  alignas(64) std::atomic<std::uint32_t> gate_{kClosed};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> busy_{false};
  std::atomic<bool> stop_{false};
  const Task* task_ = nullptr;
  std::vector<Share> shares_;
  std::vector<std::thread> workers_;
};

}  // namespace npu::cpu
