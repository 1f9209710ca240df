// Packing of panels on the way.
#include "row_panels.hpp"

#include <algorithm>
#include <cstring>

namespace npu::cpu {
namespace {

// Elements of K that are converted before they are packed, so that they stay in L1.
constexpr std::int64_t kChunk = 128;

// Brings rows into L2 in the order in which they lie: that streams at memory bandwidth, and
// packing, which reads many rows side by side, does not.
void fetch_rows(const std::byte* w, std::int64_t row_bytes, std::int64_t rows, std::int64_t bytes) {
  std::uint8_t all = 0;
  for (std::int64_t j = 0; j < rows; ++j) {
    const auto* row = reinterpret_cast<const std::uint8_t*>(w + j * row_bytes);
    for (std::int64_t i = 0; i < bytes; i += 64) all ^= row[i];
  }
  __asm__ volatile("" : : "r"(all));
}

}  // namespace

RowPanels::RowPanels(const KernelTable& table, const GemmKernels& gemm, DType dtype,
                     bool int8_weights, std::int64_t k)
    : t_(table),
      g_(gemm),
      dtype_(dtype),
      int8_(int8_weights),
      k_(k),
      k_padded_(round_up(k, gemm.k_unit)),
      chunk_(std::min(kChunk, k_padded_)),
      row_bytes_(chunk_ * 4),
      // Rows of the storage type, and for split float16 the high and the low halves.
      scratch_bytes_(3 * round_up(gemm.nr * row_bytes_, 64)) {}

void RowPanels::pack(const void* w, std::int64_t stride_n, std::int64_t stride_k,
                     std::int64_t columns, std::byte* panel, std::byte* scratch) const {
  const auto size = int8_ ? 1 : static_cast<std::int64_t>(dtype_size(dtype_));
  const bool in_place = stride_k == 1 && !int8_;
  if (stride_k == 1) {
    fetch_rows(static_cast<const std::byte*>(w), stride_n * size, columns, k_ * size);
  }
  const bool split = g_.format == PanelFormat::f16_split;
  if (in_place && !split) {
    return pack_chunk(static_cast<const std::byte*>(w), stride_n * size, columns, k_, k_padded_,
                      panel);
  }
  // A chunk of a panel is a panel of the chunk, but for the split one, whose halves are apart.
  const std::int64_t word = g_.format == PanelFormat::f32 ? 4 : 2;
  std::byte* rows = scratch;
  std::byte* halves = scratch + round_up(g_.nr * row_bytes_, 64);
  for (std::int64_t from = 0; from < k_padded_; from += chunk_) {
    const std::int64_t k = std::clamp<std::int64_t>(k_ - from, 0, chunk_);
    const std::int64_t k_padded = std::min(chunk_, k_padded_ - from);
    const std::byte* source = static_cast<const std::byte*>(w) + from * stride_k * size;
    std::int64_t source_bytes = stride_n * size;
    if (!in_place) {
      gather(source, stride_n, stride_k, columns, k, rows);
      source = rows;
      source_bytes = row_bytes_;
    }
    std::byte* to = panel + from * g_.nr * word;
    if (!split) {
      pack_chunk(source, source_bytes, columns, k, k_padded, to);
      continue;
    }
    std::byte* low = halves + round_up(g_.nr * row_bytes_, 64);
    for (std::int64_t j = 0; j < columns; ++j) {
      g_.widen(source + j * source_bytes, k, halves + j * row_bytes_, low + j * row_bytes_);
    }
    pack_chunk(halves, row_bytes_, columns, k, k_padded, to);
    pack_chunk(low, row_bytes_, columns, k, k_padded, to + k_padded_ * g_.nr * word);
  }
}

void RowPanels::pack_chunk(const std::byte* w, std::int64_t row_bytes, std::int64_t columns,
                           std::int64_t k, std::int64_t k_padded, std::byte* panel) const {
  if (g_.pack_rows != nullptr) {
    g_.pack_rows(w, row_bytes, static_cast<int>(columns), k, k_padded, panel);
  } else {
    const auto size = static_cast<std::int64_t>(dtype_size(dtype_));
    pack_panel(g_, {w, dtype_, row_bytes / size, 1}, 0, columns, k, k_padded, panel);
  }
}

// Rows of the storage type, row_bytes_ apart.
void RowPanels::gather(const std::byte* w, std::int64_t stride_n, std::int64_t stride_k,
                       std::int64_t columns, std::int64_t k, std::byte* rows) const {
  alignas(64) std::byte packed[kChunk * 4];
  const auto size = int8_ ? 1 : static_cast<std::int64_t>(dtype_size(dtype_));
  for (std::int64_t j = 0; j < columns; ++j) {
    const std::byte* from = w + j * stride_n * size;
    std::byte* to = rows + j * row_bytes_;
    if (stride_k != 1) {
      std::byte* dense = int8_ ? packed : to;
      for (std::int64_t i = 0; i < k; ++i) {
        std::memcpy(dense + i * size, from + i * stride_k * size, static_cast<std::size_t>(size));
      }
      from = dense;
    }
    if (int8_) t_.widen_i8[static_cast<std::size_t>(dtype_)](from, k, to);
  }
}

}  // namespace npu::cpu
