// The inner loops that differ by instruction set, as tables of function pointers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu_features.hpp"
#include "dtype.hpp"

namespace npu::cpu {

// How a weight panel is laid out. A panel holds `nr` output channels for all of K:
//   f32, f16, bf16   [k][nr], widened to float32 as it is loaded
//   bf16_pairs       [k / 2][nr][2], what dot-product instructions take
//   f16_split        two bf16_pairs panels, one after the other: the high and low halves of each
//   value
enum class PanelFormat : std::uint8_t { f32, f16, bf16, bf16_pairs, f16_split };

constexpr int kMaxRows = 32;
constexpr int kMaxCols = 64;

// A block of A. Row i's K values are `runs` runs of `run_k` contiguous elements, run r starting at
// element i * lda + run_offsets[r]: one run for a plain matrix, one for each filter tap of a
// convolution that reads its input in place. For f16_split, the low halves lie `plane` elements
// after the high ones.
struct TileA {
  const void* base;
  std::int64_t lda;
  const std::int64_t* run_offsets;
  std::int64_t runs;
  std::int64_t run_k;  // a multiple of k_unit
  std::int64_t plane;
  // Memory to bring into L2 on the way, `next_step` bytes with each k_unit of K; or null.
  const std::byte* next = nullptr;
  std::int64_t next_step = 0;
};

// c[i][j] = sum over k of a[i][k] * panel[k][j] for i < rows, j < nr. For f16_split the result may
// be NaN where an operand is infinite. Up to row_overread rows past the last may be touched in a
// and in c.
using TileFn = void (*)(const TileA& a, const void* panel, float* c, std::int64_t ldc);

// n contiguous elements of the storage type to the type of A; `low` receives the low halves of a
// split.
using WidenFn = void (*)(const void* src, std::int64_t n, void* dst, void* low);

// Rounds n contiguous floats to the storage type.
using NarrowFn = void (*)(const float* src, std::int64_t n, void* dst);

// Fills a panel with `columns` weight rows of k contiguous elements of the storage type,
// `row_bytes` apart; the rest of the panel is zero. For f16_split the elements are those of one
// half.
using PackRowsFn = void (*)(const void* w, std::int64_t row_bytes, int columns, std::int64_t k,
                            std::int64_t k_padded, void* panel);

// n int8 values to the storage type.
using WidenInt8Fn = void (*)(const void* src, std::int64_t n, void* dst);

struct GemmKernels {
  PanelFormat format;
  int max_rows;           // tile[1..max_rows] exist
  int nr;                 // columns of a panel
  int k_unit;             // K is padded with zeros to a multiple of this
  int row_overread;       // how many rows past its last a tile may touch
  int a_size;             // bytes per element of packed A: 4 float32, 2 bfloat16
  int a_planes;           // 2 when A is split into high and low halves
  double macs_per_cycle;  // against which other costs are weighed when work is split
  WidenFn widen;
  TileFn tile[kMaxRows + 1];
  PackRowsFn pack_rows;  // or null: pack_panel is as good
};

// What becomes of a tile of sums: + bias + residual, clamp, round to the type of y.
struct TileStore {
  const float* bias;            // one per column, or null
  const void* const* residual;  // first element of each row, contiguous storage type; or null
  void* const* y;               // first element of each row, contiguous
  float lo, hi;
};
using StoreTileFn = void (*)(const float* sums, std::int64_t ld, int rows, std::int64_t n,
                             const TileStore& store);

// v[i][j] = v[i][j] * scale[j] + bias[j] in place, with two roundings; either may be null.
using ScaleTileFn = void (*)(float* v, std::int64_t ld, int rows, std::int64_t n,
                             const float* scale, const float* bias);
// v[i][j] *= by[i][j]
using MultiplyTileFn = void (*)(float* v, const float* by, std::int64_t ld, int rows,
                                std::int64_t n);

// Whether all of n contiguous floats are finite.
using AllFiniteFn = bool (*)(const float* v, std::int64_t n);

// out[j] = sum over k of w[j * ldw + k] * x[k] for j < rows; x is float32, or bfloat16 where the
// instruction set multiplies that directly (see KernelTable::dot_x_bf16).
using DotRowsFn = void (*)(const void* w, std::int64_t ldw, const void* x, std::int64_t k, int rows,
                           float* out);

// Rows of weights read where they lie, for linear layers of few rows: row j at w + j * row_bytes,
// row i of x (of kernels' x_size bytes an element) at x + i * x_bytes; k contiguous elements each.
struct DotBlock {
  const void* w;
  std::int64_t row_bytes, rows;
  const void* x;
  std::int64_t x_bytes, k;
};
constexpr int kMaxDotBlockRows = 8;
struct DotKernels {
  std::int64_t x_size;  // bytes per element of x: 4 float32, 2 bfloat16
  // multiply[m]: sums[i * ld + j] = sum over k of x[i][k] * w[j][k] for i < m and j < rows.
  void (*multiply[kMaxDotBlockRows + 1])(const DotBlock& block, float* sums, std::int64_t ld);
};

// Matrix tiles whose left operand is weight rows read where they lie, for linear layers of many
// rows. A tile has kTileRows rows of weights or of x and takes kTileStep bfloat16 values of K at a
// time. x is packed: [k / 2][row][2] for each step.
constexpr int kTileRows = 16;
constexpr int kTileStep = 32;
constexpr std::int64_t kPackedStepBytes = kTileRows * kTileStep * 2;
constexpr std::int64_t kTileSums = kTileRows * kTileRows;

// Weight rows that come next, to be brought into L2 on the way: `lines` cache lines of each of the
// kTileRows rows of two tiles. Several sequences of rows go side by side, as many as the memory's
// queues need: in each step the next `per_step` lines of every one.
constexpr int kSequences = 4;  // of each tile
constexpr int kSequenceRows = kTileRows / kSequences;
struct UpcomingRows {
  const std::byte* tile[2];
  std::int64_t row_bytes, lines;
  std::int64_t per_step;
  // Where the sequences have got to:
  int row = 0;
  std::int64_t line = 0;
};

struct RowTileBlock {
  const std::byte* w[2];  // the first row of each of two tiles
  std::int64_t row_bytes;
  const std::byte* x;  // packed
  std::int64_t x_tile_bytes;
  std::int64_t tiles;  // of x
  std::int64_t steps;
  float* sums;  // [tiles][2][row of w][row of x]
  bool add;     // to the sums that are there
};

struct RowTileKernels {
  void (*multiply)(const RowTileBlock& block, UpcomingRows* upcoming);  // upcoming may be null
  // A tile of x from `rows` rows of k values; the rest, in rows and up to k_padded, is zero.
  void (*pack)(const void* x, std::int64_t row_bytes, int rows, std::int64_t k,
               std::int64_t k_padded, void* packed);
  // to[i * ld + j] = sums[j][i]
  void (*transpose)(const float* sums, float* to, std::int64_t ld);
};

// One output pixel of a depthwise convolution over c contiguous channels: sum over taps of
// x[taps[t]][c] * w[t][c]. A null tap is padding. w is float32 with row length ldw.
using DepthwiseFn = void (*)(const void* const* taps, std::int64_t n_taps, const float* w,
                             std::int64_t ldw, std::int64_t c, float* sums);

// acc[c] = max(acc[c], x[c]), NaN winning, or acc[c] += x[c], over contiguous channels.
using AccumulateFn = void (*)(float* acc, const void* x, std::int64_t c);

// Winograd transforms of 3x3 filters, F(2x2) and F(4x4): an output tile of 2 or 4 pixels a side
// from an input tile of 4 or 6. Channels are contiguous. in: input-tile pixels of c storage-type
// channels, row by row -> v[f * ldv + channel], float32.
using WinogradInputFn = void (*)(const void* const* pixels, std::int64_t c, float* v,
                                 std::int64_t ldv);
// m[f * ldm + j], j < n (a multiple of the vector width) -> sums[p * n + j], p the output pixels
// row by row. False when a sum is not finite, which the transforms may have spread over the tile.
using WinogradOutputFn = bool (*)(const float* m, std::int64_t ldm, std::int64_t n, float* sums);

struct WinogradKernels {
  WinogradInputFn input[3];  // by DType
  WinogradOutputFn output;
};

struct KernelTable {
  Isa isa;
  GemmKernels gemm[3];        // by DType
  GemmKernels gemm_f32;       // float32 A and panels, whatever the storage type
  bool dot_x_bf16;            // dot_rows[bf16] takes x as bfloat16
  StoreTileFn store_tile[3];  // y of the storage type
  StoreTileFn add_tile[3];    // y of float32, for what is left to compute; may be the sums
  ScaleTileFn scale_tile;
  MultiplyTileFn multiply_tile;
  AllFiniteFn all_finite;
  WidenFn widen_f32[3];    // storage type to float32
  NarrowFn narrow_f32[3];  // and back
  WidenInt8Fn widen_i8[3];
  DotRowsFn dot_rows[3];
  DotKernels dots[3];                         // weights of the storage type
  DotKernels dots_i8[3];                      // int8 weights, by the storage type of x
  const RowTileKernels* row_tiles = nullptr;  // of bfloat16, where there are matrix tiles
  DepthwiseFn depthwise[3];
  AccumulateFn accumulate_max[3];
  AccumulateFn accumulate_sum[3];
  WinogradKernels winograd_f2, winograd_f4;
  void (*enter)();  // around each task: AMX loads and releases its tile configuration
  void (*leave)();
};

// The table for an instruction set, or for the best one below it that this build has.
const KernelTable& kernel_table(Isa isa);

const KernelTable& generic_kernels();
const KernelTable& avx2_kernels();
const KernelTable& avx512_kernels();
const KernelTable& avx512_bf16_kernels();
const KernelTable& amx_kernels();

// Replaces what AVX512_VBMI does better in a table of AVX512_BF16.
void use_avx512_vbmi(KernelTable& table);

}  // namespace npu::cpu
