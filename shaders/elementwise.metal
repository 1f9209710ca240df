// Interpreter of elementwise programs: one thread runs the whole program for one index of the
// iteration space.
#include "common.h"
#include "register_program.h"

NPU_FUNC void npu_elementwise(DEVICE_PTR(const npu_u8) in0, DEVICE_PTR(const npu_u8) in1,
                              DEVICE_PTR(const npu_u8) in2, DEVICE_PTR(const npu_u8) in3,
                              DEVICE_PTR(const npu_u8) in4, DEVICE_PTR(const npu_u8) in5,
                              DEVICE_PTR(const npu_u8) in6, DEVICE_PTR(const npu_u8) in7,
                              DEVICE_PTR(npu_u8) out0, DEVICE_PTR(npu_u8) out1,
                              DEVICE_PTR(npu_u8) out2, DEVICE_PTR(npu_u8) out3,
                              CONSTANT_REF(ElementwiseParams) p, NpuThread self) {
  NPU_PLACE(1)

  npu_u64 r[NPU_MAX_REGISTERS];
  for (npu_u32 i = 0; i < NPU_MAX_REGISTERS; ++i) r[i] = 0;
  for (npu_u32 i = 0; i < p.num_instructions; ++i) {
    // Register numbers are masked, so that no program whatever reaches beyond the registers.
    const npu_u32 word = p.code[4 * i];
    const npu_u32 dst = (word >> 8) % NPU_MAX_REGISTERS;
    const npu_u32 a_at = (word >> 16) % NPU_MAX_REGISTERS;
    const npu_u32 b_at = (word >> 24) % NPU_MAX_REGISTERS;
    const npu_u32 c_at = p.code[4 * i + 1] % NPU_MAX_REGISTERS;
    switch (word & 0xffu) {
      case NPU_OP_LOAD:
        switch (a_at) {
          NPU_LOAD_CASE(0)
          NPU_LOAD_CASE(1)
          NPU_LOAD_CASE(2)
          NPU_LOAD_CASE(3)
          NPU_LOAD_CASE(4)
          NPU_LOAD_CASE(5)
          NPU_LOAD_CASE(6)
          NPU_LOAD_CASE(7)
          default:
            break;
        }
        break;
      case NPU_OP_STORE:
        switch (dst) {
          NPU_STORE_CASE(0)
          NPU_STORE_CASE(1)
          NPU_STORE_CASE(2)
          NPU_STORE_CASE(3)
          default:
            break;
        }
        break;
      case NPU_OP_CONSTANT:
        r[dst] = p.code[4 * i + 2];
        break;
      case NPU_OP_CONSTANT_L:
        r[dst] = npu_u64(p.code[4 * i + 3]) << 32 | p.code[4 * i + 2];
        break;
        NPU_SCALAR_OPS(NPU_SCALAR_CASE)
      default:
        break;
    }
  }
}
