// What tests make the stand-in be: its limits, its faults, the order in which it runs commands.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

namespace npu::standin {

// In which order the dispatches between two barriers of a concurrent encoder run. Metal promises
// none.
enum class Order { kReverse, kShuffle, kForward };

struct Settings {
  Order order = Order::kReverse;
  std::uint64_t seed = 0;  // of kShuffle
  std::int64_t gpu_family = 1008;
  std::int64_t macos = 13;                // the oldest that is supported
  std::string build = "22A380";           // of the system
  bool gpu = true;                        // whether there is one
  std::uint64_t max_buffer = 1ull << 33;  // bytes
  std::uint64_t memory = 1ull << 34;      // bytes of all buffers
  std::uint64_t max_threads = 1024;       // of a threadgroup
  std::string broken_shader;              // whose compilation fails
  bool unwritable_archives = false;       // archives cannot be written
  std::string failing_kernel;             // whose dispatches fail...
  std::int64_t failure = 0;               // ...with this code of MTLCommandBufferError
  std::uint64_t delay_us = 0;             // before a command buffer runs, beyond being waited for
  bool encode_only = false;               // commands are forgotten: for measuring the host
};

// A copy. `set` throws npu::Error for an unknown key or value.
Settings settings();
void set(const std::string& key, const std::string& value);
void reset_settings();

}  // namespace npu::standin
