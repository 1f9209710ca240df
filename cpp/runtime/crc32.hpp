// CRC-32 with zlib's polynomial.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace npu {

// What zlib.crc32(bytes) gives.
std::uint32_t crc32(std::span<const std::byte> bytes) noexcept;

}  // namespace npu
