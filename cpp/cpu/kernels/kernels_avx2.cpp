// Kernels for AVX2 + FMA + F16C: float32 arithmetic on 16 registers.
#include "simd_avx2.hpp"
#include "simd_dots.hpp"
#include "simd_kernels.hpp"
#include "simd_winograd.hpp"

namespace npu::cpu {
namespace {

constexpr int kRows = 6;
constexpr int kVecs = 2;

KernelTable make_table() {
  KernelTable t{};
  t.isa = Isa::avx2;
  t.gemm[0] = float_gemm<Avx2Vec, PanelFormat::f32, DType::f32, kRows, kVecs>();
  t.gemm[1] = float_gemm<Avx2Vec, PanelFormat::f16, DType::f16, kRows, kVecs>();
  t.gemm[2] = float_gemm<Avx2Vec, PanelFormat::bf16, DType::bf16, kRows, kVecs>();
  t.gemm_f32 = t.gemm[0];
  fill_row_kernels<Avx2Vec, DType::f32>(t);
  fill_row_kernels<Avx2Vec, DType::f16>(t);
  fill_row_kernels<Avx2Vec, DType::bf16>(t);
  fill_dots<Avx2Vec, 16>(t);
  fill_winograd<Avx2Vec>(t);
  return t;
}

}  // namespace

const KernelTable& avx2_kernels() {
  static const KernelTable table = make_table();
  return table;
}

}  // namespace npu::cpu
