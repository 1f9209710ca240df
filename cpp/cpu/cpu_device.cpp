// The cpu device's name, its table of kernels, and its entry in the registry.
#include "cpu/cpu_device.hpp"

#include "cpu/cpu_name.hpp"
#include "runtime/devices.hpp"

namespace npu::cpu {
namespace {

using Factory = std::unique_ptr<HostKernel> (*)(const DispatchInfo&, const CpuContext&);

Factory factory_of(std::uint32_t kernel) {
  switch (kernel) {
#define NPU_FACTORY_CASE(id, name) \
  case NPU_KERNEL_##id:            \
    return &make_##name;
    NPU_KERNELS(NPU_FACTORY_CASE)
#undef NPU_FACTORY_CASE
    default:
      return nullptr;
  }
}

}  // namespace

CpuDevice::CpuDevice()
    : isa_(active_isa()),
      context_{
          .pool = ThreadPool::shared(), .tiles = tile_kernels(isa_), .rows = row_kernels(isa_)} {}

std::string CpuDevice::name() const {
  const int threads = context_.pool.threads();
  return processor_name() + " (" + isa_name(isa_) + "), " + std::to_string(threads) +
         (threads == 1 ? " thread" : " threads");
}

std::unique_ptr<HostKernel> CpuDevice::prepare(const DispatchInfo& dispatch) {
  const Factory make = factory_of(dispatch.kernel.id);
  if (make == nullptr) {
    throw Error(ErrorCode::kInvalidProgram,
                "dispatch '" + std::string(dispatch.name) + "': the cpu device has no kernel '" +
                    std::string(dispatch.kernel.name) + "' (id " +
                    std::to_string(dispatch.kernel.id) +
                    "); compile the program with this version of npu_sim");
  }
  return make(dispatch, context_);
}

DType library_dtype(const DispatchInfo& dispatch, std::size_t operand) {
  switch (dispatch.operands[operand].dtype) {
    case NPU_DTYPE_F32:
      return DType::f32;
    case NPU_DTYPE_F16:
      return DType::f16;
    case NPU_DTYPE_BF16:
      return DType::bf16;
    default:
      throw Error(ErrorCode::kInvalidProgram,
                  "dispatch '" + std::string(dispatch.name) + "', kernel '" +
                      std::string(dispatch.kernel.name) + "': dtype id " +
                      std::to_string(dispatch.operands[operand].dtype) +
                      " is not float32, float16 or bfloat16; compile the model again");
  }
}

}  // namespace npu::cpu

namespace npu {

void register_cpu_device() {
  register_device({.kind = "cpu", .make = []() -> std::unique_ptr<Device> {
                     return std::make_unique<cpu::CpuDevice>();
                   }});
}

}  // namespace npu
