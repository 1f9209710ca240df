// Float16 products by MPSMatrixMultiplication.
#include "metal/entry_plan.hpp"
#include "metal/mps_messages.hpp"
#include "metal/mps_product.hpp"

namespace npu::metal {
namespace {

NS::SharedPtr<NS::Object> descriptor_of(const schema::Operand& operand) {
  constexpr NS::UInteger kItem = 2;
  return NS::RetainPtr(send<NS::Object*>(
      objc_lookUpClass("MPSMatrixDescriptor"),
      "matrixDescriptorWithRows:columns:rowBytes:dataType:", NS::UInteger{operand.shape[1]},
      NS::UInteger{operand.shape[2]}, static_cast<NS::UInteger>(operand.strides[1]) * kItem,
      kMpsFloat16));
}

class MatrixProduct final : public MpsProduct {
 public:
  MatrixProduct(MTL::Device& device, std::span<const schema::Operand> operands) {
    for (std::size_t i = 0; i < 3; ++i) descriptors_[i] = descriptor_of(operands[kOperands[i]]);
    const schema::Operand& x = operands[kOperands[0]];
    const schema::Operand& y = operands[kOperands[2]];
    kernel_ = NS::TransferPtr(send<NS::Object*>(
        allocate("MPSMatrixMultiplication"),
        "initWithDevice:transposeLeft:transposeRight:resultRows:resultColumns:interiorColumns:"
        "alpha:beta:",
        &device, false, true, NS::UInteger{y.shape[1]}, NS::UInteger{y.shape[2]},
        NS::UInteger{x.shape[2]}, 1.0, 0.0));
  }

  // False where this system has no such class.
  bool ready() const { return kernel_ && descriptors_[0] && descriptors_[1] && descriptors_[2]; }

  void encode(MTL::CommandBuffer& commands, const Arguments& arguments,
              std::uint32_t first) const override {
    NS::SharedPtr<NS::Object> matrices[3];
    for (std::size_t i = 0; i < 3; ++i) {
      const std::uint32_t at = first + kOperands[i];
      matrices[i] = NS::TransferPtr(send<NS::Object*>(
          allocate("MPSMatrix"), "initWithBuffer:offset:descriptor:", arguments.buffers[at],
          arguments.offsets[at], descriptors_[i].get()));
      if (!matrices[i]) throw_refusal();
    }
    send<void>(kernel_.get(),
               "encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:", &commands,
               matrices[0].get(), matrices[1].get(), matrices[2].get());
  }

 private:
  NS::SharedPtr<NS::Object> kernel_;
  NS::SharedPtr<NS::Object> descriptors_[3];  // of x, w and y
};

}  // namespace

std::shared_ptr<const MpsProduct> make_matrix_product(MTL::Device& device,
                                                      std::span<const schema::Operand> operands) {
  auto product = std::make_shared<MatrixProduct>(device, operands);
  return product->ready() ? product : nullptr;
}

}  // namespace npu::metal
