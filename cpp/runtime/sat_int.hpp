// A 64-bit integer that saturates instead of wrapping, for rules evaluated over untrusted numbers.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

namespace npu {

class SatInt {
 public:
  constexpr explicit SatInt(std::int64_t value) : value_(value) {}

  constexpr std::int64_t value() const noexcept { return value_; }
  constexpr explicit operator bool() const noexcept { return value_ != 0; }

  friend constexpr SatInt operator+(SatInt a, SatInt b) {
    std::int64_t r = 0;
    if (__builtin_add_overflow(a.value_, b.value_, &r)) return SatInt(b.value_ < 0 ? kMin : kMax);
    return SatInt(r);
  }
  friend constexpr SatInt operator-(SatInt a, SatInt b) {
    std::int64_t r = 0;
    if (__builtin_sub_overflow(a.value_, b.value_, &r)) return SatInt(b.value_ < 0 ? kMax : kMin);
    return SatInt(r);
  }
  friend constexpr SatInt operator*(SatInt a, SatInt b) {
    std::int64_t r = 0;
    if (__builtin_mul_overflow(a.value_, b.value_, &r)) {
      return SatInt((a.value_ < 0) != (b.value_ < 0) ? kMin : kMax);
    }
    return SatInt(r);
  }
  // Rules divide non-negative numbers only; a division that has no value saturates.
  friend constexpr SatInt operator/(SatInt a, SatInt b) {
    return SatInt(undefined(a, b) ? kMax : a.value_ / b.value_);
  }
  friend constexpr SatInt operator%(SatInt a, SatInt b) {
    return SatInt(undefined(a, b) ? kMax : a.value_ % b.value_);
  }
  friend constexpr auto operator<=>(SatInt, SatInt) = default;

 private:
  static constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  static constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();

  static constexpr bool undefined(SatInt a, SatInt b) {
    return b.value_ == 0 || (a.value_ == kMin && b.value_ == -1);
  }

  std::int64_t value_;
};

// a / b rounded up, for a >= 0 and b > 0.
constexpr SatInt ceil_div(SatInt a, SatInt b) { return (a + b - SatInt(1)) / b; }

}  // namespace npu
