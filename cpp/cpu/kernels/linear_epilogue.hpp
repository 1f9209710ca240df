// What becomes of a linear layer's sums: scales and biases, the activation or gate, residual,
// clamp, rounding.
#pragma once

#include <array>
#include <cstdint>

#include "dtype.hpp"
#include "kernel_table.hpp"
#include "linear.hpp"

namespace npu::cpu {

struct Range {
  std::int64_t first, count;
};

// Sums of a block of rows and columns for each part; rows are `ld` apart. They change on the way.
struct LinearSums {
  std::array<float*, 2> part;
  std::int64_t ld;
};

class LinearEpilogue {
 public:
  LinearEpilogue(const KernelTable& table, const LinearShape& shape, const LinearLayout& layout,
                 DType dtype)
      : t_(table), s_(shape), l_(layout), dtype_(dtype) {}

  // At most kMaxRows rows.
  void finish(const LinearArgs& args, const LinearSums& sums, Range rows, Range columns) const;

  // What is left to do where neither a scale nor a second part asks for more.
  Output output(const LinearArgs& args, Range rows) const;

 private:
  const KernelTable& t_;
  LinearShape s_;
  LinearLayout l_;
  DType dtype_;
};

}  // namespace npu::cpu
