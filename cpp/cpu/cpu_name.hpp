// The processor's name; each platform has its file.
#pragma once

#include <string>

namespace npu::cpu {

// What the vendor calls the processor, e.g. "AMD EPYC 9R14"; a general word where the system does
// not tell.
std::string processor_name();

}  // namespace npu::cpu
