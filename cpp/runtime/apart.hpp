// Whether two strided views whose memory ranges meet still share no element (columns of one matrix,
// halves of one row).
#pragma once

#include "npubin_schema.hpp"  // generated

namespace npu {

// `a_begin` and `b_begin` are the addresses of the views' first elements in one memory space. True
// is a proof; false only means that none was found. Strides are not negative, shapes not empty.
bool provably_apart(const schema::Operand& a, std::uint64_t a_begin, const schema::Operand& b,
                    std::uint64_t b_begin) noexcept;

}  // namespace npu
