// Which keys the queries of an attention dispatch see for their positions.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "runtime/host_device.hpp"
#include "runtime/kernel_params.hpp"

namespace npu::cpu {

// Keys [first, end); empty where end <= first.
struct KeyRange {
  std::int64_t first, end;

  bool empty() const { return end <= first; }
  // The smallest range that contains both.
  KeyRange joined(const KeyRange& other) const {
    if (empty()) return other;
    if (other.empty()) return *this;
    return {std::min(first, other.first), std::max(end, other.end)};
  }
};

class VisibleKeys {
 public:
  // Throws kInvalidProgram for positions of another dtype than int64 and int32.
  VisibleKeys(const DispatchInfo& dispatch, const AttentionParams& p, std::size_t operand);

  // Every query has an explicit position.
  bool by_position() const { return p_.positions_m != 0; }
  // The keys that query `m` of batch element `b` sees; `positions` is read only where there are
  // any.
  KeyRange of(const std::byte* positions, std::int64_t b, std::int64_t m) const;
  // One past the last key that any query sees.
  std::int64_t end(const std::byte* positions) const;

 private:
  const AttentionParams p_;
  bool wide_;
};

}  // namespace npu::cpu
