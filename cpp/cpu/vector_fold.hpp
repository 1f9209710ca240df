// Folding rows of float32 in vectors of 16: a template per combination and map. For files compiled
// once per instruction set alone, so everything is inlined.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <limits>

#include "cpu/row_kernels.hpp"

// Vectors are passed to inlined functions alone, so how they would be passed does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace npu::cpu {
namespace {

constexpr std::int64_t kVectorLanes = 16;
using FloatVector [[gnu::vector_size(64)]] = float;
using IntVector [[gnu::vector_size(64)]] = std::int32_t;

[[gnu::always_inline]] inline FloatVector load_vector(const float* x) {
  FloatVector v;
  std::memcpy(&v, x, sizeof v);
  return v;
}

template <Combine C>
[[gnu::always_inline]] inline FloatVector combine_vectors(FloatVector a, FloatVector b) {
  if constexpr (C == Combine::kSum) {
    return a + b;
  } else if constexpr (C == Combine::kProd) {
    return a * b;
  } else if constexpr (C == Combine::kMax) {
    return ((a > b) | (a != a)) ? a : b;  // NaN wins
  } else {
    return ((a < b) | (a != a)) ? a : b;
  }
}

template <Map M>
[[gnu::always_inline]] inline FloatVector map_vector(FloatVector v, FloatVector shift) {
  if constexpr (M == Map::kSquare) {
    const FloatVector d = v - shift;
    return d * d;
  } else if constexpr (M == Map::kAbsolute) {
    IntVector bits;
    std::memcpy(&bits, &v, sizeof bits);
    bits &= 0x7fffffff;
    std::memcpy(&v, &bits, sizeof v);
    return v;
  } else if constexpr (M == Map::kNonzero) {
    const FloatVector zero{};
    return v != zero ? zero + 1.0f : zero;
  } else {
    return v;
  }
}

// All lanes of v combined.
template <Combine C>
[[gnu::always_inline]] inline float combine_lanes(FloatVector v) {
  v = combine_vectors<C>(
      v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  v = combine_vectors<C>(
      v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
  v = combine_vectors<C>(
      v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
  v = combine_vectors<C>(
      v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
  return v[0];
}

constexpr float kFoldInfinity = std::numeric_limits<float>::infinity();
// The value that changes nothing when combined.
template <Combine C>
constexpr float kCombineStart = C == Combine::kMax    ? -kFoldInfinity
                                : C == Combine::kMin  ? kFoldInfinity
                                : C == Combine::kProd ? 1.0f
                                                      : 0.0f;

// One row in four chains, which hide the latency of additions and keep rounding errors small.
template <Combine C, Map M>
[[gnu::always_inline]] inline float fold_row(const float* x, std::int64_t n, float shift) {
  constexpr int kChains = 4;
  constexpr std::int64_t kStep = kChains * kVectorLanes;
  const FloatVector start = FloatVector{} + kCombineStart<C>;
  const FloatVector shifts = FloatVector{} + shift;
  FloatVector chain[kChains] = {start, start, start, start};
  std::int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    for (int j = 0; j < kChains; ++j) {
      const FloatVector v = load_vector(x + i + j * kVectorLanes);
      chain[j] = combine_vectors<C>(chain[j], map_vector<M>(v, shifts));
    }
  }
  for (; i + kVectorLanes <= n; i += kVectorLanes) {
    chain[0] = combine_vectors<C>(chain[0], map_vector<M>(load_vector(x + i), shifts));
  }
  if (i < n) {
    float rest[kVectorLanes] = {};
    std::memcpy(rest, x + i, static_cast<std::size_t>(n - i) * sizeof(float));
    const IntVector lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const IntVector count = IntVector{} + static_cast<std::int32_t>(n - i);
    const FloatVector v = map_vector<M>(load_vector(rest), shifts);
    chain[1] = combine_vectors<C>(chain[1], lane < count ? v : start);
  }
  return combine_lanes<C>(combine_vectors<C>(combine_vectors<C>(chain[0], chain[1]),
                                             combine_vectors<C>(chain[2], chain[3])));
}

// Rows shorter than a vector, as many side by side as it has lanes.
template <Combine C, Map M>
[[gnu::always_inline]] inline void fold_short_rows(float* totals, const float* x,
                                                   std::int64_t stride, std::int64_t n,
                                                   float shift) {
  FloatVector total = FloatVector{} + kCombineStart<C>;
  const FloatVector shifts = FloatVector{} + shift;
  for (std::int64_t i = 0; i < n; ++i) {
    FloatVector v;
    for (std::int64_t r = 0; r < kVectorLanes; ++r) v[r] = x[r * stride + i];
    total = combine_vectors<C>(total, map_vector<M>(v, shifts));
  }
  std::memcpy(totals, &total, sizeof total);
}

template <Combine C, Map M>
void fold_rows(float* totals, const float* x, std::int64_t stride, std::int64_t rows,
               std::int64_t n, float shift) {
  std::int64_t first = 0;
  for (; n < kVectorLanes && first + kVectorLanes <= rows; first += kVectorLanes) {
    fold_short_rows<C, M>(totals + first, x + first * stride, stride, n, shift);
  }
  for (std::int64_t r = first; r < rows; ++r) totals[r] = fold_row<C, M>(x + r * stride, n, shift);
}

// Many rows side by side: acc[i] = combine(acc[i], x[r * stride + i]), V vectors at a time, which
// stay in registers for all rows.
template <Combine C, int V>
[[gnu::always_inline]] inline void accumulate_block(float* acc, const float* x, std::int64_t stride,
                                                    std::int64_t rows) {
  FloatVector total[V];
  for (int j = 0; j < V; ++j) total[j] = load_vector(acc + j * kVectorLanes);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (int j = 0; j < V; ++j) {
      total[j] = combine_vectors<C>(total[j], load_vector(x + r * stride + j * kVectorLanes));
    }
  }
  std::memcpy(acc, total, sizeof total);
}

template <Combine C>
void accumulate_rows(float* acc, const float* x, std::int64_t stride, std::int64_t rows,
                     std::int64_t n) {
  constexpr int kBlock = 4;
  std::int64_t i = 0;
  for (; i + kBlock * kVectorLanes <= n; i += kBlock * kVectorLanes) {
    accumulate_block<C, kBlock>(acc + i, x + i, stride, rows);
  }
  for (; i + kVectorLanes <= n; i += kVectorLanes) {
    accumulate_block<C, 1>(acc + i, x + i, stride, rows);
  }
  if (i == n) return;
  // The vector that is left is combined by itself, with what is beyond the rows left out.
  float rest[kVectorLanes] = {};
  FloatVector total = FloatVector{} + kCombineStart<C>;
  const std::size_t bytes = static_cast<std::size_t>(n - i) * sizeof(float);
  for (std::int64_t r = 0; r < rows; ++r) {
    std::memcpy(rest, x + r * stride + i, bytes);
    total = combine_vectors<C>(total, load_vector(rest));
  }
  std::memcpy(rest, acc + i, bytes);
  total = combine_vectors<C>(total, load_vector(rest));
  std::memcpy(acc + i, &total, bytes);
}

template <Combine C>
constexpr std::array<FoldRows, kFoldMaps> fold_maps() {
  return {&fold_rows<C, Map::kValue>, &fold_rows<C, Map::kNonzero>, &fold_rows<C, Map::kAbsolute>,
          &fold_rows<C, Map::kSquare>};
}

}  // namespace
}  // namespace npu::cpu
