// The kernel dialect in host C++20, for the reference device: device and threadgroup pointers check
// every access, barriers and SIMD-group operations switch fibers.
#pragma once

#include <cmath>

#include "reference/checked_ptr.hpp"
#include "reference/storage_types.hpp"
#include "reference/threadgroup.hpp"
#include "runtime/kernel_params.hpp"

namespace npu::reference {

#define NPU_FUNC inline
#define DEVICE_PTR(T) CheckedPtr<T>
#define DEVICE_CAST(T, pointer) checked_cast<T>(pointer)
#define THREADGROUP_PTR(T) CheckedPtr<T>
#define CONSTANT_REF(T) const T&
#define THREAD_REF(T) T&
// Behind it no product is contracted with a sum: an option of the whole build, -ffp-contract.
#define NPU_NO_CONTRACTION
// Where a barrier or SIMD-group operation is called from: threads that wait at different places
// diverge.
#define NPU_SITE_PARAM , int site = __builtin_LINE()
#define NPU_SITE_ARG , site

NPU_FUNC npu_f32 npu_exp(npu_f32 v) { return std::exp(v); }
NPU_FUNC npu_f32 npu_log(npu_f32 v) { return std::log(v); }
NPU_FUNC npu_f32 npu_sqrt(npu_f32 v) { return std::sqrt(v); }
NPU_FUNC npu_f32 npu_tanh(npu_f32 v) { return std::tanh(v); }

// A loop whose number of turns is known and small.
#define NPU_UNROLL
// A loop that is better short than fast: it is rarely needed.
#define NPU_NO_UNROLL
#define NPU_UNROLL_FOUR

// 16 bytes from element `index` on, which lie at a multiple of 16 in an operand that may itself
// begin at a multiple of 8.
struct NpuWide {
  npu_u32 v[4];
};
template <class T>
NPU_FUNC NpuWide npu_load_wide(CheckedPtr<T> from, npu_u64 index) {
  return checked_load<NpuWide>(from, index, 8);
}
// Four values of a threadgroup array; `index` is a multiple of 4.
struct NpuQuad {
  npu_f32 v[4];
};
NPU_FUNC NpuQuad npu_load_quad(CheckedPtr<npu_f32> from, npu_u32 index) {
  return checked_load<NpuQuad>(from, index, 16);
}
NPU_FUNC void npu_store_quad(CheckedPtr<npu_f32> to, npu_u32 index, NpuQuad quad) {
  checked_load<NpuQuad>(to, index, 16);
  for (npu_u32 i = 0; i < 4; ++i) to[index + i] = quad.v[i];
}
// The float16 number with these low 16 bits.
NPU_FUNC npu_f32 npu_widen_f16_bits(npu_u32 bits) {
  return npu_widen(npu_f16{static_cast<std::uint16_t>(bits)});
}

// Called with an index from data that is out of range: an error on the host, passed over on a GPU.
NPU_FUNC void npu_index_fault(npu_i64 index, npu_u32 limit) { index_fault(index, limit); }

NPU_FUNC void npu_barrier(int site = __builtin_LINE()) { Threadgroup::current().barrier(site); }
NPU_FUNC npu_f32 npu_simd_shuffle_xor(npu_f32 v, npu_u32 mask, int site = __builtin_LINE()) {
  return Threadgroup::current().shuffle_xor(v, mask, site);
}

}  // namespace npu::reference
