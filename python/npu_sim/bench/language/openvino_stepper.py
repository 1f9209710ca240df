"""OpenVINO as a peer: its CPU plugin, the transformers model converted in memory, its KV cache as
state of the model, which the plugin's attention updates in place.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import openvino
import torch
import transformers
from openvino import opset13 as ops
from openvino._offline_transformations import apply_make_stateful_transformation
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from npu_sim.bench.language.settings import Settings
from npu_sim.bench.language.stepper import Stepper
from npu_sim.bench.language.torch_stepper import cache_sizes
from npu_sim.errors import NpuSimError
from npu_sim.llm.attention import attention_at, position_mask

_ATTENTION = "npu_sim_openvino"
_BFLOAT16 = ml_dtypes.bfloat16
_PRECISIONS = {torch.bfloat16: openvino.Type.bf16, torch.float32: openvino.Type.f32}


class OpenVinoStepper(Stepper):
    """The model as OpenVINO compiles it for latency, the cache in the weights' precision."""

    name = "openvino"

    def __init__(self, settings: Settings) -> None:
        models: Any = transformers.AutoModelForCausalLM
        model = models.from_pretrained(settings.folder, dtype="auto", local_files_only=True).eval()
        if model.dtype not in _PRECISIONS:
            raise NpuSimError(f"no comparison in {model.dtype}")
        kind = _PRECISIONS[model.dtype]
        sizes = cache_sizes(model.config)
        try:
            converted = _converted(model, sizes)
            compiled = openvino.Core().compile_model(
                converted,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": kind,
                    "KV_CACHE_PRECISION": kind,
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": settings.threads,
                },
            )
        except Exception as error:
            # Converters fail in many ways; the peer is absent then, by name.
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise NpuSimError(f"conversion failed: {reason[0]}") from error
        # What the plugin made of the hint: it falls back where the processor lacks a precision.
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.precision = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[used]
        # The plugin reads weights where PyTorch has them.
        self._kept = (model, converted)
        self._request = compiled.create_infer_request()
        self._kind, self._sizes = kind, sizes
        self._position = self._length = 0

    def prompt(self, ids: Sequence[int]) -> int:
        self._request.reset_state()
        self._position = self._length = 0
        return self._run(ids)

    def move_to(self, position: int) -> None:
        heads, width = self._sizes
        rows = openvino.Tensor(self._kind, openvino.Shape([1, heads, position, width]))
        rows.data.fill(0)
        for state in self._request.query_state():
            state.state = rows
        self._position = self._length = position

    def token(self, token: int) -> int:
        # Its cache only grows: `rewind` takes away what the tokens of a turn have added.
        return self._run([token])

    def rewind(self) -> None:
        if self._length != self._position:
            self.move_to(self._position)

    def _run(self, ids: Sequence[int]) -> int:
        end = self._length + len(ids)
        given = {
            "input_ids": np.array([ids], np.int64),
            "positions": np.arange(self._length, end, dtype=np.int64)[None],
            "beam": np.zeros(1, np.int32),
        }
        for name, array in given.items():
            self._request.set_tensor(name, openvino.Tensor(array))
        self._request.infer()
        self._length = end
        logits = self._request.get_tensor("logits")
        values = logits.data
        if logits.element_type == openvino.Type.bf16:
            # NumPy has no such type: the tensor comes as float16 with the same bits.
            values = values.view(_BFLOAT16).astype(np.float32)
        return int(values.argmax())


class _GivenCache(transformers.Cache):
    """Keys and values (B, G, rows, D) of each layer, which tokens are appended to."""

    def __init__(self, past: Sequence[Tensor]) -> None:
        self.own: list[Any] = []
        for keys, values in zip(past[::2], past[1::2], strict=True):
            layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
            layer.keys, layer.values, layer.is_initialized = keys, values, True
            self.own.append(layer)
        super().__init__(layers=list(self.own))


class _Step(nn.Module):
    """Tokens and caches in; the logits of the last token and caches out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, positions: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        cache = _GivenCache(past)
        with attention_at(positions):
            logits = self.model(
                input_ids=input_ids,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
        updated = [t for layer in cache.own for t in (layer.keys, layer.values)]
        return (logits, *updated)


def _converted(model: Any, sizes: tuple[int, int]) -> Any:
    """The model as OpenVINO's, for any number of tokens, its caches as state."""
    AttentionInterface.register(_ATTENTION, sdpa_attention_forward)
    AttentionMaskInterface.register(_ATTENTION, position_mask)
    model.set_attn_implementation(_ATTENTION)
    heads, width = sizes
    count = 2 * model.config.num_hidden_layers
    past = [torch.zeros(1, heads, 3, width, dtype=model.dtype) for _ in range(count)]
    example = (torch.ones(1, 2, dtype=torch.int64), torch.arange(3, 5)[None], *past)
    with warnings.catch_warnings():
        # The converter traces with TorchScript, which warns of shapes and its deprecation.
        warnings.simplefilter("ignore")
        converted = openvino.convert_model(_Step(model).eval(), example_input=example)
    ids, positions, *caches = converted.get_parameters()
    for parameter, name in ((ids, "input_ids"), (positions, "positions")):
        parameter.set_partial_shape(openvino.PartialShape([1, -1]))
        parameter.output(0).set_names({name})
    _give_beam(converted, caches, openvino.PartialShape([-1, heads, -1, width]))
    logits, *updated = converted.outputs
    logits.get_tensor().set_names({"logits"})
    for index, output in enumerate(updated):
        output.get_tensor().set_names({f"updated_{index}"})
    converted.validate_nodes_and_infer_types()
    pairs = {f"cache_{i}": f"updated_{i}" for i in range(count)}
    apply_make_stateful_transformation(converted, pairs)
    empty = np.array([1, heads, 0, width], np.int64)
    for node in converted.get_ops():
        if node.get_type_name() == "ReadValue":
            zero = ops.convert(
                ops.constant(np.float32(0)), node.get_output_element_type(0).to_string()
            )
            node.set_arguments([ops.broadcast(zero, ops.constant(empty))])
    converted.validate_nodes_and_infer_types()
    return converted


def _give_beam(converted: Any, caches: Sequence[Any], shape: Any) -> None:
    """Let caches be read through a choice of sequences, the form that the plugin's attention with
    state is recognised by.
    """
    beam = ops.parameter([1], openvino.Type.i32)
    beam.output(0).set_names({"beam"})
    converted.add_parameters([beam])
    axis = ops.constant(np.int64(0))
    for index, cache in enumerate(caches):
        cache.set_partial_shape(shape)
        cache.output(0).set_names({f"cache_{index}"})
        readers = list(cache.output(0).get_target_inputs())
        chosen = ops.gather(cache, beam, axis)
        for reader in readers:
            reader.replace_source_output(chosen.output(0))
