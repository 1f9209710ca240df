// Four floats at a time with compiler vector extensions: the portable stand-in for an instruction
// set.
#pragma once

#include <cstdint>
#include <cstring>

#include "dtype.hpp"
#include "kernel_table.hpp"

namespace npu::cpu {

struct GenericVec {
  typedef float Reg __attribute__((vector_size(16)));
  typedef std::int32_t Mask __attribute__((vector_size(16)));
  static constexpr int width = 4;

  static Reg set1(float v) { return Reg{v, v, v, v}; }
  static Reg zero() { return Reg{}; }
  static Reg add(Reg a, Reg b) { return a + b; }
  static Reg sub(Reg a, Reg b) { return a - b; }
  static Reg mul(Reg a, Reg b) { return a * b; }
  static Reg fma(Reg a, Reg b, Reg c) { return a * b + c; }
  static Reg clamp(Reg v, Reg lo, Reg hi) {
    v = v < lo ? lo : v;
    return v > hi ? hi : v;
  }
  static Reg max_nan(Reg acc, Reg x) {
    const Mask keep = (acc > x) | (acc != acc);
    return keep ? acc : x;
  }
  static float sum(Reg v) { return (v[0] + v[1]) + (v[2] + v[3]); }

  template <DType D>
  static Reg load_n(const void* p, std::int64_t n) {
    Reg r{};
    for (std::int64_t i = 0; i < n; ++i) r[i] = load_scalar(D, p, i);
    return r;
  }
  template <DType D>
  static Reg load(const void* p) {
    if constexpr (D == DType::f32) {
      Reg r;
      std::memcpy(&r, p, sizeof(r));
      return r;
    } else {
      return load_n<D>(p, width);
    }
  }
  static Reg load_i8_n(const void* p, std::int64_t n) {
    Reg r{};
    for (std::int64_t i = 0; i < n; ++i)
      r[i] = static_cast<float>(static_cast<const std::int8_t*>(p)[i]);
    return r;
  }
  static Reg load_i8(const void* p) { return load_i8_n(p, width); }
  template <DType D>
  static void store_n(void* p, Reg v, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) store_scalar(D, p, i, v[i]);
  }
  template <DType D>
  static void store(void* p, Reg v) {
    if constexpr (D == DType::f32) {
      std::memcpy(p, &v, sizeof(v));
    } else {
      store_n<D>(p, v, width);
    }
  }
};

}  // namespace npu::cpu
