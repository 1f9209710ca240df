// Read-after-write, write-after-read and write-after-write between the dispatches of an encoder.
#include "metal/barriers.hpp"

#include <algorithm>

#include "runtime/apart.hpp"

namespace npu::metal {
namespace {

// Bounds the time that a hostile program's dispatches cost: a barrier too many does no harm.
constexpr std::size_t kMaxAccesses = 1024;

}  // namespace

bool BarrierPlanner::conflicts(const Access& access) const {
  return std::any_of(since_.begin(), since_.end(), [&](const Access& earlier) {
    return (access.write || earlier.write) && access.space == earlier.space &&
           access.begin < earlier.end && earlier.begin < access.end &&
           !provably_apart(*access.view, access.begin, *earlier.view, earlier.begin);
  });
}

bool BarrierPlanner::before(std::span<const Access> dispatch) {
  const bool barrier =
      since_.size() + dispatch.size() > kMaxAccesses ||
      std::any_of(dispatch.begin(), dispatch.end(), [&](const Access& a) { return conflicts(a); });
  if (barrier) since_.clear();
  since_.insert(since_.end(), dispatch.begin(), dispatch.end());
  return barrier;
}

}  // namespace npu::metal
