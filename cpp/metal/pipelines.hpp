// Compiled kernels: shader texts become libraries and pipeline states when a program is loaded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "metal/metal_cpp.hpp"
#include "metal/pipeline_archive.hpp"
#include "runtime/kernels.hpp"

namespace npu::metal {

// What a pipeline is made from: dispatches that are equal in it share one.
struct PipelineKey {
  std::string shader;  // the text that has the function, e.g. conv2d.metal
  std::string function;
  std::uint32_t threads;  // of a threadgroup
  // The first words of the parameter struct, as the compiler is to know them. Empty: parameters are
  // read when the kernel runs.
  std::vector<std::uint32_t> words;

  bool operator<(const PipelineKey& other) const {
    return std::tie(shader, function, threads, words) <
           std::tie(other.shader, other.function, other.threads, other.words);
  }
};

// The key of a launch of a kernel whose type variable is the dtype of id `type` (0: it has none),
// for these parameters.
PipelineKey pipeline_key(const KernelInfo& kernel, const StageInfo& stage, std::uint32_t type,
                         std::span<const std::byte> parameters);

// A pipeline state, or one to be.
class Pipeline {
 public:
  explicit Pipeline(const PipelineKey& key) : key_(key) {}

  // Null until Pipelines::build() has made it.
  const MTL::ComputePipelineState* state() const { return state_.get(); }

 private:
  friend class Pipelines;

  const PipelineKey& key_;
  NS::SharedPtr<MTL::ComputePipelineDescriptor> descriptor_;  // kept for archives
  NS::SharedPtr<MTL::ComputePipelineState> state_;
};

// May be called from several threads. What it returns lives as long as this.
class Pipelines {
 public:
  explicit Pipelines(MTL::Device& device) : device_(device) {}

  // Takes a text to compile, without the prelude, and returns the name for keys of its functions.
  std::string add_source(std::string text);

  Pipeline& want(const PipelineKey& key);

  // Makes those that have not been made, on several threads, and keeps what was compiled in the
  // folder. Throws kDevice with the Metal compiler's message, and where the GPU cannot run a
  // kernel's threadgroups.
  void build(std::span<Pipeline* const> wanted);

  // Where compiled pipelines are kept for the next start; until it is set, nowhere. Before macOS 15
  // only the system's own cache keeps them.
  void set_folder(std::filesystem::path folder);
  // What was wrong with what is kept there, each once.
  std::vector<std::string> notes() const;

 private:
  std::string_view source_of(const PipelineKey& key) const;
  NS::SharedPtr<MTL::Library> make_library(const PipelineKey& key) const;
  void make_libraries(std::span<Pipeline* const> missing);
  void make_descriptor(Pipeline& pipeline) const;
  // False where it had to be compiled.
  bool make_state(Pipeline& pipeline, const NS::Array* archives) const;
  std::string name_of(std::span<Pipeline* const> pipelines) const;
  void note(const std::string& line);

  MTL::Device& device_;
  mutable std::mutex mutex_;  // guards what follows
  std::vector<std::string> notes_;
  std::map<std::string, std::string> added_;                  // names by text
  std::map<std::string_view, std::string_view> added_texts_;  // and the other way round
  std::map<PipelineKey, std::unique_ptr<Pipeline>> pipelines_;
  std::mutex building_;  // held while pipelines are made; guards what follows and their states
  std::filesystem::path folder_;
  std::map<std::string_view, NS::SharedPtr<MTL::Library>> libraries_;  // by shader
};

// The pipelines that one program wants.
class PipelineSet {
 public:
  explicit PipelineSet(Pipelines& pipelines) : pipelines_(pipelines) {}

  // As Pipelines::want(). A function that a program has with very many sets of parameters is not
  // compiled for more of them: one pipeline that reads its parameters does the rest.
  Pipeline& want(PipelineKey key);
  void build() { pipelines_.build(wanted_); }

 private:
  Pipelines& pipelines_;
  std::vector<Pipeline*> wanted_;
  std::map<std::string, std::set<std::vector<std::uint32_t>>> words_;  // by function
};

}  // namespace npu::metal
