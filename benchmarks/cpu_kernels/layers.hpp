// Every distinct convolution of ResNet-18 and ResNet-50 at 224x224, and how often each network runs
// it.
#pragma once

#include <array>
#include <cstdint>

#include "conv.hpp"

namespace npu::cpu::bench {

struct Layer {
  const char* name;
  std::int64_t ic, oc, in, out, kernel, stride;
  bool residual, relu;
  int in_resnet18, in_resnet50;
};

inline constexpr std::array<Layer, 35> kLayers = {{
    {"stem 7x7/2", 3, 64, 224, 112, 7, 2, false, true, 1, 1},
    // ResNet-18: two 3x3 convolutions a block, the second followed by the shortcut.
    {"18.1 3x3 64", 64, 64, 56, 56, 3, 1, false, true, 2, 0},
    {"18.1 3x3 64 +res", 64, 64, 56, 56, 3, 1, true, true, 2, 0},
    {"18.2 3x3/2 64-128", 64, 128, 56, 28, 3, 2, false, true, 1, 0},
    {"18.2 1x1/2 64-128", 64, 128, 56, 28, 1, 2, false, false, 1, 0},
    {"18.2 3x3 128", 128, 128, 28, 28, 3, 1, false, true, 1, 3},
    {"18.2 3x3 128 +res", 128, 128, 28, 28, 3, 1, true, true, 2, 0},
    {"18.3 3x3/2 128-256", 128, 256, 28, 14, 3, 2, false, true, 1, 0},
    {"18.3 1x1/2 128-256", 128, 256, 28, 14, 1, 2, false, false, 1, 0},
    {"18.3 3x3 256", 256, 256, 14, 14, 3, 1, false, true, 1, 5},
    {"18.3 3x3 256 +res", 256, 256, 14, 14, 3, 1, true, true, 2, 0},
    {"18.4 3x3/2 256-512", 256, 512, 14, 7, 3, 2, false, true, 1, 0},
    {"18.4 1x1/2 256-512", 256, 512, 14, 7, 1, 2, false, false, 1, 0},
    {"18.4 3x3 512", 512, 512, 7, 7, 3, 1, false, true, 1, 2},
    {"18.4 3x3 512 +res", 512, 512, 7, 7, 3, 1, true, true, 2, 0},
    // ResNet-50: 1x1, 3x3 (with the stride), 1x1 followed by the shortcut.
    {"50.1 1x1 64", 64, 64, 56, 56, 1, 1, false, true, 0, 1},
    {"50.1 3x3 64", 64, 64, 56, 56, 3, 1, false, true, 0, 3},
    {"50.1 1x1 64-256", 64, 256, 56, 56, 1, 1, false, false, 0, 1},
    {"50.1 1x1 64-256 +res", 64, 256, 56, 56, 1, 1, true, true, 0, 3},
    {"50.1 1x1 256-64", 256, 64, 56, 56, 1, 1, false, true, 0, 2},
    {"50.2 1x1 256-128", 256, 128, 56, 56, 1, 1, false, true, 0, 1},
    {"50.2 3x3/2 128", 128, 128, 56, 28, 3, 2, false, true, 0, 1},
    {"50.2 1x1 128-512 +res", 128, 512, 28, 28, 1, 1, true, true, 0, 4},
    {"50.2 1x1/2 256-512", 256, 512, 56, 28, 1, 2, false, false, 0, 1},
    {"50.2 1x1 512-128", 512, 128, 28, 28, 1, 1, false, true, 0, 3},
    {"50.3 1x1 512-256", 512, 256, 28, 28, 1, 1, false, true, 0, 1},
    {"50.3 3x3/2 256", 256, 256, 28, 14, 3, 2, false, true, 0, 1},
    {"50.3 1x1 256-1024 +res", 256, 1024, 14, 14, 1, 1, true, true, 0, 6},
    {"50.3 1x1/2 512-1024", 512, 1024, 28, 14, 1, 2, false, false, 0, 1},
    {"50.3 1x1 1024-256", 1024, 256, 14, 14, 1, 1, false, true, 0, 5},
    {"50.4 1x1 1024-512", 1024, 512, 14, 14, 1, 1, false, true, 0, 1},
    {"50.4 3x3/2 512", 512, 512, 14, 7, 3, 2, false, true, 0, 1},
    {"50.4 1x1 512-2048 +res", 512, 2048, 7, 7, 1, 1, true, true, 0, 3},
    {"50.4 1x1/2 1024-2048", 1024, 2048, 14, 7, 1, 2, false, false, 0, 1},
    {"50.4 1x1 2048-512", 2048, 512, 7, 7, 1, 1, false, true, 0, 2},
}};

inline ConvShape conv_shape(const Layer& l, std::int64_t batch) {
  const std::int64_t pad = l.kernel / 2;
  return {batch,    l.ic,     l.in,     l.in, l.oc, l.out, l.out, l.kernel,
          l.kernel, l.stride, l.stride, pad,  pad,  1,     1,     1};
}

inline double flops(const Layer& l, std::int64_t batch) {
  return 2.0 * static_cast<double>(batch * l.out * l.out * l.oc * l.ic * l.kernel * l.kernel);
}

}  // namespace npu::cpu::bench
