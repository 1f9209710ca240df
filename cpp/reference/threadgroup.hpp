// Runs one threadgroup at a time on one OS thread: as a loop, or as fibers where threads wait for
// each other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

#include "reference/fiber.hpp"
#include "reference/shader_table.hpp"

namespace npu::reference {

enum class ThreadOrder { kForward, kReverse };

// Threads per SIMD group of the simulated NPU, as on Apple and NVIDIA GPUs.
constexpr std::uint32_t kSimdWidth = 32;

using Size3 = std::array<std::uint32_t, 3>;

class Threadgroup {
 public:
  // Runs threadgroup `group` of a launch. Throws npu::Error for an access out of bounds, threads
  // that wait at different places (divergence) and waits that never end.
  void run(const EntryPoint& entry, const Launch& launch, const Size3& group, const Size3& threads,
           ThreadOrder order);

  // The threadgroup that the calling kernel belongs to. Throws npu::Error outside one that runs as
  // fibers.
  static Threadgroup& current();

  // Called by kernels. `site` tells where from.
  void barrier(int site);
  float shuffle_xor(float value, std::uint32_t mask, int site);

 private:
  enum class State : std::uint8_t { kReady, kBarrier, kShuffle, kDone };
  struct Thread {
    State state;
    int site;
    float value;
    std::uint32_t mask;
  };

  void run_fibers(ThreadOrder order);
  void run_until_stopped();
  void release();
  void release_simd_group(std::uint32_t begin, std::uint32_t end);
  void wait(State state, int site);
  void leave(bool finished);
  void call_kernel(std::uint32_t index);
  [[noreturn]] void fail(const std::string& what) const;
  static void fiber_main(void* argument);

  const EntryPoint* entry_ = nullptr;
  Launch launch_;
  Size3 group_{};
  Size3 threads_{};
  std::uint32_t count_ = 0;

  std::vector<std::byte> shared_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Thread> state_;
  std::vector<std::uint32_t> order_;  // in which threads take their turns
  std::vector<std::uint32_t> ready_;  // threads to resume, in the order of the run
  std::size_t next_ready_ = 0;
  std::uint32_t running_ = 0;
  Fiber scheduler_;
  Fiber* left_ = nullptr;  // the fiber that the last switch suspended
  std::exception_ptr error_;
};

}  // namespace npu::reference
