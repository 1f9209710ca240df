// Index operands of the gather and scatter kernels: int64 or int32 values that come from data.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "cpu/host_kernels.hpp"

namespace npu::cpu {

// How indices become places.
struct Places {
  std::int64_t limit;
  std::int64_t wrap;  // what a negative index is moved by

  // A place in [0, limit), or -1 where the index is out of range.
  std::int64_t of(std::int64_t index) const {
    const std::int64_t place = index < 0 ? index + wrap : index;
    return static_cast<std::uint64_t>(place) < static_cast<std::uint64_t>(limit) ? place : -1;
  }
};

class IndexOperand {
 public:
  // Throws kInvalidProgram for another dtype.
  IndexOperand(const DispatchInfo& dispatch, std::size_t operand, std::uint32_t limit, bool wrap);

  bool wide() const { return wide_; }
  Places places() const { return places_; }
  // Index number `at` (in elements).
  std::int64_t value(const std::byte* idx, std::int64_t at) const {
    return wide_ ? reinterpret_cast<const std::int64_t*>(idx)[at]
                 : reinterpret_cast<const std::int32_t*>(idx)[at];
  }
  // Throws kInvalidArgument naming the dispatch, the index and the limit.
  [[noreturn]] void fail(std::int64_t index) const;

 private:
  Places places_;
  bool wide_;
  std::string where_;
};

// An index out of range that some task of a parallel loop found.
class IndexFault {
 public:
  void note(std::int64_t index) {
    index_.store(index, std::memory_order_relaxed);
    found_.store(true, std::memory_order_release);
  }
  // After the loop.
  void raise(const IndexOperand& operand) const {
    if (found_.load(std::memory_order_acquire)) operand.fail(index_.load());
  }

 private:
  std::atomic<bool> found_{false};
  std::atomic<std::int64_t> index_{0};
};

}  // namespace npu::cpu
