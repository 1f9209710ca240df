// Message building: text("a ", 3, " b").
#pragma once

#include <sstream>
#include <string>
#include <string_view>

namespace npu {

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// A name in quotes, cut where it is too long for a message.
inline std::string quoted(std::string_view name) {
  constexpr std::size_t kLongest = 100;
  if (name.size() <= kLongest) return text("'", name, "'");
  std::size_t cut = kLongest;
  while (cut > 0 && (static_cast<unsigned char>(name[cut]) & 0xC0u) == 0x80u) --cut;
  return text("'", name.substr(0, cut), "...'");
}

}  // namespace npu
