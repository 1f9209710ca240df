// Index operands of the gather and scatter kernels: int64 or int32 values that come from data.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "cpu/host_kernels.hpp"

namespace npu::cpu {

class IndexOperand {
 public:
  // Throws kInvalidProgram for another dtype.
  IndexOperand(const DispatchInfo& dispatch, std::size_t operand, std::uint32_t limit, bool wrap);

  // Index number `at` (in elements) as a place in [0, limit), or -1 where it is out of range.
  std::int64_t place(const std::byte* idx, std::int64_t at) const {
    const std::int64_t index = value(idx, at);
    const std::int64_t place = index < 0 && wrap_ ? index + limit_ : index;
    return place >= 0 && place < limit_ ? place : -1;
  }
  std::int64_t value(const std::byte* idx, std::int64_t at) const {
    return wide_ ? reinterpret_cast<const std::int64_t*>(idx)[at]
                 : reinterpret_cast<const std::int32_t*>(idx)[at];
  }
  // Throws kInvalidArgument naming the dispatch, the index and the limit.
  [[noreturn]] void fail(std::int64_t index) const;

 private:
  std::int64_t limit_;
  bool wrap_;
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
