// Message building: text("a ", 3, " b").
#pragma once

#include <concepts>
#include <cstdio>
#include <string>
#include <string_view>

namespace npu {

// Appends a string or a number. No streams: they follow the locale of the process, and their
// tables may come from another C++ library that the process has loaded.
template <class Part>
void append_text(std::string& out, const Part& part) {
  if constexpr (std::convertible_to<Part, std::string_view>) {
    out += std::string_view(part);
  } else if constexpr (std::same_as<Part, char>) {
    out += part;
  } else if constexpr (std::same_as<Part, bool>) {
    out += part ? '1' : '0';
  } else if constexpr (std::floating_point<Part>) {
    char digits[32];
    const int size = std::snprintf(digits, sizeof digits, "%g", static_cast<double>(part));
    out.append(digits, static_cast<std::size_t>(size));
  } else {
    out += std::to_string(part);
  }
}

template <class... Parts>
std::string text(const Parts&... parts) {
  std::string out;
  (append_text(out, parts), ...);
  return out;
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
