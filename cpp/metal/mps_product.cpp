// Which dispatches Metal Performance Shaders take.
#include "metal/mps_product.hpp"

#include <cstdlib>
#include <cstring>
#include <limits>

#include "runtime/error.hpp"
#include "runtime/kernel_params.hpp"

namespace npu::metal {
namespace {

// Multiplications from which on a product goes to MPS. Chosen, not measured: no Mac was at hand.
constexpr std::uint64_t kSmallestProduct = std::uint64_t{1} << 24;

bool switched_off() {
  const char* const value = std::getenv("NPU_SIM_METAL_MPS");
  return value != nullptr && std::strcmp(value, "0") == 0;
}

// Whether all are of this dtype, of one batch, with columns side by side.
bool are_matrices(std::span<const schema::Operand> operands, schema::DType dtype) {
  for (const std::uint32_t k : MpsProduct::kOperands) {
    const schema::Operand& operand = operands[k];
    if (operand.dtype != static_cast<std::uint8_t>(dtype) || operand.shape[0] != 1 ||
        operand.strides[2] != 1 ||
        operand.strides[1] < static_cast<std::int64_t>(operand.shape[2])) {
      return false;
    }
  }
  return true;
}

}  // namespace

void MpsProduct::throw_refusal() {
  throw Error(
      ErrorCode::kDevice,
      "Metal: MPS refuses a matrix of a product; NPU_SIM_METAL_MPS=0 leaves all products to "
      "the own kernels");
}

std::shared_ptr<const MpsProduct> MpsProduct::make(MTL::Device& device, const KernelInfo& kernel,
                                                   std::span<const schema::Operand> operands,
                                                   std::span<const std::byte> parameters) {
  if (kernel.id != NPU_KERNEL_GEMM || switched_off()) return nullptr;
  const auto& p = *reinterpret_cast<const GemmParams*>(parameters.data());
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const bool plain = p.bias_n == 0 && p.residual_b == 0 && p.activation == NPU_ACTIVATION_NONE &&
                     p.clamp_lo == -kInfinity && p.clamp_hi == kInfinity;
  if (!plain || std::uint64_t{p.y_m} * p.y_n * p.x_k < kSmallestProduct) return nullptr;
  if (are_matrices(operands, schema::DType::kFloat16)) return make_matrix_product(device, operands);
  if (are_matrices(operands, schema::DType::kBfloat16)) return make_array_product(device, operands);
  return nullptr;
}

}  // namespace npu::metal
