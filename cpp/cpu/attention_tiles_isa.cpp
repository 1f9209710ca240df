// The inner loops of attention_tiles.hpp. Compiled once per instruction set, which CMake names in
// NPU_TILE_ISA.
#include <limits>
#include <utility>

#include "cpu/attention_tiles.hpp"
#include "cpu/vector_math.hpp"
#if defined(__AVX512F__)
#include "cpu/kernels/simd_avx512.hpp"
#elif defined(__AVX2__)
#include "cpu/kernels/simd_avx2.hpp"
#else
#include "cpu/kernels/simd_generic.hpp"
#endif

namespace npu::cpu {
namespace {

// A tile of kRows x kVectors sums and a row of v fill the registers.
#if defined(__AVX512F__)
using V = Avx512Vec;
constexpr int kRows = 6, kVectors = 4;
#elif defined(__AVX2__)
using V = Avx2Vec;
constexpr int kRows = 4, kVectors = 2;
#else
using V = GenericVec;
constexpr int kRows = 4, kVectors = 4;
#endif

// Independent partial results: enough to fill the pipelines.
constexpr std::int64_t kLanes = 32;

template <class Value, class Combine>
[[gnu::always_inline]] inline float fold(std::int64_t n, float start, Value value,
                                         Combine combine) {
  float lanes[kLanes];
  for (float& lane : lanes) lane = start;
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t j = 0; j < kLanes; ++j) lanes[j] = combine(lanes[j], value(i + j));
  }
  for (std::int64_t j = 0; j < n - i; ++j) lanes[j] = combine(lanes[j], value(i + j));
  for (std::int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (std::int64_t j = 0; j < width; ++j) lanes[j] = combine(lanes[j], lanes[j + width]);
  }
  return lanes[0];
}

float scale_scores(float* s, const float* mask, float scale, float softcap, std::int64_t n) {
  const auto larger = [](float a, float b) { return a > b ? a : b; };
  constexpr float kStart = -std::numeric_limits<float>::infinity();
  if (softcap > 0.0f) {
    for (std::int64_t i = 0; i < n; ++i) {
      s[i] = softcap * vector_math::tanh(s[i] * scale / softcap);
    }
    scale = 1.0f;
  }
  if (mask == nullptr) {
    return fold(n, kStart, [=](std::int64_t i) { return s[i] = s[i] * scale; }, larger);
  }
  return fold(n, kStart, [=](std::int64_t i) { return s[i] = s[i] * scale + mask[i]; }, larger);
}

float exponentials(float* s, float shift, std::int64_t n) {
  return fold(
      n, 0.0f, [=](std::int64_t i) { return s[i] = vector_math::exp_nonpositive(s[i] - shift); },
      [](float a, float b) { return a + b; });
}

// Row `row` of those wanted soon, into the L2 cache.
[[gnu::always_inline]] inline void fetch(const RowsAhead& ahead, std::int64_t row) {
  constexpr std::int64_t kLine = 64;
  if (row >= ahead.rows) return;
  const std::byte* from = ahead.first + row * ahead.row_bytes;
  for (std::int64_t i = 0; i < ahead.bytes; i += kLine) __builtin_prefetch(from + i, 0, 2);
}

// to[j] = the sum of x[j]'s elements, always in the same order.
#if defined(__AVX512F__)
[[gnu::always_inline]] inline void sum_each(const V::Reg (&x)[4], float* to) {
  const auto pairs = [](V::Reg a, V::Reg b) {
    return V::add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  };
  const V::Reg ab = pairs(x[0], x[1]);
  const V::Reg cd = pairs(x[2], x[3]);
  const V::Reg quarters = V::add(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  const __m256 halves =
      _mm256_add_ps(_mm512_castps512_ps256(quarters),
                    _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(quarters), 1)));
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
}
#else
[[gnu::always_inline]] inline void sum_each(const V::Reg (&x)[4], float* to) {
  for (int j = 0; j < 4; ++j) to[j] = V::sum(x[j]);
}
#endif

// Rows x (Vectors * V::width) sums; the last `tail` columns alone where it is not 0 (one vector).
template <DType D, int Rows, int Vectors, bool Tail>
[[gnu::always_inline]] inline void weighted_tile(const WeightedRows& w, int row,
                                                 std::int64_t column, std::int64_t tail) {
  constexpr auto kSize = static_cast<std::int64_t>(dtype_size(D));
  typename V::Reg acc[Rows][Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
    const float* sums = w.sums + (row + i) * w.ld + column;
    const typename V::Reg factor = V::set1(w.factors[row + i]);
#pragma GCC unroll 8
    for (int c = 0; c < Vectors; ++c) {
      const float* at = sums + c * V::width;
      acc[i][c] =
          V::mul(Tail ? V::template load_n<DType::f32>(at, tail) : V::template load<DType::f32>(at),
                 factor);
    }
  }
  const float* p = w.p + row * w.ldp;
  const std::byte* v = w.v + column * kSize;
  const bool fetches = row == 0 && column == 0;
  for (std::int64_t j = 0; j < w.n; ++j, v += w.row_bytes) {
    if (fetches) fetch(w.ahead, j);
    typename V::Reg values[Vectors];
#pragma GCC unroll 8
    for (int c = 0; c < Vectors; ++c) {
      const std::byte* at = v + c * V::width * kSize;
      values[c] = Tail ? V::template load_n<D>(at, tail) : V::template load<D>(at);
    }
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const typename V::Reg weight = V::set1(p[i * w.ldp + j]);
#pragma GCC unroll 8
      for (int c = 0; c < Vectors; ++c) acc[i][c] = V::fma(weight, values[c], acc[i][c]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
    float* sums = w.sums + (row + i) * w.ld + column;
#pragma GCC unroll 8
    for (int c = 0; c < Vectors; ++c) {
      float* at = sums + c * V::width;
      if constexpr (Tail) {
        V::template store_n<DType::f32>(at, acc[i][c], tail);
      } else {
        V::template store<DType::f32>(at, acc[i][c]);
      }
    }
  }
}

template <DType D, int Rows>
void weighted_rows_tiles(const WeightedRows& w, int row) {
  std::int64_t column = 0;
  for (; column + kVectors * V::width <= w.columns; column += kVectors * V::width) {
    weighted_tile<D, Rows, kVectors, false>(w, row, column, 0);
  }
  for (; column + V::width <= w.columns; column += V::width) {
    weighted_tile<D, Rows, 1, false>(w, row, column, 0);
  }
  if (column < w.columns) {
    weighted_tile<D, Rows, 1, true>(w, row, column, w.columns - column);
  }
}

template <DType D, int... I>
constexpr std::array<void (*)(const WeightedRows&, int), sizeof...(I)> weighted_by_rows(
    std::integer_sequence<int, I...>) {
  return {&weighted_rows_tiles<D, I + 1>...};
}

template <DType D>
void weighted_rows(const WeightedRows& w) {
  static constexpr auto kByRows = weighted_by_rows<D>(std::make_integer_sequence<int, kRows>{});
  for (int row = 0; row < w.rows; row += kRows) {
    const int rows = w.rows - row < kRows ? w.rows - row : kRows;
    kByRows[static_cast<std::size_t>(rows - 1)](w, row);
  }
}

// Products of `Rows` queries with four keys at a time, which are loaded once for all queries.
template <DType D, int Rows, int Keys>
[[gnu::always_inline]] inline void product_tile(const RowProducts& r, int row, std::int64_t key) {
  constexpr auto kSize = static_cast<std::int64_t>(dtype_size(D));
  typename V::Reg acc[Rows][Keys];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Keys; ++j) acc[i][j] = V::zero();
  }
  const float* q = r.q + row * r.ldq;
  const std::byte* k = r.k + key * r.row_bytes;
  for (std::int64_t d = 0; d < r.d; d += V::width) {
    const std::int64_t left = r.d - d;
    const bool full = left >= V::width;
    typename V::Reg keys[Keys];
#pragma GCC unroll 8
    for (int j = 0; j < Keys; ++j) {
      const std::byte* at = k + j * r.row_bytes + d * kSize;
      keys[j] = full ? V::template load<D>(at) : V::template load_n<D>(at, left);
    }
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const float* at = q + i * r.ldq + d;
      const typename V::Reg query =
          full ? V::template load<DType::f32>(at) : V::template load_n<DType::f32>(at, left);
#pragma GCC unroll 8
      for (int j = 0; j < Keys; ++j) acc[i][j] = V::fma(query, keys[j], acc[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
    float* to = r.scores + (row + i) * r.ld + key;
    if constexpr (Keys == 4) {
      sum_each(acc[i], to);
    } else {
      static_assert(Keys == 1);
      const typename V::Reg same[4] = {acc[i][0], acc[i][0], acc[i][0], acc[i][0]};
      float sums[4];
      sum_each(same, sums);
      *to = sums[0];
    }
  }
}

template <DType D, int Rows>
void product_rows(const RowProducts& r, int row) {
  std::int64_t key = 0;
  const auto fetch_rows = [&](std::int64_t n) {
    for (std::int64_t j = 0; row == 0 && j < n; ++j) fetch(r.ahead, key + j);
  };
  for (; key + 4 <= r.n; key += 4) {
    fetch_rows(4);
    product_tile<D, Rows, 4>(r, row, key);
  }
  for (; key < r.n; ++key) {
    fetch_rows(1);
    product_tile<D, Rows, 1>(r, row, key);
  }
}

template <DType D, int... I>
constexpr std::array<void (*)(const RowProducts&, int), sizeof...(I)> products_by_rows(
    std::integer_sequence<int, I...>) {
  return {&product_rows<D, I + 1>...};
}

template <DType D>
void row_products(const RowProducts& r) {
  static constexpr auto kByRows = products_by_rows<D>(std::make_integer_sequence<int, kRows>{});
  for (int row = 0; row < r.rows; row += kRows) {
    const int rows = r.rows - row < kRows ? r.rows - row : kRows;
    kByRows[static_cast<std::size_t>(rows - 1)](r, row);
  }
}

#define NPU_CONCAT_(A, B) A##B
#define NPU_CONCAT(A, B) NPU_CONCAT_(A, B)

}  // namespace

const AttentionTiles& NPU_CONCAT(attention_tiles_, NPU_TILE_ISA)() {
  static constexpr AttentionTiles kTable{
      &scale_scores,
      &exponentials,
      {&weighted_rows<DType::f32>, &weighted_rows<DType::f16>, &weighted_rows<DType::bf16>},
      {&row_products<DType::f32>, &row_products<DType::f16>, &row_products<DType::bf16>}};
  return kTable;
}

}  // namespace npu::cpu
