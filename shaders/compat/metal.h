// The kernel dialect in the Metal Shading Language, 3.0 or later (macOS 13).
//
// Compile with MTLMathModeSafe (fastMathEnabled = NO): NaN, infinities and signed zeros must behave
// as IEEE 754 says.
#include <metal_stdlib>

typedef uint npu_u32;
typedef int npu_i32;
typedef ulong npu_u64;
typedef long npu_i64;
typedef uchar npu_u8;
typedef char npu_i8;
typedef short npu_i16;
typedef float npu_f32;
typedef half npu_f16;
// A bit pattern: the language's own type needs macOS 14, and GPUs without it emulate it like this.
struct npu_bf16 {
  ushort bits;
};

#define NPU_FUNC inline
#define DEVICE_PTR(T) device T*
#define DEVICE_CAST(T, pointer) reinterpret_cast<device T*>(pointer)
#define THREADGROUP_PTR(T) threadgroup T*
#define CONSTANT_REF(T) const thread T&
#define THREAD_REF(T) thread T&
// Behind it no product is contracted with a sum.
#define NPU_NO_CONTRACTION _Pragma("METAL fp contract(off)")
// Where a barrier or SIMD-group operation is called from: of use to the reference device only.
#define NPU_SITE_PARAM
#define NPU_SITE_ARG

// Entry points make the parameter struct out of words: each from its function constant where the
// pipeline has one, else from `params`. `next` is the number behind `word`.
#define NPU_U32(word, next) \
  (is_function_constant_defined(npu_word_##word) ? npu_word_##word : params[word])
#define NPU_I32(word, next) npu_i32(NPU_U32(word, next))
#define NPU_F32(word, next) npu_as_f32(NPU_U32(word, next))
#define NPU_I64(word, next) npu_i64(npu_u64(NPU_U32(next, )) << 32 | NPU_U32(word, ))
#define NPU_ARRAY(T, word) reinterpret_cast<constant T*>(params + word)

NPU_FUNC npu_u32 npu_as_u32(npu_f32 v) { return as_type<uint>(v); }
NPU_FUNC npu_f32 npu_as_f32(npu_u32 v) { return as_type<float>(v); }

// Storage to float32 and back, rounding to nearest even.
NPU_FUNC npu_f32 npu_widen(npu_f32 v) { return v; }
NPU_FUNC npu_f32 npu_widen(npu_f16 v) { return float(v); }
NPU_FUNC npu_f32 npu_widen(npu_bf16 v) { return npu_as_f32(npu_u32(v.bits) << 16); }
template <class T>
NPU_FUNC T npu_narrow(npu_f32 v) {
  return T(v);
}
template <>
NPU_FUNC npu_bf16 npu_narrow<npu_bf16>(npu_f32 v) {
  const npu_u32 bits = npu_as_u32(v);
  npu_bf16 narrow;
  narrow.bits = (bits & 0x7fffffffu) > 0x7f800000u
                    ? ushort(bits >> 16 | 0x40u)  // NaN, made quiet
                    : ushort((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
  return narrow;
}

NPU_FUNC npu_f32 npu_exp(npu_f32 v) { return metal::precise::exp(v); }
NPU_FUNC npu_f32 npu_log(npu_f32 v) { return metal::precise::log(v); }
NPU_FUNC npu_f32 npu_sqrt(npu_f32 v) { return metal::precise::sqrt(v); }
NPU_FUNC npu_f32 npu_tanh(npu_f32 v) { return metal::precise::tanh(v); }

// A loop whose number of turns is known and small.
#define NPU_UNROLL _Pragma("clang loop unroll(full)")
// A loop that is better short than fast: it is rarely needed.
#define NPU_NO_UNROLL _Pragma("clang loop unroll(disable)")
// A loop of many turns, four at a time.
#define NPU_UNROLL_FOUR _Pragma("clang loop unroll_count(4)")

// 16 bytes from element `index` on, which lie at a multiple of 16 in an operand that may itself
// begin at a multiple of 8 (a mapped file's weights).
struct NpuWide {
  npu_u32 v[4];
};
template <class T>
NPU_FUNC NpuWide npu_load_wide(DEVICE_PTR(const T) from, npu_u64 index) {
  const device uint2* const pairs = reinterpret_cast<const device uint2*>(from + index);
  const uint2 low = pairs[0];
  const uint2 high = pairs[1];
  return {{low.x, low.y, high.x, high.y}};
}
// Four values of a threadgroup array; `index` is a multiple of 4.
struct NpuQuad {
  npu_f32 v[4];
};
NPU_FUNC NpuQuad npu_load_quad(THREADGROUP_PTR(npu_f32) from, npu_u32 index) {
  const float4 quad = *reinterpret_cast<const threadgroup float4*>(from + index);
  return {{quad.x, quad.y, quad.z, quad.w}};
}
NPU_FUNC void npu_store_quad(THREADGROUP_PTR(npu_f32) to, npu_u32 index, NpuQuad quad) {
  *reinterpret_cast<threadgroup float4*>(to + index) =
      float4(quad.v[0], quad.v[1], quad.v[2], quad.v[3]);
}
// The float16 number with these low 16 bits.
NPU_FUNC npu_f32 npu_widen_f16_bits(npu_u32 bits) { return float(as_type<half>(ushort(bits))); }

// Called with an index from data that is out of range: an error on the host, passed over on a GPU.
NPU_FUNC void npu_index_fault(npu_i64, npu_u32) {}

NPU_FUNC void npu_barrier() { metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup); }
NPU_FUNC npu_f32 npu_simd_shuffle_xor(npu_f32 v, npu_u32 mask) {
  return metal::simd_shuffle_xor(v, ushort(mask));
}
