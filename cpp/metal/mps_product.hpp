// Large float16 matrix products by Metal Performance Shaders, in place of kernel gemm.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "metal/metal_cpp.hpp"
#include "npubin_schema.hpp"  // generated
#include "runtime/kernels.hpp"

namespace npu::metal {

struct Arguments;

// A product y = x W^T of row-major matrices, ready to be encoded. Needs no encoder, and none may be
// open.
class MpsProduct {
 public:
  // Null where the dispatch is no plain product (bias, residual, activation, clamp, batches,
  // strided columns), is no float16, or is too small to gain; and where this system has no MPS.
  static std::shared_ptr<const MpsProduct> make(MTL::Device& device, const KernelInfo& kernel,
                                                std::span<const schema::Operand> operands,
                                                std::span<const std::byte> parameters);

  // The operands of the dispatch are `arguments` from `first`.
  void encode(MTL::CommandBuffer& commands, const Arguments& arguments, std::uint32_t first) const;

 private:
  MpsProduct() = default;

  NS::SharedPtr<NS::Object> kernel_;          // MPSMatrixMultiplication
  NS::SharedPtr<NS::Object> descriptors_[3];  // of x, w and y
};

}  // namespace npu::metal
