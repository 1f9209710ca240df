// MPSMatrixMultiplication through the Objective-C runtime: metal-cpp does not cover MPS.
#include "metal/mps_product.hpp"

#include <objc/message.h>
#include <objc/runtime.h>

#include <cstdlib>
#include <cstring>
#include <limits>

#include "metal/entry_plan.hpp"
#include "runtime/error.hpp"
#include "runtime/kernel_params.hpp"

namespace npu::metal {
namespace {

// Multiplications from which on a product goes to MPS. Chosen, not measured: no Mac was at hand.
constexpr std::uint64_t kSmallestProduct = std::uint64_t{1} << 24;
// MPSDataTypeFloat16.
constexpr std::uint32_t kFloat16 = 0x10000000u | 16u;
// Positions of the matrices among the operands of kernel gemm.
constexpr std::uint32_t kOperands[] = {0, 1, 4};

// Sends a message that takes these arguments.
template <class R, class... A>
R send(const void* object, const char* selector, A... arguments) {
  using Function = R (*)(const void*, SEL, A...);
  return reinterpret_cast<Function>(&objc_msgSend)(object, sel_registerName(selector),
                                                   arguments...);
}

bool switched_off() {
  const char* const value = std::getenv("NPU_SIM_METAL_MPS");
  return value != nullptr && std::strcmp(value, "0") == 0;
}

// A matrix of at least one row whose columns lie side by side; batches of one.
bool is_matrix(const schema::Operand& operand) {
  return operand.dtype == static_cast<std::uint8_t>(schema::DType::kFloat16) &&
         operand.shape[0] == 1 && operand.strides[2] == 1 &&
         operand.strides[1] >= static_cast<std::int64_t>(operand.shape[2]);
}

NS::SharedPtr<NS::Object> descriptor_of(const schema::Operand& operand) {
  constexpr NS::UInteger kItem = 2;
  auto* const made = send<NS::Object*>(
      objc_lookUpClass("MPSMatrixDescriptor"),
      "matrixDescriptorWithRows:columns:rowBytes:dataType:", NS::UInteger{operand.shape[1]},
      NS::UInteger{operand.shape[2]}, static_cast<NS::UInteger>(operand.strides[1]) * kItem,
      kFloat16);
  return NS::RetainPtr(made);
}

}  // namespace

std::shared_ptr<const MpsProduct> MpsProduct::make(MTL::Device& device, const KernelInfo& kernel,
                                                   std::span<const schema::Operand> operands,
                                                   std::span<const std::byte> parameters) {
  if (kernel.id != NPU_KERNEL_GEMM || switched_off()) return nullptr;
  const auto& p = *reinterpret_cast<const GemmParams*>(parameters.data());
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const bool plain = p.bias_n == 0 && p.residual_b == 0 && p.activation == NPU_ACTIVATION_NONE &&
                     p.clamp_lo == -kInfinity && p.clamp_hi == kInfinity;
  if (!plain || std::uint64_t{p.y_m} * p.y_n * p.x_k < kSmallestProduct) return nullptr;
  for (const std::uint32_t k : kOperands) {
    if (!is_matrix(operands[k])) return nullptr;
  }
  const Class multiplication = objc_lookUpClass("MPSMatrixMultiplication");
  if (multiplication == nullptr) return nullptr;

  std::shared_ptr<MpsProduct> product(new MpsProduct);
  for (std::size_t i = 0; i < 3; ++i) {
    product->descriptors_[i] = descriptor_of(operands[kOperands[i]]);
  }
  product->kernel_ = NS::TransferPtr(send<NS::Object*>(
      send<void*>(multiplication, "alloc"),
      "initWithDevice:transposeLeft:transposeRight:resultRows:resultColumns:interiorColumns:alpha:"
      "beta:",
      &device, false, true, NS::UInteger{p.y_m}, NS::UInteger{p.y_n}, NS::UInteger{p.x_k}, 1.0,
      0.0));
  return product->kernel_ ? product : nullptr;
}

void MpsProduct::encode(MTL::CommandBuffer& commands, const Arguments& arguments,
                        std::uint32_t first) const {
  NS::SharedPtr<NS::Object> matrices[3];
  for (std::size_t i = 0; i < 3; ++i) {
    const std::uint32_t at = first + kOperands[i];
    matrices[i] = NS::TransferPtr(send<NS::Object*>(
        send<void*>(objc_lookUpClass("MPSMatrix"), "alloc"), "initWithBuffer:offset:descriptor:",
        arguments.buffers[at], arguments.offsets[at], descriptors_[i].get()));
    if (!matrices[i]) throw Error(ErrorCode::kDevice, "Metal: MPS refuses a matrix");
  }
  send<void>(kernel_.get(), "encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:", &commands,
             matrices[0].get(), matrices[1].get(), matrices[2].get());
}

}  // namespace npu::metal
