// The attention kernel's work on one block of rows: scores of a range of keys, an online softmax
// and the sums over values, on one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cpu/attention_keys.hpp"
#include "cpu/attention_layout.hpp"
#include "cpu/attention_tiles.hpp"
#include "cpu/host_kernels.hpp"
#include "cpu/kernels/kernel_table.hpp"

namespace npu::cpu {

enum AttentionOperand : std::size_t { kQ, kK, kV, kMask, kPositions, kY };

// Refers to the layout and the rule of visible keys that it is made with.
class AttentionRows {
 public:
  // `table` and `dtype` are those of the layout. Throws kInvalidProgram for a mask that is neither
  // bool nor floating-point.
  AttentionRows(const DispatchInfo& dispatch, const CpuContext& context, const KernelTable& table,
                DType dtype, const AttentionLayout& layout, const VisibleKeys& visible);

  // Loads a block's queries and what each row sees; returns the keys that any of them sees.
  KeyRange start(std::span<std::byte* const> operands, const RowBlock& r,
                 const AttentionBlock& state) const;
  // No key seen yet.
  void clear(const AttentionSums& state, std::int64_t rows) const;
  // Adds the keys of a range, all of one span. Blocks of keys start at multiples of their size,
  // counted from the span's start, and each row sums over what it sees of a block.
  void attend(std::span<std::byte* const> operands, const RowBlock& r, const KeyRange& range,
              const std::byte* panels, const AttentionBlock& state,
              const AttentionSums& sums) const;
  // Adds what was found over later keys to what was found over earlier ones.
  void join(const AttentionSums& all, const AttentionSums& later, std::int64_t rows) const;
  // Writes the rows of y; divides the sums in place.
  void store(std::byte* y, const RowBlock& r, const AttentionSums& state) const;

 private:
  void choose_mask(const DispatchInfo& dispatch);
  // Offset of a row in an operand with the given strides of batch, head and query.
  std::int64_t row_offset(const RowBlock& r, std::int64_t row, std::int64_t sb, std::int64_t sh,
                          std::int64_t sm) const;
  // `rows` x `columns` elements as rows without gaps; in place where they already are.
  const std::byte* gather(const std::byte* from, std::int64_t rows, std::int64_t columns,
                          std::int64_t row_stride, std::int64_t column_stride, std::byte* to,
                          std::int64_t& row_bytes) const;
  void load_queries(const std::byte* q, const RowBlock& r, const AttentionBlock& state) const;
  // What the mask adds to the block's scores; false where no row sees any of these keys.
  bool load_mask(const std::byte* mask, const RowBlock& r, std::int64_t key, std::int64_t n,
                 const AttentionBlock& state) const;
  // Rows [first, first + rows) of k or v, where they are read in place.
  RowsAhead rows_ahead(const std::byte* base, std::int64_t row_stride, std::int64_t column_stride,
                       std::int64_t columns, std::int64_t first, std::int64_t rows) const;
  void score_in_place(const std::byte* k, const RowBlock& r, std::int64_t key, std::int64_t n,
                      const RowsAhead& ahead, const AttentionBlock& state) const;
  void score_panels(const std::byte* panels, const RowBlock& r, std::int64_t n,
                    const AttentionBlock& state) const;
  // Scores of one row become exponentials relative to the largest score so far.
  void update_row(std::int64_t row, std::int64_t key, std::int64_t n, const AttentionBlock& state,
                  const AttentionSums& sums) const;

  const AttentionParams p_;
  const DType dtype_;
  const std::int64_t size_;
  const TileKernels& tiles_;
  const AttentionTiles& loops_;
  const KernelTable& table_;
  const GemmKernels& gemm_;
  const AttentionLayout& at_;
  const VisibleKeys& visible_;
  bool keep_mask_ = false;
  RunLoad load_mask_ = nullptr;
  std::int64_t mask_size_ = 0;
};

}  // namespace npu::cpu
