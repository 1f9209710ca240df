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
  std::uint64_t max_shared = 1ull << 33;  // bytes of a buffer that the host sees
  std::uint64_t max_threads = 1024;       // of a threadgroup
  std::uint64_t simd_width = 32;          // threads of a SIMD group
  std::string broken_shader;              // whose compilation fails
  bool unwritable_archives = false;       // archives cannot be written
  std::string failing_kernel;             // whose dispatches fail...
  std::int64_t failure = 0;               // ...with this code of MTLCommandBufferError
  std::uint64_t delay_us = 0;             // before a command buffer runs, beyond being waited for
  std::uint64_t together = 1;    // threads whose command buffers begin together, if they come
  std::uint64_t encode_us = 0;   // that the host needs to encode a product of arrays
  std::uint64_t compile_us = 0;  // that the host needs to compile a pipeline
  bool encode_only = false;      // commands are forgotten: for measuring the host
};

// A copy. `set` throws npu::Error for an unknown key or value.
Settings settings();
void set(const std::string& key, const std::string& value);
void reset_settings();

}  // namespace npu::standin
