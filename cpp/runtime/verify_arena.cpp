// Verification of the arena plan: buffers that are alive at once never share memory, but for
// declared in-place reuse.
#include <algorithm>
#include <map>
#include <queue>

#include "runtime/verify.hpp"

namespace npu {
namespace {

// The buffers alive at one time, by offset. All of them are disjoint.
class Alive {
 public:
  explicit Alive(std::span<const schema::Buffer> buffers) : buffers_(buffers) {}

  void expire(std::uint32_t dispatch) {
    while (!by_end_.empty() && by_end_.top().first < dispatch) {
      erase(by_end_.top().second);
      by_end_.pop();
    }
  }
  void erase(std::uint32_t buffer) {
    const auto at = by_offset_.find(buffers_[buffer].offset);
    if (at != by_offset_.end() && at->second == buffer) by_offset_.erase(at);
  }
  // A buffer alive that shares memory with `buffer`, or kNone.
  std::uint32_t overlapping(std::uint32_t buffer) const {
    const schema::Buffer& b = buffers_[buffer];
    const auto after = by_offset_.lower_bound(b.offset);
    if (after != by_offset_.end() && after->first < b.offset + b.size) return after->second;
    if (after != by_offset_.begin()) {
      const std::uint32_t before = std::prev(after)->second;
      if (buffers_[before].offset + buffers_[before].size > b.offset) return before;
    }
    return schema::kNone;
  }
  void insert(std::uint32_t buffer) {
    by_offset_.emplace(buffers_[buffer].offset, buffer);
    by_end_.emplace(buffers_[buffer].last_use, buffer);
  }

 private:
  using End = std::pair<std::uint32_t, std::uint32_t>;  // last use, buffer
  std::span<const schema::Buffer> buffers_;
  std::map<std::uint64_t, std::uint32_t> by_offset_;
  std::priority_queue<End, std::vector<End>, std::greater<>> by_end_;
};

}  // namespace

void Verifier::check_arena(std::uint32_t entry) {
  const schema::EntryPoint& e = program_.entry_points()[entry];
  const std::uint64_t end_dispatch = std::uint64_t{e.dispatch_first} + e.dispatch_count;
  const auto buffers = program_.buffers();
  if (e.arena_size > schema::kMaxArenaBytes) {
    fail(Kind::kEntryPoints, entry, "arena_size is ", e.arena_size, ", the limit is ",
         schema::kMaxArenaBytes);
  }
  Alive alive(buffers);
  std::uint64_t arena_size = 0;
  const auto add = [&](std::uint32_t b) {
    if (buffers[b].size == 0) return;
    const std::uint32_t other = alive.overlapping(b);
    if (other != schema::kNone) {
      fail(Kind::kBuffers, b, "shares arena memory with buffer ", other, " (", buffer_name(other),
           ") while both are alive");
    }
    alive.insert(b);
  };
  while (arena_next_ < arena_order_.size() &&
         buffers[arena_order_[arena_next_]].first_use < end_dispatch) {
    const std::uint32_t dispatch = buffers[arena_order_[arena_next_]].first_use;
    alive.expire(dispatch);
    const std::size_t begin = arena_next_;
    while (arena_next_ < arena_order_.size() &&
           buffers[arena_order_[arena_next_]].first_use == dispatch) {
      const std::uint32_t b = arena_order_[arena_next_++];
      const schema::Buffer& buffer = buffers[b];
      if (buffer.last_use >= end_dispatch) {
        fail(Kind::kBuffers, b, "last_use is ", buffer.last_use,
             ", its entry point ends at dispatch ", end_dispatch);
      }
      if (buffer.offset > e.arena_size || buffer.size > e.arena_size - buffer.offset) {
        fail(Kind::kBuffers, b, "offset ", buffer.offset, " and ", buffer.size,
             " bytes leave the arena of ", e.arena_size, " bytes");
      }
      arena_size = std::max(arena_size, buffer.offset + buffer.size);
      if (buffer.alias_of == schema::kNone) add(b);
    }
    // Buffers that take over memory come second: until now that memory was their predecessor's.
    for (std::size_t i = begin; i < arena_next_; ++i) {
      const std::uint32_t b = arena_order_[i];
      const std::uint32_t from = buffers[b].alias_of;
      if (from == schema::kNone) continue;
      if (from >= buffers.size() || buffers[from].kind != buffers[b].kind) {
        fail(Kind::kBuffers, b, "alias_of is ", from, ", which is no arena buffer");
      }
      if (buffers[from].first_use >= dispatch || buffers[from].last_use > dispatch) {
        fail(Kind::kBuffers, b, "takes over the memory of buffer ", from, " (", buffer_name(from),
             ") at dispatch ", dispatch, ", which lives from dispatch ", buffers[from].first_use,
             " to ", buffers[from].last_use);
      }
      alive.erase(from);
      add(b);
    }
  }
  if (arena_size != e.arena_size) {
    fail(Kind::kEntryPoints, entry, "arena_size is ", e.arena_size, ", its buffers end at ",
         arena_size);
  }
}

}  // namespace npu
