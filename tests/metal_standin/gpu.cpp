// Runs command buffers: passes in order, the dispatches between two barriers of a concurrent one in
// none.
#include "metal_standin/gpu.hpp"

#include <algorithm>
#include <chrono>

#include "metal_standin/foundation.hpp"
#include "metal_standin/settings.hpp"
#include "metal_standin/validation.hpp"
#include "runtime/error.hpp"

namespace npu::standin {
namespace {

// How late a command buffer runs that nobody waits for.
constexpr auto kLate = std::chrono::milliseconds(20);
// How long it waits for those of other threads that a setting wants beside it.
constexpr auto kTogether = std::chrono::milliseconds(300);

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Appends the dispatches of a pass as they run: those between two barriers of a concurrent encoder
// in the order that the settings say.
void append(const Pass& pass, const Settings& now_set, std::uint64_t number,
            std::vector<const Command*>& order) {
  std::mt19937_64 random(now_set.seed + number);
  const std::vector<Command>& all = pass.commands;
  for (std::size_t next = 0; next < all.size();) {
    // Up to the next barrier, or one dispatch where the encoder is serial.
    const auto first = static_cast<std::ptrdiff_t>(order.size());
    while (next < all.size() && (pass.concurrent || order.size() == std::size_t(first))) {
      const Command& command = all[next++];
      if (!command.run) break;
      order.push_back(&command);
    }
    const auto begin = order.begin() + first;
    if (now_set.order == Order::kReverse) std::reverse(begin, order.end());
    if (now_set.order == Order::kShuffle) std::shuffle(begin, order.end(), random);
  }
}

// Null, or what goes wrong.
Object* run(const Command& command) {
  const Settings now_set = settings();
  if (!now_set.failing_kernel.empty() && command.kernel == now_set.failing_kernel) {
    return new_error(now_set.failure, "Caused GPU Error (stand-in) in " + command.kernel);
  }
  try {
    command.run();
    return nullptr;
  } catch (const std::exception& problem) {
    report(std::string("the GPU runs into a fault: ") + problem.what());
    return new_error(MTL::CommandBufferErrorPageFault, problem.what());
  }
}

}  // namespace

Gpu::Gpu() : thread_([this] { work(); }) {}

Gpu::~Gpu() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Gpu::commit(CommandBuffer* commands) {
  const std::lock_guard lock(mutex_);
  committed_.push_back({commands, std::this_thread::get_id()});
  hurry_ = false;
  changed_.notify_all();
}

void Gpu::hurry() {
  const std::lock_guard lock(mutex_);
  hurry_ = true;
  changed_.notify_all();
}

void Gpu::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return committed_.empty() && idle_; });
}

std::vector<Gpu::Job*> Gpu::ready() {
  std::vector<Job*> first;
  for (Job& job : committed_) {
    if (std::none_of(first.begin(), first.end(),
                     [&](const Job* other) { return other->thread == job.thread; })) {
      first.push_back(&job);
    }
  }
  return first;
}

void Gpu::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !committed_.empty(); });
    if (committed_.empty()) return;
    const auto begun = [&] {
      return std::any_of(committed_.begin(), committed_.end(),
                         [](const Job& j) { return j.begun; });
    };
    if (!begun()) {
      changed_.wait_for(lock, kLate, [&] { return stop_ || hurry_; });
      const Settings now_set = settings();
      changed_.wait_for(lock, kTogether,
                        [&] { return stop_ || ready().size() >= now_set.together; });
      random_.seed(now_set.seed);
    }
    const std::vector<Job*> jobs = ready();
    Job* const job = jobs[random_() % jobs.size()];
    idle_ = false;
    lock.unlock();
    const bool last = step(*job);
    lock.lock();
    if (last) {
      const Job done = std::move(*job);
      committed_.erase(std::find_if(committed_.begin(), committed_.end(),
                                    [&](const Job& j) { return &j == job; }));
      lock.unlock();
      finish(*done.commands, done.error);
      release(done.commands);
      lock.lock();
    }
    idle_ = true;
    changed_.notify_all();
  }
}

bool Gpu::step(Job& job) {
  CommandBuffer& commands = *job.commands;
  if (!job.begun) {
    const Settings now_set = settings();
    if (now_set.delay_us > 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(now_set.delay_us));
    }
    commands.begin = now();
    for (std::size_t i = 0; i < commands.passes.size(); ++i) {
      append(commands.passes[i], now_set, i, job.order);
    }
    job.begun = true;
  }
  if (job.next < job.order.size()) job.error = run(*job.order[job.next++]);
  commands.end = now();
  return job.error != nullptr || job.next == job.order.size();
}

}  // namespace npu::standin
