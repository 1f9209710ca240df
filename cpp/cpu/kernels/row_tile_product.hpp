// A linear layer of many rows on matrix tiles, with its weight rows read where they lie.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel_table.hpp"
#include "linear_epilogue.hpp"
#include "thread_pool.hpp"

namespace npu::cpu {

// Bfloat16 weights, or int8 ones that are converted chunk by chunk; k is contiguous.
struct RowTileWeights {
  const std::byte* data;
  std::int64_t part_bytes, row_bytes;
};

class RowTileProduct {
 public:
  // For at most `rows` rows of x at a time.
  RowTileProduct(const KernelTable& table, const LinearShape& shape, bool int8, std::int64_t rows,
                 ThreadPool& pool);

  std::int64_t scratch_bytes() const { return sums_at_ + sums_bytes_; }

  // `x`: `rows` rows of k bfloat16 values, x_row_bytes apart. Calls finish(sums, rows, columns) for
  // every block of results, from any thread.
  using Finish = FunctionRef<void(const LinearSums&, Range rows, Range columns)>;
  void run(const RowTileWeights& weights, const std::byte* x, std::int64_t x_row_bytes,
           std::int64_t rows, std::byte* scratch, Finish finish) const;

 private:
  struct Job;
  void pack(const Job& job, const std::byte* x, std::int64_t x_row_bytes) const;
  void multiply(const Job& job, std::int64_t pair, Range tiles, Range steps, float* sums,
                std::byte* staging) const;
  void finish_block(const Job& job, std::int64_t block, Range tiles, const float* sums) const;
  void stage(const Job& job, std::int64_t pair, Range steps, std::byte* to) const;
  Range pairs_of(std::int64_t block) const;
  const std::byte* tile_rows(const Job& job, std::int64_t pair, int tile) const;
  std::int64_t valid_rows(std::int64_t pair, int tile) const;
  UpcomingRows upcoming(const Job& job, std::int64_t pair, std::int64_t tiles, Range steps) const;
  std::int64_t pair_sums() const { return most_tiles_ * 2 * kTileSums; }

  const KernelTable& t_;
  LinearShape s_;
  bool int8_;
  ThreadPool& pool_;
  std::int64_t weight_size_, steps_, most_tiles_, pair_columns_, pairs_, blocks_;
  std::int64_t stretch_steps_, range_blocks_;
  std::int64_t staging_at_, sums_at_, sums_bytes_;
};

}  // namespace npu::cpu
