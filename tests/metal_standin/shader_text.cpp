// What a shader's text declares, as far as the host has to know.
#include "metal_standin/metal_objects.hpp"
#include "metal_standin/validation.hpp"

namespace npu::standin {

std::vector<Declaration> declarations(const std::string& text) {
  constexpr std::string_view kHead = "\nkernel void ";
  std::vector<Declaration> found;
  for (std::size_t at = text.find(kHead); at != std::string::npos; at = text.find(kHead, at + 1)) {
    const std::size_t begin = at + kHead.size();
    const std::size_t open = text.find('(', begin);
    const std::size_t end = text.find(") {", open);
    Declaration declaration;
    declaration.name = text.substr(begin, open - begin);
    for (std::size_t p = open; p < end;) {
      const std::size_t line_end = std::min(text.find('\n', p + 1), end);
      const std::string line = text.substr(p, line_end - p);
      if (line.find("[[buffer(") != std::string::npos) {
        declaration.constant.push_back(line.find(" constant ") != std::string::npos);
      }
      p = line_end;
    }
    constexpr std::string_view kGenerated = "elementwise_";
    const bool generated = declaration.name.starts_with(kGenerated);
    for (const reference::EntryPoint& entry : reference::entry_points()) {
      if (entry.name == (generated ? "elementwise" : declaration.name)) declaration.entry = &entry;
    }
    if (generated) {
      const std::string body = "NPU_FUNC void npu_" + declaration.name + "(";
      const std::size_t start = text.rfind(body, at);
      if (start == std::string::npos) fail("kernel " + declaration.name + " has no body");
      declaration.generated = text.substr(start, at + 1 - start);
      const std::size_t lanes = declaration.name.rfind("_x");
      declaration.lanes =
          static_cast<std::uint32_t>(std::stoul(declaration.name.substr(lanes + 2)));
    }
    if (declaration.entry == nullptr)
      fail("a shader declares an unknown kernel " + declaration.name);
    const reference::EntryPoint& entry = *declaration.entry;
    declaration.kernel = find_kernel(entry.kernel);
    declaration.threadgroup =
        entry.schedule == 0
            ? declaration.kernel->threadgroup
            : declaration.kernel->schedules[entry.schedule - 1].stages[entry.stage].threadgroup;
    found.push_back(std::move(declaration));
  }
  return found;
}

std::map<std::uint64_t, std::string> declared_constants(const std::string& text) {
  constexpr std::string_view kHead = "\nconstant ";
  constexpr std::string_view kAttribute = "[[function_constant(";
  std::map<std::uint64_t, std::string> found;
  for (std::size_t at = text.find(kHead); at != std::string::npos; at = text.find(kHead, at + 1)) {
    const std::size_t type = at + kHead.size();
    const std::string line = text.substr(type, text.find('\n', type) - type);
    const std::size_t attribute = line.find(kAttribute);
    if (attribute == std::string::npos) continue;
    const std::uint64_t index = std::stoull(line.substr(attribute + kAttribute.size()));
    if (!found.emplace(index, line.substr(0, line.find(' '))).second) {
      fail("function constant " + std::to_string(index) + " is declared twice");
    }
  }
  return found;
}

}  // namespace npu::standin
