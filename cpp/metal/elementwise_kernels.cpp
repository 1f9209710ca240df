// Gathers the elementwise programs of a file and makes shader texts of them.
#include "metal/elementwise_kernels.hpp"

#include <cstdlib>
#include <cstring>
#include <vector>

#include "metal/shader_sources.hpp"
#include "runtime/elementwise_source.hpp"
#include "runtime/kernel_params.hpp"
#include "runtime/text.hpp"

namespace npu::metal {
namespace {

// Of one text: enough that the head is compiled seldom, so few that several threads have work.
constexpr std::size_t kKernelsOfText = 16;
constexpr std::size_t kMostKernels = 256;

bool switched_off() {
  const char* const value = std::getenv("NPU_SIM_METAL_ELEMENTWISE");
  return value != nullptr && std::strcmp(value, "0") == 0;
}

// The entry point of kernel elementwise under another name.
std::string entry_of(std::string_view name) {
  std::string entry(elementwise_entry());
  for (std::size_t at = entry.find('@'); at != std::string::npos; at = entry.find('@', at)) {
    entry.replace(at, 1, name);
  }
  return entry;
}

}  // namespace

ElementwiseKernels::ElementwiseKernels(const Program& program, Pipelines& pipelines) {
  if (switched_off()) return;
  // Programs are the same where their texts are, under one name.
  constexpr std::string_view kSomeName = "elementwise";
  std::map<std::string, std::size_t> known;
  std::vector<std::string> names;
  std::vector<std::string> texts;
  std::map<std::uint32_t, std::size_t> chosen;  // by dispatch
  for (std::uint32_t i = 0; i < program.dispatches().size(); ++i) {
    const schema::Dispatch& dispatch = program.dispatches()[i];
    if (dispatch.kernel != NPU_KERNEL_ELEMENTWISE) continue;
    const auto operands = program.operands_of(dispatch);
    const auto fields = program.fields_of(dispatch);
    const std::uint32_t lanes = elementwise_lanes(operands, fields);
    const std::string body = elementwise_source(kSomeName, operands, fields, lanes);
    auto at = known.find(body);
    if (at == known.end()) {
      const std::size_t number = known.size();
      if (number >= kMostKernels) continue;
      at = known.emplace(body, number).first;
      names.push_back(text("elementwise_", number, "_x", lanes));
      if (number % kKernelsOfText == 0) texts.emplace_back(elementwise_head());
      texts.back() += elementwise_source(names.back(), operands, fields, lanes);
      texts.back() += entry_of(names.back());
    }
    chosen.emplace(i, at->second);
    kernels_[i] = {{}, names[at->second], lanes};
  }
  std::vector<std::string> shaders;
  for (std::string& shader : texts) shaders.push_back(pipelines.add_source(std::move(shader)));
  for (auto& [dispatch, kernel] : kernels_) {
    kernel.shader = shaders[chosen[dispatch] / kKernelsOfText];
  }
}

const ElementwiseKernels::Kernel* ElementwiseKernels::find(std::uint32_t dispatch) const {
  const auto found = kernels_.find(dispatch);
  return found == kernels_.end() ? nullptr : &found->second;
}

}  // namespace npu::metal
