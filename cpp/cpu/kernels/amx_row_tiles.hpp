// Matrix tiles over weight rows read where they lie (AMX-BF16): sums of 32 weight rows by up to 48
// rows of x in six tile registers.
//
// Weight rows are the left operand as they are; x, which is small, is packed into the pairs that
// the right one takes. Tile loads from L2 are what limits: a chunk of the weights (32 rows by 16
// steps are 32 KiB) stays in L1 while all tiles of x pass by it, loaded with the hint not to stay.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernel_table.hpp"
#include "simd_pack_avx512.hpp"

namespace npu::cpu {

static_assert(kTileRows == kPackRows, "a tile is packed by one transposition");
constexpr int kMostTiles = 3;  // of x at a time

// Requests what comes next; kept in registers while a block is multiplied.
class Requests {
 public:
  explicit Requests(UpcomingRows* upcoming) : upcoming_(upcoming) { start_row(); }
  ~Requests() {
    if (upcoming_ != nullptr) upcoming_->line = upcoming_->lines - left_;
  }
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;

  [[gnu::always_inline]] void step() {
    const std::int64_t n = std::min(per_step_, left_);
    for (std::int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 4
      for (int s = 0; s < kSequences; ++s) {
        __builtin_prefetch(at_[0] + s * sequence_bytes_, 0, 2);
        __builtin_prefetch(at_[1] + s * sequence_bytes_, 0, 2);
      }
      at_[0] += 64;
      at_[1] += 64;
    }
    left_ -= n;
    if (left_ == 0 && per_step_ > 0) next_row();
  }

 private:
  void start_row() {
    if (upcoming_ == nullptr || upcoming_->row == kSequenceRows) return;
    per_step_ = upcoming_->per_step;
    sequence_bytes_ = kSequenceRows * upcoming_->row_bytes;
    left_ = upcoming_->lines - upcoming_->line;
    for (int i = 0; i < 2; ++i) {
      at_[i] = upcoming_->tile[i] + upcoming_->row * upcoming_->row_bytes + upcoming_->line * 64;
    }
  }
  [[gnu::noinline]] void next_row() {
    upcoming_->line = 0;
    ++upcoming_->row;
    per_step_ = 0;
    start_row();
  }

  UpcomingRows* upcoming_;
  const std::byte* at_[2] = {};
  std::int64_t sequence_bytes_ = 0, left_ = 0, per_step_ = 0;
};

template <int Tiles>
[[gnu::always_inline]] inline void load_row_tile_sums(const float* sums, bool add) {
  if (add) {
    _tile_loadd(0, sums, 64);
    _tile_loadd(1, sums + kTileSums, 64);
    if constexpr (Tiles > 1) _tile_loadd(2, sums + 2 * kTileSums, 64);
    if constexpr (Tiles > 1) _tile_loadd(3, sums + 3 * kTileSums, 64);
    if constexpr (Tiles > 2) _tile_loadd(4, sums + 4 * kTileSums, 64);
    if constexpr (Tiles > 2) _tile_loadd(5, sums + 5 * kTileSums, 64);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (Tiles > 1) _tile_zero(2);
    if constexpr (Tiles > 1) _tile_zero(3);
    if constexpr (Tiles > 2) _tile_zero(4);
    if constexpr (Tiles > 2) _tile_zero(5);
  }
}

template <int Tiles>
[[gnu::always_inline]] inline void store_row_tile_sums(float* sums) {
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + kTileSums, 64);
  if constexpr (Tiles > 1) _tile_stored(2, sums + 2 * kTileSums, 64);
  if constexpr (Tiles > 1) _tile_stored(3, sums + 3 * kTileSums, 64);
  if constexpr (Tiles > 2) _tile_stored(4, sums + 4 * kTileSums, 64);
  if constexpr (Tiles > 2) _tile_stored(5, sums + 5 * kTileSums, 64);
}

// One step; with three tiles of x the two of weights are loaded twice, from L1 the second time.
template <int Tiles>
[[gnu::always_inline]] inline void row_tile_step(const std::byte* w0, const std::byte* w1,
                                                 std::int64_t row_bytes, const std::byte* x,
                                                 std::int64_t x_tile_bytes) {
  if constexpr (Tiles == 3) {
    _tile_stream_loadd(7, x, 64);
    _tile_loadd(6, w0, row_bytes);
    _tile_dpbf16ps(0, 6, 7);
    _tile_loadd(6, w1, row_bytes);
    _tile_dpbf16ps(1, 6, 7);
    _tile_stream_loadd(7, x + x_tile_bytes, 64);
    _tile_dpbf16ps(3, 6, 7);
    _tile_loadd(6, w0, row_bytes);
    _tile_dpbf16ps(2, 6, 7);
    _tile_stream_loadd(7, x + 2 * x_tile_bytes, 64);
    _tile_dpbf16ps(4, 6, 7);
    _tile_loadd(6, w1, row_bytes);
    _tile_dpbf16ps(5, 6, 7);
  } else {
    _tile_stream_loadd(6, x, 64);
    if constexpr (Tiles == 2) _tile_stream_loadd(7, x + x_tile_bytes, 64);
    _tile_loadd(4, w0, row_bytes);
    _tile_loadd(5, w1, row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 5, 6);
    if constexpr (Tiles == 2) _tile_dpbf16ps(2, 4, 7);
    if constexpr (Tiles == 2) _tile_dpbf16ps(3, 5, 7);
  }
}

template <int Tiles>
void multiply_row_tiles(const RowTileBlock& b, std::int64_t tile, Requests& requests) {
  const std::byte* w0 = b.w[0];
  const std::byte* w1 = b.w[1];
  const std::byte* x = b.x + tile * b.x_tile_bytes;
  float* sums = b.sums + tile * 2 * kTileSums;
  load_row_tile_sums<Tiles>(sums, b.add);
  for (std::int64_t step = 0; step < b.steps; ++step) {
    row_tile_step<Tiles>(w0, w1, b.row_bytes, x, b.x_tile_bytes);
    requests.step();
    w0 += kTileStep * 2;
    w1 += kTileStep * 2;
    x += kPackedStepBytes;
  }
  store_row_tile_sums<Tiles>(sums);
}

// Pairs of tiles, and three at last where their number is odd: a step of one tile would take almost
// as long as a step of two.
inline void multiply_row_tile_block(const RowTileBlock& b, UpcomingRows* upcoming) {
  Requests requests(upcoming);
  std::int64_t tile = 0;
  for (; b.tiles - tile == 2 || b.tiles - tile > 3; tile += 2) {
    multiply_row_tiles<2>(b, tile, requests);
  }
  if (b.tiles - tile == 3) multiply_row_tiles<3>(b, tile, requests);
  if (b.tiles - tile == 1) multiply_row_tiles<1>(b, tile, requests);
}

inline void pack_row_tile(const void* x, std::int64_t row_bytes, int rows, std::int64_t k,
                          std::int64_t k_padded, void* packed) {
  const auto* from = static_cast<const std::byte*>(x);
  auto* to = static_cast<std::byte*>(packed);
  __m512i words[16];
  const auto store = [&] {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) _mm512_store_si512(to + i * 64, words[i]);
    to += kPackedStepBytes;
  };
  std::int64_t i = 0;
  for (; i + kTileStep <= k; i += kTileStep) {
    transpose_words(from + i * 2, row_bytes, rows, words);
    store();
  }
  if (i == k_padded) return;
  alignas(64) std::byte rest[kPackedStepBytes] = {};
  const auto mask = static_cast<__mmask32>((std::uint64_t{1} << (k - i)) - 1);
  for (int row = 0; row < rows; ++row) {
    _mm512_store_si512(rest + row * 64,
                       _mm512_maskz_loadu_epi16(mask, from + row * row_bytes + i * 2));
  }
  transpose_words(rest, 64, kTileRows, words);
  store();
}

inline void transpose_row_tile_sums(const float* sums, float* to, std::int64_t ld) {
  __m512i words[16];
  transpose_words(reinterpret_cast<const std::byte*>(sums), 64, kTileRows, words);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * ld, words[i]);
}

// Int8 to bfloat16: such floats have nothing in their lower halves.
inline void widen_int8_to_bf16(const void* src, std::int64_t n, void* dst) {
  const auto* s = static_cast<const std::byte*>(src);
  auto* d = static_cast<std::uint16_t*>(dst);
  const auto widened = [](__m128i bytes) {
    return _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)));
  };
  alignas(64) std::uint16_t upper[32];
  for (std::uint16_t i = 0; i < 32; ++i) upper[i] = static_cast<std::uint16_t>(2 * i + 1);
  const __m512i uppers = _mm512_load_si512(upper);
  std::int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const auto at = [&](int half) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(s + i + 16 * half));
    };
    _mm512_storeu_si512(d + i, _mm512_permutex2var_epi16(widened(at(0)), uppers, widened(at(1))));
  }
  for (; i < n; i += 16) {
    const auto mask = static_cast<__mmask16>((1u << std::min<std::int64_t>(16, n - i)) - 1u);
    _mm256_mask_storeu_epi16(
        d + i, mask,
        _mm512_cvtepi32_epi16(_mm512_srli_epi32(widened(_mm_maskz_loadu_epi8(mask, s + i)), 16)));
  }
}

}  // namespace npu::cpu
