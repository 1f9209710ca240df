// The kernel dialect in CUDA C++ for NVRTC: no CUDA header is needed, on any machine.
//
// Compile without --use_fast_math: NaN, infinities and signed zeros must behave as IEEE 754 says.
// Half formats are plain bit patterns, converted by PTX instructions.

typedef unsigned int npu_u32;
typedef int npu_i32;
typedef unsigned long long npu_u64;
typedef long long npu_i64;
typedef unsigned char npu_u8;
typedef signed char npu_i8;
typedef short npu_i16;
typedef float npu_f32;
struct npu_f16 {
  unsigned short bits;
};
struct npu_bf16 {
  unsigned short bits;
};

#define NPU_FUNC static __device__ __forceinline__
#define DEVICE_PTR(T) T*
#define DEVICE_CAST(T, pointer) reinterpret_cast<T*>(pointer)
#define THREADGROUP_PTR(T) T*
#define CONSTANT_REF(T) const T&
#define THREAD_REF(T) T&
// Behind it no product is contracted with a sum: for NVRTC an option of the whole text, --fmad.
#define NPU_NO_CONTRACTION
// Where a barrier or SIMD-group operation is called from: of use to the reference device only.
#define NPU_SITE_PARAM
#define NPU_SITE_ARG

NPU_FUNC npu_u32 npu_as_u32(npu_f32 v) { return __float_as_uint(v); }
NPU_FUNC npu_f32 npu_as_f32(npu_u32 v) { return __uint_as_float(v); }

// Storage to float32 and back, rounding to nearest even.
NPU_FUNC npu_f32 npu_widen(npu_f32 v) { return v; }
NPU_FUNC npu_f32 npu_widen(npu_f16 v) {
  npu_f32 wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(v.bits));
  return wide;
}
NPU_FUNC npu_f32 npu_widen(npu_bf16 v) { return npu_as_f32(npu_u32(v.bits) << 16); }
template <class T>
__device__ __forceinline__ T npu_narrow(npu_f32 v);
template <>
__device__ __forceinline__ npu_f32 npu_narrow<npu_f32>(npu_f32 v) {
  return v;
}
template <>
__device__ __forceinline__ npu_f16 npu_narrow<npu_f16>(npu_f32 v) {
  npu_f16 narrow;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(v));
  return narrow;
}
template <>
__device__ __forceinline__ npu_bf16 npu_narrow<npu_bf16>(npu_f32 v) {
  npu_bf16 narrow;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(v));
  return narrow;
}

NPU_FUNC npu_f32 npu_exp(npu_f32 v) { return expf(v); }
NPU_FUNC npu_f32 npu_log(npu_f32 v) { return logf(v); }
NPU_FUNC npu_f32 npu_sqrt(npu_f32 v) { return sqrtf(v); }
NPU_FUNC npu_f32 npu_tanh(npu_f32 v) { return tanhf(v); }

// A loop whose number of turns is known and small.
#define NPU_UNROLL _Pragma("unroll")
// A loop that is better short than fast: it is rarely needed.
#define NPU_NO_UNROLL _Pragma("unroll 1")
// A loop of many turns, four at a time.
#define NPU_UNROLL_FOUR _Pragma("unroll 4")

// 16 bytes from element `index` on, which lie at a multiple of 16. Buffers begin at multiples
// of 16.
struct NpuWide {
  npu_u32 v[4];
};
template <class T>
NPU_FUNC NpuWide npu_load_wide(DEVICE_PTR(const T) from, npu_u64 index) {
  const uint4 wide = *reinterpret_cast<const uint4*>(from + index);
  return {{wide.x, wide.y, wide.z, wide.w}};
}
// Four values of a threadgroup array; `index` is a multiple of 4.
struct NpuQuad {
  npu_f32 v[4];
};
NPU_FUNC NpuQuad npu_load_quad(THREADGROUP_PTR(npu_f32) from, npu_u32 index) {
  const float4 quad = *reinterpret_cast<const float4*>(from + index);
  return {{quad.x, quad.y, quad.z, quad.w}};
}
NPU_FUNC void npu_store_quad(THREADGROUP_PTR(npu_f32) to, npu_u32 index, NpuQuad quad) {
  *reinterpret_cast<float4*>(to + index) = make_float4(quad.v[0], quad.v[1], quad.v[2], quad.v[3]);
}
// The float16 number with these low 16 bits.
NPU_FUNC npu_f32 npu_widen_f16_bits(npu_u32 bits) {
  return npu_widen(npu_f16{static_cast<unsigned short>(bits)});
}

// Called with an index from data that is out of range: an error on the host, passed over on a GPU.
NPU_FUNC void npu_index_fault(npu_i64, npu_u32) {}

NPU_FUNC void npu_barrier() { __syncthreads(); }
NPU_FUNC npu_f32 npu_simd_shuffle_xor(npu_f32 v, npu_u32 mask) {
  return __shfl_xor_sync(0xffffffffu, v, static_cast<int>(mask));
}
