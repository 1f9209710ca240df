// The processor's name on Linux without cpuid, from /proc/cpuinfo.
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "cpu/cpu_name.hpp"

namespace npu::cpu {

std::string processor_name() {
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  const std::unique_ptr<std::FILE, Close> info(std::fopen("/proc/cpuinfo", "r"));
  char buffer[4096];
  while (info != nullptr && std::fgets(buffer, sizeof buffer, info.get()) != nullptr) {
    std::string_view line(buffer);
    if (line.ends_with('\n')) line.remove_suffix(1);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon + 2 > line.size()) continue;
    for (const std::string_view key : {"model name", "Model", "Hardware"}) {
      if (line.starts_with(key)) return std::string(line.substr(colon + 2));
    }
  }
  return "processor";
}

}  // namespace npu::cpu
