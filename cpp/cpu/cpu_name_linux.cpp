// The processor's name on Linux without cpuid, from /proc/cpuinfo.
#include <fstream>
#include <string_view>

#include "cpu/cpu_name.hpp"

namespace npu::cpu {

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || colon + 2 > line.size()) continue;
    for (const std::string_view key : {"model name", "Model", "Hardware"}) {
      if (line.starts_with(key)) return line.substr(colon + 2);
    }
  }
  return "processor";
}

}  // namespace npu::cpu
