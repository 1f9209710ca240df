// How the map_reduce kernel combines tiles of values: float32 (sums in float64 between tiles),
// int32 and int64.
#pragma once

#include <cstdint>

#include "cpu/host_kernels.hpp"

namespace npu::cpu {

// Partial results are values of the accumulator's dtype, and so are totals but those of sums of
// floats, which are doubles.
class MapFold {
 public:
  MapFold() = default;
  // `op` is a REDUCE_OPS number, `dtype` f32, i32 or i64.
  MapFold(const CpuContext& context, std::uint32_t op, std::uint32_t dtype);

  // 32-bit words of a partial result and of a total.
  std::int64_t words() const { return wide_ ? 2 : 1; }
  std::int64_t total_words() const { return wide_ || in_double_ ? 2 : 1; }

  // The values that change nothing.
  void clear_partial(std::uint32_t* partial, std::int64_t n) const;
  void clear_total(std::uint32_t* total, std::int64_t n) const;

  // partial[r] = n values of each row combined. Rows begin `stride` values apart.
  void fold(std::uint32_t* partial, const std::uint32_t* values, std::int64_t stride,
            std::int64_t rows, std::int64_t n) const;
  // partial[i] = combine(partial[i], value i of every row).
  void accumulate(std::uint32_t* partial, const std::uint32_t* values, std::int64_t stride,
                  std::int64_t rows, std::int64_t n) const;
  // total[i] = combine(total[i], partial[i]).
  void add(std::uint32_t* total, const std::uint32_t* partial, std::int64_t n) const;
  // total[i] = combine(total[i], other[i]), of totals.
  void join(std::uint32_t* total, const std::uint32_t* other, std::int64_t n) const;
  // Totals as values of the accumulator's dtype.
  void finish(std::uint32_t* result, const std::uint32_t* total, std::int64_t n) const;

 private:
  Combine combine_ = Combine::kSum;
  bool floating_ = true, wide_ = false;
  bool in_double_ = true;  // sums of floats
  const RowKernels* rows_ = nullptr;
};

}  // namespace npu::cpu
