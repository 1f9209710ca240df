// The inner loops of the elementwise, softmax and reduce kernels, compiled once per instruction
// set.
//
// They work on runs of registers short enough to stay in the L1 cache: a float32 or an int32 each,
// or an int64 in 64-bit registers, whose addresses are passed as those of their halves.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "cpu/kernels/cpu_features.hpp"
#include "runtime/kernel_params.hpp"

namespace npu::cpu {

// dst[i] = op(a[i], b[i], c[i]) for i < n. dst overlaps none of the others; those that op does not
// use are still readable.
using RunOp = void (*)(std::uint32_t* dst, const std::uint32_t* a, const std::uint32_t* b,
                       const std::uint32_t* c, std::int64_t n);
// Widens n elements, `stride` elements apart, to float32 (floating dtypes), int64 (int64) or int32
// (all others).
using RunLoad = void (*)(std::uint32_t* dst, const std::byte* src, std::int64_t stride,
                         std::int64_t n);
// The inverse: rounds to nearest even (floating), wraps (integers) or tests against zero (bool).
using RunStore = void (*)(std::byte* dst, const std::uint32_t* src, std::int64_t stride,
                          std::int64_t n);

// dst[i] = clamp(src[i] + addend[i], lo, hi), rounded to the storage type; everything contiguous. A
// null addend is zero; dst may be the addend. NaN stays NaN.
using RunFinish = void (*)(std::byte* dst, const std::uint32_t* src, const std::byte* addend,
                           float lo, float hi, std::int64_t n);

// How a reduction combines values: the REDUCE_OPS but mean, which is a sum and a division.
enum class Combine : std::uint8_t { kSum, kMax, kMin, kProd };
constexpr std::size_t kCombines = 4;

struct TileKernels {
  std::array<RunOp, NPU_OP_LIMIT> op;           // by instruction; null: not a formula
  std::array<RunLoad, NPU_DTYPE_F64 + 1> load;  // by dtype id; null: no such dtype
  std::array<RunStore, NPU_DTYPE_F64 + 1> store;
  std::array<RunFinish, NPU_DTYPE_F64 + 1> finish;  // f32, f16 and bf16; null for the others

  // All of x combined into one value, the combination's identity for n == 0. NaN wins in max and
  // min.
  std::array<float (*)(const float* x, std::int64_t n), kCombines> fold;
  // acc[i] = combine(acc[i], x[i]).
  std::array<void (*)(float* acc, const float* x, std::int64_t n), kCombines> accumulate;

  // x[i] = exp(x[i] - shift), where shift is the largest x; returns their sum.
  float (*exp_sum)(float* x, float shift, std::int64_t n);
  // Sum of exp(x[i] - shift).
  float (*sum_exp)(const float* x, float shift, std::int64_t n);
  // x[i] *= factor.
  void (*scale)(float* x, float factor, std::int64_t n);
  // x[i] = (x[i] - shift) - term.
  void (*subtract)(float* x, float shift, float term, std::int64_t n);

  // The same with a shift, factor or term for each element.
  void (*accumulate_exp)(float* sum, const float* x, const float* shift, std::int64_t n);
  void (*softmax)(float* x, const float* shift, const float* factor, std::int64_t n);
  void (*log_softmax)(float* x, const float* shift, const float* term, std::int64_t n);
  // x[i] = 1 / x[i] and x[i] = log(x[i]).
  void (*reciprocal)(float* x, std::int64_t n);
  void (*log)(float* x, std::int64_t n);
};

// The value that changes nothing when combined.
float identity(Combine combine);

// The table for an instruction set, or for the best one below it that this build has.
const TileKernels& tile_kernels(Isa isa);

}  // namespace npu::cpu
