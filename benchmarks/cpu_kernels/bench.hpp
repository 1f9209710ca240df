// Shared pieces of the CPU kernel benchmarks: options, timing statistics, aligned memory, peers.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "dtype.hpp"
#include "layers.hpp"
#include "thread_pool.hpp"

namespace npu::cpu::bench {

struct Options {
  int rounds = 9;
  bool json = false;
  bool peer = true;
  std::vector<std::int64_t> batches = {1};
  std::vector<DType> dtypes = {DType::f16, DType::bf16, DType::f32};
  std::string filter;
};

struct Timing {
  double median_ms = 0, low_ms = 0, high_ms = 0;  // quartiles
};

inline Timing summarise(std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  const auto at = [&](double q) {
    return ms[static_cast<std::size_t>(q * static_cast<double>(ms.size() - 1) + 0.5)];
  };
  return {at(0.5), at(0.25), at(0.75)};
}

inline double time_ms(const std::function<void()>& fn, int repeats) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) fn();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
             .count() /
         repeats;
}

// Runs the candidates in turn, `rounds` times, with a pause that lets one library's spinning
// threads go to sleep before the next is timed.
std::vector<Timing> time_interleaved(const std::vector<std::function<void()>>& candidates,
                                     int rounds);

// Zeroed memory, on large pages where it is large: as the runtime allocates it. With small ones, a
// layer's time depends by up to 1.7 on which physical pages, and so which cache sets, it got.
class Aligned {
 public:
  explicit Aligned(std::size_t bytes) : data_(allocate(bytes)) {}
  std::byte* get() const { return data_.get(); }

 private:
  struct Free {
    std::align_val_t alignment;
    void operator()(std::byte* p) const { ::operator delete(p, alignment); }
  };
  using Pointer = std::unique_ptr<std::byte, Free>;

  static Pointer allocate(std::size_t bytes) {
    constexpr std::size_t kLarge = std::size_t{2} << 20;
    const std::size_t alignment = bytes >= kLarge / 2 ? kLarge : 64;
    const std::size_t rounded = (bytes + alignment) / alignment * alignment;
    const std::align_val_t align{alignment};
    Pointer data(static_cast<std::byte*>(::operator new(rounded, align)), Free{align});
#if defined(__linux__)
    if (alignment == kLarge) madvise(data.get(), rounded, MADV_HUGEPAGE);
#endif
    std::fill(data.get(), data.get() + rounded, std::byte{0});
    return data;
  }

  Pointer data_;
};

// Small random values in the storage type.
void fill_random(std::byte* data, std::int64_t elements, DType dtype, unsigned seed);

// Multiply-add throughput of all the pool's threads, GFLOP/s: float32, and bfloat16 dot products
// where the processor has them.
struct Peak {
  double f32 = 0, bf16 = 0;
};
Peak measure_peak(ThreadPool& pool);

// The same convolution by oneDNN: channels-last activations, its own weight layout, fused bias,
// residual and relu. Empty when this build has no oneDNN or oneDNN has no implementation.
std::function<void()> onednn_conv(const Layer& layer, std::int64_t batch, DType dtype);
const char* onednn_version();

void bench_conv(const Options& options, const Peak& peak, ThreadPool& pool);
void bench_networks(const Options& options, const Peak& peak, ThreadPool& pool);
void bench_gemm(const Options& options, const Peak& peak, ThreadPool& pool);
void bench_linear(const Options& options, const Peak& peak, ThreadPool& pool);
void bench_thread_pool(const Options& options, ThreadPool& pool);

}  // namespace npu::cpu::bench
