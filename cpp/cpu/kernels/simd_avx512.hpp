// Sixteen floats at a time: AVX-512 F, BW, DQ, VL. Masks make every tail exact.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "dtype.hpp"

namespace npu::cpu {

struct Avx512Vec {
  using Reg = __m512;
  static constexpr int width = 16;

  static Reg set1(float v) { return _mm512_set1_ps(v); }
  static Reg zero() { return _mm512_setzero_ps(); }
  static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  // min and max return their second operand when either is NaN.
  static Reg clamp(Reg v, Reg lo, Reg hi) { return _mm512_min_ps(hi, _mm512_max_ps(lo, v)); }
  static Reg max_nan(Reg acc, Reg x) {
    return _mm512_mask_mov_ps(_mm512_max_ps(acc, x), _mm512_cmp_ps_mask(acc, acc, _CMP_UNORD_Q),
                              acc);
  }
  static float sum(Reg v) { return _mm512_reduce_add_ps(v); }

  template <DType D>
  static Reg load(const void* p) {
    if constexpr (D == DType::f32) {
      return _mm512_loadu_ps(p);
    } else {
      return widen<D>(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
    }
  }
  template <DType D>
  static Reg load_n(const void* p, std::int64_t n) {
    if constexpr (D == DType::f32) {
      return _mm512_maskz_loadu_ps(mask(n), p);
    } else {
      return widen<D>(_mm256_maskz_loadu_epi16(mask(n), p));
    }
  }
  static Reg load_i8(const void* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
  }
  static Reg load_i8_n(const void* p, std::int64_t n) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask(n), p)));
  }
  template <DType D>
  static void store(void* p, Reg v) {
    if constexpr (D == DType::f32) {
      _mm512_storeu_ps(p, v);
    } else {
      _mm256_storeu_si256(static_cast<__m256i*>(p), narrow<D>(v));
    }
  }
  template <DType D>
  static void store_n(void* p, Reg v, std::int64_t n) {
    if constexpr (D == DType::f32) {
      _mm512_mask_storeu_ps(p, mask(n), v);
    } else {
      _mm256_mask_storeu_epi16(p, mask(n), narrow<D>(v));
    }
  }

  static __mmask16 mask(std::int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

  template <DType D>
  static Reg widen(__m256i h) {
    if constexpr (D == DType::f16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
  }
  template <DType D>
  static __m256i narrow(Reg v) {
    if constexpr (D == DType::f16) return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    // Round to nearest even by adding half a unit, or slightly less; NaNs keep their upper half,
    // made quiet. (The bfloat16 instruction would flush subnormals.)
    const __m512i u = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    const __m512i rounded = _mm512_add_epi32(u, half);
    const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16));
  }
};

}  // namespace npu::cpu
