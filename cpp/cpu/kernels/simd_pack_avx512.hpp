// Weight rows to panels with AVX-512: 16 rows by 16 words of 32 bits are transposed at a time.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernel_table.hpp"

namespace npu::cpu {

constexpr int kPackRows = 16;

// Word d of 16 rows, one vector for each of the 16 words from p on. Rows that are `rows` or more
// are zero. Quarters of four rows are put together as they are loaded, so that only words within a
// quarter are left to shuffle.
[[gnu::always_inline]] inline void transpose_words(const std::byte* p, std::int64_t row_bytes,
                                                   int rows, __m512i (&words)[16]) {
  const auto quarter = [&](int row, int part) {
    const auto at = [&](int r) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + r * row_bytes + part * 16));
    };
    __m512i v = row < rows ? _mm512_zextsi128_si512(at(row)) : _mm512_setzero_si512();
    if (row + 4 < rows) v = _mm512_mask_broadcast_i32x4(v, 0x00f0, at(row + 4));
    if (row + 8 < rows) v = _mm512_mask_broadcast_i32x4(v, 0x0f00, at(row + 8));
    if (row + 12 < rows) v = _mm512_mask_broadcast_i32x4(v, 0xf000, at(row + 12));
    return v;
  };
#pragma GCC unroll 4
  for (int part = 0; part < 4; ++part) {
    const __m512i a = quarter(0, part);
    const __m512i b = quarter(1, part);
    const __m512i c = quarter(2, part);
    const __m512i d = quarter(3, part);
    const __m512i ab_low = _mm512_unpacklo_epi32(a, b);
    const __m512i ab_high = _mm512_unpackhi_epi32(a, b);
    const __m512i cd_low = _mm512_unpacklo_epi32(c, d);
    const __m512i cd_high = _mm512_unpackhi_epi32(c, d);
    words[4 * part] = _mm512_unpacklo_epi64(ab_low, cd_low);
    words[4 * part + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
    words[4 * part + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
    words[4 * part + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
  }
}

// Calls store(word, half, vector) for every word of 32 rows; half 0 has the first 16 of them.
// `bytes` of each row are real, the rest up to `words` words is zero.
template <class Store>
[[gnu::always_inline]] inline void pack_words(const void* w, std::int64_t row_bytes, int rows,
                                              std::int64_t bytes, std::int64_t words,
                                              const Store& store) {
  const auto* p = static_cast<const std::byte*>(w);
  __m512i block[2][16];
  std::int64_t word = 0;
  for (; word * 4 + 64 <= bytes; word += 16) {
    if (rows == 2 * kPackRows) {
      transpose_words(p + word * 4, row_bytes, kPackRows, block[0]);
      transpose_words(p + word * 4 + kPackRows * row_bytes, row_bytes, kPackRows, block[1]);
    } else {
      transpose_words(p + word * 4, row_bytes, std::min(rows, kPackRows), block[0]);
      transpose_words(p + word * 4 + kPackRows * row_bytes, row_bytes, rows - kPackRows, block[1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) store(word + i, block[0][i], block[1][i]);
  }
  if (word == words) return;
  alignas(64) std::byte rest[2 * kPackRows * 64] = {};
  for (int j = 0; j < rows; ++j) {
    const auto n = static_cast<std::uint64_t>(bytes - word * 4);
    _mm512_store_si512(rest + j * 64, _mm512_maskz_loadu_epi8((std::uint64_t{1} << n) - 1,
                                                              p + j * row_bytes + word * 4));
  }
  transpose_words(rest, 64, kPackRows, block[0]);
  transpose_words(rest + kPackRows * 64, 64, kPackRows, block[1]);
  for (int i = 0; word + i < words; ++i) store(word + i, block[0][i], block[1][i]);
}

// Panels whose rows are words: float32, or pairs of bfloat16.
template <int Size>
void pack_rows_words(const void* w, std::int64_t row_bytes, int columns, std::int64_t k,
                     std::int64_t k_padded, void* panel) {
  auto* to = static_cast<std::byte*>(panel);
  pack_words(w, row_bytes, columns, k * Size, k_padded * Size / 4,
             [&](std::int64_t word, __m512i first, __m512i second) {
               _mm512_store_si512(to + word * 128, first);
               _mm512_store_si512(to + word * 128 + 64, second);
             });
}

// Panels of halves, a row for each k.
inline void pack_rows_halves(const void* w, std::int64_t row_bytes, int columns, std::int64_t k,
                             std::int64_t k_padded, void* panel) {
  auto* to = static_cast<std::byte*>(panel);
  alignas(64) std::uint16_t even[32];
  alignas(64) std::uint16_t odd[32];
  for (std::uint16_t i = 0; i < 32; ++i) {
    even[i] = static_cast<std::uint16_t>(2 * i);
    odd[i] = static_cast<std::uint16_t>(2 * i + 1);
  }
  const __m512i evens = _mm512_load_si512(even);
  const __m512i odds = _mm512_load_si512(odd);
  pack_words(w, row_bytes, columns, k * 2, (k_padded + 1) / 2,
             [&](std::int64_t word, __m512i first, __m512i second) {
               _mm512_store_si512(to + word * 128, _mm512_permutex2var_epi16(first, evens, second));
               if (2 * word + 1 < k_padded) {
                 _mm512_store_si512(to + word * 128 + 64,
                                    _mm512_permutex2var_epi16(first, odds, second));
               }
             });
}

}  // namespace npu::cpu
