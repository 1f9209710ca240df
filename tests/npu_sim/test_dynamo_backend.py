"""``torch.compile(backend="npu_sim")`` against eager mode."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from npu_sim import dynamo_backend
from npu_sim.dynamo_backend import npu_sim
from npu_sim.models.resnet import resnet18
from tests.docs.documents import ROOT
from tests.npu_compiler.harness import images, trained_like
from tests.npu_compiler.test_models import MODELS

FLOAT32 = {"device": "cpu", "compute_dtype": "float32"}


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


def compiled(model: Any, **options: Any) -> Any:
    return torch.compile(model, backend=npu_sim, options=FLOAT32 | options)


def close(actual: Any, expected: Any, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    make, shapes = MODELS[name]
    torch.manual_seed(3)
    model = trained_like(make())
    inputs = [images(*shape, seed=i) for i, shape in enumerate(shapes)]
    close(compiled(model)(*inputs), model(*inputs))


def test_resnet_in_float16() -> None:
    model, x = trained_like(resnet18()), images(1, 3, 64, 64)
    result, expected = compiled(model, compute_dtype="float16")(x), model(x)
    assert (result - expected).abs().max() < 0.02 * expected.abs().max()


def test_batches_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []
    original = dynamo_backend._Executable.__init__

    def counted(self: Any, graph: Any, args: Any, *rest: Any) -> None:
        made.append(next(tuple(a.shape) for a in reversed(args) if isinstance(a, torch.Tensor)))
        original(self, graph, args, *rest)

    monkeypatch.setattr(dynamo_backend._Executable, "__init__", counted)
    model = trained_like(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
    run = compiled(model)
    for batch in (2, 3, 5, 3, 2, 5):
        x = images(batch, 6, seed=batch)
        close(run(x), model(x))
    # Each shape once; the first one perhaps again, when Dynamo makes the batch size a variable.
    assert len(made) <= 4


def test_graph_breaks() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.tanh(self.first(x))
            torch._dynamo.graph_break()
            if y.sum() > 0:
                return self.second(y)
            return self.second(-y) * 2

    model = Broken()
    run = compiled(model)
    for seed in range(4):
        x = images(2, 6, seed=seed)
        close(run(x), model(x))


def test_fallback_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.linalg.inv(torch.mm(x, x.t()) + torch.eye(4) * 5)) * 2

    run, x = compiled(forward, mode="consecutive"), images(4, 7)
    with caplog.at_level(logging.WARNING, "npu_sim"):
        close(run(x), forward(x))
        close(run(x + 1), forward(x + 1), 1e-3)
    (record,) = (r for r in caplog.records if r.name == "npu_sim")
    assert "inv" in record.getMessage() and "CPU" in record.getMessage()


def test_gradients_are_refused() -> None:
    model = nn.Linear(3, 2)
    with torch.enable_grad(), pytest.raises(Exception, match="inference only"):
        compiled(model)(images(2, 3))
    with torch.enable_grad():
        close(compiled(model.requires_grad_(False))(images(2, 3)), model(images(2, 3)))


def test_weights_may_change() -> None:
    model = nn.Linear(3, 2)
    run, x = compiled(model), images(2, 3)
    close(run(x), model(x))
    model.weight.mul_(3)
    close(run(x), model(x))
    model.load_state_dict({"weight": torch.ones(2, 3), "bias": torch.zeros(2)})
    close(run(x), model(x))


def test_writes_in_place_are_seen() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(3))

        def forward(self, x: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
            self.total.add_(x.sum(0))
            into[1] = x[0]
            return self.total * 2

    model, other = Counter(), Counter()
    run = compiled(model)
    for seed in range(3):
        x = images(2, 3, seed=seed)
        mine, theirs = torch.zeros(4, 3), torch.zeros(4, 3)
        close(run(x, mine), other(x, theirs))
        close(mine, theirs)
        close(model.total, other.total)


def test_dtypes_and_several_results() -> None:
    def forward(x: torch.Tensor, mask: torch.Tensor) -> Any:
        y = torch.where(mask, x, x * 2)
        return {"y": y, "both": (y > 0, y.argmax(-1)), "x": x}

    x = images(3, 5).to(torch.bfloat16)
    mask = images(3, 5, seed=1) > 0
    found = torch.compile(forward, backend=npu_sim, options={"device": "cpu"})(x, mask)
    expected = forward(x, mask)
    assert found.keys() == expected.keys()
    close(found["y"], expected["y"], 1e-2)
    assert all(map(torch.equal, found["both"], expected["both"]))


def test_options_are_checked() -> None:
    for options, message in (({"devise": "cpu"}, "devise"), ({"device": "tpu"}, "tpu")):
        with pytest.raises(Exception, match=message):
            torch.compile(F.relu, backend=npu_sim, options=options)(images(2, 3))
        torch._dynamo.reset()
    with pytest.raises(Exception, match="no modes"):
        torch.compile(F.relu, backend=npu_sim, mode="max-autotune")(images(2, 3))


def test_the_backend_has_a_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["entry-points"]["torch_dynamo_backends"]
    assert EntryPoint("npu_sim", declared["npu_sim"], "torch_dynamo_backends").load() is npu_sim
    dynamo_backend.register()
    dynamo_backend.register()
    x = images(2, 3)
    close(torch.compile(F.relu, backend="npu_sim", options=FLOAT32)(x), F.relu(x))
