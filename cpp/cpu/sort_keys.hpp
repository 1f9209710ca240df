// Sorting of integer keys that carry an index in their lower half: distinct, so that any sort is
// stable.
#pragma once

#include <cstdint>

namespace npu::cpu {

// A 32-bit key over the index of the value that it stands for.
using KeyedIndex = std::uint64_t;

constexpr KeyedIndex keyed(std::uint32_t key, std::int64_t index) {
  return static_cast<KeyedIndex>(key) << 32 | static_cast<std::uint32_t>(index);
}
constexpr std::int64_t index_of(KeyedIndex value) {
  return static_cast<std::int64_t>(value & 0xffffffffu);
}

// Sorts n values; `spare` holds n more.
void sort_keyed(KeyedIndex* values, KeyedIndex* spare, std::int64_t n);

// Brings the `count` smallest of n values to the front, in any order.
void select_keyed(KeyedIndex* values, std::int64_t count, std::int64_t n);

}  // namespace npu::cpu
