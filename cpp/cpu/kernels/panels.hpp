// Weight panels: how much room they take and how they are filled from strided weights.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dtype.hpp"
#include "kernel_table.hpp"

namespace npu::cpu {

// Weights w[n][k] in storage order; strides in elements.
struct WeightView {
  const void* data;
  DType dtype;
  std::int64_t stride_n, stride_k;
};

std::int64_t panel_bytes(const GemmKernels& g, std::int64_t k_padded);

// Fills one panel with columns [n0, n0 + columns) of w; the rest of the panel, in n and in k, is
// zero.
void pack_panel(const GemmKernels& g, const WeightView& w, std::int64_t n0, std::int64_t columns,
                std::int64_t k, std::int64_t k_padded, void* panel);

// Row length for a matrix of `k` elements of `size` bytes: an odd number of cache lines, so that
// neighbouring rows never fall into the same cache sets.
constexpr std::int64_t odd_lines(std::int64_t k, std::int64_t size) {
  return (ceil_div(k * size, 64) | 1) * 64 / size;
}

}  // namespace npu::cpu
