"""Every registered model through torch_ir; the reports; ``python -m tests``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import tests.models  # noqa: F401  (registers the models)
from tests.__main__ import main
from tests.models import base
from tests.models.base import ModelSpec, all_models, find_models, register_model
from tests.reports import CheckResult, check_model, summary_report, write_reports
from torch_ir import ir_to_mermaid

DOCUMENTED = {
    "multi_io": ["SiameseEncoder", "MultiTaskHead"],
    "skip_connections": ["DeepResNet", "DenseBlock"],
    "shared_weights": ["RecurrentUnroll", "WeightTying"],
    "attention": ["SelfAttention", "CrossAttention", "TransformerBlock"],
}


def model_id(spec: ModelSpec) -> str:
    """What ``-k`` finds: the categories and the name."""
    return "-".join((*spec.categories, spec.name))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModelSpec]]:
    """A register that the test may add to."""
    copied = dict(base._registry)
    monkeypatch.setattr(base, "_registry", copied)
    yield copied


@pytest.mark.parametrize("spec", all_models(), ids=model_id)
def test_model(spec: ModelSpec, model_results: list[CheckResult]) -> None:
    result = check_model(spec, rtol=1e-5, atol=1e-5)
    model_results.append(result)
    assert result.passed, result.problem
    assert {(v.batch, v.seed) for v in result.verifications} == {
        (batch, seed) for batch in (1, 3) for seed in (0, 1, 2)
    }


@pytest.mark.parametrize("spec", all_models(), ids=model_id)
def test_models_tell_inputs_and_weights_apart(spec: ModelSpec) -> None:
    """Outputs that are constant, infinite or the same for any weights would verify anything."""

    def outputs(weights: int, inputs: int) -> list[torch.Tensor]:
        with torch.no_grad():
            found = spec.model(weights)(*spec.inputs(2, inputs))
        return list(found) if isinstance(found, tuple) else [found]

    for first, other_input, other_weights in zip(
        outputs(0, 0), outputs(0, 1), outputs(1, 0), strict=True
    ):
        assert first.isfinite().all() and first.std() > 1e-3
        assert (first - other_input).abs().max() > 1e-3
        assert (first - other_weights).abs().max() > 1e-3


def test_the_documented_models_are_there() -> None:
    for category, names in DOCUMENTED.items():
        assert [spec.name for spec in find_models(category)] == names
    assert len(all_models()) == sum(map(len, DOCUMENTED.values()))


def test_reports_have_every_section(tmp_path: Path) -> None:
    spec = find_models(model="WeightTying")[0]
    result = check_model(spec, seeds=[0], batches=[2])
    files = write_reports([result], tmp_path / "deep" / "reports")
    assert [file.name for file in files] == ["SUMMARY.md", "WeightTying.md"]
    summary, report = (file.read_text(encoding="utf-8") for file in files)
    assert "| Passed | 1 |" in summary and "[WeightTying](WeightTying.md)" in summary
    titles = [line for line in report.splitlines() if line.startswith("## ")]
    assert titles == [
        "## Summary",
        "## Numerical Verification",
        "## DAG Visualization",
        "## Operator Distribution",
        "## Node Details",
        "## Weight Metadata",
    ]
    ir = result.ir
    assert ir is not None
    # embedding, linear, relu, add, layer_norm, head: seven tensors between them, one in, one out.
    for row in ("Nodes | 6", "Edges | 8", "Inputs | 1", "Outputs | 1", "Weights | 6"):
        assert f"| {row} |" in report
    assert f"| Total params | {100 * 32 + 33 * 32 + 2 * 32:,} |" in report
    assert "| max_diff | 0.00e+00 |" in report and "| 2 | 0 | 1 | 0.00e+00" in report
    assert f"```mermaid\n{ir_to_mermaid(ir)}\n```" in report
    assert "```mermaid\npie" in report
    details = report.split("<details>")[1].split("</details>")[0]
    assert "<summary>6 nodes</summary>" in details and "`aten.embedding.default`" in details
    assert "| `head.weight` | [100, 32] | float32 | 3,200 | `embedding.weight` |" in report


class Drifting(nn.Module):
    """Computes something else once it has weights, so that its IR from the meta device is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.offset = 0.0 if self.fc.weight.is_meta else 0.01

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) + self.offset


class Branching(nn.Module):
    """Cannot be exported: its control flow depends on data."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_failures_are_reported(
    registry: dict[str, ModelSpec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in (Drifting, Branching):
        register_model(model.__name__, [(4,)], ["broken"], "fails")(model)
    assert main(["--category", "broken", "--output", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "FAILED  Drifting" in out and "outputs [0] differ" in out
    assert "FAILED  Branching" in out and "0 of 2 models passed" in out
    summary = (tmp_path / "SUMMARY.md").read_text(encoding="utf-8")
    assert "| Failed | 2 |" in summary and "- **Branching**: batch 1: ExportError" in summary
    assert "Not verified." in (tmp_path / "Branching.md").read_text(encoding="utf-8")
    drifting = (tmp_path / "Drifting.md").read_text(encoding="utf-8")
    assert "**Status**: FAILED" in drifting and "## DAG Visualization" in drifting
    assert "| max_diff | 1.00e-02 |" in drifting
    # It is a matter of the tolerance.
    arguments = ["--model", "Drifting", "--atol", "0.1", "--output", str(tmp_path)]
    assert main(arguments) == 0


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "SelfAttention", "-v", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "PASSED  SelfAttention" in out and "batch 3, seed 2: Verification PASSED" in out
    assert sorted(file.name for file in tmp_path.iterdir()) == ["SUMMARY.md", "SelfAttention.md"]
    assert main(["--list-categories"]) == 0
    assert "attention: 3 models" in capsys.readouterr().out.splitlines()
    assert main(["--list-models", "--category", "multi_io"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == DOCUMENTED["multi_io"]
    (tmp_path / "file").touch()
    assert main(["--model", "CrossAttention", "--output", str(tmp_path / "file")]) == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "Nothing"], "unknown model 'Nothing'"),
        (["--category", "nothing"], "unknown category 'nothing'"),
        (["--model", "DenseBlock", "--category", "attention"], "not in category"),
    ],
)
def test_unknown_names(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    with pytest.raises(SystemExit) as ended:
        main(["--rtol", "-1"])
    assert ended.value.code == 2


def test_registering(registry: dict[str, ModelSpec]) -> None:
    register_model("Mine", [(3,)], ["custom"], "mine")(nn.Identity)
    assert find_models("custom")[0].inputs(2, 0)[0].shape == (2, 3)
    for arguments, message in (
        (("Mine", [(3,)], ["custom"], ""), "already"),
        (("a/b", [(3,)], ["custom"], ""), "identifier"),
        (("Other", [(3,)], "custom", ""), "categories"),
        (("Other", [], ["custom"], ""), "input shapes"),
        (("Other", [(3,)], ["custom"], "", [torch.int64] * 2), "2 dtypes"),
    ):
        with pytest.raises(ValueError, match=message):
            register_model(*arguments)  # type: ignore[arg-type]
    assert "| Models | 0 |" in summary_report([])
