// The inner loops of the row-wise kernels (norms, reductions, scans, sorts), compiled once per
// instruction set as those of tile_kernels.hpp are.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "cpu/kernels/cpu_features.hpp"
#include "cpu/tile_kernels.hpp"
#include "runtime/kernel_params.hpp"

namespace npu::cpu {

// Widens n elements, `stride` elements apart, to int64; bools become 0 or 1.
using RunLoad64 = void (*)(std::int64_t* dst, const std::byte* src, std::int64_t stride,
                           std::int64_t n);
// The inverse: keeps the low bits, or tests against zero (bool); floats round to nearest even.
using RunStore64 = void (*)(std::byte* dst, const std::int64_t* src, std::int64_t stride,
                            std::int64_t n);

// What a reduction combines: the values, or a function of each value and a shift. exp has no
// FoldRows, see TileKernels::sum_exp.
enum class Map : std::uint8_t { kValue, kNonzero, kAbsolute, kSquare, kExp };
constexpr std::size_t kFoldMaps = 4;

// totals[r] = all n of map(x[r * stride + i], shift) combined, for each row r; the combination's
// identity for n == 0. NaN wins in max and min.
using FoldRows = void (*)(float* totals, const float* x, std::int64_t stride, std::int64_t rows,
                          std::int64_t n, float shift);

// By Combine: all of x as one value, and acc[i] = combine(acc[i], x[i]).
template <class T>
using IntegerFolds = std::array<T (*)(const T* x, std::int64_t n), kCombines>;
template <class T>
using IntegerAccumulations = std::array<void (*)(T* acc, const T* x, std::int64_t n), kCombines>;

struct RowKernels {
  std::array<RunLoad64, NPU_DTYPE_F64 + 1> load64;  // by dtype id; null for floating dtypes
  std::array<RunStore64, NPU_DTYPE_F64 + 1> store64;
  // 1 where an element of any dtype is not 0, else 0.
  std::array<RunLoad64, NPU_DTYPE_F64 + 1> load_nonzero;
  // Any dtype to float32 and back; floats become integers towards zero, within int32.
  std::array<RunLoad, NPU_DTYPE_F64 + 1> load_float;
  std::array<RunStore, NPU_DTYPE_F64 + 1> store_float;

  // By Combine and Map; and the same of integers (sums and products wrap), without maps.
  std::array<std::array<FoldRows, kFoldMaps>, kCombines> fold_rows;
  // acc[i] = x[r * stride + i] of all rows and acc[i] combined.
  std::array<void (*)(float* acc, const float* x, std::int64_t stride, std::int64_t rows,
                      std::int64_t n),
             kCombines>
      accumulate_rows;
  IntegerFolds<std::int32_t> fold32;
  IntegerFolds<std::int64_t> fold64;
  IntegerAccumulations<std::int32_t> accumulate32;
  IntegerAccumulations<std::int64_t> accumulate64;

  // acc[i] += (x[i] - shift[i])^2.
  void (*accumulate_squares)(float* acc, const float* x, const float* shift, std::int64_t n);
  // dst[i] = |x[i]|, and 1 where x[i] is not 0, else 0. dst may be x.
  void (*absolute)(float* dst, const float* x, std::int64_t n);
  void (*nonzero)(float* dst, const float* x, std::int64_t n);

  // dst[i] = (x[i] - mean) * scale * w[i] + b[i], where a null w is 1 and a null b is 0. dst may be
  // x.
  void (*normalize)(float* dst, const float* x, float mean, float scale, const float* w,
                    const float* b, std::int64_t n);
  // dst[i] = (x[i] - mean) * scale + shift.
  void (*normalize_evenly)(float* dst, const float* x, float mean, float scale, float shift,
                           std::int64_t n);
  // dst[i] = (x[i] - mean[i]) * scale[i] + shift[i].
  void (*normalize_lanes)(float* dst, const float* x, const float* mean, const float* scale,
                          const float* shift, std::int64_t n);
  // x[i] += y[i].
  void (*add)(float* x, const float* y, std::int64_t n);

  // x[i] = x[i] * scale + mask[i]; a null mask is 0.
  void (*scale_and_add)(float* x, float scale, const float* mask, std::int64_t n);
  // x[i] = keep[i] != 0 ? x[i] * scale : -inf.
  void (*scale_and_keep)(float* x, float scale, const std::uint32_t* keep, std::int64_t n);

  // Index of the first x[i] that equals value (that is NaN, if value is); n if there is none.
  std::int64_t (*find)(const float* x, float value, std::int64_t n);
  // Where x[i] beats best[i] (is greater, or with `least` smaller, or the first NaN): best[i] =
  // x[i] and place[i] = k.
  void (*accumulate_extreme)(float* best, std::int32_t* place, const float* x, std::int32_t k,
                             bool least, std::int64_t n);

  // Running sums or products, of integers in place.
  std::int64_t (*scan64)(std::int64_t* x, std::int64_t total, bool product, std::int64_t n);
  // Running sums or products of one row: x[i] = total = total op x[i]; returns the last total.
  double (*scan)(float* x, double total, bool product, std::int64_t n);
  // The same across lanes: total[i] = total[i] op x[i], and x[i] = total[i].
  void (*scan_lanes)(float* x, double* total, bool product, std::int64_t n);

  // Unsigned numbers in PyTorch's order of x: equal zeros, NaN the greatest; with `descending` in
  // the opposite order.
  void (*order_keys)(std::uint32_t* keys, const float* x, bool descending, std::int64_t n);
};

// The table for an instruction set, or for the best one below it that this build has.
const RowKernels& row_kernels(Isa isa);

}  // namespace npu::cpu
