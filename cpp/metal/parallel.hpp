// The same work on many things, on a few threads: what Metal's compiler is asked for takes
// milliseconds each, and devices and libraries may be asked from any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#include "metal/metal_cpp.hpp"

namespace npu::metal {

// Calls work(k) for k below `count`, on at most 8 threads, each with an autorelease pool, and
// waits. Throws what the call of the smallest k that fails throws.
template <class Work>
void parallel(std::size_t count, const Work& work) {
  constexpr std::size_t kMostThreads = 8;
  const std::size_t threads = std::min(
      {count, kMostThreads, std::size_t{std::max(1u, std::thread::hardware_concurrency())}});
  std::vector<std::exception_ptr> errors(count);
  std::atomic<std::size_t> next{0};
  const auto take = [&] {
    const AutoreleasePool pool;
    for (std::size_t k = next++; k < count; k = next++) {
      try {
        work(k);
      } catch (...) {
        errors[k] = std::current_exception();
      }
    }
  };
  std::vector<std::thread> helpers;
  helpers.reserve(threads);
  try {
    for (std::size_t i = 1; i < threads; ++i) helpers.emplace_back(take);
  } catch (const std::system_error&) {
    // Fewer threads do the same.
  }
  take();
  for (std::thread& helper : helpers) helper.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace npu::metal
