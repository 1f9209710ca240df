// Compiles shader texts and makes pipeline states.
#include "metal/pipelines.hpp"

#include <algorithm>

#include "metal/shader_sources.hpp"
#include "npubin_schema.hpp"  // generated
#include "runtime/error.hpp"
#include "runtime/text.hpp"

namespace npu::metal {

const MTL::ComputePipelineState& Pipelines::get(const KernelInfo& kernel, std::uint32_t type) {
  std::string name(kernel.name);
  if (!kernel.types.empty())
    name += text("_", schema::find_dtype(static_cast<std::uint8_t>(type))->short_name);
  const auto fail = [&](const auto&... reason) {
    throw Error(ErrorCode::kDevice, text("Metal: kernel ", name, " ", reason...));
  };
  const std::lock_guard lock(mutex_);
  if (const auto known = pipelines_.find(name); known != pipelines_.end())
    return *known->second.get();

  const AutoreleasePool pool;
  const auto function = NS::TransferPtr(library(kernel).newFunction(ns_string(name)));
  if (!function) fail("is not in shader ", kernel.shader, "; rebuild npu_sim");
  NS::Error* error = nullptr;
  auto pipeline = NS::TransferPtr(device_.newComputePipelineState(function.get(), &error));
  if (!pipeline) fail("of shader ", kernel.shader, " cannot be built: ", message_of(error));
  const auto threads =
      std::uint64_t{kernel.threadgroup[0]} * kernel.threadgroup[1] * kernel.threadgroup[2];
  if (threads > pipeline->maxTotalThreadsPerThreadgroup()) {
    fail("wants threadgroups of ", threads, " threads, this GPU runs at most ",
         pipeline->maxTotalThreadsPerThreadgroup(), " of it; use Device('cpu')");
  }
  if (pipeline->threadExecutionWidth() != 32) {
    fail("wants SIMD groups of 32 threads, this GPU's have ", pipeline->threadExecutionWidth(),
         "; use Device('cpu')");
  }
  return *pipelines_.emplace(std::move(name), std::move(pipeline)).first->second.get();
}

MTL::Library& Pipelines::library(const KernelInfo& kernel) {
  if (const auto known = libraries_.find(kernel.shader); known != libraries_.end()) {
    return *known->second.get();
  }
  const auto sources = shader_sources();
  const auto source = std::find_if(sources.begin(), sources.end(), [&](const ShaderSource& s) {
    return s.shader == kernel.shader;
  });
  if (source == sources.end()) {
    throw Error(ErrorCode::kInternal, text("Metal: shader ", kernel.shader, " of kernel ",
                                           kernel.name, " is not in this build; rebuild npu_sim"));
  }
  const auto options = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
  // NaN, infinities and signed zeros as IEEE 754 says.
  options->setFastMathEnabled(false);
  options->setLanguageVersion(MTL::LanguageVersion3_1);
  NS::Error* error = nullptr;
  auto library = NS::TransferPtr(device_.newLibrary(
      ns_string(std::string(shader_prelude()) + std::string(source->text)), options.get(), &error));
  if (!library) {
    throw Error(ErrorCode::kDevice,
                text("Metal: shader ", kernel.shader, " of kernel ", kernel.name,
                     " does not compile on this system: ", message_of(error)));
  }
  return *libraries_.emplace(kernel.shader, std::move(library)).first->second.get();
}

}  // namespace npu::metal
