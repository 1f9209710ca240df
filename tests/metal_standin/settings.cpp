// Settings by name.
#include "metal_standin/settings.hpp"

#include <charconv>

#include "runtime/error.hpp"

namespace npu::standin {
namespace {

std::mutex mutex;
Settings current;

template <class T>
T number(const std::string& key, const std::string& value) {
  T result{};
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (error != std::errc() || end != value.data() + value.size()) {
    throw Error(ErrorCode::kInvalidArgument, "setting " + key + " is '" + value + "', no number");
  }
  return result;
}

}  // namespace

Settings settings() {
  const std::lock_guard lock(mutex);
  return current;
}

void set(const std::string& key, const std::string& value) {
  const std::lock_guard lock(mutex);
  const auto integer = [&] { return number<std::int64_t>(key, value); };
  const auto natural = [&] { return number<std::uint64_t>(key, value); };
  if (key == "order" && value == "reverse") {
    current.order = Order::kReverse;
  } else if (key == "order" && value == "shuffle") {
    current.order = Order::kShuffle;
  } else if (key == "order" && value == "forward") {
    current.order = Order::kForward;
  } else if (key == "seed") {
    current.seed = natural();
  } else if (key == "gpu_family") {
    current.gpu_family = integer();
  } else if (key == "macos") {
    current.macos = integer();
  } else if (key == "build") {
    current.build = value;
  } else if (key == "unwritable_archives") {
    current.unwritable_archives = natural() != 0;
  } else if (key == "gpu") {
    current.gpu = natural() != 0;
  } else if (key == "max_buffer") {
    current.max_buffer = natural();
  } else if (key == "memory") {
    current.memory = natural();
  } else if (key == "max_threads") {
    current.max_threads = natural();
  } else if (key == "max_shared") {
    current.max_shared = natural();
  } else if (key == "simd_width") {
    current.simd_width = natural();
  } else if (key == "together") {
    current.together = natural();
  } else if (key == "encode_us") {
    current.encode_us = natural();
  } else if (key == "compile_us") {
    current.compile_us = natural();
  } else if (key == "broken_shader") {
    current.broken_shader = value;
  } else if (key == "failing_kernel") {
    current.failing_kernel = value;
  } else if (key == "failure") {
    current.failure = integer();
  } else if (key == "delay_us") {
    current.delay_us = natural();
  } else if (key == "encode_only") {
    current.encode_only = natural() != 0;
  } else {
    throw Error(ErrorCode::kInvalidArgument, "no setting " + key + " = '" + value + "'");
  }
}

void reset_settings() {
  const std::lock_guard lock(mutex);
  current = Settings();
}

}  // namespace npu::standin
