// What generated kernels of elementwise programs are made of (cpp/runtime/elementwise_source.cpp):
// scalar operations as functions, and four elements that are loaded or stored at once.
#ifndef NPU_ELEMENTWISE_PROGRAM_H_
#define NPU_ELEMENTWISE_PROGRAM_H_

#include "common.h"
#include "register_program.h"

#define NPU_ARGUMENTS_f npu_f32 a
#define NPU_ARGUMENTS_i npu_i32 a
#define NPU_ARGUMENTS_l npu_i64 a
#define NPU_ARGUMENTS_ff npu_f32 a, npu_f32 b
#define NPU_ARGUMENTS_ii npu_i32 a, npu_i32 b
#define NPU_ARGUMENTS_ll npu_i64 a, npu_i64 b
#define NPU_ARGUMENTS_iff npu_i32 a, npu_f32 b, npu_f32 c
#define NPU_ARGUMENTS_iii npu_i32 a, npu_i32 b, npu_i32 c
#define NPU_ARGUMENTS_ill npu_i32 a, npu_i64 b, npu_i64 c
#define NPU_SCALAR_FUNCTION(id, name, args, result, formula)       \
  NPU_FUNC NPU_TYPE_##result npu_op_##name(NPU_ARGUMENTS_##args) { \
    return NPU_TYPE_##result(formula);                             \
  }
NPU_SCALAR_OPS(NPU_SCALAR_FUNCTION)

// Neighbours in memory, which begin at a multiple of 8 bytes, or of 4 where they are bytes.
template <class T>
struct alignas(sizeof(T) < 2 ? 4 : 8) NpuFour {
  T v[4];
};

// From here on products and sums are rounded one by one, as the interpreter does.
NPU_NO_CONTRACTION

#endif  // NPU_ELEMENTWISE_PROGRAM_H_
