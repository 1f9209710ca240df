// Stands in for onednn_conv.cpp in builds without oneDNN.
#include "bench.hpp"

namespace npu::cpu::bench {

std::function<void()> onednn_conv(const Layer&, std::int64_t, DType) { return {}; }
const char* onednn_version() { return "absent"; }

}  // namespace npu::cpu::bench
