// Kernels for AVX512_BF16: bfloat16 products two at a time into float32 sums; the rest is
// AVX-512's.
#include <immintrin.h>

#include <utility>

#include "kernel_table.hpp"
#include "row_cursor.hpp"
#include "simd_avx512.hpp"
#include "simd_dots_bf16.hpp"
#include "simd_kernels.hpp"
#include "simd_pack_avx512.hpp"

namespace npu::cpu {
namespace {

constexpr int kRows = 14;
constexpr int kVecs = 2;

__m512bh as_bf16(__m512i v) { return reinterpret_cast<__m512bh>(v); }

// As gemm_tile, with A and the panel in pairs of bfloat16 along K.
template <int Rows>
void gemm_tile_pairs(const TileA& a, const void* panel, float* c, std::int64_t ldc) {
  constexpr std::int64_t kSize = 2;  // bytes of an element of A
  const auto* w = static_cast<const std::byte*>(panel);
  const std::byte* next = a.next != nullptr ? a.next : w;
  __m512 acc[Rows][kVecs];
#pragma GCC unroll 32
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) acc[i][j] = _mm512_setzero_ps();
  }
  for (std::int64_t r = 0; r < a.runs; ++r) {
    RowCursor<Rows> x(static_cast<const std::byte*>(a.base) + a.run_offsets[r] * kSize,
                      a.lda * kSize);
    for (std::int64_t kk = 0; kk < a.run_k; kk += 2) {
      __m512bh b[kVecs];
#pragma GCC unroll 8
      for (int j = 0; j < kVecs; ++j) {
        b[j] = as_bf16(_mm512_loadu_si512(w + j * 64));
        __builtin_prefetch(w + j * 64 + kPanelAhead);
      }
      w += kVecs * 64;
      __builtin_prefetch(next, 0, kIntoL2);
      next += a.next_step;
#pragma GCC unroll 32
      for (int i = 0; i < Rows; ++i) {
        int pair = 0;
        __builtin_memcpy(&pair, x.row(i), sizeof(pair));
        const __m512bh xi = as_bf16(_mm512_set1_epi32(pair));
#pragma GCC unroll 8
        for (int j = 0; j < kVecs; ++j) acc[i][j] = _mm512_dpbf16_ps(acc[i][j], xi, b[j]);
      }
      x.advance(2 * kSize);
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) _mm512_storeu_ps(c + i * ldc + j * 16, acc[i][j]);
  }
}

template <int... I>
void fill_pair_tiles(TileFn* tiles, std::integer_sequence<int, I...>) {
  ((tiles[I + 1] = &gemm_tile_pairs<I + 1>), ...);
}

void copy_row(const void* src, std::int64_t n, void* dst, void* /*low*/) {
  const auto* s = static_cast<const std::uint16_t*>(src);
  auto* d = static_cast<std::uint16_t*>(dst);
  std::int64_t i = 0;
  for (; i + 32 <= n; i += 32) _mm512_storeu_si512(d + i, _mm512_loadu_si512(s + i));
  if (i < n) {
    const auto mask = static_cast<__mmask32>((1ull << (n - i)) - 1);
    _mm512_mask_storeu_epi16(d + i, mask, _mm512_maskz_loadu_epi16(mask, s + i));
  }
}

// Products of w's rows with a bfloat16 x; two sums a row hide the instruction's latency.
template <int Rows>
void dot_block_pairs(const std::uint16_t* w, std::int64_t ldw, const std::uint16_t* x,
                     std::int64_t k, float* out) {
  __m512 acc[Rows][2];
  for (int j = 0; j < Rows; ++j) acc[j][0] = acc[j][1] = _mm512_setzero_ps();
  std::int64_t i = 0;
  for (; i + 64 <= k; i += 64) {
    const __m512bh x0 = as_bf16(_mm512_loadu_si512(x + i));
    const __m512bh x1 = as_bf16(_mm512_loadu_si512(x + i + 32));
#pragma GCC unroll 8
    for (int j = 0; j < Rows; ++j) {
      acc[j][0] = _mm512_dpbf16_ps(acc[j][0], as_bf16(_mm512_loadu_si512(w + j * ldw + i)), x0);
      acc[j][1] =
          _mm512_dpbf16_ps(acc[j][1], as_bf16(_mm512_loadu_si512(w + j * ldw + i + 32)), x1);
    }
  }
  for (; i < k; i += 32) {
    const auto mask = static_cast<__mmask32>(k - i >= 32 ? ~0u : (1u << (k - i)) - 1u);
    const __m512bh x0 = as_bf16(_mm512_maskz_loadu_epi16(mask, x + i));
    for (int j = 0; j < Rows; ++j) {
      acc[j][0] =
          _mm512_dpbf16_ps(acc[j][0], as_bf16(_mm512_maskz_loadu_epi16(mask, w + j * ldw + i)), x0);
    }
  }
  for (int j = 0; j < Rows; ++j) out[j] = _mm512_reduce_add_ps(_mm512_add_ps(acc[j][0], acc[j][1]));
}

void dot_rows_pairs(const void* w, std::int64_t ldw, const void* x, std::int64_t k, int rows,
                    float* out) {
  const auto* p = static_cast<const std::uint16_t*>(w);
  const auto* xh = static_cast<const std::uint16_t*>(x);
  int j = 0;
  for (; j + 4 <= rows; j += 4) dot_block_pairs<4>(p + j * ldw, ldw, xh, k, out + j);
  for (; j < rows; ++j) dot_block_pairs<1>(p + j * ldw, ldw, xh, k, out + j);
}

KernelTable make_table() {
  KernelTable t = avx512_kernels();
  t.isa = Isa::avx512_bf16;
  GemmKernels& g = t.gemm[static_cast<std::size_t>(DType::bf16)];
  g.format = PanelFormat::bf16_pairs;
  g.k_unit = 2;
  g.a_size = 2;
  g.macs_per_cycle = 32;
  g.widen = &copy_row;
  g.pack_rows = &pack_rows_words<2>;
  fill_pair_tiles(g.tile, std::make_integer_sequence<int, kRows>{});
  t.dot_x_bf16 = true;
  t.dot_rows[static_cast<std::size_t>(DType::bf16)] = &dot_rows_pairs;
  t.dots[static_cast<std::size_t>(DType::bf16)] = dot_kernels<Bf16PairDots>();
  t.dots_i8[static_cast<std::size_t>(DType::bf16)] = dot_kernels<Int8PairDots>();
  if (__builtin_cpu_supports("avx512vbmi")) use_avx512_vbmi(t);
  return t;
}

}  // namespace

const KernelTable& avx512_bf16_kernels() {
  static const KernelTable table = make_table();
  return table;
}

}  // namespace npu::cpu
