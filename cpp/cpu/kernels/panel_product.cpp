// Loops over panels and row tiles: a panel stays in cache while all rows of the block pass by it.
#include "panel_product.hpp"

#include <algorithm>
#include <limits>

namespace npu::cpu {
namespace {

// A half-precision panel that several row tiles use is widened once, as long as the result fits L2
// beside the rows: widening inside the inner loop costs about 6%.
constexpr std::int64_t kMaxWidePanelBytes = 320 * 1024;
constexpr std::int64_t kMinWideTiles = 3;

bool widens_panels(const GemmKernels& g, std::int64_t rows, std::int64_t k) {
  const bool half = g.format == PanelFormat::f16 || g.format == PanelFormat::bf16;
  return half && rows > (kMinWideTiles - 1) * g.max_rows && k * g.nr * 4 <= kMaxWidePanelBytes;
}

void store_strided(float* sums, std::int64_t ld, int rows, const RowOffsets& offsets,
                   std::int64_t column, std::int64_t n, const Output& out) {
  const auto finished = [&](int i, std::int64_t j) {
    float v = sums[i * ld + j];
    if (out.bias != nullptr) v += out.bias[column + j];
    if (out.residual != nullptr) {
      v += load_scalar(out.dtype, out.residual,
                       offsets.residual[i] + (column + j) * out.residual_map.channel_stride);
    }
    return v;
  };
  const auto store = [&](int i, std::int64_t j, float v) {
    store_scalar(out.dtype, out.y, offsets.y[i] + (column + j) * out.y_map.channel_stride,
                 clamp_scalar(v, out.lo, out.hi));
  };
  if (out.activate == nullptr) {
    for (int i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < n; ++j) store(i, j, finished(i, j));
    }
    return;
  }
  for (int i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < n; ++j) sums[i * ld + j] = finished(i, j);
  }
  out.activate(sums, ld, rows, n);
  for (int i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < n; ++j) store(i, j, sums[i * ld + j]);
  }
}

// The sums, with bias and residual added in place, through the activation.
void activate_tile(const KernelTable& table, float* sums, std::int64_t ld, int rows, std::int64_t n,
                   const float* bias, const void* const* residual, const Output& out) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (bias != nullptr || residual != nullptr) {
    void* sum_rows[kMaxRows];
    for (int i = 0; i < rows; ++i) sum_rows[i] = sums + i * ld;
    table.add_tile[static_cast<std::size_t>(out.dtype)](
        sums, ld, rows, n, {bias, residual, sum_rows, -kInfinity, kInfinity});
  }
  out.activate(sums, ld, rows, n);
}

// Split float16 turns infinity * w into NaN where w has no low half (infinity * 0): a tile with a
// sum that is not finite is summed up plainly.
void recompute_split_tile(const GemmKernels& g, const TileA& a, int rows, const void* panel,
                          float* sums) {
  const std::int64_t k = a.runs * a.run_k;
  const auto* high = static_cast<const std::uint16_t*>(panel);
  const std::uint16_t* low = high + k * g.nr;
  for (int i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < g.nr; ++j) {
      float sum = 0.0f;
      for (std::int64_t kk = 0; kk < k; ++kk) {
        const auto* x = static_cast<const std::uint16_t*>(a.base) + i * a.lda +
                        a.run_offsets[kk / a.run_k] + kk % a.run_k;
        const std::int64_t at = (kk / 2 * g.nr + j) * 2 + kk % 2;
        sum += (bf16_to_f32(x[0]) + bf16_to_f32(x[a.plane])) *
               (bf16_to_f32(high[at]) + bf16_to_f32(low[at]));
      }
      sums[i * g.nr + j] = sum;
    }
  }
}

// Requests the lines that the epilogue will touch, so that they arrive while the tile is summed up:
// rows are far apart, which the hardware does not foresee.
void prefetch_rows(const Output& out, const RowOffsets& offsets, int rows, std::int64_t column) {
  for (int i = 0; i < rows; ++i) {
    __builtin_prefetch(element(out.y, out.dtype, offsets.y[i] + column), 1);
    if (out.residual != nullptr) {
      __builtin_prefetch(element(out.residual, out.dtype, offsets.residual[i] + column), 0);
    }
  }
}

}  // namespace

std::int64_t product_workspace_bytes(const GemmKernels& g, std::int64_t rows, std::int64_t k) {
  return round_up(2 * rows * 8, 64) + (widens_panels(g, rows, k) ? k * g.nr * 4 : 0);
}

void store_sums(const KernelTable& table, float* sums, std::int64_t ld, int rows,
                const RowOffsets& offsets, std::int64_t column, std::int64_t n, const Output& out) {
  const bool residual_contiguous = out.residual == nullptr || out.residual_map.channel_stride == 1;
  if (out.y_map.channel_stride != 1 || !residual_contiguous) {
    store_strided(sums, ld, rows, offsets, column, n, out);
    return;
  }
  void* y_rows[kMaxRows];
  const void* residual_rows[kMaxRows];
  for (int i = 0; i < rows; ++i) {
    y_rows[i] = element(out.y, out.dtype, offsets.y[i] + column);
    if (out.residual != nullptr) {
      residual_rows[i] = element(out.residual, out.dtype, offsets.residual[i] + column);
    }
  }
  const float* bias = out.bias != nullptr ? out.bias + column : nullptr;
  const void* const* residual = out.residual != nullptr ? residual_rows : nullptr;
  if (out.activate != nullptr) {
    activate_tile(table, sums, ld, rows, n, bias, residual, out);
    bias = nullptr;
    residual = nullptr;
  }
  const TileStore store{bias, residual, y_rows, out.lo, out.hi};
  table.store_tile[static_cast<std::size_t>(out.dtype)](sums, ld, rows, n, store);
}

void multiply_panels(const KernelTable& table, const GemmKernels& gemm, const PanelBlock& block,
                     const Output& out) {
  alignas(64) float sums[kMaxRows * kMaxCols];
  const std::int64_t all_rows = block.segments * block.segment_rows;
  const std::int64_t k = block.source.runs * block.source.run_k;
  auto* y_offsets = reinterpret_cast<std::int64_t*>(block.workspace);
  std::int64_t* residual_offsets = y_offsets + all_rows;
  out.y_map.offsets(all_rows, y_offsets);
  out.residual_map.offsets(all_rows, residual_offsets);
  auto* wide = reinterpret_cast<float*>(block.workspace + round_up(2 * all_rows * 8, 64));
  const bool widen = widens_panels(gemm, all_rows, k);
  const auto panel_type =
      static_cast<std::size_t>(gemm.format == PanelFormat::f16 ? DType::f16 : DType::bf16);
  const TileFn* tile = widen ? table.gemm_f32.tile : gemm.tile;

  // Equal tiles rather than full ones and a sliver: a tile's cost per row rises as it gets smaller.
  const std::int64_t tiles = std::max<std::int64_t>(1, ceil_div(block.segment_rows, gemm.max_rows));
  const std::int64_t panel_step = ceil_div(
      block.panel_bytes, std::max<std::int64_t>(1, tiles * block.segments * k / gemm.k_unit));
  for (std::int64_t column = 0; column < block.columns; column += gemm.nr) {
    const void* panel = block.panels + column / gemm.nr * block.panel_bytes;
    if (widen) {
      table.widen_f32[panel_type](panel, k * gemm.nr, wide, nullptr);
      panel = wide;
    }
    const std::int64_t n = std::min<std::int64_t>(gemm.nr, block.columns - column);
    for (std::int64_t t = 0; t < tiles * block.segments; ++t) {
      const std::int64_t segment = t / tiles;
      const std::int64_t row = block.segment_rows * (t % tiles) / tiles;
      const auto rows = static_cast<int>(block.segment_rows * (t % tiles + 1) / tiles - row);
      TileA a = block.source;
      a.base = static_cast<const std::byte*>(a.base) +
               (segment * block.segment_stride + row * a.lda) * gemm.a_size;
      const std::int64_t first = segment * block.segment_rows + row;
      // Each tile brings its share of the next panel: only the first would wait for all of it.
      a.next = block.panels + (column / gemm.nr + 1) * block.panel_bytes +
               block.panel_bytes * t / (tiles * block.segments);
      a.next_step = panel_step;
      const RowOffsets offsets{y_offsets + first, residual_offsets + first};
      prefetch_rows(out, offsets, rows, column);
      tile[rows](a, panel, sums, gemm.nr);
      if (gemm.format == PanelFormat::f16_split && !table.all_finite(sums, rows * gemm.nr)) {
        recompute_split_tile(gemm, a, rows, panel, sums);
      }
      store_sums(table, sums, gemm.nr, rows, offsets, column, n, out);
    }
  }
}

}  // namespace npu::cpu
