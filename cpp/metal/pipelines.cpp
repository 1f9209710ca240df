// Compiles shader texts and makes pipeline states.
#include "metal/pipelines.hpp"

#include <algorithm>
#include <cstring>

#include "metal/parallel.hpp"
#include "metal/shader_sources.hpp"
#include "npubin_schema.hpp"  // generated
#include "runtime/error.hpp"
#include "runtime/text.hpp"

namespace npu::metal {
namespace {

template <class... Reason>
[[noreturn]] void fail(const PipelineKey& key, const Reason&... reason) {
  throw Error(ErrorCode::kDevice, text("Metal: kernel ", key.function, " ", reason...));
}

NS::SharedPtr<MTL::Library> make_library(MTL::Device& device, const PipelineKey& key) {
  const auto sources = shader_sources();
  const auto source = std::find_if(sources.begin(), sources.end(),
                                   [&](const ShaderSource& s) { return s.shader == key.shader; });
  if (source == sources.end()) {
    throw Error(ErrorCode::kInternal, text("Metal: shader ", key.shader, " of kernel ",
                                           key.function, " is not in this build; rebuild npu_sim"));
  }
  const auto options = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
  // NaN, infinities and signed zeros as IEEE 754 says.
  options->setFastMathEnabled(false);
  options->setLanguageVersion(MTL::LanguageVersion3_0);
  NS::Error* error = nullptr;
  auto library = NS::TransferPtr(device.newLibrary(
      ns_string(std::string(shader_prelude()) + std::string(source->text)), options.get(), &error));
  if (!library) {
    throw Error(ErrorCode::kDevice, text("Metal: shader ", key.shader, " of kernel ", key.function,
                                         " does not compile on this system: ", message_of(error)));
  }
  return library;
}

// Words of the parameter struct that come before its arrays.
std::size_t fixed_words(const KernelInfo& kernel) {
  std::size_t end = kernel.field_offset;
  for (const FieldInfo& field : kernel.fields) {
    if (field.count > 1) return end / sizeof(std::uint32_t);
    end += sizeof(std::uint32_t);
  }
  return kernel.param_bytes / sizeof(std::uint32_t);
}

}  // namespace

PipelineKey pipeline_key(const KernelInfo& kernel, std::uint32_t type,
                         std::span<const std::byte> parameters) {
  PipelineKey key{std::string(kernel.shader), std::string(kernel.name),
                  kernel.threadgroup[0] * kernel.threadgroup[1] * kernel.threadgroup[2],
                  std::vector<std::uint32_t>(fixed_words(kernel))};
  if (!kernel.types.empty()) {
    key.function += text("_", schema::find_dtype(static_cast<std::uint8_t>(type))->short_name);
  }
  std::memcpy(key.words.data(), parameters.data(), key.words.size() * sizeof(std::uint32_t));
  return key;
}

Pipeline& Pipelines::want(const PipelineKey& key) {
  const std::lock_guard lock(mutex_);
  const auto [known, added] = pipelines_.try_emplace(key);
  if (added) known->second = std::make_unique<Pipeline>(known->first);
  return *known->second;
}

void Pipelines::build(std::span<Pipeline* const> wanted) {
  const std::lock_guard lock(building_);
  std::vector<Pipeline*> missing;
  for (Pipeline* pipeline : wanted) {
    if (pipeline->state_.get() == nullptr) missing.push_back(pipeline);
  }
  // In the keys' order, so that what fails first is the same each time.
  const auto by_key = [](const Pipeline* a, const Pipeline* b) { return a->key_ < b->key_; };
  std::sort(missing.begin(), missing.end(), by_key);
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  make_libraries(missing);
  parallel(missing.size(), [&](std::size_t k) {
    make_descriptor(*missing[k]);
    make_state(*missing[k]);
  });
}

void Pipelines::make_libraries(std::span<Pipeline* const> missing) {
  // The first pipeline of each shader that has no library: sorted, they follow each other.
  std::vector<const PipelineKey*> wanted;
  for (const Pipeline* pipeline : missing) {
    const PipelineKey& key = pipeline->key_;
    if (libraries_.contains(key.shader)) continue;
    if (wanted.empty() || wanted.back()->shader != key.shader) wanted.push_back(&key);
  }
  std::vector<NS::SharedPtr<MTL::Library>> made(wanted.size());
  parallel(wanted.size(), [&](std::size_t k) { made[k] = make_library(device_, *wanted[k]); });
  for (std::size_t k = 0; k < wanted.size(); ++k) {
    libraries_.emplace(wanted[k]->shader, std::move(made[k]));
  }
}

void Pipelines::make_descriptor(Pipeline& pipeline) const {
  const PipelineKey& key = pipeline.key_;
  const auto constants = NS::TransferPtr(MTL::FunctionConstantValues::alloc()->init());
  if (!key.words.empty()) {
    constants->setConstantValues(key.words.data(), MTL::DataTypeUInt,
                                 NS::Range::Make(0, key.words.size()));
  }
  NS::Error* error = nullptr;
  const auto function = NS::TransferPtr(
      libraries_.at(key.shader)->newFunction(ns_string(key.function), constants.get(), &error));
  if (!function) {
    fail(key, "cannot be had from shader ", key.shader, ": ", message_of(error),
         "; rebuild npu_sim");
  }
  auto descriptor = NS::TransferPtr(MTL::ComputePipelineDescriptor::alloc()->init());
  descriptor->setComputeFunction(function.get());
  // So that the compiler uses no more registers than a group of this size has.
  descriptor->setMaxTotalThreadsPerThreadgroup(key.threads);
  pipeline.descriptor_ = std::move(descriptor);
}

void Pipelines::make_state(Pipeline& pipeline) const {
  const PipelineKey& key = pipeline.key_;
  NS::Error* error = nullptr;
  auto state = NS::TransferPtr(device_.newComputePipelineState(
      pipeline.descriptor_.get(), MTL::PipelineOptionNone, nullptr, &error));
  if (!state) fail(key, "of shader ", key.shader, " cannot be built: ", message_of(error));
  if (key.threads > state->maxTotalThreadsPerThreadgroup()) {
    fail(key, "wants threadgroups of ", key.threads, " threads, this GPU runs at most ",
         state->maxTotalThreadsPerThreadgroup(), " of it; use Device('cpu')");
  }
  if (state->threadExecutionWidth() != 32) {
    fail(key, "wants SIMD groups of 32 threads, this GPU's have ", state->threadExecutionWidth(),
         "; use Device('cpu')");
  }
  pipeline.state_ = std::move(state);
}

}  // namespace npu::metal
