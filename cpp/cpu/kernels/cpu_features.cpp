// Run-time detection of instruction sets through cpuid/xgetbv, and the request for AMX tile state.
#include "cpu_features.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace npu::cpu {
namespace {

constexpr std::array<const char*, 5> kIsaNames = {"generic", "avx2", "avx512", "avx512_bf16",
                                                  "amx"};

#if defined(__x86_64__)

struct CpuId {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuId cpuid(unsigned leaf, unsigned subleaf) {
  CpuId r;
  if (__get_cpuid_max(0, nullptr) >= leaf) {
    __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
  }
  return r;
}

constexpr bool bit(unsigned word, int index) { return ((word >> index) & 1u) != 0; }

// Register state that the operating system saves on a context switch (XCR0).
std::uint64_t enabled_state() {
  std::uint32_t lo = 0;
  std::uint32_t hi = 0;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (static_cast<std::uint64_t>(hi) << 32) | lo;
}

// Linux hands out the 8 KiB of tile registers only to processes that ask for them.
bool request_amx() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr long kXfeatureTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
#else
  return false;
#endif
}

Isa detect() {
  constexpr std::uint64_t kAvxState = 0x6;
  constexpr std::uint64_t kAvx512State = 0xe6;
  constexpr std::uint64_t kAmxState = 0x60000;
  const CpuId leaf1 = cpuid(1, 0);
  const CpuId leaf7 = cpuid(7, 0);
  const CpuId leaf7_1 = leaf7.eax >= 1 ? cpuid(7, 1) : CpuId{};
  const bool osxsave = bit(leaf1.ecx, 27);
  const std::uint64_t state = osxsave ? enabled_state() : 0;

  const bool fma = bit(leaf1.ecx, 12);
  const bool avx = bit(leaf1.ecx, 28);
  const bool f16c = bit(leaf1.ecx, 29);
  const bool avx2 = bit(leaf7.ebx, 5);
  if (!(fma && avx && f16c && avx2) || (state & kAvxState) != kAvxState) return Isa::generic;

  const bool avx512 =
      bit(leaf7.ebx, 16) && bit(leaf7.ebx, 17) && bit(leaf7.ebx, 30) && bit(leaf7.ebx, 31);
  if (!avx512 || (state & kAvx512State) != kAvx512State) return Isa::avx2;

  if (!bit(leaf7_1.eax, 5)) return Isa::avx512;
  const bool amx_bf16 = bit(leaf7.edx, 22) && bit(leaf7.edx, 24);
  if (!amx_bf16 || (state & kAmxState) != kAmxState || !request_amx()) return Isa::avx512_bf16;
  return Isa::amx;
}

#else

Isa detect() { return Isa::generic; }

#endif

}  // namespace

Isa detect_isa() {
  static const Isa detected = detect();
  return detected;
}

Isa active_isa() {
  const Isa detected = detect_isa();
  const char* wanted = std::getenv("NPU_SIM_CPU_ISA");
  if (wanted == nullptr) return detected;
  for (std::size_t i = 0; i < kIsaNames.size(); ++i) {
    if (std::string_view(wanted) == kIsaNames[i]) return std::min(detected, static_cast<Isa>(i));
  }
  return detected;
}

const char* isa_name(Isa isa) { return kIsaNames[static_cast<std::size_t>(isa)]; }

CacheSizes cache_sizes() {
  CacheSizes sizes;
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  if (const long l1d = sysconf(_SC_LEVEL1_DCACHE_SIZE); l1d > 0) sizes.l1d = l1d;
  if (const long l2 = sysconf(_SC_LEVEL2_CACHE_SIZE); l2 > 0) sizes.l2 = l2;
#endif
  return sizes;
}

}  // namespace npu::cpu
