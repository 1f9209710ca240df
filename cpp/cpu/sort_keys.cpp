// Short arrays by comparison, long ones by radix: the indices ascend to begin with, so that only
// the keys' three digits need sorting.
#include "cpu/sort_keys.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace npu::cpu {
namespace {

constexpr std::int64_t kRadixFrom = 512;
constexpr int kDigitBits = 11;
constexpr int kDigits = 3;
constexpr std::size_t kBuckets = std::size_t{1} << kDigitBits;

constexpr std::size_t digit(KeyedIndex value, int which) {
  return value >> (32 + which * kDigitBits) & (kBuckets - 1);
}

}  // namespace

void sort_keyed(KeyedIndex* values, KeyedIndex* spare, std::int64_t n) {
  if (n < kRadixFrom) {
    std::sort(values, values + n);
    return;
  }
  std::array<std::array<std::uint32_t, kBuckets>, kDigits> counts{};
  for (std::int64_t i = 0; i < n; ++i) {
    for (int d = 0; d < kDigits; ++d) ++counts[static_cast<std::size_t>(d)][digit(values[i], d)];
  }
  KeyedIndex* from = values;
  KeyedIndex* to = spare;
  for (int d = 0; d < kDigits; ++d) {
    auto& count = counts[static_cast<std::size_t>(d)];
    if (count[digit(from[0], d)] == static_cast<std::uint32_t>(n)) continue;  // all the same
    std::uint32_t start = 0;
    for (std::uint32_t& bucket : count) start += std::exchange(bucket, start);
    for (std::int64_t i = 0; i < n; ++i) to[count[digit(from[i], d)]++] = from[i];
    std::swap(from, to);
  }
  if (from != values) std::copy_n(from, n, values);
}

void select_keyed(KeyedIndex* values, std::int64_t count, std::int64_t n) {
  if (count < n) std::nth_element(values, values + count, values + n);
}

}  // namespace npu::cpu
