// Walks several rows of a matrix in step, with few registers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace npu::cpu {

// Places of `Rows` rows, `row_bytes` apart, at the same distance from the row's start. Five rows
// share a pointer: base + {0, 1, 2, 3, 4} * row_bytes are addresses that instructions form by
// themselves (one more register holds 3 * row_bytes). A tile of 14 rows then needs five registers
// instead of fourteen, which do not fit beside the loop's own: reloading them, some from vector
// registers, cost 3 to 5% of the tile's time.
template <int Rows>
class RowCursor {
 public:
  RowCursor(const std::byte* first, std::int64_t row_bytes)
      : row_bytes_(row_bytes), three_rows_(3 * row_bytes) {
    for (int b = 0; b < kBases; ++b) base_[b] = first + b * kRowsPerBase * row_bytes;
    keep();
  }

  [[gnu::always_inline]] const std::byte* row(int i) const {
    const int within = i % kRowsPerBase;
    return base_[i / kRowsPerBase] + (within == 3 ? three_rows_ : within * row_bytes_);
  }

  [[gnu::always_inline]] void advance(std::int64_t bytes) {
#pragma GCC unroll 8
    for (int b = 0; b < kBases; ++b) base_[b] += bytes;
    keep();
  }

 private:
  static constexpr int kRowsPerBase = 5;
  static constexpr int kBases = (Rows + kRowsPerBase - 1) / kRowsPerBase;

  // The compiler would make one pointer of each row again if it could see through these.
  [[gnu::always_inline]] void keep() {
#pragma GCC unroll 8
    for (int b = 0; b < kBases; ++b) __asm__("" : "+r"(base_[b]));
    __asm__("" : "+r"(row_bytes_), "+r"(three_rows_));
  }

  const std::byte* base_[kBases];
  std::int64_t row_bytes_, three_rows_;
};

}  // namespace npu::cpu
