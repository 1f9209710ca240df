// The kernel dialect in C++ for OpenCL 2021, for a front-end check with real address spaces.
// Nothing runs: what the check does not need is only declared.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable

typedef unsigned int npu_u32;
typedef int npu_i32;
typedef unsigned long npu_u64;
typedef long npu_i64;
typedef unsigned char npu_u8;
typedef signed char npu_i8;
typedef short npu_i16;
typedef float npu_f32;
typedef half npu_f16;
struct npu_bf16 {
  unsigned short bits;
};

#define NPU_FUNC inline
#define DEVICE_PTR(T) global T*
#define DEVICE_CAST(T, pointer) reinterpret_cast<global T*>(pointer)
#define THREADGROUP_PTR(T) local T*
#define CONSTANT_REF(T) const private T&
#define THREAD_REF(T) \
 private              \
  T&
// Behind it no product is contracted with a sum.
#define NPU_NO_CONTRACTION _Pragma("STDC FP_CONTRACT OFF")
// Where a barrier or SIMD-group operation is called from: of use to the reference device only.
#define NPU_SITE_PARAM
#define NPU_SITE_ARG

// As compat/metal.h has it.
#define NPU_U32(word, next) (npu_word_##word != 0 ? npu_word_##word : params[word])
#define NPU_I32(word, next) npu_i32(NPU_U32(word, next))
#define NPU_F32(word, next) npu_as_f32(NPU_U32(word, next))
#define NPU_I64(word, next) npu_i64(npu_u64(NPU_U32(next, )) << 32 | NPU_U32(word, ))
#define NPU_ARRAY(T, word) reinterpret_cast<constant T*>(params + word)

npu_u32 npu_as_u32(npu_f32 v);
npu_f32 npu_as_f32(npu_u32 v);

npu_f32 npu_widen(npu_f32 v);
npu_f32 npu_widen(npu_f16 v);
npu_f32 npu_widen(npu_bf16 v);
template <class T>
T npu_narrow(npu_f32 v);

npu_f32 npu_exp(npu_f32 v);
npu_f32 npu_log(npu_f32 v);
npu_f32 npu_sqrt(npu_f32 v);
npu_f32 npu_tanh(npu_f32 v);

#define NPU_UNROLL
#define NPU_NO_UNROLL
#define NPU_UNROLL_FOUR
struct NpuWide {
  npu_u32 v[4];
};
template <class T>
NpuWide npu_load_wide(DEVICE_PTR(const T) from, npu_u64 index);
struct NpuQuad {
  npu_f32 v[4];
};
NpuQuad npu_load_quad(THREADGROUP_PTR(npu_f32) from, npu_u32 index);
void npu_store_quad(THREADGROUP_PTR(npu_f32) to, npu_u32 index, NpuQuad quad);
npu_f32 npu_widen_f16_bits(npu_u32 bits);

void npu_index_fault(npu_i64 index, npu_u32 limit);
void npu_barrier();
npu_f32 npu_simd_shuffle_xor(npu_f32 v, npu_u32 mask);
