// Elementwise programs as the text of a kernel: straight-line code in the dialect of shaders/, for
// devices that compile what they run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "npubin_schema.hpp"  // generated

namespace npu {

// Neighbours along d5 that one thread of a verified elementwise dispatch can take: 4 where every
// operand has them side by side, in places that are aligned for it, or has one element for all;
// else 1. Buffers must begin at multiples of 8 bytes.
std::uint32_t elementwise_lanes(std::span<const schema::Operand> operands,
                                std::span<const std::byte> fields);

// The body npu_<name> of a verified elementwise dispatch, equal but for the name where the programs
// are. It takes what kernel elementwise takes, wants shaders/elementwise_program.h in front of it,
// and computes what the interpreter does, with the same roundings; a thread does `lanes` elements.
std::string elementwise_source(std::string_view name, std::span<const schema::Operand> operands,
                               std::span<const std::byte> fields, std::uint32_t lanes);

}  // namespace npu
