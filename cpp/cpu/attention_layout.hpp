// How the attention kernel cuts its work: blocks of rows and keys, and where each worker keeps
// what.
//
// The queries of all heads that share a head of keys and values are rows of one matrix. Many rows
// multiply keys that have been packed into panels (the GEMM kernels' format). The few rows of a
// decode step read keys where they are, and so do queries with explicit positions, which see only
// a part of a cache. Those take the keys in spans of one fixed length and join the results in
// order, whether one thread does all spans or several share them: sums do not depend on the number
// of threads, keys, queries or batch elements.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/attention_keys.hpp"
#include "cpu/kernels/dtype.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/kernels/panels.hpp"
#include "cpu/packed_weights.hpp"
#include "runtime/kernel_params.hpp"

namespace npu::cpu {

// Rows [first, first + rows) of one batch and head of keys: row r is query r % m of the group's
// head r / m.
struct RowBlock {
  std::int64_t b, kv_head, first, rows;
};

// What is known of a block of rows after some of its keys.
struct AttentionSums {
  float* sums;     // [rows][sum_ld]
  float* largest;  // per row
  float* total;
};

// The state of one block of rows; all in scratch memory of one worker.
struct AttentionBlock {
  float* scores;  // [rows][score_ld]
  float* mask;    // the same, where there is a mask
  AttentionSums all, span;
  float* factor;        // per row
  KeyRange* keys;       // that each row sees
  std::byte* queries;   // as the products want them
  std::byte* gathered;  // a block of keys or values, or a query, whose elements lie apart
};

class AttentionLayout {
 public:
  AttentionLayout(const AttentionParams& p, DType dtype, const GemmKernels& gemm, int threads);

  std::size_t scratch_bytes() const { return memory_.size(); }
  AttentionBlock worker_block(std::byte* scratch, int worker) const;
  // Where the sums of a group over a span of keys stay until all spans are done.
  AttentionSums partial(std::byte* scratch, std::int64_t group, std::int64_t span) const;
  // Packed keys of a group; there are none where `unpacked`.
  std::byte* panels(std::byte* scratch, std::int64_t group) const {
    return scratch + panels_at_ + group * group_panel_bytes_;
  }

  // Heads of queries per head of keys, their rows together, and heads of keys in all batches.
  std::int64_t heads, group_rows, groups;
  bool unpacked;
  // Blocks of rows in a group; spans of keys and their length.
  std::int64_t blocks = 1, spans = 1, span_keys = 0;
  // Spans are tasks of their own.
  bool shares_spans = false;
  std::int64_t block_keys = 1, score_ld = 0, sum_ld = 0;
  // Elements of a query as the products want it, padding included.
  std::int64_t depth = 0, query_ld = 0, query_size = 0;
  std::int64_t panel_count = 0, panel_bytes = 0;

 private:
  AttentionSums sums_at(float* base, std::int64_t rows) const {
    return {base, base + rows * sum_ld, base + rows * (sum_ld + 1)};
  }
  std::size_t part(std::int64_t bytes) { return worker_.add(static_cast<std::size_t>(bytes)); }

  std::int64_t block_rows_ = 0, group_panel_bytes_ = 0, partial_floats_ = 0;
  // One part per worker, then packed keys and partial results.
  ScratchLayout worker_, memory_;
  std::size_t scores_at_ = 0, mask_at_ = 0, all_at_ = 0, span_at_ = 0, factor_at_ = 0;
  std::size_t keys_at_ = 0, queries_at_ = 0, gathered_at_ = 0, panels_at_ = 0, partials_at_ = 0;
};

}  // namespace npu::cpu
