// Large matrix products by Metal Performance Shaders, in place of kernel gemm.
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
  // Positions of x, w and y among the operands of kernel gemm.
  static constexpr std::uint32_t kOperands[] = {0, 1, 4};

  virtual ~MpsProduct() = default;

  // Null where the dispatch is no plain product (bias, residual, activation, clamp, batches,
  // strided columns), is neither float16 nor bfloat16, or is too small to gain; and where this
  // system's MPS lacks it.
  static std::shared_ptr<const MpsProduct> make(MTL::Device& device, const KernelInfo& kernel,
                                                std::span<const schema::Operand> operands,
                                                std::span<const std::byte> parameters);

  // The operands of the dispatch are `arguments` from `first`.
  virtual void encode(MTL::CommandBuffer& commands, const Arguments& arguments,
                      std::uint32_t first) const = 0;

 protected:
  MpsProduct() = default;
  // Throws kDevice: MPS makes nothing of an operand.
  [[noreturn]] static void throw_refusal();
};

// The float16 product, by MPSMatrixMultiplication. Null where this system has no MPS.
std::shared_ptr<const MpsProduct> make_matrix_product(MTL::Device& device,
                                                      std::span<const schema::Operand> operands);

// The bfloat16 product, by MPSNDArrayMatrixMultiplication. Null before macOS 15, and where rows
// are not packed in multiples of 16 bytes.
std::shared_ptr<const MpsProduct> make_array_product(MTL::Device& device,
                                                     std::span<const schema::Operand> operands);

}  // namespace npu::metal
