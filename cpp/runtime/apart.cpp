// Disjointness of strided views by the remainders of their addresses.
#include "runtime/apart.hpp"

#include <algorithm>
#include <optional>

#include "runtime/sat_int.hpp"

namespace npu {
namespace {

struct Remainders {
  std::uint64_t begin, end;
};

// The addresses of a view's bytes modulo `pitch`, if they form one range without wrapping around:
// strides are multiples of the pitch or step inside of it.
std::optional<Remainders> remainders(const schema::Operand& view, std::uint64_t begin,
                                     std::uint64_t pitch) {
  const std::uint64_t item = schema::dtype_size(view.dtype);
  SatInt inner(static_cast<std::int64_t>(item));
  for (std::uint32_t axis = 0; axis < view.rank; ++axis) {
    if (view.shape[axis] <= 1) continue;
    const SatInt stride = SatInt(view.strides[axis]) * SatInt(static_cast<std::int64_t>(item));
    if (static_cast<std::uint64_t>(stride.value()) % pitch == 0) continue;
    inner = inner + stride * SatInt(view.shape[axis] - std::int64_t{1});
  }
  const std::uint64_t first = begin % pitch;
  if (inner > SatInt(static_cast<std::int64_t>(pitch - first))) return std::nullopt;
  return Remainders{first, first + static_cast<std::uint64_t>(inner.value())};
}

}  // namespace

bool provably_apart(const schema::Operand& a, std::uint64_t a_begin, const schema::Operand& b,
                    std::uint64_t b_begin) noexcept {
  // Counted from where the lower view begins: a remainder that wraps around is no range.
  const std::uint64_t base = std::min(a_begin, b_begin);
  for (const schema::Operand* view : {&a, &b}) {
    for (std::uint32_t axis = 0; axis < view->rank; ++axis) {
      const SatInt stride = SatInt(view->strides[axis]) *
                            SatInt(static_cast<std::int64_t>(schema::dtype_size(view->dtype)));
      if (view->shape[axis] <= 1 || stride.value() <= 0) continue;
      const auto pitch = static_cast<std::uint64_t>(stride.value());
      const auto of_a = remainders(a, a_begin - base, pitch);
      const auto of_b = remainders(b, b_begin - base, pitch);
      if (of_a && of_b && (of_a->end <= of_b->begin || of_b->end <= of_a->begin)) return true;
    }
  }
  return false;
}

}  // namespace npu
