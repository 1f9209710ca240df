// Which instruction set the kernels use on this machine: detected once, narrowed by
// NPU_SIM_CPU_ISA.
#pragma once

namespace npu::cpu {

// Ordered: a machine that has one has all the earlier ones (amx implies avx512_bf16).
enum class Isa { generic, avx2, avx512, avx512_bf16, amx };

// Best instruction set that both the processor and the operating system support.
Isa detect_isa();

// detect_isa() lowered to what NPU_SIM_CPU_ISA (generic|avx2|avx512|avx512_bf16|amx) names. An
// unknown name, or one that the machine lacks, leaves the detected set. Read anew on each call.
Isa active_isa();

const char* isa_name(Isa isa);

// Sizes that blocking is chosen by; typical values where the system does not tell.
struct CacheSizes {
  long l1d = 32 * 1024;
  long l2 = 1024 * 1024;
};
CacheSizes cache_sizes();

}  // namespace npu::cpu
