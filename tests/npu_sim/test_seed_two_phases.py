"""The Korean guide's two phases, prefill and decode, as they are written, with a Qwen2 of two
layers: the prefill's caches become the decode program's, which keeps them from step to step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import Cache, Qwen2Config, Qwen2ForCausalLM
from transformers.cache_utils import CacheLayerMixin

from npu_compiler import compile_ir
from npu_runtime import Device, Executor, NPUBuffer, load_weights
from npu_runtime.errors import ArgumentError
from tests.npu_compiler.harness import to_numpy
from tests.npu_sim.test_seed_documents import blocks, run
from torch_ir import extract_ir

PROMPT, ROWS, STEPS, LAYERS, HEADS, WIDTH = 5, 12, 4, 2, 2, 16


class Layer(CacheLayerMixin):
    """A static cache (1, heads, ROWS, WIDTH), written at ``cache_position``."""

    def __init__(self, keys: Tensor, values: Tensor, position: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.position = keys, values, position
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        pass

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> Any:
        self.keys = self.keys.index_copy(2, self.position, key_states)
        self.values = self.values.index_copy(2, self.position, value_states)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return ROWS, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return ROWS


class Prefill(nn.Module):
    """Logits and the caches of a prompt."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor
    ) -> tuple[Tensor, ...]:
        empty = torch.zeros(1, HEADS, ROWS, WIDTH)
        caches = [empty] * (2 * LAYERS)
        return step(self.model, input_ids, attention_mask, position_ids, position_ids[0], caches)


class Decode(nn.Module):
    """Logits of one token, and the updated caches."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        cache_position: Tensor,
        caches: list[Tensor],
    ) -> tuple[Tensor, ...]:
        return step(self.model, input_ids, attention_mask, position_ids, cache_position, caches)


def step(model: nn.Module, ids: Tensor, mask: Tensor, at: Tensor, rows: Tensor, caches: Any) -> Any:
    layers = [Layer(k, v, rows) for k, v in zip(caches[::2], caches[1::2], strict=True)]
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=at,
        past_key_values=Cache(layers=list(layers)),
    ).logits
    return (logits, *(t for layer in layers for t in (layer.keys, layer.values)))


def mask_of(positions: Tensor) -> Tensor:
    hidden = torch.arange(ROWS) > positions[:, None]
    return torch.zeros(hidden.shape).masked_fill(hidden, float("-inf"))[None, None]


def test_two_phases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=80,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=HEADS,
    )
    model = Qwen2ForCausalLM(config).eval()
    prompt, start = torch.randint(0, 97, (1, PROMPT)), torch.arange(PROMPT)
    extract_ir(Prefill(model).eval(), (prompt, mask_of(start), start[None])).save(
        "qwen_prefill_ir.json"
    )
    one = torch.zeros(1, 1, dtype=torch.int64)
    caches = [torch.zeros(1, HEADS, ROWS, WIDTH) for _ in range(2 * LAYERS)]
    extract_ir(Decode(model).eval(), (one, mask_of(one[0]), one, one[0], caches)).save(
        "qwen_decode_ir.json"
    )
    prefill, decode = blocks("usage-guide.ko.md", "qwen_prefill") + blocks(
        "usage-guide.ko.md", "qwen_decode"
    )
    device = Device()
    state = {f"model.{name}": to_numpy(value) for name, value in model.state_dict().items()}
    names: dict[str, Any] = {
        "compile_ir": compile_ir,
        "Executor": Executor,
        "device": device,
        "token_buf": prompt.numpy(),
        "mask_buf": mask_of(start).numpy(),
        "pos_buf": start[None].numpy(),
        "weights": load_weights(state, compile_ir("qwen_prefill_ir.json"), device, strict=False),
    }
    run([prefill], names)
    outputs = names["prefill_outputs"]
    first = int(outputs[next(iter(outputs))].to_numpy(np.float32)[0, -1].argmax())

    # Between the guide's two lines that make the executor and its loop: the caches' way.
    making, loop = decode[: decode.index("# 자기회귀")], decode[decode.index("# 자기회귀") :]
    run([making], names)
    executor, program = names["decode_executor"], names["decode_program"]
    names["weights"] = load_weights(state, program, device, strict=False)
    inputs = [spec.name for spec in program.input_specs if spec.name.startswith("caches")]
    given = [spec.name for spec in program.output_specs][1:]
    executor.carry(
        dict(zip(given, inputs, strict=True)),
        dict(zip(inputs, list(outputs.values())[1:], strict=True)),
    )
    tokens = [first]
    for at in range(STEPS):
        where = torch.tensor([PROMPT + at])
        names |= {
            "max_tokens": 1,
            "next_token_buf": np.array([tokens[-1:]]),
            "cache_pos_buf": where.numpy(),
            "pos_buf": where[None].numpy(),
            "mask_buf": mask_of(where).numpy(),
        }
        run([loop], names)
        tokens.append(int(names["next_token"]))
    expected = model.generate(prompt, max_new_tokens=STEPS + 1, do_sample=False)
    assert tokens == expected[0, PROMPT:].tolist()


def test_carry_refuses_what_does_not_fit() -> None:
    class Counter(nn.Module):
        def forward(self, x: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
            return x * 2, total + x.sum()

    ir = extract_ir(Counter().eval(), (torch.ones(3), torch.zeros(1)))
    program = compile_ir(ir, compute_dtype="float32")
    device = Device("cpu")
    executor = Executor(program, device)
    doubled, total = (spec.name for spec in program.output_specs)
    with pytest.raises(ArgumentError, match="outputs are"):
        executor.carry({"nothing": "total"})
    with pytest.raises(ArgumentError, match="has shape"):
        executor.carry({doubled: "total"})
    with pytest.raises(ArgumentError, match="'x', which state holds"):
        executor.carry({total: "total"}, {"x": NPUBuffer.zeros((3,), device, "float32")})
    executor.carry({total: "total"})
    weights = load_weights({}, program, device)
    for count in range(1, 4):
        outputs = executor.run({"x": np.ones(3, np.float32)}, weights)
        assert outputs[total].to_numpy()[0] == 3 * count
        assert outputs["output"].to_numpy().tolist() == [2, 2, 2]
    given = executor.run({"x": np.ones(3, np.float32), "total": np.full(1, 9, np.float32)}, weights)
    assert given[total].to_numpy()[0] == 12
