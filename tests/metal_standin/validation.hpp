// What the stand-in finds wrong with the use of Metal.
#pragma once

#include <string>
#include <vector>

namespace npu::standin {

// Keeps a finding, for where nothing can be thrown.
void report(const std::string& finding);
// Keeps a finding and throws npu::Error.
[[noreturn]] void fail(const std::string& finding);
// All that was found since the last call.
std::vector<std::string> take_findings();

}  // namespace npu::standin
