// Matrix multiplication y = clamp(activation(x w^T + bias + residual)) over strided operands,
// planned once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "dtype.hpp"
#include "panel_product.hpp"
#include "thread_pool.hpp"

namespace npu::cpu {

// y[b,m,n] = sum over k of x[b,m,k] * w[b,n,k]
struct GemmShape {
  std::int64_t batch = 1, m = 0, n = 0, k = 0;
};

// Element strides; any values are legal, zero included (w_b = 0 shares one weight between batches).
struct GemmLayout {
  std::int64_t x_b = 0, x_m = 0, x_k = 1;
  std::int64_t w_b = 0, w_n = 0, w_k = 1;
  std::int64_t y_b = 0, y_m = 0, y_n = 1;
  std::int64_t residual_b = 0, residual_m = 0, residual_n = 1;
};

// constant: w is known before the first run and may be packed. activation: w differs from run to
// run.
enum class WeightMode : std::uint8_t { constant, activation };

class GemmPlan {
 public:
  // Throws std::invalid_argument, naming the field, when a dimension is negative.
  GemmPlan(const GemmShape& shape, const GemmLayout& layout, DType dtype, WeightMode mode,
           ThreadPool& pool);
  ~GemmPlan();
  GemmPlan(GemmPlan&&) noexcept;
  GemmPlan& operator=(GemmPlan&&) noexcept;

  // Zero when run() reads w where it is: in activation mode, and for so few rows that packing would
  // only add memory traffic (a decode step streams its weights at memory bandwidth).
  std::size_t packed_weights_bytes() const;

  // `w` follows the layout's strides; `packed` is 64-byte aligned. Does nothing when
  // packed_weights_bytes() is zero.
  void pack_weights(const void* w, void* packed) const;

  std::size_t scratch_bytes() const;

  // `w` is the packed form, or the weights themselves when packed_weights_bytes() is zero. bias: n
  // floats or null; residual: null or [b,m,n]; scratch, clamp and activation as in
  // ConvPlan::run.
  void run(const void* x, const void* w, const float* bias, const void* residual, void* y,
           float clamp_lo, float clamp_hi, void* scratch, ActivateFn activate = nullptr) const;

  const char* algorithm() const;

  class Impl;

 private:
  std::unique_ptr<const Impl> impl_;
};

}  // namespace npu::cpu
