// Kernels for AVX-512: float32 arithmetic; halves are widened in registers, off the multipliers'
// ports.
#include "simd_avx512.hpp"
#include "simd_dots.hpp"
#include "simd_kernels.hpp"
#include "simd_pack_avx512.hpp"
#include "simd_winograd.hpp"

namespace npu::cpu {
namespace {

// 28 sums, two weights and one broadcast fill 31 of the 32 registers; 14 rows divide the widths 56,
// 28 and 14 of the usual networks.
constexpr int kRows = 14;
constexpr int kVecs = 2;

KernelTable make_table() {
  KernelTable t{};
  t.isa = Isa::avx512;
  t.gemm[0] = float_gemm<Avx512Vec, PanelFormat::f32, DType::f32, kRows, kVecs>();
  t.gemm[1] = float_gemm<Avx512Vec, PanelFormat::f16, DType::f16, kRows, kVecs>();
  t.gemm[2] = float_gemm<Avx512Vec, PanelFormat::bf16, DType::bf16, kRows, kVecs>();
  t.gemm[0].pack_rows = &pack_rows_words<4>;
  t.gemm[1].pack_rows = &pack_rows_halves;
  t.gemm[2].pack_rows = &pack_rows_halves;
  t.gemm_f32 = t.gemm[0];
  fill_row_kernels<Avx512Vec, DType::f32>(t);
  fill_row_kernels<Avx512Vec, DType::f16>(t);
  fill_row_kernels<Avx512Vec, DType::bf16>(t);
  fill_dots<Avx512Vec, 32>(t);
  fill_winograd<Avx512Vec>(t);
  return t;
}

}  // namespace

const KernelTable& avx512_kernels() {
  static const KernelTable table = make_table();
  return table;
}

}  // namespace npu::cpu
