// CRC-32 with zlib's polynomial.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace npu {

// What zlib.crc32(bytes, before) gives: `before` is that of what precedes the bytes.
std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t before = 0) noexcept;

}  // namespace npu
