// UTF-8 validation.
#pragma once

#include <cstddef>
#include <span>

namespace npu {

// Offset of the first byte that is not well-formed UTF-8 (Unicode's table 3-7), or bytes.size().
std::size_t find_invalid_utf8(std::span<const std::byte> bytes) noexcept;

// Whether a character may begin at this byte.
inline bool begins_character(std::byte byte) noexcept {
  return (byte & std::byte{0xC0}) != std::byte{0x80};
}

}  // namespace npu
