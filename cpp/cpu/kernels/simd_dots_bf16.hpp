// Arithmetics of simd_dots.hpp that multiply pairs of bfloat16, 32 values at a time (AVX512_BF16).
#pragma once

#include <immintrin.h>

#include "simd_dots.hpp"

namespace npu::cpu {

struct PairDots {
  using Acc = __m512;
  using Operand = __m512bh;
  struct Pair {
    Operand first, second;
  };
  static constexpr std::int64_t kWidth = 32;
  static constexpr std::int64_t kXSize = 2;
  static constexpr int kRegisters = 32;

  static Operand as_operand(__m512i v) { return reinterpret_cast<__m512bh>(v); }
  static __mmask32 mask(std::int64_t n) {
    return static_cast<__mmask32>((std::uint64_t{1} << n) - 1);
  }
  static Acc zero() { return _mm512_setzero_ps(); }
  static Operand x(const std::byte* p) { return as_operand(_mm512_loadu_si512(p)); }
  static Operand x_n(const std::byte* p, std::int64_t n) {
    return as_operand(_mm512_maskz_loadu_epi16(mask(n), p));
  }
  static Acc multiply(Acc acc, Operand w, Operand x) { return _mm512_dpbf16_ps(acc, w, x); }
  static Acc add(Acc a, Acc b) { return _mm512_add_ps(a, b); }
  // GCC would load a value again for each product that it is a factor of.
  static Operand kept(Operand v) {
    asm("" : "+v"(v));
    return v;
  }
  static float sum(Acc acc) { return _mm512_reduce_add_ps(acc); }
};

struct Bf16PairDots : PairDots {
  static constexpr std::int64_t kWeightSize = 2;
  static Operand weights(const std::byte* p) { return x(p); }
  static Operand weights_n(const std::byte* p, std::int64_t n) { return x_n(p, n); }
  static Pair weight_pair(const std::byte* p) { return {x(p), x(p + 64)}; }
};

// Every int8 is a bfloat16.
struct Int8PairDots : PairDots {
  static constexpr std::int64_t kWeightSize = 1;
  static Operand weights(const std::byte* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Operand weights_n(const std::byte* p, std::int64_t n) {
    return widen(_mm256_maskz_loadu_epi8(mask(n), p));
  }
  static Pair weight_pair(const std::byte* p) { return {weights(p), weights(p + kWidth)}; }
  static Operand widen(__m256i bytes) {
    const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(bytes)));
    const __m512 high =
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(bytes, 1)));
    return _mm512_cvtne2ps_pbh(high, low);
  }
};

}  // namespace npu::cpu
