// A block of packed rows times a range of weight panels, with the epilogue: the core of conv and
// GEMM.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dtype.hpp"
#include "kernel_table.hpp"

namespace npu::cpu {

// Where the rows of a block live in a tensor: they come in runs of `inner` (pixels of an image
// row).
struct RowMap {
  std::int64_t base = 0, inner = 1, inner_stride = 0, outer_stride = 0;
  std::int64_t channel_stride = 1;

  void offsets(std::int64_t rows, std::int64_t* out) const {
    for (std::int64_t i = 0, start = base; i < rows; start += outer_stride) {
      for (std::int64_t j = 0; j < inner && i < rows; ++j, ++i) out[i] = start + j * inner_stride;
    }
  }
};

// An activation in place on rows of n floats, `ld` apart.
using ActivateFn = void (*)(float* v, std::int64_t ld, int rows, std::int64_t n);

struct Output {
  DType dtype;
  const float* bias;     // of the first column, or null
  const void* residual;  // tensor base, or null
  void* y;               // tensor base
  RowMap y_map, residual_map;
  float lo, hi;
  ActivateFn activate = nullptr;  // applied before the clamp, or null
};

// Element offsets of rows within the output and the residual.
struct RowOffsets {
  const std::int64_t* y;
  const std::int64_t* residual;
};

// Rows of A at `source.lda` within a segment; segments are `segment_stride` elements apart. A
// packed block is one segment; a convolution that reads its input in place has one for each row of
// output pixels.
struct PanelBlock {
  TileA source;
  std::int64_t segments, segment_rows, segment_stride;
  const std::byte* panels;
  std::int64_t panel_bytes;
  std::int64_t columns;  // of all the panels given
  std::byte* workspace;  // product_workspace_bytes(gemm, all rows, k)
};

std::int64_t product_workspace_bytes(const GemmKernels& gemm, std::int64_t rows, std::int64_t k);

void multiply_panels(const KernelTable& table, const GemmKernels& gemm, const PanelBlock& block,
                     const Output& out);

// Writes `rows` rows (at most kMaxRows) x columns [column, column + n) of finished sums to the
// output; the sums may change on the way.
void store_sums(const KernelTable& table, float* sums, std::int64_t ld, int rows,
                const RowOffsets& offsets, std::int64_t column, std::int64_t n, const Output& out);

}  // namespace npu::cpu
