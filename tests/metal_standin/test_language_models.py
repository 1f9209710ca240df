"""Language models on the Metal device: a step compared with PyTorch, text with the cpu device's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from npu_runtime.device import Device
from npu_sim.llm import LLM, Generation
from tests.metal_standin.messages import BARRIER, COMMIT, DISPATCH, WAIT
from tests.metal_standin.standin import Standin
from tests.metal_standin.test_ops import run
from tests.npu_compiler.decoders import Decoder, inputs_for, tiny
from tests.npu_compiler.harness import ir_of
from tests.npu_sim.llm.families import make_model, save


@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (2, 4)])
def test_step_with_caches_written_in_place(
    standin: Standin, metal: Device, batch: int, tokens: int
) -> None:
    model = tiny("Qwen2")
    decoder = Decoder(model, 0).eval()
    inputs = inputs_for(model, batch, tokens, 33, torch.float32)
    names = [tensor["name"] for tensor in ir_of(decoder, inputs)["graph_inputs"]][3:]
    options = {"donate_inputs": names, "weights_in_place": True}
    result = run(metal, decoder, *inputs, dtype="float32", **options)
    assert {"linear", "rotary_cache", "attention"} <= set(result.kernels)
    # The tables of the rotary embedding and the embedding of the token wait for nothing.
    assert standin.messages(BARRIER) < len(result.kernels)


def test_generated_text(metal: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPU_SIM_CACHE_DIR", str(tmp_path / "programs"))
    folder = save(make_model("qwen2"), tmp_path / "qwen2")
    texts = []
    for device in (Device("cpu"), metal):
        model = LLM.from_pretrained(folder, device=device, max_cache_len=32, chunks=(8,))
        made = model.generate([5, 17, 40, 3, 9, 21, 77, 8, 90, 11], 5, stream=False)
        assert isinstance(made, Generation)
        texts.append(made.token_ids)
    assert texts[0] == texts[1]


def test_messages_of_a_decode_step(
    standin: Standin, metal: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers as those of Qwen2.5-1.5B, though fewer and not as wide, and a vocabulary long enough
    for the schedules of arg_reduce: each dispatch is one launch with a cache of 1024 tokens.
    """
    monkeypatch.setenv("NPU_SIM_CACHE_DIR", str(tmp_path / "programs"))
    sizes = {"num_hidden_layers": 5, "vocab_size": 4096, "max_position_embeddings": 1024}
    folder = save(make_model("qwen2", **sizes), tmp_path / "qwen2")
    model = LLM.from_pretrained(folder, device=metal, max_cache_len=1024, chunks=(4,))
    counted = (COMMIT, WAIT, DISPATCH, BARRIER)
    sent = []
    for tokens in (1, 2):
        before = [standin.messages(m) for m in counted]
        model.generate([5, 17, 40], tokens, stream=False)
        sent.append([standin.messages(m) - b for m, b in zip(counted, before, strict=True)])
    step = dict(zip(counted, (b - a for a, b in zip(*sent, strict=True)), strict=True))
    assert step[COMMIT] == step[WAIT] == 1
    assert step[DISPATCH] == 6 * 5 + 4
    # All but the tables of the rotary embedding wait for the dispatch before them.
    assert step[BARRIER] == step[DISPATCH] - 2
