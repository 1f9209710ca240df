// Loops over panels and row tiles: a panel stays in cache while all rows of the block pass by it.
#include "panel_product.hpp"

#include <algorithm>

namespace npu::cpu {
namespace {

void store_strided(const float* sums, std::int64_t ld, std::int64_t row, int rows, std::int64_t column,
                   std::int64_t n, const Output& out) {
  for (int i = 0; i < rows; ++i) {
    const std::int64_t y = out.y_map.offset(row + i);
    const std::int64_t r = out.residual_map.offset(row + i);
    for (std::int64_t j = 0; j < n; ++j) {
      float v = sums[i * ld + j];
      if (out.bias != nullptr) v += out.bias[column + j];
      if (out.residual != nullptr) {
        v += load_scalar(out.dtype, out.residual, r + (column + j) * out.residual_map.channel_stride);
      }
      store_scalar(out.dtype, out.y, y + (column + j) * out.y_map.channel_stride,
                   clamp_scalar(v, out.lo, out.hi));
    }
  }
}

}  // namespace

void store_sums(const KernelTable& table, const float* sums, std::int64_t ld, std::int64_t row, int rows,
                std::int64_t column, std::int64_t n, const Output& out) {
  const bool residual_contiguous = out.residual == nullptr || out.residual_map.channel_stride == 1;
  if (out.y_map.channel_stride != 1 || !residual_contiguous) {
    store_strided(sums, ld, row, rows, column, n, out);
    return;
  }
  void* y_rows[kMaxRows];
  const void* residual_rows[kMaxRows];
  for (int i = 0; i < rows; ++i) {
    y_rows[i] = element(out.y, out.dtype, out.y_map.offset(row + i) + column);
    if (out.residual != nullptr) {
      residual_rows[i] = element(out.residual, out.dtype, out.residual_map.offset(row + i) + column);
    }
  }
  const TileStore store{out.bias != nullptr ? out.bias + column : nullptr,
                        out.residual != nullptr ? residual_rows : nullptr, y_rows, out.lo, out.hi};
  table.store_tile[static_cast<std::size_t>(out.dtype)](sums, ld, rows, n, store);
}

void multiply_panels(const KernelTable& table, const GemmKernels& gemm, const PanelBlock& block,
                     const Output& out) {
  alignas(64) float sums[kMaxRows * kMaxCols];
  // Equal tiles rather than full ones and a sliver: a tile's cost per row rises as it gets smaller.
  const std::int64_t tiles = std::max<std::int64_t>(1, ceil_div(block.rows, gemm.max_rows));
  for (std::int64_t column = 0; column < block.columns; column += gemm.nr) {
    const std::byte* panel = block.panels + column / gemm.nr * block.panel_bytes;
    const std::int64_t n = std::min<std::int64_t>(gemm.nr, block.columns - column);
    for (std::int64_t t = 0; t < tiles; ++t) {
      const std::int64_t row = block.rows * t / tiles;
      const auto rows = static_cast<int>(block.rows * (t + 1) / tiles - row);
      const auto* a = static_cast<const std::byte*>(block.a) + row * block.lda * gemm.a_size;
      gemm.tile[rows](a, block.lda, panel, block.k, sums, gemm.nr);
      store_sums(table, sums, gemm.nr, row, rows, column, n, out);
    }
  }
}

}  // namespace npu::cpu
