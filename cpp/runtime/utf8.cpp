// UTF-8 validation, eight bytes a step where the text is ASCII.
#include "runtime/utf8.hpp"

#include <cstdint>
#include <cstring>

namespace npu {
namespace {

// Bytes of the well-formed character at the front of `s` (not empty), or 0.
std::size_t character_length(std::span<const std::byte> s) noexcept {
  const auto byte = [&](std::size_t i) { return std::to_integer<unsigned>(s[i]); };
  const auto in = [&](std::size_t i, unsigned low, unsigned high) {
    return i < s.size() && byte(i) >= low && byte(i) <= high;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2) return 0;  // a continuation byte or an overlong form
  if (first < 0xE0) return in(1, 0x80, 0xBF) ? 2 : 0;
  if (first < 0xF0) {
    const unsigned low = first == 0xE0 ? 0xA0 : 0x80;   // no overlong forms
    const unsigned high = first == 0xED ? 0x9F : 0xBF;  // no surrogates
    return in(1, low, high) && in(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (first > 0xF4) return 0;
  const unsigned low = first == 0xF0 ? 0x90 : 0x80;
  const unsigned high = first == 0xF4 ? 0x8F : 0xBF;
  return in(1, low, high) && in(2, 0x80, 0xBF) && in(3, 0x80, 0xBF) ? 4 : 0;
}

}  // namespace

std::size_t find_invalid_utf8(std::span<const std::byte> bytes) noexcept {
  std::size_t at = 0;
  while (at < bytes.size()) {
    if (bytes.size() - at >= 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + at, 8);
      if ((word & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    const std::size_t length = character_length(bytes.subspan(at));
    if (length == 0) return at;
    at += length;
  }
  return at;
}

}  // namespace npu
