// The reference device's pointers: every load and store of a kernel is checked against its
// operand's extent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace npu::reference {

// The bytes that a kernel may touch through one operand or threadgroup array.
struct Region {
  std::byte* base = nullptr;  // element 0; null: absent
  std::int64_t begin = 0;     // the extent in bytes from base; negative strides reach before it
  std::uint64_t size = 0;
  const char* kernel = "";
  const char* operand = "";
};

// Throws npu::Error naming kernel, operand and element index.
[[noreturn]] void throw_out_of_bounds(const Region& region, std::size_t element_size,
                                      std::int64_t index);

// What a kernel calls for an index from data that is not in [0, limit) (or, where it wraps, from
// -limit on): throws npu::Error, or does what the handler does.
void index_fault(std::int64_t index, std::uint32_t limit);
// For who simulates a GPU, whose kernels pass over such an index. Not while kernels run.
void set_index_fault_handler(void (*handler)(std::int64_t index, std::uint32_t limit));

template <class T>
class CheckedPtr {
 public:
  explicit CheckedPtr(const Region& region)
      : base_(reinterpret_cast<T*>(region.base)),
        begin_(region.begin / kSize),
        count_(region.size / sizeof(T)),
        region_(&region) {}

  T& operator[](std::uint64_t index) const {
    if (index - static_cast<std::uint64_t>(begin_) >= count_) [[unlikely]] {
      throw_out_of_bounds(*region_, sizeof(T), static_cast<std::int64_t>(index));
    }
    return base_[static_cast<std::int64_t>(index)];
  }

  const Region& region() const noexcept { return *region_; }

 private:
  static constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));

  T* base_;
  std::int64_t begin_;
  std::uint64_t count_;
  const Region* region_;
};

// Throws npu::Error naming kernel, operand and element index.
[[noreturn]] void throw_misaligned(const Region& region, std::int64_t index, std::size_t alignment);

// Several elements at once, from an address that must be a multiple of `alignment`.
template <class Wide, class T>
Wide checked_load(CheckedPtr<T> from, std::uint64_t index, std::size_t alignment) {
  static_assert(sizeof(Wide) % sizeof(T) == 0);
  const T& first = from[index];
  static_cast<void>(from[index + sizeof(Wide) / sizeof(T) - 1]);
  if (reinterpret_cast<std::uintptr_t>(&first) % alignment != 0) [[unlikely]] {
    throw_misaligned(from.region(), static_cast<std::int64_t>(index), alignment);
  }
  Wide wide;
  std::memcpy(&wide, &first, sizeof wide);
  return wide;
}

// The same operand seen as elements of another type.
template <class To, class From>
CheckedPtr<To> checked_cast(CheckedPtr<From> pointer) {
  static_assert(std::is_const_v<To> || !std::is_const_v<From>, "a cast may not drop const");
  return CheckedPtr<To>(pointer.region());
}

}  // namespace npu::reference
