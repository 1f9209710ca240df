// Kernels for AMX-BF16: 32x32 blocks of sums in tile registers; the rest is AVX512_BF16's.
//
// A float16 value is exactly the sum of two bfloat16 ones, high + low, so float16 products become
// high*high + high*low + low*high. What is dropped, low*low, is below 2^-16 of the product.
#include <immintrin.h>

#include "amx_row_tiles.hpp"
#include "kernel_table.hpp"
#include "simd_avx512.hpp"
#include "simd_dots_bf16.hpp"

namespace npu::cpu {
namespace {

constexpr int kBlockRows = 32;
constexpr int kBlockCols = 32;
constexpr int kStep = 32;               // bfloat16 values of K in a tile row
constexpr std::int64_t kPairRow = 128;  // bytes of a panel row: 32 columns of pairs
constexpr std::int64_t kPrefetchBytes = 8 * kTileRows * kPairRow;

// Tiles 0-3 hold sums, 4 and 5 rows of A, 6 and 7 columns of the panel; all are 16 rows of 64
// bytes.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Constant memory: GCC 12's intrinsic says of the 64 bytes that it reads the first eight alone, and
// what is stored into a local variable just before would be dropped as unused.
constexpr TileConfig kTileConfig;

void enter() { _tile_loadconfig(&kTileConfig); }
void leave() { _tile_release(); }

struct Block {
  const std::byte* a;
  std::int64_t row_bytes;
  const std::byte* panel;

  template <bool Tall>
  [[gnu::always_inline]] void load_a() const {
    _tile_loadd(4, a, row_bytes);
    if constexpr (Tall) _tile_loadd(5, a + kTileRows * row_bytes, row_bytes);
  }
  [[gnu::always_inline]] void advance() {
    a += kStep * 2;
    panel += kTileRows * kPairRow;
  }
  // Tile loads do not wake the hardware prefetcher enough: ask for the panel a few steps ahead.
  [[gnu::always_inline]] void prefetch_panel() const {
#pragma GCC unroll 32
    for (int line = 0; line < 32; ++line) {
      _mm_prefetch(reinterpret_cast<const char*>(panel) + kPrefetchBytes + line * 64, _MM_HINT_T0);
    }
  }
  [[gnu::always_inline]] void load_panel() const {
    _tile_loadd(6, panel, kPairRow);
    _tile_loadd(7, panel + 64, kPairRow);
  }
};

template <bool Tall>
[[gnu::always_inline]] inline void multiply() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if constexpr (Tall) {
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

template <bool Tall>
[[gnu::always_inline]] inline void clear_sums() {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (Tall) {
    _tile_zero(2);
    _tile_zero(3);
  }
}

template <bool Tall>
[[gnu::always_inline]] inline void store_sums(float* c, std::int64_t ldc) {
  _tile_stored(0, c, ldc * 4);
  _tile_stored(1, c + 16, ldc * 4);
  if constexpr (Tall) {
    _tile_stored(2, c + kTileRows * ldc, ldc * 4);
    _tile_stored(3, c + kTileRows * ldc + 16, ldc * 4);
  }
}

template <bool Tall>
void gemm_block_bf16(const TileA& a, const void* panel, float* c, std::int64_t ldc) {
  Block b{nullptr, a.lda * 2, static_cast<const std::byte*>(panel)};
  clear_sums<Tall>();
  for (std::int64_t r = 0; r < a.runs; ++r) {
    b.a = static_cast<const std::byte*>(a.base) + a.run_offsets[r] * 2;
    for (std::int64_t kk = 0; kk < a.run_k; kk += kStep) {
      b.prefetch_panel();
      b.load_panel();
      b.load_a<Tall>();
      multiply<Tall>();
      b.advance();
    }
  }
  store_sums<Tall>(c, ldc);
}

template <bool Tall>
void gemm_block_split(const TileA& a, const void* panel, float* c, std::int64_t ldc) {
  const std::int64_t k = a.runs * a.run_k;
  Block high{nullptr, a.lda * 2, static_cast<const std::byte*>(panel)};
  Block low{nullptr, a.lda * 2, high.panel + k * kBlockCols * 2};
  clear_sums<Tall>();
  for (std::int64_t r = 0; r < a.runs; ++r) {
    high.a = static_cast<const std::byte*>(a.base) + a.run_offsets[r] * 2;
    low.a = high.a + a.plane * 2;
    for (std::int64_t kk = 0; kk < a.run_k; kk += kStep) {
      high.prefetch_panel();
      low.prefetch_panel();
      high.load_panel();
      low.load_a<Tall>();
      multiply<Tall>();
      high.load_a<Tall>();
      multiply<Tall>();
      low.load_panel();
      multiply<Tall>();
      high.advance();
      low.advance();
    }
  }
  store_sums<Tall>(c, ldc);
}

// Sixteen float16 values to the bfloat16 nearest to each and the bfloat16 that is the exact rest.
// An infinity or NaN has no rest.
void split(__m256i h, __m256i& high, __m256i& low) {
  const __m512 v = Avx512Vec::widen<DType::f16>(h);
  high = Avx512Vec::narrow<DType::bf16>(v);
  const __m512 rest = _mm512_sub_ps(v, Avx512Vec::widen<DType::bf16>(high));
  const __mmask16 finite = _mm512_cmp_ps_mask(rest, rest, _CMP_ORD_Q);
  low = Avx512Vec::narrow<DType::bf16>(_mm512_maskz_mov_ps(finite, rest));
}

void split_row(const void* src, std::int64_t n, void* dst, void* low_dst) {
  const auto* s = static_cast<const std::uint16_t*>(src);
  auto* d = static_cast<std::uint16_t*>(dst);
  auto* l = static_cast<std::uint16_t*>(low_dst);
  __m256i high;
  __m256i low;
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    split(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(s + i)), high, low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(d + i), high);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(l + i), low);
  }
  if (i < n) {
    const __mmask16 mask = Avx512Vec::mask(n - i);
    split(_mm256_maskz_loadu_epi16(mask, s + i), high, low);
    _mm256_mask_storeu_epi16(d + i, mask, high);
    _mm256_mask_storeu_epi16(l + i, mask, low);
  }
}

void use_blocks(GemmKernels& g, TileFn low_block, TileFn tall_block) {
  g.max_rows = kBlockRows;
  g.nr = kBlockCols;
  g.k_unit = kStep;
  g.row_overread = kBlockRows - 1;
  g.a_size = 2;
  for (int rows = 1; rows <= kBlockRows; ++rows)
    g.tile[rows] = rows <= kTileRows ? low_block : tall_block;
}

// On processors with AMX weights stream best straight into L1. Converting int8 to pairs of bfloat16
// takes as long there as reading them; to float32 it takes half of that.
void use_streaming_dots(KernelTable& t) {
  constexpr int kRegisters = 32;
  constexpr int kIntoL1 = 3;
  fill_dots<Avx512Vec, kRegisters, kIntoL1>(t);
  t.dots[static_cast<std::size_t>(DType::bf16)] = dot_kernels<Bf16PairDots, kIntoL1>();
}

KernelTable make_table() {
  KernelTable t = avx512_bf16_kernels();
  t.isa = Isa::amx;
  use_streaming_dots(t);
  t.enter = &enter;
  t.leave = &leave;
  GemmKernels& bf16 = t.gemm[static_cast<std::size_t>(DType::bf16)];
  use_blocks(bf16, &gemm_block_bf16<false>, &gemm_block_bf16<true>);
  bf16.macs_per_cycle = 400;
  GemmKernels& f16 = t.gemm[static_cast<std::size_t>(DType::f16)];
  use_blocks(f16, &gemm_block_split<false>, &gemm_block_split<true>);
  f16.format = PanelFormat::f16_split;
  f16.a_planes = 2;
  f16.macs_per_cycle = 130;
  f16.widen = &split_row;
  f16.pack_rows = bf16.pack_rows;
  static constexpr RowTileKernels kRowTiles{&multiply_row_tile_block, &pack_row_tile,
                                            &transpose_row_tile_sums};
  t.row_tiles = &kRowTiles;
  t.widen_i8[static_cast<std::size_t>(DType::bf16)] = &widen_int8_to_bf16;
  return t;
}

}  // namespace

const KernelTable& amx_kernels() {
  static const KernelTable table = make_table();
  return table;
}

}  // namespace npu::cpu
