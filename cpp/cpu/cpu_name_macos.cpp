// The processor's name on macOS, from sysctl.
#include <sys/sysctl.h>

#include "cpu/cpu_name.hpp"

namespace npu::cpu {

std::string processor_name() {
  char brand[128] = {};
  std::size_t size = sizeof brand - 1;
  if (sysctlbyname("machdep.cpu.brand_string", brand, &size, nullptr, 0) != 0 || brand[0] == '\0') {
    return "Apple processor";
  }
  return brand;
}

}  // namespace npu::cpu
