// The processor's name on x86-64, from the brand string of cpuid.
#include <cpuid.h>

#include <cstring>

#include "cpu/cpu_name.hpp"

namespace npu::cpu {

std::string processor_name() {
  constexpr unsigned kFirstLeaf = 0x80000002u;
  constexpr unsigned kLastLeaf = 0x80000004u;
  if (__get_cpuid_max(0x80000000u, nullptr) < kLastLeaf) return "x86-64 processor";
  char brand[49] = {};
  for (unsigned leaf = kFirstLeaf; leaf <= kLastLeaf; ++leaf) {
    unsigned registers[4];
    __cpuid(leaf, registers[0], registers[1], registers[2], registers[3]);
    std::memcpy(brand + (leaf - kFirstLeaf) * sizeof registers, registers, sizeof registers);
  }
  std::string name(brand);
  name.erase(0, name.find_first_not_of(' '));
  name.erase(name.find_last_not_of(' ') + 1);
  return name.empty() ? "x86-64 processor" : name;
}

}  // namespace npu::cpu
