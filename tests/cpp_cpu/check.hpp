// Check macros, random strided tensors and the list of instruction sets, for the CPU kernel tests.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "conv.hpp"
#include "cpu_features.hpp"
#include "dtype.hpp"

namespace npu::cpu::test {

struct Results {
  int passed = 0;
  int failed = 0;
};
Results& results();

#define NPU_CHECK(condition, ...)                                        \
  do {                                                                   \
    if (condition) {                                                     \
      ++::npu::cpu::test::results().passed;                              \
    } else {                                                             \
      ++::npu::cpu::test::results().failed;                              \
      std::printf("%s:%d: %s failed: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                          \
      std::printf("\n");                                                 \
    }                                                                    \
  } while (false)

using Rng = std::mt19937;

inline std::int64_t pick(Rng& rng, std::int64_t lo, std::int64_t hi) {
  return std::uniform_int_distribution<std::int64_t>(lo, hi)(rng);
}

// An activation that enlarges no error: negative values are halved.
inline double bend(double v) { return v < 0 ? v / 2 : v; }
inline void bend_rows(float* v, std::int64_t ld, int rows, std::int64_t n) {
  for (int i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < n; ++j) v[i * ld + j] *= v[i * ld + j] < 0.0f ? 0.5f : 1.0f;
  }
}

// 64-byte aligned memory of exactly the size asked for, so that AddressSanitizer sees any overrun.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes)
      : data_(
            static_cast<std::byte*>(::operator new(bytes == 0 ? 1 : bytes, std::align_val_t{64}))) {
  }
  void* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  std::unique_ptr<std::byte, Free> data_;
};

// A 4-D tensor in one of several layouts; the memory outside its elements holds a guard pattern.
class Tensor {
 public:
  enum Layout { kChannelsLast, kPlanar, kChannelSlice, kScattered, kLayouts };

  Tensor(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, DType dtype, int layout,
         Rng& rng);

  void fill_normal(Rng& rng, float scale);
  float at(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const {
    return load_scalar(dtype_, base(), index(n, c, h, w));
  }
  void set(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, float v) {
    store_scalar(dtype_, base(), index(n, c, h, w), v);
  }
  // First element. Memory starts and ends exactly at the outermost elements.
  void* base() const { return buffer_->get(); }
  const Strides4& strides() const { return strides_; }
  // True when no byte between the elements was written.
  bool guards_intact() const;

 private:
  std::int64_t index(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const {
    return n * strides_.n + c * strides_.c + h * strides_.h + w * strides_.w;
  }
  std::int64_t n_, c_, h_, w_;
  DType dtype_;
  Strides4 strides_;
  std::int64_t elements_ = 0;
  std::unique_ptr<Buffer> buffer_;
};

// What one result may differ by: half a unit in the last place of the storage type for the final
// rounding, and a share of the sum of absolute products for float32 accumulation.
double tolerance(DType dtype, double reference, double sum_of_magnitudes);

// Equal within `tol`; NaN equals NaN and infinities must agree.
bool close(float got, double reference, double tol, DType dtype);

const std::vector<Isa>& available_isas();

// Restricts the kernels to one instruction set for as long as it lives.
class IsaScope {
 public:
  explicit IsaScope(Isa isa) { setenv("NPU_SIM_CPU_ISA", isa_name(isa), 1); }
  ~IsaScope() { unsetenv("NPU_SIM_CPU_ISA"); }
  IsaScope(const IsaScope&) = delete;
  IsaScope& operator=(const IsaScope&) = delete;
};

constexpr DType kDTypes[] = {DType::f32, DType::f16, DType::bf16};

void test_dtype();
void test_thread_pool();
void test_conv();
void test_gemm();
void test_pool();
void test_winograd();

}  // namespace npu::cpu::test
