// The convolution algorithms behind ConvPlan.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "conv.hpp"
#include "kernel_table.hpp"
#include "panel_product.hpp"

namespace npu::cpu {

struct ConvProblem {
  ConvShape shape;
  ConvLayout layout;
  DType dtype;
  ThreadPool* pool;
  const KernelTable* kernels;
};

struct ConvArgs {
  const void* x;
  const void* packed;
  const float* bias;
  const void* residual;
  void* y;
  float lo, hi;
  void* scratch;
  ActivateFn activate = nullptr;
};

class ConvPlan::Impl {
 public:
  Impl(const ConvProblem& problem, const char* algorithm);
  virtual ~Impl() = default;

  virtual std::size_t packed_weights_bytes() const = 0;
  virtual void pack_weights(const void* w, void* packed) const = 0;
  virtual std::size_t scratch_bytes() const = 0;
  virtual void run(const ConvArgs& args) const = 0;

  const std::string& name() const { return name_; }

 protected:
  // Output rows of image n starting at output pixel row oy; `first_channel` is folded into the
  // bases.
  Output output_at(const ConvArgs& args, std::int64_t n, std::int64_t oy,
                   std::int64_t first_channel) const;

  ConvProblem p_;
  std::string name_;
};

std::unique_ptr<const ConvPlan::Impl> make_direct_conv(const ConvProblem& problem);
std::unique_ptr<const ConvPlan::Impl> make_winograd_conv(const ConvProblem& problem, int tile);
std::unique_ptr<const ConvPlan::Impl> make_depthwise_conv(const ConvProblem& problem);

}  // namespace npu::cpu
