// Scheduling of a threadgroup's threads: who runs next, when a barrier opens, what counts as a
// fault.
#include "reference/threadgroup.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "reference/dialect.hpp"
#include "runtime/error.hpp"
#include "runtime/index_fault.hpp"

namespace npu::reference {
namespace {

// All bits set: NaN in every floating format, -1 in every signed integer.
constexpr int kPoison = 0xff;
// Arrays lie apart so that sanitizers and bounds checks see them as separate.
constexpr std::size_t kSharedAlignment = 64;

thread_local Threadgroup* t_current = nullptr;

class CurrentScope {
 public:
  explicit CurrentScope(Threadgroup* group) { t_current = group; }
  ~CurrentScope() { t_current = nullptr; }
  CurrentScope(const CurrentScope&) = delete;
  CurrentScope& operator=(const CurrentScope&) = delete;
};

void throw_index_fault(std::int64_t index, std::uint32_t limit) {
  throw Error(ErrorCode::kInvalidArgument, index_fault_message(index, limit));
}

void (*index_fault_handler)(std::int64_t index, std::uint32_t limit) = &throw_index_fault;

}  // namespace

Threadgroup& Threadgroup::current() {
  if (t_current == nullptr) {
    throw Error(ErrorCode::kInternal,
                "reference: a kernel without threadgroup arrays in its record uses a barrier or a "
                "SIMD-group "
                "operation; declare its arrays in the record");
  }
  return *t_current;
}

void Threadgroup::run(const EntryPoint& entry, const Launch& launch, const Size3& group,
                      const Size3& threads, ThreadOrder order) {
  entry_ = &entry;
  launch_ = launch;
  group_ = group;
  threads_ = threads;
  count_ = threads[0] * threads[1] * threads[2];
  if (entry.shared.empty()) {
    for (std::uint32_t i = 0; i < count_; ++i) {
      call_kernel(order == ThreadOrder::kForward ? i : count_ - 1 - i);
    }
    return;
  }
  std::size_t bytes = 0;
  for (const SharedArray& array : entry.shared) {
    bytes += (array.bytes + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
  }
  shared_.resize(bytes + kSharedAlignment);
  std::memset(shared_.data(), kPoison, shared_.size());
  auto at = reinterpret_cast<std::uintptr_t>(shared_.data());
  at = (at + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
  for (std::size_t k = 0; k < entry.shared.size(); ++k) {
    launch_.shared[k] = {reinterpret_cast<std::byte*>(at), 0, entry.shared[k].bytes, entry.name,
                         entry.shared[k].name};
    at += (entry.shared[k].bytes + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
  }
  const CurrentScope scope(this);
  run_fibers(order);
}

void Threadgroup::call_kernel(std::uint32_t index) {
  const std::uint32_t x = index % threads_[0];
  const std::uint32_t y = index / threads_[0] % threads_[1];
  const std::uint32_t z = index / threads_[0] / threads_[1];
  NpuThread thread;
  thread.group_x = group_[0];
  thread.group_y = group_[1];
  thread.group_z = group_[2];
  thread.x = group_[0] * threads_[0] + x;
  thread.y = group_[1] * threads_[1] + y;
  thread.z = group_[2] * threads_[2] + z;
  thread.index = index;
  thread.lane = index % kSimdWidth;
  thread.simd = index / kSimdWidth;
  entry_->run(launch_, thread);
}

void Threadgroup::run_fibers(ThreadOrder order) {
  while (fibers_.size() < count_) fibers_.push_back(std::make_unique<Fiber>());
  state_.assign(count_, Thread{State::kReady, 0, 0.0f, 0});
  order_.resize(count_);
  for (std::uint32_t i = 0; i < count_; ++i) {
    order_[i] = order == ThreadOrder::kForward ? i : count_ - 1 - i;
    fibers_[i]->start(&Threadgroup::fiber_main, this);
  }
  ready_ = order_;
  error_ = nullptr;
  for (;;) {
    run_until_stopped();
    if (error_) std::rethrow_exception(error_);
    const bool finished = std::all_of(state_.begin(), state_.end(),
                                      [](const Thread& t) { return t.state == State::kDone; });
    if (finished) return;
    release();
    ready_.clear();
    for (const std::uint32_t i : order_) {
      if (state_[i].state == State::kReady) ready_.push_back(i);
    }
  }
}

// Resumes the first ready thread; each that stops hands over to the next, the last one back to
// here.
void Threadgroup::run_until_stopped() {
  next_ready_ = 1;
  running_ = ready_.front();
  left_ = &scheduler_;
  fibers_[running_]->resume_from(scheduler_);
}

void Threadgroup::leave(bool finished) {
  Fiber& self = *fibers_[running_];
  Fiber* next = &scheduler_;
  if (!error_ && next_ready_ < ready_.size()) {
    running_ = ready_[next_ready_++];
    next = fibers_[running_].get();
  }
  left_ = &self;
  if (finished) {
    next->resume_from_finished(self);
  } else {
    next->resume_from(self);
  }
}

void Threadgroup::fiber_main(void* argument) {
  auto& group = *static_cast<Threadgroup*>(argument);
  const std::uint32_t index = group.running_;
  Fiber::entered(*group.fibers_[index], *group.left_);
  try {
    group.call_kernel(index);
  } catch (...) {
    group.error_ = std::current_exception();
  }
  group.state_[index].state = State::kDone;
  group.leave(true);
}

void Threadgroup::wait(State state, int site) {
  Thread& self = state_[running_];
  self.state = state;
  self.site = site;
  leave(false);
}

void Threadgroup::barrier(int site) { wait(State::kBarrier, site); }

float Threadgroup::shuffle_xor(float value, std::uint32_t mask, int site) {
  const std::uint32_t index = running_;
  state_[index].value = value;
  state_[index].mask = mask;
  wait(State::kShuffle, site);
  return state_[index].value;
}

// Every thread has stopped: lets those go on whose wait is over.
void Threadgroup::release() {
  const bool all_at_barrier = std::all_of(
      state_.begin(), state_.end(), [](const Thread& t) { return t.state == State::kBarrier; });
  if (all_at_barrier) {
    for (Thread& t : state_) {
      if (t.site != state_[0].site) {
        fail("threads wait at different barriers (lines " + std::to_string(state_[0].site) +
             " and " + std::to_string(t.site) + ")");
      }
      t.state = State::kReady;
    }
    return;
  }
  bool released = false;
  for (std::uint32_t begin = 0; begin < count_; begin += kSimdWidth) {
    const std::uint32_t end = std::min(count_, begin + kSimdWidth);
    const bool all_shuffle =
        std::all_of(state_.begin() + begin, state_.begin() + end,
                    [](const Thread& t) { return t.state == State::kShuffle; });
    if (all_shuffle) {
      release_simd_group(begin, end);
      released = true;
    }
  }
  if (released) return;
  std::uint32_t counts[4] = {};
  for (const Thread& t : state_) ++counts[static_cast<std::size_t>(t.state)];
  fail("threads diverge: of " + std::to_string(count_) + ", " +
       std::to_string(counts[static_cast<std::size_t>(State::kBarrier)]) + " wait at a barrier, " +
       std::to_string(counts[static_cast<std::size_t>(State::kShuffle)]) +
       " in a SIMD-group operation, " +
       std::to_string(counts[static_cast<std::size_t>(State::kDone)]) + " have finished");
}

void Threadgroup::release_simd_group(std::uint32_t begin, std::uint32_t end) {
  float results[kSimdWidth] = {};
  for (std::uint32_t i = begin; i < end; ++i) {
    const std::uint32_t partner = begin + ((i - begin) ^ state_[i].mask);
    if (state_[i].site != state_[begin].site) {
      fail("lanes of a SIMD group are in different operations (lines " +
           std::to_string(state_[begin].site) + " and " + std::to_string(state_[i].site) + ")");
    }
    if (partner >= end) {
      fail("lane " + std::to_string(i - begin) + " shuffles with lane " +
           std::to_string(partner - begin) + ", which its SIMD group lacks");
    }
    results[i - begin] = state_[partner].value;
  }
  for (std::uint32_t i = begin; i < end; ++i) {
    state_[i].value = results[i - begin];
    state_[i].state = State::kReady;
  }
}

void Threadgroup::fail(const std::string& what) const {
  throw Error(ErrorCode::kDevice, std::string("reference: kernel ") + entry_->name +
                                      ", threadgroup (" + std::to_string(group_[0]) + ", " +
                                      std::to_string(group_[1]) + ", " + std::to_string(group_[2]) +
                                      "): " + what + "; barriers must be uniform");
}

void throw_out_of_bounds(const Region& region, std::size_t element_size, std::int64_t index) {
  const auto size = static_cast<std::int64_t>(element_size);
  const std::int64_t begin = region.begin / size;
  const std::int64_t end = begin + static_cast<std::int64_t>(region.size) / size;
  throw Error(ErrorCode::kDevice, std::string("reference: kernel ") + region.kernel +
                                      " touches element " + std::to_string(index) + " of " +
                                      region.operand + ", whose elements are [" +
                                      std::to_string(begin) + ", " + std::to_string(end) + ")" +
                                      (region.base == nullptr ? "; the operand is absent" : ""));
}

void throw_misaligned(const Region& region, std::int64_t index, std::size_t alignment) {
  throw Error(ErrorCode::kDevice, std::string("reference: kernel ") + region.kernel +
                                      " loads several elements at once from element " +
                                      std::to_string(index) + " of " + region.operand +
                                      ", which does not lie at a multiple of " +
                                      std::to_string(alignment) + " bytes");
}

void index_fault(std::int64_t index, std::uint32_t limit) { index_fault_handler(index, limit); }

void set_index_fault_handler(void (*handler)(std::int64_t index, std::uint32_t limit)) {
  index_fault_handler = handler;
}

}  // namespace npu::reference
