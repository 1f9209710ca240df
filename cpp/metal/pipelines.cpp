// Compiles shader texts and makes pipeline states.
#include "metal/pipelines.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>
#include <optional>
#include <utility>

#include "metal/parallel.hpp"
#include "metal/shader_sources.hpp"
#include "npubin_schema.hpp"  // generated
#include "runtime/error.hpp"
#include "runtime/text.hpp"

namespace npu::metal {
namespace {

// Of one function in one program: models have dozens, and compiling takes milliseconds for each.
constexpr std::size_t kMostParameterSets = 128;
// The first system whose archives hold functions with constants.
constexpr NS::OperatingSystemVersion kOldestArchives = {15, 0, 0};
// What names of texts begin with that were added.
constexpr std::string_view kAdded = "generated ";

template <class... Reason>
[[noreturn]] void fail(const PipelineKey& key, const Reason&... reason) {
  throw Error(ErrorCode::kDevice, text("Metal: kernel ", key.function, " ", reason...));
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

PipelineKey pipeline_key(const KernelInfo& kernel, const StageInfo& stage, std::uint32_t type,
                         std::span<const std::byte> parameters) {
  PipelineKey key{std::string(stage.shader), std::string(stage.name),
                  stage.threadgroup[0] * stage.threadgroup[1] * stage.threadgroup[2],
                  std::vector<std::uint32_t>(fixed_words(kernel))};
  if (!kernel.types.empty()) {
    key.function += text("_", schema::find_dtype(static_cast<std::uint8_t>(type))->short_name);
  }
  std::memcpy(key.words.data(), parameters.data(), key.words.size() * sizeof(std::uint32_t));
  return key;
}

std::string Pipelines::add_source(std::string source) {
  const std::lock_guard lock(mutex_);
  const auto [known, added] = added_.try_emplace(std::move(source));
  if (added) {
    // In the order in which they came, whatever their number: names of archives follow it.
    std::string number = std::to_string(added_.size());
    known->second = text(kAdded, std::string(10 - number.size(), '0'), number);
    added_texts_.emplace(known->second, known->first);
  }
  return known->second;
}

Pipeline& Pipelines::want(const PipelineKey& key) {
  const std::lock_guard lock(mutex_);
  const auto [known, added] = pipelines_.try_emplace(key);
  if (added) known->second = std::make_unique<Pipeline>(known->first);
  return *known->second;
}

void Pipelines::build(std::span<Pipeline* const> wanted) {
  const std::lock_guard lock(building_);
  // In the keys' order, so that what fails first is the same each time.
  std::vector<Pipeline*> all(wanted.begin(), wanted.end());
  const auto by_key = [](const Pipeline* a, const Pipeline* b) { return a->key_ < b->key_; };
  std::sort(all.begin(), all.end(), by_key);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  std::vector<Pipeline*> missing;
  std::copy_if(all.begin(), all.end(), std::back_inserter(missing),
               [](const Pipeline* pipeline) { return pipeline->state_.get() == nullptr; });
  if (missing.empty()) return;
  make_libraries(missing);
  parallel(missing.size(), [&](std::size_t k) { make_descriptor(*missing[k]); });

  std::optional<PipelineArchive> archive;
  if (!folder_.empty()) {
    archive.emplace(device_, folder_, name_of(all),
                    [this](const std::string& line) { note(line); });
  }
  std::atomic<bool> compiled{false};
  parallel(missing.size(), [&](std::size_t k) {
    if (!make_state(*missing[k], archive ? archive->found() : nullptr)) compiled = true;
  });
  if (!archive || !compiled) return;
  std::vector<const MTL::ComputePipelineDescriptor*> descriptors;
  for (const Pipeline* pipeline : all) descriptors.push_back(pipeline->descriptor_.get());
  archive->store(descriptors);
}

void Pipelines::set_folder(std::filesystem::path folder) {
  const AutoreleasePool pool;
  if (!NS::ProcessInfo::processInfo()->isOperatingSystemAtLeastVersion(kOldestArchives)) return;
  const std::lock_guard lock(building_);
  folder_ = std::move(folder);
}

std::vector<std::string> Pipelines::notes() const {
  const std::lock_guard lock(mutex_);
  return notes_;
}

void Pipelines::note(const std::string& line) {
  const std::lock_guard lock(mutex_);
  if (std::find(notes_.begin(), notes_.end(), line) == notes_.end()) notes_.push_back(line);
}

// By all that their code depends on: another system or GPU finds nothing under that name.
std::string Pipelines::name_of(std::span<Pipeline* const> pipelines) const {
  ContentName name;
  name.add(NS::ProcessInfo::processInfo()->operatingSystemVersionString()->utf8String());
  name.add(device_.name()->utf8String()).add(shader_prelude());
  std::string_view shader;
  for (const Pipeline* pipeline : pipelines) {
    const PipelineKey& key = pipeline->key_;
    if (key.shader != shader) name.add(source_of(key));
    shader = key.shader;
    name.add(key.function).add(std::span(&key.threads, 1)).add(key.words);
  }
  return name.hex();
}

// Without the prelude.
std::string_view Pipelines::source_of(const PipelineKey& key) const {
  const auto sources = shader_sources();
  const auto source = std::find_if(sources.begin(), sources.end(),
                                   [&](const ShaderSource& s) { return s.shader == key.shader; });
  if (source != sources.end()) return source->text;
  const std::lock_guard lock(mutex_);
  if (const auto added = added_texts_.find(key.shader); added != added_texts_.end()) {
    return added->second;
  }
  throw Error(ErrorCode::kInternal, text("Metal: shader ", key.shader, " of kernel ", key.function,
                                         " is not in this build; rebuild npu_sim"));
}

NS::SharedPtr<MTL::Library> Pipelines::make_library(const PipelineKey& key) const {
  const auto options = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
  // NaN, infinities and signed zeros as IEEE 754 says.
  options->setFastMathEnabled(false);
  options->setLanguageVersion(MTL::LanguageVersion3_0);
  NS::Error* error = nullptr;
  auto library = NS::TransferPtr(
      device_.newLibrary(ns_string(text(shader_prelude(), source_of(key))), options.get(), &error));
  if (!library) {
    throw Error(ErrorCode::kDevice, text("Metal: shader ", key.shader, " of kernel ", key.function,
                                         " does not compile on this system: ", message_of(error),
                                         key.shader.starts_with(kAdded)
                                             ? "; NPU_SIM_METAL_ELEMENTWISE=0 does without it"
                                             : "; use Device('cpu'), and please report this"));
  }
  return library;
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
  parallel(wanted.size(), [&](std::size_t k) { made[k] = make_library(*wanted[k]); });
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

bool Pipelines::make_state(Pipeline& pipeline, const NS::Array* archives) const {
  const PipelineKey& key = pipeline.key_;
  NS::Error* error = nullptr;
  const auto make = [&](MTL::PipelineOption options) {
    return NS::TransferPtr(
        device_.newComputePipelineState(pipeline.descriptor_.get(), options, nullptr, &error));
  };
  NS::SharedPtr<MTL::ComputePipelineState> state;
  if (archives != nullptr) {
    pipeline.descriptor_->setBinaryArchives(archives);
    state = make(MTL::PipelineOptionFailOnBinaryArchiveMiss);
    pipeline.descriptor_->setBinaryArchives(nullptr);
  }
  const bool found = state.get() != nullptr;
  if (!found) state = make(MTL::PipelineOptionNone);
  if (!state)
    fail(key, "of shader ", key.shader, " cannot be built: ", message_of(error),
         "; use Device('cpu'), and please report this");
  if (key.threads > state->maxTotalThreadsPerThreadgroup()) {
    fail(key, "wants threadgroups of ", key.threads, " threads, this GPU runs at most ",
         state->maxTotalThreadsPerThreadgroup(), " of it; use Device('cpu')");
  }
  if (state->threadExecutionWidth() != 32) {
    fail(key, "wants SIMD groups of 32 threads, this GPU's have ", state->threadExecutionWidth(),
         "; use Device('cpu')");
  }
  pipeline.state_ = std::move(state);
  return found;
}

Pipeline& PipelineSet::want(PipelineKey key) {
  std::set<std::vector<std::uint32_t>>& known = words_[key.function];
  if (known.size() >= kMostParameterSets && !known.contains(key.words)) key.words.clear();
  known.insert(key.words);
  Pipeline& pipeline = pipelines_.want(key);
  wanted_.push_back(&pipeline);
  return pipeline;
}

}  // namespace npu::metal
