// Objects that threads take in turns: made where none is idle, so that steady use allocates
// nothing.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace npu {

template <class T>
class ReusePool {
 public:
  // An object taken from the pool; goes back when the lease ends, however it ends.
  class Lease {
   public:
    // `make` returns a std::unique_ptr<T>.
    template <class Make>
    Lease(ReusePool& pool, const Make& make) : pool_(pool) {
      {
        const std::lock_guard lock(pool_.mutex_);
        if (!pool_.idle_.empty()) {
          object_ = std::move(pool_.idle_.back());
          pool_.idle_.pop_back();
        }
      }
      if (object_ == nullptr) {
        object_ = make();
        // So that going back cannot fail.
        const std::lock_guard lock(pool_.mutex_);
        pool_.idle_.reserve(++pool_.made_);
      }
    }
    ~Lease() {
      const std::lock_guard lock(pool_.mutex_);
      pool_.idle_.push_back(std::move(object_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    T& operator*() const noexcept { return *object_; }

   private:
    ReusePool& pool_;
    std::unique_ptr<T> object_;
  };

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> idle_;  // guarded by mutex_
  std::size_t made_ = 0;                  // guarded by mutex_
};

}  // namespace npu
