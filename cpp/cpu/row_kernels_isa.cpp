// The inner loops of row_kernels.hpp. Compiled once per instruction set, which CMake names in
// NPU_TILE_ISA; the loops are plain and the compiler vectorises them.
#include "cpu/row_kernels_isa.hpp"

#include <bit>
#include <limits>
#include <type_traits>

#include "cpu/kernels/dtype.hpp"
#include "cpu/scalar_functions.hpp"
#include "cpu/tile_kernels_isa.hpp"
#include "cpu/vector_fold.hpp"

namespace npu::cpu {
namespace {

// ---- Integers
// --------------------------------------------------------------------------------------

template <class T>
void load64(std::int64_t* __restrict dst, const std::byte* src, std::int64_t stride,
            std::int64_t n) {
  const T* from = reinterpret_cast<const T*>(src);
  if (stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) dst[i] = static_cast<std::int64_t>(from[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) dst[i] = static_cast<std::int64_t>(from[i * stride]);
  }
}

void load64_bool(std::int64_t* __restrict dst, const std::byte* src, std::int64_t stride,
                 std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) dst[i] = src[i * stride] != std::byte{0} ? 1 : 0;
}

template <class T>
void store64(std::byte* dst, const std::int64_t* __restrict src, std::int64_t stride,
             std::int64_t n) {
  T* to = reinterpret_cast<T*>(dst);
  for (std::int64_t i = 0; i < n; ++i) to[i * stride] = static_cast<T>(src[i]);
}

template <DType D>
void store64_half(std::byte* dst, const std::int64_t* __restrict src, std::int64_t stride,
                  std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    store_scalar(D, dst, i * stride, static_cast<float>(src[i]));
  }
}

void store64_bool(std::byte* dst, const std::int64_t* __restrict src, std::int64_t stride,
                  std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) dst[i * stride] = std::byte{src[i] != 0};
}

template <class T>
void load_nonzero(std::int64_t* __restrict dst, const std::byte* src, std::int64_t stride,
                  std::int64_t n) {
  const T* from = reinterpret_cast<const T*>(src);
  for (std::int64_t i = 0; i < n; ++i) dst[i] = from[i * stride] != T{0} ? 1 : 0;
}

// Half formats: all bits but the sign's.
void load_nonzero_half(std::int64_t* __restrict dst, const std::byte* src, std::int64_t stride,
                       std::int64_t n) {
  const auto* from = reinterpret_cast<const std::uint16_t*>(src);
  for (std::int64_t i = 0; i < n; ++i) dst[i] = (from[i * stride] & 0x7fffu) != 0 ? 1 : 0;
}

template <class T>
void load_float(std::uint32_t* __restrict dst, const std::byte* src, std::int64_t stride,
                std::int64_t n) {
  const T* from = reinterpret_cast<const T*>(src);
  for (std::int64_t i = 0; i < n; ++i) {
    dst[i] = std::bit_cast<std::uint32_t>(static_cast<float>(from[i * stride]));
  }
}

void load_float_bool(std::uint32_t* __restrict dst, const std::byte* src, std::int64_t stride,
                     std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    dst[i] = std::bit_cast<std::uint32_t>(src[i * stride] != std::byte{0} ? 1.0f : 0.0f);
  }
}

template <class T>
void store_float(std::byte* dst, const std::uint32_t* __restrict src, std::int64_t stride,
                 std::int64_t n) {
  T* to = reinterpret_cast<T*>(dst);
  for (std::int64_t i = 0; i < n; ++i) {
    to[i * stride] = static_cast<T>(scalar::npu_to_int(std::bit_cast<float>(src[i])));
  }
}

void store_float_bool(std::byte* dst, const std::uint32_t* __restrict src, std::int64_t stride,
                      std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    dst[i * stride] = std::byte{std::bit_cast<float>(src[i]) != 0.0f};
  }
}

// ---- Sums
// --------------------------------------------------------------------------------------

// Sums and products wrap.
template <Combine C, class T>
[[gnu::always_inline]] inline T combine_integers(T a, T b) {
  if constexpr (C == Combine::kMax) {
    return a > b ? a : b;
  } else if constexpr (C == Combine::kMin) {
    return a < b ? a : b;
  } else {
    const auto bits_a = static_cast<std::make_unsigned_t<T>>(a);
    const auto bits_b = static_cast<std::make_unsigned_t<T>>(b);
    return static_cast<T>(C == Combine::kSum ? bits_a + bits_b : bits_a * bits_b);
  }
}

template <Combine C, class T>
T fold_integers(const T* x, std::int64_t n) {
  T total = C == Combine::kMax   ? std::numeric_limits<T>::min()
            : C == Combine::kMin ? std::numeric_limits<T>::max()
                                 : static_cast<T>(C == Combine::kProd ? 1 : 0);
  for (std::int64_t i = 0; i < n; ++i) total = combine_integers<C>(total, x[i]);
  return total;
}

template <Combine C, class T>
void accumulate_integers(T* __restrict acc, const T* __restrict x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) acc[i] = combine_integers<C>(acc[i], x[i]);
}

template <class T>
constexpr IntegerFolds<T> integer_folds() {
  return {&fold_integers<Combine::kSum, T>, &fold_integers<Combine::kMax, T>,
          &fold_integers<Combine::kMin, T>, &fold_integers<Combine::kProd, T>};
}

template <class T>
constexpr IntegerAccumulations<T> integer_accumulations() {
  return {&accumulate_integers<Combine::kSum, T>, &accumulate_integers<Combine::kMax, T>,
          &accumulate_integers<Combine::kMin, T>, &accumulate_integers<Combine::kProd, T>};
}

void accumulate_squares(float* __restrict acc, const float* __restrict x,
                        const float* __restrict shift, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float d = x[i] - shift[i];
    acc[i] += d * d;
  }
}

void absolute(float* dst, const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    dst[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  }
}

void nonzero(float* dst, const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) dst[i] = x[i] != 0.0f ? 1.0f : 0.0f;
}

// ---- Normalisation
// --------------------------------------------------------------------------------------

void normalize(float* dst, const float* x, float mean, float scale, const float* w, const float* b,
               std::int64_t n) {
  if (w != nullptr && b != nullptr) {
    for (std::int64_t i = 0; i < n; ++i) dst[i] = (x[i] - mean) * scale * w[i] + b[i];
  } else if (w != nullptr) {
    for (std::int64_t i = 0; i < n; ++i) dst[i] = (x[i] - mean) * scale * w[i];
  } else if (b != nullptr) {
    for (std::int64_t i = 0; i < n; ++i) dst[i] = (x[i] - mean) * scale + b[i];
  } else {
    for (std::int64_t i = 0; i < n; ++i) dst[i] = (x[i] - mean) * scale;
  }
}

void normalize_evenly(float* dst, const float* x, float mean, float scale, float shift,
                      std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) dst[i] = (x[i] - mean) * scale + shift;
}

void normalize_lanes(float* dst, const float* x, const float* mean, const float* scale,
                     const float* shift, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) dst[i] = (x[i] - mean[i]) * scale[i] + shift[i];
}

void add(float* __restrict x, const float* __restrict y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] += y[i];
}

void scale_and_add(float* __restrict x, float scale, const float* __restrict mask, std::int64_t n) {
  if (mask == nullptr) {
    for (std::int64_t i = 0; i < n; ++i) x[i] *= scale;
  } else {
    for (std::int64_t i = 0; i < n; ++i) x[i] = x[i] * scale + mask[i];
  }
}

void scale_and_keep(float* __restrict x, float scale, const std::uint32_t* __restrict keep,
                    std::int64_t n) {
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = 0; i < n; ++i) {
    const float v = x[i] * scale;
    x[i] = keep[i] != 0 ? v : kHidden;
  }
}

// ---- Extremes and order
// --------------------------------------------------------------------------------------

constexpr std::int64_t kLanes = 64;

// A block at a time: whether it holds the value is a vectorised question.
template <class Hit>
[[gnu::always_inline]] inline std::int64_t find_if(std::int64_t n, Hit hit) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    std::int32_t hits = 0;
    for (std::int64_t j = 0; j < kLanes; ++j) hits += hit(i + j) ? 1 : 0;
    if (hits != 0) break;
  }
  for (; i < n; ++i) {
    if (hit(i)) return i;
  }
  return n;
}

std::int64_t find(const float* x, float value, std::int64_t n) {
  if (value != value) return find_if(n, [x](std::int64_t i) { return x[i] != x[i]; });
  return find_if(n, [x, value](std::int64_t i) { return x[i] == value; });
}

void accumulate_extreme(float* __restrict best, std::int32_t* __restrict place,
                        const float* __restrict x, std::int32_t k, bool least, std::int64_t n) {
  const float sign = least ? -1.0f : 1.0f;
  for (std::int64_t i = 0; i < n; ++i) {
    const float v = x[i];
    const float b = best[i];
    const bool nan = (v != v) & (b == b);
    const bool beats = (sign * v > sign * b) | nan;
    best[i] = beats ? v : b;
    place[i] = beats ? k : place[i];
  }
}

std::int64_t scan64(std::int64_t* x, std::int64_t total, bool product, std::int64_t n) {
  if (product) {
    for (std::int64_t i = 0; i < n; ++i)
      x[i] = total = combine_integers<Combine::kProd>(total, x[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i)
      x[i] = total = combine_integers<Combine::kSum>(total, x[i]);
  }
  return total;
}

double scan(float* x, double total, bool product, std::int64_t n) {
  if (product) {
    for (std::int64_t i = 0; i < n; ++i) {
      total *= static_cast<double>(x[i]);
      x[i] = static_cast<float>(total);
    }
  } else {
    for (std::int64_t i = 0; i < n; ++i) {
      total += static_cast<double>(x[i]);
      x[i] = static_cast<float>(total);
    }
  }
  return total;
}

void scan_lanes(float* __restrict x, double* __restrict total, bool product, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const double v = static_cast<double>(x[i]);
    total[i] = product ? total[i] * v : total[i] + v;
    x[i] = static_cast<float>(total[i]);
  }
}

void order_keys(std::uint32_t* __restrict keys, const float* __restrict x, bool descending,
                std::int64_t n) {
  const std::uint32_t flip = descending ? 0xffffffffu : 0u;
  for (std::int64_t i = 0; i < n; ++i) {
    const float v = x[i];
    // Negative numbers in reverse below the positive ones; adding 0 makes -0 a 0.
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(v + 0.0f);
    const std::uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
    keys[i] = (v != v ? 0xffffffffu : ordered) ^ flip;
  }
}

#define NPU_CONCAT_(A, B) A##B
#define NPU_CONCAT(A, B) NPU_CONCAT_(A, B)

RowKernels make_table() {
  const TileKernels& tiles = NPU_CONCAT(tile_kernels_, NPU_TILE_ISA)();
  RowKernels t{};
  t.load64[NPU_DTYPE_I64] = &load64<std::int64_t>;
  t.load64[NPU_DTYPE_I32] = &load64<std::int32_t>;
  t.load64[NPU_DTYPE_I16] = &load64<std::int16_t>;
  t.load64[NPU_DTYPE_I8] = &load64<std::int8_t>;
  t.load64[NPU_DTYPE_U8] = &load64<std::uint8_t>;
  t.load64[NPU_DTYPE_B8] = &load64_bool;
  t.store64[NPU_DTYPE_F32] = &store64<float>;
  t.store64[NPU_DTYPE_F16] = &store64_half<DType::f16>;
  t.store64[NPU_DTYPE_BF16] = &store64_half<DType::bf16>;
  t.store64[NPU_DTYPE_F64] = &store64<double>;
  t.store64[NPU_DTYPE_I64] = &store64<std::int64_t>;
  t.store64[NPU_DTYPE_I32] = &store64<std::int32_t>;
  t.store64[NPU_DTYPE_I16] = &store64<std::int16_t>;
  t.store64[NPU_DTYPE_I8] = &store64<std::int8_t>;
  t.store64[NPU_DTYPE_U8] = &store64<std::uint8_t>;
  t.store64[NPU_DTYPE_B8] = &store64_bool;
  t.load_nonzero[NPU_DTYPE_F32] = &load_nonzero<float>;
  t.load_nonzero[NPU_DTYPE_F16] = &load_nonzero_half;
  t.load_nonzero[NPU_DTYPE_BF16] = &load_nonzero_half;
  t.load_nonzero[NPU_DTYPE_F64] = &load_nonzero<double>;
  t.load_nonzero[NPU_DTYPE_I64] = &load_nonzero<std::int64_t>;
  t.load_nonzero[NPU_DTYPE_I32] = &load_nonzero<std::int32_t>;
  t.load_nonzero[NPU_DTYPE_I16] = &load_nonzero<std::int16_t>;
  t.load_nonzero[NPU_DTYPE_I8] = &load_nonzero<std::int8_t>;
  t.load_nonzero[NPU_DTYPE_U8] = &load_nonzero<std::uint8_t>;
  t.load_nonzero[NPU_DTYPE_B8] = &load_nonzero<std::uint8_t>;
  for (const auto dtype : {NPU_DTYPE_F32, NPU_DTYPE_F16, NPU_DTYPE_BF16, NPU_DTYPE_F64}) {
    t.load_float[dtype] = tiles.load[dtype];
    t.store_float[dtype] = tiles.store[dtype];
  }
  t.load_float[NPU_DTYPE_I64] = &load_float<std::int64_t>;
  t.load_float[NPU_DTYPE_I32] = &load_float<std::int32_t>;
  t.load_float[NPU_DTYPE_I16] = &load_float<std::int16_t>;
  t.load_float[NPU_DTYPE_I8] = &load_float<std::int8_t>;
  t.load_float[NPU_DTYPE_U8] = &load_float<std::uint8_t>;
  t.load_float[NPU_DTYPE_B8] = &load_float_bool;
  t.store_float[NPU_DTYPE_I64] = &store_float<std::int64_t>;
  t.store_float[NPU_DTYPE_I32] = &store_float<std::int32_t>;
  t.store_float[NPU_DTYPE_I16] = &store_float<std::int16_t>;
  t.store_float[NPU_DTYPE_I8] = &store_float<std::int8_t>;
  t.store_float[NPU_DTYPE_U8] = &store_float<std::uint8_t>;
  t.store_float[NPU_DTYPE_B8] = &store_float_bool;
  t.fold_rows = {fold_maps<Combine::kSum>(), fold_maps<Combine::kMax>(), fold_maps<Combine::kMin>(),
                 fold_maps<Combine::kProd>()};
  t.accumulate_rows = {&accumulate_rows<Combine::kSum>, &accumulate_rows<Combine::kMax>,
                       &accumulate_rows<Combine::kMin>, &accumulate_rows<Combine::kProd>};
  t.fold32 = integer_folds<std::int32_t>();
  t.fold64 = integer_folds<std::int64_t>();
  t.accumulate32 = integer_accumulations<std::int32_t>();
  t.accumulate64 = integer_accumulations<std::int64_t>();
  t.scan64 = &scan64;
  t.accumulate_squares = &accumulate_squares;
  t.absolute = &absolute;
  t.nonzero = &nonzero;
  t.normalize = &normalize;
  t.normalize_evenly = &normalize_evenly;
  t.normalize_lanes = &normalize_lanes;
  t.add = &add;
  t.scale_and_add = &scale_and_add;
  t.scale_and_keep = &scale_and_keep;
  t.find = &find;
  t.accumulate_extreme = &accumulate_extreme;
  t.scan = &scan;
  t.scan_lanes = &scan_lanes;
  t.order_keys = &order_keys;
  return t;
}

}  // namespace

const RowKernels& NPU_CONCAT(row_kernels_, NPU_TILE_ISA)() {
  static const RowKernels table = make_table();
  return table;
}

}  // namespace npu::cpu
