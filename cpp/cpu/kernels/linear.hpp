// Linear layers whose weights are read where they are at any number of rows:
//   h_q = w_scale_q * (norm(x) w_q^T) + bias_q
//   one part:  y = clamp(activation(h_0 + residual))
//   two parts: y = clamp(activation(h_0) * h_1 + residual)
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "dtype.hpp"
#include "panel_product.hpp"
#include "thread_pool.hpp"

namespace npu::cpu {

struct LinearShape {
  std::int64_t parts = 1;  // 1 or 2
  std::int64_t m = 0, n = 0, k = 0;
};

// Element strides; any values are legal.
struct LinearLayout {
  std::int64_t x_m = 0, x_k = 1;
  std::int64_t w_p = 0, w_n = 0, w_k = 1;
  std::int64_t y_m = 0, y_n = 1;
  std::int64_t residual_m = 0, residual_n = 1;
};

struct LinearOptions {
  bool int8_weights = false;  // int8 with scales instead of the storage type
  bool rms_norm = false;
  float eps = 0.0f;
};

struct LinearArgs {
  const void* x;
  const float* scale;       // of the norm: k floats, or null for ones
  const void* w;            // [parts][n][k]
  const float* w_scale[2];  // n floats for each part, with int8 weights alone
  const float* bias[2];     // n floats for each part, or null
  const void* residual;     // [m][n] of the storage type, or null; may be y
  void* y;
  float lo, hi;
  ActivateFn activate;  // or null
  std::byte* scratch;
};

// Sums are float32. Up to kMaxDotBlockRows rows every weight row is multiplied lane by lane in the
// order of k, and its lanes are added in the end; that order depends on k alone. With more rows
// each sum runs through k in order (in pairs where the instruction set multiplies pairs of
// bfloat16, in steps of 32 where it multiplies matrix tiles). So a row's result depends on the
// number of rows only through which of the two it is.
class LinearPlan {
 public:
  // Throws std::invalid_argument, naming the field, for negative dimensions or another number of
  // parts than 1 and 2.
  LinearPlan(const LinearShape& shape, const LinearLayout& layout, DType dtype,
             const LinearOptions& options, ThreadPool& pool);
  ~LinearPlan();
  LinearPlan(LinearPlan&&) noexcept;
  LinearPlan& operator=(LinearPlan&&) noexcept;

  std::size_t scratch_bytes() const;
  void run(const LinearArgs& args) const;
  const char* algorithm() const;

  class Impl;

 private:
  std::unique_ptr<const Impl> impl_;
};

}  // namespace npu::cpu
