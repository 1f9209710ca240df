// The processor's multiply-add throughput, measured by loops of independent instructions.
#include <chrono>
#include <vector>

#include "bench.hpp"
#include "cpu_features.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace npu::cpu::bench {
namespace {

constexpr std::int64_t kIterations = 3'000'000;

using Loop = void (*)();

#if defined(__x86_64__)

#define NPU_TWELVE(OP, A, B)                                                                   \
  OP " " A "," B "0\n" OP " " A "," B "1\n" OP " " A "," B "2\n" OP " " A "," B "3\n" OP " " A \
     "," B "4\n" OP " " A "," B "5\n" OP " " A "," B "6\n" OP " " A "," B "7\n" OP " " A "," B \
     "8\n" OP " " A "," B "9\n" OP " " A "," B "10\n" OP " " A "," B "11\n"
#define NPU_CLOBBERS \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11"

void fma_avx2() {
  for (std::int64_t i = 0; i < kIterations; ++i) {
    __asm__ volatile(NPU_TWELVE("vfmadd231ps", "%%ymm14,%%ymm15", "%%ymm")::: NPU_CLOBBERS);
  }
}
__attribute__((target("avx512f"))) void fma_avx512() {
  for (std::int64_t i = 0; i < kIterations; ++i) {
    __asm__ volatile(NPU_TWELVE("vfmadd231ps", "%%zmm14,%%zmm15", "%%zmm")::: NPU_CLOBBERS);
  }
}
__attribute__((target("avx512f"))) void dot_bf16() {
  for (std::int64_t i = 0; i < kIterations; ++i) {
    __asm__ volatile(NPU_TWELVE("vdpbf16ps", "%%zmm14,%%zmm15", "%%zmm")::: NPU_CLOBBERS);
  }
}

#endif

double gflops(ThreadPool& pool, Loop loop, double flops_per_instruction) {
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const double ms =
        time_ms([&] { pool.parallel_for(pool.threads(), [&](std::int64_t, int) { loop(); }); }, 1);
    best = std::max(best, static_cast<double>(pool.threads() * kIterations) * 12.0 *
                              flops_per_instruction / ms / 1e6);
  }
  return best;
}

}  // namespace

Peak measure_peak(ThreadPool& pool) {
  Peak peak;
#if defined(__x86_64__)
  const Isa isa = detect_isa();
  if (isa >= Isa::avx512) {
    peak.f32 = gflops(pool, fma_avx512, 32);
  } else if (isa == Isa::avx2) {
    peak.f32 = gflops(pool, fma_avx2, 16);
  }
  peak.bf16 = isa >= Isa::avx512_bf16 ? gflops(pool, dot_bf16, 64) : peak.f32;
#else
  static_cast<void>(pool);
  static_cast<void>(gflops);
#endif
  return peak;
}

}  // namespace npu::cpu::bench
