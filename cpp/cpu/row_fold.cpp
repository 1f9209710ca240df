// Folding rows in float32, by chunks that stay in the L1 cache.
#include "cpu/row_fold.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace npu::cpu {
namespace {

// Additions in one float32 chain before the partial sum joins the total.
constexpr std::int64_t kChain = 256;

std::uint32_t* bits(float* x) { return reinterpret_cast<std::uint32_t*>(x); }

}  // namespace

RowFold::RowFold(const CpuContext& context, std::uint32_t dtype, RunLoad load, Axis k, Axis l)
    : tiles_(&context.tiles),
      rows_(&context.rows),
      load_(load),
      size_(static_cast<std::int64_t>(schema::dtype_size(dtype))),
      outer_(k),
      inner_(l) {
  // One axis where the two lie behind each other; otherwise the denser one inside.
  const bool outer_is_denser =
      inner_.extent == 1 ||
      (outer_.extent != 1 && std::abs(outer_.stride) < std::abs(inner_.stride));
  if (outer_is_denser) std::swap(outer_, inner_);
  if (outer_.extent == 1 || outer_.stride == inner_.extent * inner_.stride) {
    inner_.extent *= outer_.extent;
    outer_.extent = 1;
  }
  in_place_ = dtype == NPU_DTYPE_F32 && inner_.stride == 1;
}

RowFold RowFold::part(std::int64_t index, std::int64_t parts, std::int64_t* start) const {
  RowFold part = *this;
  Axis& axis = outer_.extent > inner_.extent ? part.outer_ : part.inner_;
  const std::int64_t step = ceil_div(axis.extent, parts);
  const std::int64_t first = std::min(index * step, axis.extent);
  axis.extent = std::min(step, axis.extent - first);
  *start = first * axis.stride;
  return part;
}

double RowFold::row(const std::byte* x, Combine combine, Map map, float shift,
                    float* scratch) const {
  double sum = 0.0;
  float other[2] = {identity(combine), 0.0f};
  for (std::int64_t k = 0; k < outer_.extent; ++k) {
    for (std::int64_t l = 0; l < inner_.extent; l += kScratch) {
      const std::int64_t n = std::min(kScratch, inner_.extent - l);
      const std::byte* from = x + (k * outer_.stride + l * inner_.stride) * size_;
      const float* values = scratch;
      if (in_place_) {
        values = reinterpret_cast<const float*>(from);
      } else {
        load_(bits(scratch), from, inner_.stride, n);
      }
      float part = 0.0f;
      if (map == Map::kExp) {
        part = tiles_->sum_exp(values, shift, n);
      } else {
        fold(combine, map)(&part, values, 0, 1, n, shift);
      }
      if (combine == Combine::kSum) {
        sum += static_cast<double>(part);
      } else {
        other[1] = part;
        fold(combine, Map::kValue)(other, other, 0, 1, 2, 0.0f);
      }
    }
  }
  return combine == Combine::kSum ? sum : static_cast<double>(other[0]);
}

bool RowFold::takes_rows(Map map) const {
  return map != Map::kExp && outer_.extent == 1 && inner_.stride == 1 &&
         inner_.extent <= kScratch / 2;
}

void RowFold::rows(const std::byte* x, std::int64_t stride, std::int64_t n, Combine combine,
                   Map map, float* total, float* scratch) const {
  const auto fold = this->fold(combine, map);
  const std::int64_t length = inner_.extent;
  if (in_place_) {
    fold(total, reinterpret_cast<const float*>(x), stride, n, length, 0.0f);
    return;
  }
  const std::int64_t block = kScratch / std::max<std::int64_t>(1, length);
  for (std::int64_t r = 0; r < n; r += block) {
    const std::int64_t rows = std::min(block, n - r);
    const std::byte* from = x + r * stride * size_;
    if (stride == length) {
      load_(bits(scratch), from, 1, rows * length);
    } else {
      for (std::int64_t i = 0; i < rows; ++i) {
        load_(bits(scratch + i * length), from + i * stride * size_, 1, length);
      }
    }
    fold(total + r, scratch, length, rows, length, 0.0f);
  }
}

void RowFold::lanes(const std::byte* x, std::int64_t n, Combine combine, Map map,
                    const float* shift, float* total, float* scratch) const {
  static_assert(kScratch >= 3 * kLanes);
  const auto accumulate = tiles_->accumulate[static_cast<std::size_t>(combine)];
  float* values = scratch;
  float* partial = scratch + kLanes;
  float* zeros = scratch + 2 * kLanes;
  if (shift == nullptr) {
    std::fill_n(zeros, n, 0.0f);
    shift = zeros;
  }
  std::fill_n(total, n, identity(combine));
  for (std::int64_t k = 0; k < outer_.extent; ++k) {
    for (std::int64_t l = 0; l < inner_.extent; l += kChain) {
      std::fill_n(partial, n, identity(combine));
      for (std::int64_t i = l; i < std::min(l + kChain, inner_.extent); ++i) {
        load_(bits(values), x + (k * outer_.stride + i * inner_.stride) * size_, 1, n);
        switch (map) {
          case Map::kSquare:
            rows_->accumulate_squares(partial, values, shift, n);
            continue;
          case Map::kExp:
            tiles_->accumulate_exp(partial, values, shift, n);
            continue;
          case Map::kAbsolute:
            rows_->absolute(values, values, n);
            break;
          case Map::kNonzero:
            rows_->nonzero(values, values, n);
            break;
          case Map::kValue:
            break;
        }
        accumulate(partial, values, n);
      }
      accumulate(total, partial, n);
    }
  }
}

}  // namespace npu::cpu
