// Loops over pairs of tiles of weight rows: two neighbours, or one of each part. A block is what is
// finished together, a cache line of results: one pair, or two where there are two parts.
#include "row_tile_product.hpp"

#include <algorithm>
#include <cstring>

#include "dtype.hpp"

namespace npu::cpu {
namespace {

// Steps of K of a block that stay in L1: 32 KiB of bfloat16 weights.
constexpr std::int64_t kChunkSteps = 16;
// Packed x that stays in L2 while all weights pass by; a longer K is done in stretches.
constexpr std::int64_t kStretchBytes = 1024 * 1024;
// Sums that wait for the next stretch of K.
constexpr std::int64_t kMaxSumsBytes = 4 << 20;
// With up to so many tiles of x weights are used once, as they arrive.
constexpr std::int64_t kStreamedTiles = 3;
// Rows of a staged chunk are an odd number of cache lines apart.
constexpr std::int64_t kStagedRowBytes = (kChunkSteps + 1) * kTileStep * 2;
constexpr std::int64_t kStagingBytes = 2 * kTileRows * kStagedRowBytes;

// Part `i` of `parts` of `count`.
Range part_of(std::int64_t count, std::int64_t parts, std::int64_t i) {
  const std::int64_t first = count * i / parts;
  return {first, count * (i + 1) / parts - first};
}

}  // namespace

struct RowTileProduct::Job {
  const RowTileWeights& weights;
  std::int64_t rows, tiles;
  std::byte* scratch;  // begins with packed x
  Finish finish;
};

RowTileProduct::RowTileProduct(const KernelTable& table, const LinearShape& shape, bool int8,
                               std::int64_t rows, ThreadPool& pool)
    : t_(table),
      s_(shape),
      int8_(int8),
      pool_(pool),
      weight_size_(int8 ? 1 : 2),
      steps_(ceil_div(shape.k, kTileStep)),
      most_tiles_(ceil_div(rows, kTileRows)),
      pair_columns_(2 * kTileRows / shape.parts),
      pairs_(ceil_div(shape.n, pair_columns_)),
      blocks_(ceil_div(pairs_, shape.parts)) {
  const std::int64_t fit = std::max(kChunkSteps, kStretchBytes / (most_tiles_ * kPackedStepBytes));
  const std::int64_t stretches = std::max<std::int64_t>(1, ceil_div(steps_, fit));
  stretch_steps_ = ceil_div(steps_, stretches);
  const std::int64_t block_bytes = s_.parts * pair_sums() * 4;
  const std::int64_t threads = pool.threads();
  range_blocks_ = stretches == 1
                      ? blocks_
                      : std::min(blocks_, std::max(4 * threads, kMaxSumsBytes / block_bytes));
  staging_at_ = most_tiles_ * steps_ * kPackedStepBytes;
  sums_at_ = staging_at_ + threads * kStagingBytes;
  sums_bytes_ = (stretches == 1 ? threads : range_blocks_) * block_bytes;
}

void RowTileProduct::run(const RowTileWeights& weights, const std::byte* x,
                         std::int64_t x_row_bytes, std::int64_t rows, std::byte* scratch,
                         Finish finish) const {
  const Job job{weights, rows, ceil_div(rows, kTileRows), scratch, finish};
  pack(job, x, x_row_bytes);
  auto* sums = reinterpret_cast<float*>(scratch + sums_at_);
  const std::int64_t block_sums = s_.parts * pair_sums();
  const bool whole = stretch_steps_ >= steps_;
  // With few blocks the tiles of x are shared out, too.
  const std::int64_t parts = std::clamp<std::int64_t>(
      ceil_div(4 * pool_.threads(), std::max<std::int64_t>(1, range_blocks_)), 1,
      ceil_div(job.tiles, 2 * kStreamedTiles));
  for (std::int64_t first = 0; first < blocks_; first += range_blocks_) {
    // A layer without terms has one empty stretch.
    std::int64_t step = 0;
    do {
      const Range steps{step, std::min(stretch_steps_, steps_ - step)};
      step += steps.count;
      pool_.parallel_for(std::min(range_blocks_, blocks_ - first) * parts,
                         [&](std::int64_t task, int worker) {
                           const std::int64_t block = task / parts;
                           const Range tiles = part_of(job.tiles, parts, task % parts);
                           float* at = sums + (whole ? worker : block) * block_sums;
                           const Range pairs = pairs_of(first + block);
                           if (t_.enter != nullptr) t_.enter();
                           for (std::int64_t i = 0; i < pairs.count; ++i) {
                             multiply(job, pairs.first + i, tiles, steps, at + i * pair_sums(),
                                      scratch + staging_at_ + worker * kStagingBytes);
                           }
                           if (t_.leave != nullptr) t_.leave();
                           if (step == steps_) finish_block(job, first + block, tiles, at);
                         });
    } while (step < steps_);
  }
}

void RowTileProduct::pack(const Job& job, const std::byte* x, std::int64_t x_row_bytes) const {
  // Few tiles are shared out by stretches of K, too.
  const std::int64_t parts = std::clamp<std::int64_t>(ceil_div(4 * pool_.threads(), job.tiles), 1,
                                                      std::max<std::int64_t>(1, steps_ / 8));
  pool_.parallel_for(job.tiles * parts, [&](std::int64_t task, int) {
    const std::int64_t tile = task / parts;
    const Range steps = part_of(steps_, parts, task % parts);
    const std::int64_t row = tile * kTileRows;
    const std::int64_t k = steps.first * kTileStep;
    t_.row_tiles->pack(x + row * x_row_bytes + k * 2, x_row_bytes,
                       static_cast<int>(std::min<std::int64_t>(kTileRows, job.rows - row)),
                       std::min(s_.k - k, steps.count * kTileStep), steps.count * kTileStep,
                       job.scratch + (tile * steps_ + steps.first) * kPackedStepBytes);
  });
}

Range RowTileProduct::pairs_of(std::int64_t block) const {
  const std::int64_t first = block * s_.parts;
  return {first, std::min(s_.parts, pairs_ - first)};
}

std::int64_t RowTileProduct::valid_rows(std::int64_t pair, int tile) const {
  const std::int64_t first = pair * pair_columns_ + (s_.parts == 2 ? 0 : tile * kTileRows);
  return std::clamp<std::int64_t>(s_.n - first, 0, kTileRows);
}

const std::byte* RowTileProduct::tile_rows(const Job& job, std::int64_t pair, int tile) const {
  const RowTileWeights& w = job.weights;
  const std::byte* first = w.data + pair * pair_columns_ * w.row_bytes;
  return first + tile * (s_.parts == 2 ? w.part_bytes : kTileRows * w.row_bytes);
}

// The pair after this one, which this thread is likely to do next, or nothing. Where weights pass
// by but once, tile loads of bfloat16 rows are sequences that the hardware foresees by itself. It
// does not foresee the short pieces that they and int8 rows are read in otherwise.
UpcomingRows RowTileProduct::upcoming(const Job& job, std::int64_t pair, std::int64_t tiles,
                                      Range steps) const {
  const bool wanted = int8_ || tiles > kStreamedTiles;
  if (!wanted || steps.count == 0 || pair + 1 >= pairs_ || valid_rows(pair + 1, 1) < kTileRows) {
    return {};
  }
  const std::int64_t offset = steps.first * kTileStep * weight_size_;
  const std::int64_t lines = ceil_div(steps.count * kTileStep * weight_size_, 64);
  // Tiles of x go by in pairs, see multiply_row_tile_block.
  const std::int64_t all_steps = std::max<std::int64_t>(1, tiles / 2) * steps.count;
  return {{tile_rows(job, pair + 1, 0) + offset, tile_rows(job, pair + 1, 1) + offset},
          job.weights.row_bytes,
          lines,
          ceil_div(kSequenceRows * lines, all_steps)};
}

// Chunks of weights that cannot be read in place: int8, rows of the last pair that do not fill a
// tile, a step that K does not fill.
void RowTileProduct::stage(const Job& job, std::int64_t pair, Range steps, std::byte* to) const {
  const std::int64_t k = steps.first * kTileStep;
  const std::int64_t count = std::min(s_.k - k, steps.count * kTileStep);
  for (int row = 0; row < 2 * kTileRows; ++row, to += kStagedRowBytes) {
    const int tile = row / kTileRows;
    const std::int64_t within = row % kTileRows;
    std::int64_t filled = 0;
    if (within < valid_rows(pair, tile)) {
      const std::byte* from =
          tile_rows(job, pair, tile) + within * job.weights.row_bytes + k * weight_size_;
      if (int8_) {
        t_.widen_i8[static_cast<std::size_t>(DType::bf16)](from, count, to);
      } else {
        std::memcpy(to, from, static_cast<std::size_t>(count * 2));
      }
      filled = count * 2;
    }
    std::memset(to + filled, 0, static_cast<std::size_t>(steps.count * kTileStep * 2 - filled));
  }
}

void RowTileProduct::multiply(const Job& job, std::int64_t pair, Range tiles, Range steps,
                              float* sums, std::byte* staging) const {
  const bool whole_tiles = valid_rows(pair, 0) == kTileRows && valid_rows(pair, 1) == kTileRows;
  const bool streamed = tiles.count <= kStreamedTiles;
  const bool whole_steps = (steps.first + steps.count) * kTileStep <= s_.k;
  const bool one_chunk = streamed && whole_tiles && whole_steps && !int8_;
  const std::int64_t chunks =
      one_chunk ? 1 : std::max<std::int64_t>(1, ceil_div(steps.count, kChunkSteps));
  UpcomingRows next = upcoming(job, pair, tiles.count, steps);
  for (std::int64_t i = 0; i < chunks; ++i) {
    Range chunk = part_of(steps.count, chunks, i);
    chunk.first += steps.first;
    RowTileBlock b{{},
                   0,
                   job.scratch + (tiles.first * steps_ + chunk.first) * kPackedStepBytes,
                   steps_ * kPackedStepBytes,
                   tiles.count,
                   chunk.count,
                   sums + tiles.first * 2 * kTileSums,
                   chunk.first > 0};
    if (int8_ || !whole_tiles || (chunk.first + chunk.count) * kTileStep > s_.k) {
      stage(job, pair, chunk, staging);
      b.w[0] = staging;
      b.w[1] = staging + kTileRows * kStagedRowBytes;
      b.row_bytes = kStagedRowBytes;
    } else {
      for (int tile = 0; tile < 2; ++tile) {
        b.w[tile] = tile_rows(job, pair, tile) + chunk.first * kTileStep * 2;
      }
      b.row_bytes = job.weights.row_bytes;
    }
    t_.row_tiles->multiply(b, next.lines > 0 ? &next : nullptr);
  }
}

void RowTileProduct::finish_block(const Job& job, std::int64_t block, Range tiles,
                                  const float* sums) const {
  constexpr std::int64_t kRows = 2 * kTileRows;
  static_assert(kRows <= kMaxRows);
  constexpr std::int64_t kColumns = 2 * kTileRows;
  alignas(64) float turned[2][kRows * kColumns];
  const Range pairs = pairs_of(block);
  const Range columns{block * kColumns, std::min(kColumns, s_.n - block * kColumns)};
  const std::int64_t end = std::min(job.rows, (tiles.first + tiles.count) * kTileRows);
  for (std::int64_t row = tiles.first * kTileRows; row < end; row += kRows) {
    const std::int64_t count = std::min(kRows, end - row);
    for (std::int64_t i = 0; i < count; i += kTileRows) {
      for (std::int64_t pair = 0; pair < pairs.count; ++pair) {
        const float* of = sums + pair * pair_sums() + (row + i) / kTileRows * 2 * kTileSums;
        for (int tile = 0; tile < 2; ++tile) {
          float* part = turned[s_.parts == 2 ? tile : 0];
          const std::int64_t column = (s_.parts == 2 ? pair : tile) * kTileRows;
          t_.row_tiles->transpose(of + tile * kTileSums, part + i * kColumns + column, kColumns);
        }
      }
    }
    job.finish({{turned[0], s_.parts == 2 ? turned[1] : nullptr}, kColumns}, {row, count}, columns);
  }
}

}  // namespace npu::cpu
