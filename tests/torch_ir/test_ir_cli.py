"""The command line and the Mermaid drawings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from tests.torch_ir.models import DeepResNet, TransformerBlock
from tests.torch_ir.support import check_model
from torch_ir import (
    IR,
    SerializationError,
    extract_ir,
    generate_op_distribution_pie,
    ir_to_mermaid,
    load_ir,
)
from torch_ir.cli import main

DATA = Path(__file__).parent / "data"

INFO = """\
Model: DeepResNet
Nodes: 27
Inputs: 1
Outputs: 1
Weights: 51
Total parameters: 57,617

Input shapes:
  x: [1, 3, 32, 32]

Output shapes:
  linear: [1, 10]

Op distribution:
  aten.conv2d.default: 7
  aten.batch_norm.default: 7
  aten.relu.default: 7
  aten.add.Tensor: 3
  aten.adaptive_avg_pool2d.default: 1
  aten.flatten.using_ints: 1
  aten.linear.default: 1
"""


@pytest.fixture(scope="module")
def ir() -> IR:
    return extract_ir(DeepResNet().eval(), torch.randn(1, 3, 32, 32))


@pytest.fixture
def file(ir: IR, tmp_path: Path) -> Path:
    ir.save(tmp_path / "model_ir.json")
    return tmp_path / "model_ir.json"


def test_info(file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["info", str(file)]) == 0
    assert capsys.readouterr().out == INFO
    assert main(["info", str(file), "--json", "-o", str(tmp_path / "s.json")]) == 0
    assert capsys.readouterr().out == ""
    summary = json.loads((tmp_path / "s.json").read_text())
    assert list(summary) == [
        "model_name",
        "num_nodes",
        "num_inputs",
        "num_outputs",
        "num_weights",
        "total_parameters",
        "input_shapes",
        "output_shapes",
        "op_distribution",
    ]
    assert summary["total_parameters"] == 57617
    assert summary["input_shapes"] == {"x": [1, 3, 32, 32]}
    assert list(summary["op_distribution"].values()) == [7, 7, 7, 3, 1, 1, 1]


def test_transformer_block_is_drawn_as_documented() -> None:
    model = TransformerBlock().eval()
    ir = check_model(model, torch.randn(1, 16, 64))
    assert ir_to_mermaid(ir) == (DATA / "transformer_block.mmd").read_text().rstrip("\n")


def test_visualize(ir: IR, file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["visualize", str(file)]) == 0
    assert capsys.readouterr().out == ir_to_mermaid(ir) + "\n"
    target = tmp_path / "graph.mmd"
    assert (
        main(["visualize", str(file), "--max-nodes", "5", "--no-weights", "-o", str(target)]) == 0
    )
    text = target.read_text()
    assert '    more["… 22 more nodes …"]' in text.splitlines()
    assert "p_conv_weight" not in text and text.count("    op_") >= 5
    assert "more --> output_0" in text


def test_drawing_of_odd_graphs() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            values, places = x.max(0)
            return x, values.sum(), places

    text = ir_to_mermaid(extract_ir(Odd().eval(), torch.randn(2, 3)))
    assert "input_x --> output_0" in text
    assert 'op_sum_1["sum<br/>scalar"]' in text
    assert 'op_max_1["max.dim<br/>3, 3"]' in text
    with pytest.raises(ValueError, match="max_nodes"):
        ir_to_mermaid(IR("m", "2"), max_nodes=-1)
    assert ir_to_mermaid(IR("m", "2")) == "flowchart TD"


def test_svg_and_png(file: Path, ir: IR, tmp_path: Path) -> None:
    target = tmp_path / "graph.svg"
    assert main(["visualize", str(file), "-o", str(target)]) == 0
    root = ElementTree.fromstring(target.read_text())
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("conv2d") == 7 and "p_conv_weight" in texts and "Input: x" in texts
    picture = tmp_path / "graph.png"
    pytest.importorskip("PIL")
    assert main(["visualize", str(file), "-o", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_png_without_pillow(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert main(["visualize", str(file), "-o", str(tmp_path / "graph.png")]) == 1
    assert "pip install pillow" in capsys.readouterr().err
    assert main(["visualize", str(file), "-o", str(tmp_path / "graph.bmp")]) == 1
    assert ".bmp" in capsys.readouterr().err


def test_pie(ir: IR) -> None:
    lines = generate_op_distribution_pie(ir, top_n=3).splitlines()
    assert lines[0].startswith("pie")
    assert lines[2:] == [
        '    "conv2d" : 7',
        '    "batch_norm" : 7',
        '    "relu" : 7',
        '    "other" : 6',
    ]
    with pytest.raises(ValueError, match="top_n"):
        generate_op_distribution_pie(ir, top_n=0)


def _changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: "[]",
        lambda text: "null",
        lambda text: text[:500],
        lambda text: "[" * 100_000,
        lambda text: _changed(text, "[1, 3, 32, 32]", "[NaN, 3, 32, 32]"),
        lambda text: _changed(text, "[1, 3, 32, 32]", "[1e3, 3, 32, 32]"),
        lambda text: _changed(text, "[1, 3, 32, 32]", "[-1, 3, 32, 32]"),
        lambda text: _changed(text, "[1, 3, 32, 32]", "[1, 3, 32, 1" + "0" * 5000 + "]"),
        lambda text: _changed(text, '"aten.conv2d.default"', '"aten.conv9d.default"'),
        lambda text: _changed(text, '"float32"', '"float33"'),
        lambda text: _changed(text, '"name": "x"', '"name": 3'),
        lambda text: _changed(text, '"name": "x"', '"name": "line\\nbreak"'),
        lambda text: _changed(text, '"format_version": "1.', '"format_version": "2.'),
    ],
    ids=range(14),
)
def test_spoiled_files_are_one_line_and_status_1(
    spoil: Callable[[str], str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(spoil(file.read_text(encoding="utf-8")), encoding="utf-8")
    picture = file.with_suffix(".svg")
    for arguments in (["info", str(file)], ["visualize", str(file), "-o", str(picture)]):
        assert main(arguments) == 1
        shown = capsys.readouterr()
        assert shown.err.startswith("torch-ir: ") and shown.err.count("\n") == 1
        assert shown.out == "" and not picture.exists()


@pytest.mark.parametrize("command", ["info", "visualize"])
def test_bad_files(command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([command, str(tmp_path / "gone.json")]) == 1
    assert "file not found" in capsys.readouterr().err
    bad = tmp_path / "bad.json"
    bad.write_text('{"model_name": 3}')
    assert main([command, str(bad)]) == 1
    error = capsys.readouterr().err
    assert "bad.json" in error and error.count("\n") == 1


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["nothing"], ["visualize", "x", "--max-nodes", "-1"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "usage: torch-ir" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("torch-ir ")


def test_as_a_module(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torch_ir", "info", str(file)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout == INFO


def test_text_that_no_terminal_or_file_can_hold(file: Path, tmp_path: Path) -> None:
    """JSON can spell half a character, which UTF-8 cannot."""
    ir = load_ir(file)
    ir.model_name = "half \ud800"
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps(ir.to_dict()), encoding="ascii")
    done = subprocess.run(
        [sys.executable, "-m", "torch_ir", "info", str(odd)],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"torch-ir: ") and done.stderr.count(b"\n") == 1
    with pytest.raises(SerializationError, match="cannot write IR file"):
        ir.save(tmp_path / "new.json")
    assert not (tmp_path / "new.json").exists()
