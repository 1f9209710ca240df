// Portable kernels: correct everywhere, vectorised by the compiler for its baseline (SSE2, NEON).
#include "simd_dots.hpp"
#include "simd_generic.hpp"
#include "simd_kernels.hpp"
#include "simd_winograd.hpp"

namespace npu::cpu {
namespace {

// Tile shape by the number of vector registers: 32 on arm64, 16 on x86-64. Panels are float32
// whatever the storage type, because widening halves in software inside the loop would dominate it.
#if defined(__aarch64__)
constexpr int kRegisters = 32;
constexpr int kRows = 6;
constexpr int kVecs = 4;
#else
constexpr int kRegisters = 16;
constexpr int kRows = 4;
constexpr int kVecs = 2;
#endif

KernelTable make_table() {
  KernelTable t{};
  t.isa = Isa::generic;
  t.gemm[0] = float_gemm<GenericVec, PanelFormat::f32, DType::f32, kRows, kVecs>();
  t.gemm[1] = float_gemm<GenericVec, PanelFormat::f32, DType::f16, kRows, kVecs>();
  t.gemm[2] = float_gemm<GenericVec, PanelFormat::f32, DType::bf16, kRows, kVecs>();
  t.gemm_f32 = t.gemm[0];
  fill_row_kernels<GenericVec, DType::f32>(t);
  fill_row_kernels<GenericVec, DType::f16>(t);
  fill_row_kernels<GenericVec, DType::bf16>(t);
  fill_dots<GenericVec, kRegisters>(t);
  fill_winograd<GenericVec>(t);
  return t;
}

}  // namespace

const KernelTable& generic_kernels() {
  static const KernelTable table = make_table();
  return table;
}

}  // namespace npu::cpu
