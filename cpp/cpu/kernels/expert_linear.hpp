// Linear layers of a mixture of experts: each row of x times the weights of its own expert, which
// are read where they are.
//   h_q = w_scale_q[e] * (x w_q[e]^T)
//   one part:  y = h_0
//   two parts: y = activation(h_0) * h_1
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "dtype.hpp"
#include "panel_product.hpp"
#include "thread_pool.hpp"

namespace npu::cpu {

struct ExpertShape {
  std::int64_t experts = 0;
  std::int64_t parts = 1;                // 1 or 2
  std::int64_t tokens = 0, choices = 1;  // rows: choice c of token t is row t * choices + c
  std::int64_t n = 0, k = 0;
};

// Element strides; any values are legal.
struct ExpertLayout {
  std::int64_t x_t = 0, x_c = 0, x_k = 1;
  std::int64_t w_e = 0, w_p = 0, w_n = 0, w_k = 1;
  std::int64_t w_scale_e = 0, w_scale_p = 0, w_scale_n = 1;
  std::int64_t y_t = 0, y_c = 0, y_n = 1;
};

struct ExpertArgs {
  const void* x;
  const std::int32_t* experts;  // of each row, in [0, shape.experts)
  const void* w;                // [experts][parts][n][k], of the storage type or int8
  const float* w_scale;         // [experts][parts][n], with int8 weights alone
  void* y;
  ActivateFn activate;  // of the gate, or null
  std::byte* scratch;
};

// Rows of one expert share its weights. Sums are float32; how they are added up depends on the
// plan's shape, so that a row's result does not depend on what other rows hold or where they go.
class ExpertLinearPlan {
 public:
  ExpertLinearPlan(const ExpertShape& shape, const ExpertLayout& layout, DType dtype,
                   bool int8_weights, ThreadPool& pool);
  ~ExpertLinearPlan();
  ExpertLinearPlan(ExpertLinearPlan&&) noexcept;
  ExpertLinearPlan& operator=(ExpertLinearPlan&&) noexcept;

  std::size_t scratch_bytes() const;
  void run(const ExpertArgs& args) const;

  class Impl;

 private:
  std::unique_ptr<const Impl> impl_;
};

}  // namespace npu::cpu
