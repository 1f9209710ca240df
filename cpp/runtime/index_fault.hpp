// What devices say of an index, taken from an input's data, that is out of range.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/text.hpp"

namespace npu {

inline std::string index_fault_message(std::int64_t index, std::uint32_t limit) {
  return text("index ", index, " is out of range for a dimension of ", limit,
              "; check the input that the indices come from");
}

}  // namespace npu
