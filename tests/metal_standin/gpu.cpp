// Runs command buffers: passes in order, the dispatches between two barriers of a concurrent one in
// none.
#include "metal_standin/gpu.hpp"

#include <algorithm>
#include <chrono>
#include <random>

#include "metal_standin/foundation.hpp"
#include "metal_standin/settings.hpp"
#include "metal_standin/validation.hpp"
#include "runtime/error.hpp"

namespace npu::standin {
namespace {

// How late a command buffer runs that nobody waits for.
constexpr auto kLate = std::chrono::milliseconds(20);

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
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
  committed_.push_back(commands);
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

void Gpu::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !committed_.empty(); });
    if (committed_.empty()) return;
    changed_.wait_for(lock, kLate, [&] { return stop_ || hurry_; });
    CommandBuffer* const commands = committed_.front();
    committed_.pop_front();
    idle_ = false;
    lock.unlock();
    run(*commands);
    release(commands);
    lock.lock();
    idle_ = true;
    changed_.notify_all();
  }
}

void Gpu::run(CommandBuffer& commands) {
  const Settings now_set = settings();
  if (now_set.delay_us > 0)
    std::this_thread::sleep_for(std::chrono::microseconds(now_set.delay_us));
  commands.begin = now();
  Object* error = nullptr;
  for (std::size_t i = 0; i < commands.passes.size() && error == nullptr; ++i) {
    error = run_pass(commands.passes[i], i);
  }
  commands.end = now();
  finish(commands, error);
}

Object* Gpu::run_pass(const Pass& pass, std::uint64_t number) {
  const Settings now_set = settings();
  std::mt19937_64 random(now_set.seed + number);
  const std::vector<Command>& all = pass.commands;
  for (std::size_t begin = 0; begin < all.size();) {
    // Up to the next barrier, or one dispatch where the encoder is serial.
    std::size_t end = begin;
    std::vector<const Command*> group;
    while (end < all.size() && (pass.concurrent || group.empty())) {
      const Command& command = all[end++];
      if (!command.run) break;
      group.push_back(&command);
    }
    begin = end;
    if (now_set.order == Order::kReverse) std::reverse(group.begin(), group.end());
    if (now_set.order == Order::kShuffle) std::shuffle(group.begin(), group.end(), random);
    for (const Command* command : group) {
      if (!now_set.failing_kernel.empty() && command->kernel == now_set.failing_kernel) {
        return new_error(now_set.failure, "Caused GPU Error (stand-in) in " + command->kernel);
      }
      try {
        command->run();
      } catch (const std::exception& problem) {
        report(std::string("the GPU runs into a fault: ") + problem.what());
        return new_error(MTL::CommandBufferErrorPageFault, problem.what());
      }
    }
  }
  return nullptr;
}

}  // namespace npu::standin
