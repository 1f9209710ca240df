// Combining values of the three accumulator dtypes.
#include "cpu/map_reduce_fold.hpp"

#include <algorithm>
#include <type_traits>

namespace npu::cpu {
namespace {

Combine combine_of(std::uint32_t op) {
  switch (op) {
    case NPU_REDUCE_MAX:
      return Combine::kMax;
    case NPU_REDUCE_MIN:
      return Combine::kMin;
    case NPU_REDUCE_PROD:
      return Combine::kProd;
    default:
      return Combine::kSum;
  }
}

// Totals and partial results by their types.
template <class T, class Memory>
auto* as(Memory* memory) {
  if constexpr (std::is_const_v<Memory>) {
    return reinterpret_cast<const T*>(memory);
  } else {
    return reinterpret_cast<T*>(memory);
  }
}

}  // namespace

MapFold::MapFold(const CpuContext& context, std::uint32_t op, std::uint32_t dtype)
    : combine_(combine_of(op)),
      floating_(dtype == NPU_DTYPE_F32),
      wide_(dtype == NPU_DTYPE_I64),
      in_double_(floating_ && combine_ == Combine::kSum),
      rows_(&context.rows) {}

void MapFold::clear_partial(std::uint32_t* partial, std::int64_t n) const {
  const auto op = static_cast<std::size_t>(combine_);
  if (floating_) {
    std::fill_n(as<float>(partial), n, identity(combine_));
  } else if (wide_) {
    std::fill_n(as<std::int64_t>(partial), n, rows_->fold64[op](nullptr, 0));
  } else {
    std::fill_n(as<std::int32_t>(partial), n, rows_->fold32[op](nullptr, 0));
  }
}

void MapFold::clear_total(std::uint32_t* total, std::int64_t n) const {
  if (in_double_) {
    std::fill_n(as<double>(total), n, 0.0);
  } else {
    clear_partial(total, n);
  }
}

void MapFold::fold(std::uint32_t* partial, const std::uint32_t* values, std::int64_t stride,
                   std::int64_t rows, std::int64_t n) const {
  const auto op = static_cast<std::size_t>(combine_);
  if (floating_) {
    rows_->fold_rows[op][static_cast<std::size_t>(Map::kValue)](
        as<float>(partial), as<float>(values), stride, rows, n, 0.0f);
  } else if (wide_) {
    for (std::int64_t r = 0; r < rows; ++r) {
      as<std::int64_t>(partial)[r] = rows_->fold64[op](as<std::int64_t>(values) + r * stride, n);
    }
  } else {
    for (std::int64_t r = 0; r < rows; ++r) {
      as<std::int32_t>(partial)[r] = rows_->fold32[op](as<std::int32_t>(values) + r * stride, n);
    }
  }
}

void MapFold::accumulate(std::uint32_t* partial, const std::uint32_t* values, std::int64_t stride,
                         std::int64_t rows, std::int64_t n) const {
  const auto op = static_cast<std::size_t>(combine_);
  if (floating_) {
    rows_->accumulate_rows[op](as<float>(partial), as<float>(values), stride, rows, n);
    return;
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    if (wide_) {
      rows_->accumulate64[op](as<std::int64_t>(partial), as<std::int64_t>(values) + r * stride, n);
    } else {
      rows_->accumulate32[op](as<std::int32_t>(partial), as<std::int32_t>(values) + r * stride, n);
    }
  }
}

void MapFold::add(std::uint32_t* total, const std::uint32_t* partial, std::int64_t n) const {
  if (in_double_) {
    const float* x = as<float>(partial);
    double* sum = as<double>(total);
    for (std::int64_t i = 0; i < n; ++i) sum[i] += static_cast<double>(x[i]);
  } else {
    accumulate(total, partial, n, 1, n);
  }
}

void MapFold::join(std::uint32_t* total, const std::uint32_t* other, std::int64_t n) const {
  if (in_double_) {
    for (std::int64_t i = 0; i < n; ++i) as<double>(total)[i] += as<double>(other)[i];
  } else {
    accumulate(total, other, n, 1, n);
  }
}

void MapFold::finish(std::uint32_t* result, const std::uint32_t* total, std::int64_t n) const {
  if (in_double_) {
    const double* sum = as<double>(total);
    for (std::int64_t i = 0; i < n; ++i) as<float>(result)[i] = static_cast<float>(sum[i]);
  } else {
    std::copy_n(total, words() * n, result);
  }
}

}  // namespace npu::cpu
