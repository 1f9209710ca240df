// Rows of x made ready for a linear layer: gathered, normalised, rounded to the storage type and
// converted to what the inner loops take.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dtype.hpp"
#include "kernel_table.hpp"

namespace npu::cpu {

struct RowSource {
  const void* x;  // storage type
  std::int64_t row_stride, stride;
  const float* scale;  // of the norm, or null for ones
};

class RowPreparation {
 public:
  // `widen` makes `planes` rows of k_padded elements of `size` bytes, one behind the other, of a
  // row of the storage type; elements past k are zero.
  RowPreparation(const KernelTable& table, DType dtype, WidenFn widen, std::int64_t size,
                 int planes, std::int64_t k, std::int64_t k_padded, bool rms_norm, float eps);

  // Bytes of scratch memory for one thread.
  std::int64_t scratch_bytes() const;

  void prepare(const RowSource& source, std::int64_t row, std::byte* to, std::byte* scratch) const;

 private:
  const std::byte* gathered(const RowSource& source, std::int64_t row, std::byte* into) const;
  void normalize(float* v, const float* scale) const;

  WidenFn to_float_;
  NarrowFn from_float_;
  DType dtype_;
  WidenFn widen_;
  std::int64_t size_;
  int planes_;
  std::int64_t k_, k_padded_;
  bool rms_norm_;
  float eps_;
};

}  // namespace npu::cpu
