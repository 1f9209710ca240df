"""What to change in a model so that a node can run on the NPU: advice by operator and reason.

The reasons themselves come from the op records; this table only adds the way out where it takes
more than the reason says. The first entry whose patterns are found in both decides.
"""

from __future__ import annotations

import re

from npu_compiler.constraints import Violation

# (pattern in the operator's name, pattern in the reason, advice).
_ADVICE = tuple(
    (re.compile(op), re.compile(reason), advice)
    for op, reason, advice in (
        (
            "",
            "bringing its tensors there and back",
            "nothing is wrong with it; it moves to the NPU when its neighbours do",
        ),
        (
            "",
            "runs on the CPU$",
            "see the node that it names; writing x = f(x) instead of x.f_() cuts the tie",
        ),
        (
            "",
            "weights are read-only",
            "npu_runtime.DAGExecutor keeps such a tensor between runs; for a single program, take "
            "it as an input and return its new value",
        ),
        ("dropout|batch_norm|rrelu", "train|eval", "call model.eval() before extract_ir"),
        (
            r"nonzero|masked_select|unique|aten\.where\.default|repeat_interleave|item|_local_scalar",
            "",
            "the result's shape depends on data: keep the shape, with torch.where(mask, x, 0) or "
            "by multiplying with the mask",
        ),
        (
            r"aten\.rand|bernoulli|multinomial|normal|exponential|randperm|poisson",
            "",
            "draw random numbers outside and pass them to the model as an input",
        ),
        (
            "fft_|stft|istft|complex|view_as_real|view_as_complex",
            "",
            "compute the transform before or after the model, or as a matrix product with the "
            "real and imaginary parts of the DFT matrix",
        ),
        (
            "",
            "complex(32|64|128)",
            "keep the real and the imaginary part in tensors of their own",
        ),
        (
            "",
            "is float64",
            "convert model and inputs with .to(torch.float32); look for NumPy arrays and Python "
            "floats turned into float64 tensors",
        ),
        (
            "convolution",
            "3-D convolution",
            "call torch.nn.functional.conv3d, which the NPU has",
        ),
        (
            "conv_transpose3d|pool3d",
            "",
            "sum 2-D operators over the depth of the kernel, with the input's depth in the batch",
        ),
        (
            r"lstm|gru|rnn_",
            "",
            "write the time steps out with linear, sigmoid and tanh; torch.nn.LSTMCell and GRUCell "
            "export that way",
        ),
        (
            "linalg_|inverse|svd|cholesky|triangular_solve|_qr|eig",
            "",
            "compute it once, before extract_ir, if it depends on weights alone",
        ),
        ("_backward", "", "extract the model under torch.no_grad(), without gradients"),
        (
            "",
            "only its first output can be used",
            "leave out the extra result (return_indices=False, return_inverse=False)",
        ),
        ("", "rank [0-9]+ exceeds", "merge dimensions with reshape before this node"),
        ("", "needs [0-9]+ bytes", "split the tensor, or use a smaller batch"),
        (
            "",
            "it has no argument|is in neither inputs nor attrs|it takes [0-9]+ tensors",
            "this version of PyTorch calls the operator in another way; leave out the argument",
        ),
        (
            "",
            "no such operator",
            "replace it by operators that the NPU has: npu_compiler.get_supported_ops()",
        ),
    )
)


def suggestion(violation: Violation) -> str | None:
    """What to change in the model, or None where the reason says all."""
    for op, reason, advice in _ADVICE:
        if op.search(violation.op_type) and reason.search(violation.reason):
            return advice
    return None
