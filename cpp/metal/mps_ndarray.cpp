// Bfloat16 products by MPSNDArrayMatrixMultiplication: MPSMatrix has no bfloat16.
#include <mutex>

#include "metal/entry_plan.hpp"
#include "metal/mps_messages.hpp"
#include "metal/mps_product.hpp"

namespace npu::metal {
namespace {

// The first system whose arrays may lie in the caller's buffers, without padding between rows.
constexpr NS::OperatingSystemVersion kOldestSystem = {15, 0, 0};
// What rows of arrays are aligned to unless they are packed: with multiples of it both agree.
constexpr NS::UInteger kRowAlignment = 16;
constexpr NS::UInteger kItem = 2;

bool is_packed(const schema::Operand& operand) {
  return operand.strides[1] == static_cast<std::int64_t>(operand.shape[2]) &&
         operand.shape[2] * kItem % kRowAlignment == 0;
}

NS::SharedPtr<NS::Object> descriptor_of(const schema::Operand& operand, bool transposed) {
  // The dimension whose elements are neighbours comes first.
  NS::UInteger sizes[] = {operand.shape[2], operand.shape[1]};
  auto made = NS::RetainPtr(send<NS::Object*>(objc_lookUpClass("MPSNDArrayDescriptor"),
                                              "descriptorWithDataType:dimensionCount:"
                                              "dimensionSizes:",
                                              kMpsBFloat16, NS::UInteger{2}, &sizes[0]));
  if (made) {
    send<void>(made.get(), "setPreferPackedRows:", true);
    if (transposed) {
      send<void>(made.get(), "transposeDimension:withDimension:", NS::UInteger{0}, NS::UInteger{1});
    }
  }
  return made;
}

class ArrayProduct final : public MpsProduct {
 public:
  ArrayProduct(MTL::Device& device, std::span<const schema::Operand> operands) {
    for (std::size_t i = 0; i < 3; ++i) {
      const std::uint32_t k = kOperands[i];
      descriptors_[i] = descriptor_of(operands[k], i == 1);
    }
    kernel_ =
        NS::TransferPtr(send<NS::Object*>(allocate("MPSNDArrayMatrixMultiplication"),
                                          "initWithDevice:sourceCount:", &device, NS::UInteger{2}));
  }

  // False where this system has no such class.
  bool ready() const { return kernel_ && descriptors_[0] && descriptors_[1] && descriptors_[2]; }

  void encode(MTL::CommandBuffer& commands, const Arguments& arguments,
              std::uint32_t first) const override {
    NS::SharedPtr<NS::Object> arrays[3];
    for (std::size_t i = 0; i < 3; ++i) {
      const std::uint32_t at = first + kOperands[i];
      arrays[i] = NS::TransferPtr(send<NS::Object*>(
          allocate("MPSNDArray"), "initWithBuffer:offset:descriptor:", arguments.buffers[at],
          arguments.offsets[at], descriptors_[i].get()));
      if (!arrays[i]) throw_refusal();
    }
    const NS::Object* sources[] = {arrays[0].get(), arrays[1].get()};
    const NS::Array* const list = NS::Array::array(&sources[0], NS::UInteger{2});
    // These kernels keep state of the process while they encode.
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    send<void>(kernel_.get(), "encodeToCommandBuffer:sourceArrays:destinationArray:", &commands,
               list, arrays[2].get());
  }

 private:
  NS::SharedPtr<NS::Object> kernel_;
  NS::SharedPtr<NS::Object> descriptors_[3];  // of x, w (transposed) and y
};

}  // namespace

std::shared_ptr<const MpsProduct> make_array_product(MTL::Device& device,
                                                     std::span<const schema::Operand> operands) {
  if (!NS::ProcessInfo::processInfo()->isOperatingSystemAtLeastVersion(kOldestSystem)) {
    return nullptr;
  }
  for (const std::uint32_t k : MpsProduct::kOperands) {
    if (!is_packed(operands[k])) return nullptr;
  }
  auto product = std::make_shared<ArrayProduct>(device, operands);
  return product->ready() ? product : nullptr;
}

}  // namespace npu::metal
