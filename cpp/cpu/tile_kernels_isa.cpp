// The inner loops of tile_kernels.hpp. Compiled once per instruction set, which CMake names in
// NPU_TILE_ISA; the loops are plain and the compiler vectorises them.
#include "cpu/tile_kernels_isa.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

#include "cpu/kernels/kernel_table.hpp"
#include "cpu/scalar_functions.hpp"
#include "cpu/tile_kernels_careful.hpp"
#include "npu_scalar_ops.h"  // generated

namespace npu::cpu {
namespace {

constexpr Isa kIsa = Isa::NPU_TILE_ISA;

// ---- Instructions
// ------------------------------------------------------------------------------------

// The C++ type of a register type's letter.
template <char Letter>
struct RegisterType;
template <>
struct RegisterType<'f'> {
  using Type = float;
};
template <>
struct RegisterType<'i'> {
  using Type = std::int32_t;
};
template <>
struct RegisterType<'l'> {
  using Type = std::int64_t;
};

template <char Letter>
using Register = typename RegisterType<Letter>::Type;

// Register `i` of a formula's operand.
template <char Letter>
[[gnu::always_inline]] inline auto read(const std::uint32_t* x, std::int64_t i) {
  return reinterpret_cast<const Register<Letter>*>(x)[i];
}

template <std::size_t N>
constexpr char letter(const char (&args)[N], std::size_t index) {
  return index + 1 < N ? args[index] : args[0];
}

using namespace scalar;  // what the formulas call

#define NPU_DEFINE_OP(ID, NAME, ARGS, RESULT, FORMULA)                                            \
  void op_##NAME(std::uint32_t* __restrict dst, const std::uint32_t* ra, const std::uint32_t* rb, \
                 const std::uint32_t* rc, std::int64_t n) {                                       \
    for (std::int64_t i = 0; i < n; ++i) {                                                        \
      [[maybe_unused]] const auto a = read<letter(#ARGS, 0)>(ra, i);                              \
      [[maybe_unused]] const auto b = read<letter(#ARGS, 1)>(rb, i);                              \
      [[maybe_unused]] const auto c = read<letter(#ARGS, 2)>(rc, i);                              \
      reinterpret_cast<Register<(#RESULT)[0]>*>(dst)[i] =                                         \
          static_cast<Register<(#RESULT)[0]>>(FORMULA);                                           \
    }                                                                                             \
  }
NPU_SCALAR_OPS(NPU_DEFINE_OP)
#undef NPU_DEFINE_OP

// ---- Loads and stores
// --------------------------------------------------------------------------------

// Registers of 64 bits.
void load_long(std::uint32_t* dst, const std::byte* src, std::int64_t stride, std::int64_t n) {
  std::int64_t* __restrict to = reinterpret_cast<std::int64_t*>(dst);
  const std::int64_t* from = reinterpret_cast<const std::int64_t*>(src);
  for (std::int64_t i = 0; i < n; ++i) to[i] = from[i * stride];
}

void store_long(std::byte* dst, const std::uint32_t* src, std::int64_t stride, std::int64_t n) {
  std::int64_t* __restrict to = reinterpret_cast<std::int64_t*>(dst);
  const std::int64_t* from = reinterpret_cast<const std::int64_t*>(src);
  for (std::int64_t i = 0; i < n; ++i) to[i * stride] = from[i];
}

void fill(std::uint32_t* dst, std::uint32_t value, std::int64_t n) { std::fill_n(dst, n, value); }

// T is the storage type, Convert turns one T into a register.
template <class T, auto Convert>
void load_strided(std::uint32_t* __restrict dst, const T* src, std::int64_t stride,
                  std::int64_t n) {
  if (stride == 0) {
    fill(dst, Convert(*src), n);
  } else {
    for (std::int64_t i = 0; i < n; ++i) dst[i] = Convert(src[i * stride]);
  }
}

template <class T, auto Convert>
void load_run(std::uint32_t* __restrict dst, const std::byte* src, std::int64_t stride,
              std::int64_t n) {
  const T* from = reinterpret_cast<const T*>(src);
  if (stride != 1) return load_strided<T, Convert>(dst, from, stride, n);
  for (std::int64_t i = 0; i < n; ++i) dst[i] = Convert(from[i]);
}

template <class T, auto Convert>
void store_run(std::byte* dst, const std::uint32_t* __restrict src, std::int64_t stride,
               std::int64_t n) {
  T* __restrict to = reinterpret_cast<T*>(dst);
  if (stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = Convert(src[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * stride] = Convert(src[i]);
  }
}

// Half precision: contiguous runs go through the conversion instructions of the GEMM kernels.
template <DType D, auto Convert>
void load_half(std::uint32_t* dst, const std::byte* src, std::int64_t stride, std::int64_t n) {
  static const WidenFn widen = kernel_table(kIsa).widen_f32[static_cast<std::size_t>(D)];
  if (stride == 1) {
    widen(src, n, dst, nullptr);
  } else {
    load_strided<std::uint16_t, Convert>(dst, reinterpret_cast<const std::uint16_t*>(src), stride,
                                         n);
  }
}

template <DType D>
void finish_run(std::byte* dst, const std::uint32_t* src, const std::byte* addend, float lo,
                float hi, std::int64_t n) {
  static const StoreTileFn store = kernel_table(kIsa).store_tile[static_cast<std::size_t>(D)];
  void* row = dst;
  const void* addend_row = addend;
  store(reinterpret_cast<const float*>(src), n, 1, n,
        {.bias = nullptr,
         .residual = addend == nullptr ? nullptr : &addend_row,
         .y = &row,
         .lo = lo,
         .hi = hi});
}

template <DType D, auto Convert>
void store_half(std::byte* dst, const std::uint32_t* src, std::int64_t stride, std::int64_t n) {
  static const NarrowFn narrow = kernel_table(kIsa).narrow_f32[static_cast<std::size_t>(D)];
  if (stride != 1) return store_run<std::uint16_t, Convert>(dst, src, stride, n);
  narrow(reinterpret_cast<const float*>(src), n, dst);
}

std::uint32_t same_bits(std::uint32_t x) { return x; }
std::uint32_t from_f16(std::uint16_t x) { return std::bit_cast<std::uint32_t>(f16_to_f32(x)); }
std::uint32_t from_bf16(std::uint16_t x) { return std::bit_cast<std::uint32_t>(bf16_to_f32(x)); }
std::uint16_t to_f16(std::uint32_t x) { return f32_to_f16(std::bit_cast<float>(x)); }
std::uint16_t to_bf16(std::uint32_t x) { return f32_to_bf16(std::bit_cast<float>(x)); }
std::uint32_t from_f64(double x) { return std::bit_cast<std::uint32_t>(static_cast<float>(x)); }
double to_f64(std::uint32_t x) { return static_cast<double>(std::bit_cast<float>(x)); }
std::uint32_t from_bool(std::uint8_t x) { return x != 0 ? 1u : 0u; }
std::uint8_t to_bool(std::uint32_t x) { return x != 0 ? 1 : 0; }
// Integer conversions keep the low bits; int32 in between, so narrow types sign-extend.
template <class T>
std::uint32_t from_int(T x) {
  return static_cast<std::uint32_t>(x);
}
template <class T>
T to_int(std::uint32_t x) {
  return static_cast<T>(static_cast<std::int32_t>(x));
}

// ---- Reductions and softmax
// --------------------------------------------------------------------------

template <Combine C>
[[gnu::always_inline]] inline float combine(float a, float b) {
  if constexpr (C == Combine::kSum) {
    return a + b;
  } else if constexpr (C == Combine::kMax) {
    return npu_max(a, b);
  } else if constexpr (C == Combine::kMin) {
    return npu_min(a, b);
  } else {
    return a * b;
  }
}

// Independent partial results: enough to fill the pipelines, and short chains of rounding errors.
constexpr std::int64_t kLanes = 64;

// Combines value(i) for all i < n; lanes first, then a tree over them.
template <Combine C, class Value>
[[gnu::always_inline]] inline float fold_values(std::int64_t n, float start, Value value) {
  float lanes[kLanes];
  for (float& lane : lanes) lane = start;
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t j = 0; j < kLanes; ++j) lanes[j] = combine<C>(lanes[j], value(i + j));
  }
  for (std::int64_t j = 0; j < n - i; ++j) lanes[j] = combine<C>(lanes[j], value(i + j));
  for (std::int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (std::int64_t j = 0; j < width; ++j) lanes[j] = combine<C>(lanes[j], lanes[j + width]);
  }
  return lanes[0];
}

template <Combine C>
float fold(const float* x, std::int64_t n) {
  return fold_values<C>(n, identity(C), [x](std::int64_t i) { return x[i]; });
}

template <Combine C>
void accumulate(float* __restrict acc, const float* __restrict x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) acc[i] = combine<C>(acc[i], x[i]);
}

float exp_sum(float* x, float shift, std::int64_t n) {
  return fold_values<Combine::kSum>(
      n, 0.0f, [=](std::int64_t i) { return x[i] = vector_math::exp_nonpositive(x[i] - shift); });
}

float sum_exp(const float* x, float shift, std::int64_t n) {
  return fold_values<Combine::kSum>(
      n, 0.0f, [=](std::int64_t i) { return vector_math::exp_nonpositive(x[i] - shift); });
}

void scale(float* x, float factor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] *= factor;
}

void subtract(float* x, float shift, float term, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = (x[i] - shift) - term;
}

void accumulate_exp(float* __restrict sum, const float* __restrict x, const float* __restrict shift,
                    std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sum[i] += vector_math::exp_nonpositive(x[i] - shift[i]);
}

void softmax(float* __restrict x, const float* __restrict shift, const float* __restrict factor,
             std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    x[i] = vector_math::exp_nonpositive(x[i] - shift[i]) * factor[i];
}

void log_softmax(float* __restrict x, const float* __restrict shift, const float* __restrict term,
                 std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = (x[i] - shift[i]) - term[i];
}

void reciprocal(float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = 1.0f / x[i];
}

void log(float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = vector_math::log(x[i]);
}

// ---- The table
// ---------------------------------------------------------------------------------------

TileKernels make_table() {
  TileKernels t{};
#define NPU_TABLE_OP(ID, NAME, ARGS, RESULT, FORMULA) t.op[ID] = &op_##NAME;
  NPU_SCALAR_OPS(NPU_TABLE_OP)
#undef NPU_TABLE_OP
  t.op[NPU_OP_SIN_F] = &trigonometric_run<npu_sin_small, npu_sin>;
  t.op[NPU_OP_COS_F] = &trigonometric_run<npu_cos_small, npu_cos>;
  t.op[NPU_OP_TAN_F] = &trigonometric_run<npu_tan_small, npu_tan>;
  t.op[NPU_OP_FMOD_F] = &division_run<fmod_of, npu_fmod>;
  t.op[NPU_OP_REMAINDER_F] = &division_run<remainder_of, npu_remainder>;
  t.op[NPU_OP_DIV_FLOOR_F] = &division_run<div_floor_of, npu_div_floor>;
  t.load[NPU_DTYPE_F32] = &load_run<std::uint32_t, same_bits>;
  t.load[NPU_DTYPE_F16] = &load_half<DType::f16, from_f16>;
  t.load[NPU_DTYPE_BF16] = &load_half<DType::bf16, from_bf16>;
  t.load[NPU_DTYPE_I64] = &load_long;
  t.load[NPU_DTYPE_I32] = &load_run<std::uint32_t, same_bits>;
  t.load[NPU_DTYPE_I16] = &load_run<std::int16_t, from_int<std::int16_t>>;
  t.load[NPU_DTYPE_I8] = &load_run<std::int8_t, from_int<std::int8_t>>;
  t.load[NPU_DTYPE_U8] = &load_run<std::uint8_t, from_int<std::uint8_t>>;
  t.load[NPU_DTYPE_B8] = &load_run<std::uint8_t, from_bool>;
  t.load[NPU_DTYPE_F64] = &load_run<double, from_f64>;
  t.store[NPU_DTYPE_F32] = &store_run<std::uint32_t, same_bits>;
  t.store[NPU_DTYPE_F16] = &store_half<DType::f16, to_f16>;
  t.store[NPU_DTYPE_BF16] = &store_half<DType::bf16, to_bf16>;
  t.store[NPU_DTYPE_I64] = &store_long;
  t.store[NPU_DTYPE_I32] = &store_run<std::uint32_t, same_bits>;
  t.store[NPU_DTYPE_I16] = &store_run<std::int16_t, to_int<std::int16_t>>;
  t.store[NPU_DTYPE_I8] = &store_run<std::int8_t, to_int<std::int8_t>>;
  t.store[NPU_DTYPE_U8] = &store_run<std::uint8_t, to_int<std::uint8_t>>;
  t.store[NPU_DTYPE_B8] = &store_run<std::uint8_t, to_bool>;
  t.store[NPU_DTYPE_F64] = &store_run<double, to_f64>;
  t.finish[NPU_DTYPE_F32] = &finish_run<DType::f32>;
  t.finish[NPU_DTYPE_F16] = &finish_run<DType::f16>;
  t.finish[NPU_DTYPE_BF16] = &finish_run<DType::bf16>;
  t.fold = {&fold<Combine::kSum>, &fold<Combine::kMax>, &fold<Combine::kMin>,
            &fold<Combine::kProd>};
  t.accumulate = {&accumulate<Combine::kSum>, &accumulate<Combine::kMax>,
                  &accumulate<Combine::kMin>, &accumulate<Combine::kProd>};
  t.exp_sum = &exp_sum;
  t.sum_exp = &sum_exp;
  t.scale = &scale;
  t.subtract = &subtract;
  t.accumulate_exp = &accumulate_exp;
  t.softmax = &softmax;
  t.log_softmax = &log_softmax;
  t.reciprocal = &reciprocal;
  t.log = &log;
  return t;
}

#define NPU_CONCAT_(A, B) A##B
#define NPU_CONCAT(A, B) NPU_CONCAT_(A, B)

}  // namespace

const TileKernels& NPU_CONCAT(tile_kernels_, NPU_TILE_ISA)() {
  static const TileKernels table = make_table();
  return table;
}

}  // namespace npu::cpu
