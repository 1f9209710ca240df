// The inner loops of the attention kernel, compiled once per instruction set.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "cpu/kernels/cpu_features.hpp"
#include "cpu/kernels/dtype.hpp"

namespace npu::cpu {

// Rows that will be wanted soon and are fetched on the way: those of a cache lie too far apart for
// the hardware to guess them. None by default.
struct RowsAhead {
  const std::byte* first = nullptr;
  std::int64_t row_bytes = 0;  // from one row to the next
  std::int64_t bytes = 0;      // of a row
  std::int64_t rows = 0;
};

// Rows of exponentials times rows of v, added to sums that a larger maximum has scaled down:
// sums[i][c] = sums[i][c] * factors[i] + sum over j < n of p[i * ldp + j] * v[j][c], c < columns.
// The columns of v are contiguous, its rows `row_bytes` apart.
struct WeightedRows {
  const float* p;
  std::int64_t ldp;
  int rows;
  std::int64_t n;
  const std::byte* v;
  std::int64_t row_bytes;
  std::int64_t columns;
  const float* factors;
  float* sums;
  std::int64_t ld;
  RowsAhead ahead{};
};

// scores[i * ld + j] = q[i] . k[j] for i < rows, j < n, over d contiguous elements each; q is
// float32, `ldq` elements apart; rows of k are `row_bytes` apart. The order of a score's sum does
// not depend on i, j, rows or n.
struct RowProducts {
  const float* q;
  std::int64_t ldq;
  int rows;
  const std::byte* k;
  std::int64_t row_bytes;
  std::int64_t n;
  std::int64_t d;
  float* scores;
  std::int64_t ld;
  RowsAhead ahead{};
};

struct AttentionTiles {
  // s[i] = s[i] * scale + mask[i] (mask may be null), with softcap c > 0 c tanh(s[i] * scale / c) +
  // mask[i]; returns the largest, -inf for none. NaN may be passed over.
  float (*scale_scores)(float* s, const float* mask, float scale, float softcap, std::int64_t n);
  // s[i] = exp(s[i] - shift), no s[i] being larger than shift; returns their sum.
  float (*exponentials)(float* s, float shift, std::int64_t n);
  std::array<void (*)(const WeightedRows&), 3> weighted_rows;  // by DType of v
  std::array<void (*)(const RowProducts&), 3> row_products;    // by DType of k
};

// The table for an instruction set, or for the best one below it that this build has.
const AttentionTiles& attention_tiles(Isa isa);

// One function per compilation of attention_tiles_isa.cpp.
const AttentionTiles& attention_tiles_generic();
const AttentionTiles& attention_tiles_avx2();
const AttentionTiles& attention_tiles_avx512();

}  // namespace npu::cpu
