// Activations of a matrix product's or convolution's result, as PyTorch computes them in float32.
// Shared with the cpu device, hence one function each, free of branches.
#ifndef NPU_SCALAR_ACTIVATION_H_
#define NPU_SCALAR_ACTIVATION_H_

#include "scalar_float.h"

// min(max(v + 3, 0), 6)
NPU_FUNC npu_f32 npu_hard_gate(npu_f32 v) { return npu_min(npu_max(v + 3.0f, 0.0f), 6.0f); }
NPU_FUNC npu_f32 npu_hardsigmoid(npu_f32 v) { return npu_hard_gate(v) / 6.0f; }
NPU_FUNC npu_f32 npu_hardswish(npu_f32 v) { return v * npu_hard_gate(v) / 6.0f; }

// `activation` is a value of the kernels' field of this name.
NPU_FUNC npu_f32 npu_activate(npu_u32 activation, npu_f32 v) {
  switch (activation) {
    case NPU_ACTIVATION_GELU:
      return npu_gelu(v);
    case NPU_ACTIVATION_GELU_TANH:
      return npu_gelu_tanh(v);
    case NPU_ACTIVATION_SILU:
      return npu_silu(v);
    case NPU_ACTIVATION_SIGMOID:
      return npu_sigmoid(v);
    case NPU_ACTIVATION_TANH:
      return npu_tanh(v);
    case NPU_ACTIVATION_HARDSWISH:
      return npu_hardswish(v);
    case NPU_ACTIVATION_HARDSIGMOID:
      return npu_hardsigmoid(v);
    default:
      return v;
  }
}

#endif  // NPU_SCALAR_ACTIVATION_H_
