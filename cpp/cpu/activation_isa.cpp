// The activations of activation.hpp as loops. Compiled once per instruction set, which CMake names
// in NPU_TILE_ISA; the compiler vectorises them.
#include <algorithm>

#include "cpu/activation.hpp"
#include "cpu/scalar_functions.hpp"

#define NPU_JOIN(a, b) a##b
#define NPU_CONCAT(a, b) NPU_JOIN(a, b)

namespace npu::cpu {
namespace {

// A whole vector of the widest instruction set: rows end in a padded one rather than one by one.
constexpr std::int64_t kLanes = 16;

template <float (*Function)(float)>
[[gnu::always_inline]] inline void apply(float* v, std::int64_t n) {
  const std::int64_t whole = n / kLanes * kLanes;
  for (std::int64_t i = 0; i < whole; ++i) v[i] = Function(v[i]);
  if (whole == n) return;
  float tail[kLanes] = {};
  std::copy(v + whole, v + n, tail);
  for (float& x : tail) x = Function(x);
  std::copy(tail, tail + (n - whole), v + whole);
}

template <float (*Function)(float)>
void apply_rows(float* v, std::int64_t ld, int rows, std::int64_t n) {
  if (ld == n) return apply<Function>(v, rows * n);
  for (int i = 0; i < rows; ++i) apply<Function>(v + i * ld, n);
}

}  // namespace

ActivateFn NPU_CONCAT(activation_function_, NPU_TILE_ISA)(std::uint32_t activation) {
  switch (activation) {
    case NPU_ACTIVATION_GELU:
      return &apply_rows<scalar::npu_gelu>;
    case NPU_ACTIVATION_GELU_TANH:
      return &apply_rows<scalar::npu_gelu_tanh>;
    case NPU_ACTIVATION_SILU:
      return &apply_rows<scalar::npu_silu>;
    case NPU_ACTIVATION_SIGMOID:
      return &apply_rows<scalar::npu_sigmoid>;
    case NPU_ACTIVATION_TANH:
      return &apply_rows<scalar::npu_tanh>;
    case NPU_ACTIVATION_HARDSWISH:
      return &apply_rows<scalar::npu_hardswish>;
    case NPU_ACTIVATION_HARDSIGMOID:
      return &apply_rows<scalar::npu_hardsigmoid>;
    default:
      return nullptr;
  }
}

}  // namespace npu::cpu
