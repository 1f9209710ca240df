// Eight floats at a time: AVX2 with FMA and F16C.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "dtype.hpp"

namespace npu::cpu {

struct Avx2Vec {
  using Reg = __m256;
  static constexpr int width = 8;

  static Reg set1(float v) { return _mm256_set1_ps(v); }
  static Reg zero() { return _mm256_setzero_ps(); }
  static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  // min and max return their second operand when either is NaN.
  static Reg clamp(Reg v, Reg lo, Reg hi) { return _mm256_min_ps(hi, _mm256_max_ps(lo, v)); }
  static Reg max_nan(Reg acc, Reg x) {
    return _mm256_blendv_ps(_mm256_max_ps(acc, x), acc, _mm256_cmp_ps(acc, acc, _CMP_UNORD_Q));
  }
  static float sum(Reg v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }

  template <DType D>
  static Reg load(const void* p) {
    if constexpr (D == DType::f32) {
      return _mm256_loadu_ps(static_cast<const float*>(p));
    } else {
      return widen<D>(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    }
  }
  template <DType D>
  static Reg load_n(const void* p, std::int64_t n) {
    if constexpr (D == DType::f32) {
      return _mm256_maskload_ps(static_cast<const float*>(p), mask(n));
    } else {
      __m128i h = _mm_setzero_si128();
      std::memcpy(&h, p, static_cast<std::size_t>(n) * 2);
      return widen<D>(h);
    }
  }
  static Reg load_i8(const void* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))));
  }
  static Reg load_i8_n(const void* p, std::int64_t n) {
    __m128i bytes = _mm_setzero_si128();
    std::memcpy(&bytes, p, static_cast<std::size_t>(n));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
  }
  template <DType D>
  static void store(void* p, Reg v) {
    if constexpr (D == DType::f32) {
      _mm256_storeu_ps(static_cast<float*>(p), v);
    } else {
      _mm_storeu_si128(static_cast<__m128i*>(p), narrow<D>(v));
    }
  }
  template <DType D>
  static void store_n(void* p, Reg v, std::int64_t n) {
    if constexpr (D == DType::f32) {
      _mm256_maskstore_ps(static_cast<float*>(p), mask(n), v);
    } else {
      const __m128i h = narrow<D>(v);
      std::memcpy(p, &h, static_cast<std::size_t>(n) * 2);
    }
  }

 private:
  static __m256i mask(std::int64_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
  }
  template <DType D>
  static Reg widen(__m128i h) {
    if constexpr (D == DType::f16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
  }
  template <DType D>
  static __m128i narrow(Reg v) {
    if constexpr (D == DType::f16) return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    // Round to nearest even by adding half a unit, or slightly less; NaNs keep their upper half,
    // made quiet.
    const __m256i u = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(u, half), 16);
    const __m256i quiet = _mm256_srli_epi32(_mm256_or_si256(u, _mm256_set1_epi32(0x400000)), 16);
    const __m256i h = _mm256_blendv_epi8(rounded, quiet, nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
  }
};

}  // namespace npu::cpu
