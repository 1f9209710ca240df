// Packing of weights into panels, one layout per PanelFormat.
#include "panels.hpp"

#include <algorithm>

namespace npu::cpu {
namespace {

const std::uint16_t* halves(const WeightView& w) {
  return static_cast<const std::uint16_t*>(w.data);
}

// Steps of K handled for all columns before the next: the part of the panel written stays in L1,
// and so do the source lines of every column.
constexpr std::int64_t kBlock = 16;

// dst[k][nr] by a function of the source element.
template <class T, class Get>
void fill_plain(T* dst, std::int64_t nr, std::int64_t columns, std::int64_t k,
                std::int64_t k_padded, Get get) {
  std::memset(dst, 0, static_cast<std::size_t>(nr * k_padded) * sizeof(T));
  for (std::int64_t i0 = 0; i0 < k; i0 += kBlock) {
    const std::int64_t i1 = std::min(k, i0 + kBlock);
    for (std::int64_t j = 0; j < columns; ++j) {
      for (std::int64_t i = i0; i < i1; ++i) dst[i * nr + j] = get(j, i);
    }
  }
}

// dst[k / 2][nr][2]
template <class Get>
void fill_pairs(std::uint16_t* dst, std::int64_t nr, std::int64_t columns, std::int64_t k,
                std::int64_t k_padded, Get get) {
  std::memset(dst, 0, static_cast<std::size_t>(nr * k_padded) * sizeof(*dst));
  for (std::int64_t i0 = 0; i0 < k; i0 += kBlock) {
    const std::int64_t i1 = std::min(k, i0 + kBlock);
    for (std::int64_t j = 0; j < columns; ++j) {
      for (std::int64_t i = i0; i < i1; ++i) dst[((i / 2) * nr + j) * 2 + (i & 1)] = get(j, i);
    }
  }
}

}  // namespace

std::int64_t panel_bytes(const GemmKernels& g, std::int64_t k_padded) {
  const std::int64_t size =
      g.format == PanelFormat::f32 || g.format == PanelFormat::f16_split ? 4 : 2;
  return round_up(g.nr * k_padded * size, 64);
}

void pack_panel(const GemmKernels& g, const WeightView& w, std::int64_t n0, std::int64_t columns,
                std::int64_t k, std::int64_t k_padded, void* panel) {
  const auto at = [&](std::int64_t j, std::int64_t i) {
    return (n0 + j) * w.stride_n + i * w.stride_k;
  };
  auto* dst16 = static_cast<std::uint16_t*>(panel);
  switch (g.format) {
    case PanelFormat::f32:
      fill_plain(static_cast<float*>(panel), g.nr, columns, k, k_padded,
                 [&](auto j, auto i) { return load_scalar(w.dtype, w.data, at(j, i)); });
      break;
    case PanelFormat::f16:
    case PanelFormat::bf16:
      fill_plain(dst16, g.nr, columns, k, k_padded,
                 [&](auto j, auto i) { return halves(w)[at(j, i)]; });
      break;
    case PanelFormat::bf16_pairs:
      fill_pairs(dst16, g.nr, columns, k, k_padded,
                 [&](auto j, auto i) { return halves(w)[at(j, i)]; });
      break;
    case PanelFormat::f16_split:
      fill_pairs(dst16, g.nr, columns, k, k_padded,
                 [&](auto j, auto i) { return f32_to_bf16(f16_to_f32(halves(w)[at(j, i)])); });
      fill_pairs(dst16 + g.nr * k_padded, g.nr, columns, k, k_padded, [&](auto j, auto i) {
        const float v = f16_to_f32(halves(w)[at(j, i)]);
        const float rest = v - bf16_to_f32(f32_to_bf16(v));
        return f32_to_bf16(rest == rest ? rest : 0.0f);  // an infinity or NaN has no rest
      });
      break;
  }
}

}  // namespace npu::cpu
