// The cpu device: native kernels for the instruction set at hand, spread over the process's
// threads.
#pragma once

#include <string>

#include "cpu/host_kernels.hpp"
#include "runtime/host_device.hpp"

namespace npu::cpu {

class CpuDevice final : public HostDevice {
 public:
  // Uses the instruction set that NPU_SIM_CPU_ISA and the machine allow, and NPU_SIM_NUM_THREADS
  // threads.
  CpuDevice();

  std::string_view kind() const noexcept override { return "cpu"; }
  // E.g. "AMD EPYC (avx512_bf16), 2 threads".
  std::string name() const override;
  std::unique_ptr<HostKernel> prepare(const DispatchInfo& dispatch) override;

 private:
  Isa isa_;
  CpuContext context_;
};

}  // namespace npu::cpu
