// Compiled kernels: shader texts become libraries and pipeline states when a program first needs
// them.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "metal/metal_cpp.hpp"
#include "runtime/kernels.hpp"

namespace npu::metal {

// May be called from several threads. Pipeline states live as long as this.
class Pipelines {
 public:
  explicit Pipelines(MTL::Device& device) : device_(device) {}

  // The pipeline of a kernel whose type variable is the dtype of id `type` (0: it has none). Throws
  // kDevice with the Metal compiler's message, and where the GPU cannot run the kernel's
  // threadgroups.
  const MTL::ComputePipelineState& get(const KernelInfo& kernel, std::uint32_t type);

 private:
  MTL::Library& library(const KernelInfo& kernel);

  MTL::Device& device_;
  std::mutex mutex_;                                                   // guards what follows
  std::map<std::string_view, NS::SharedPtr<MTL::Library>> libraries_;  // by shader
  std::map<std::string, NS::SharedPtr<MTL::ComputePipelineState>> pipelines_;
};

}  // namespace npu::metal
