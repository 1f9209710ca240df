"""The code blocks of the documentation run as they are written, in a folder of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torch_ir
from npu_sim.models import resnet18, resnet50
from tests.__main__ import main as comprehensive_main
from tests.docs.api import page as api_page
from tests.docs.documents import ROOT, code_blocks, install_torchvision
from tests.models import base
from tests.models.base import find_models
from tests.reports import check_model
from torch_ir import deserialize_ir, extract_ir, ir_to_mermaid, validate_ir
from torch_ir.cli import main as torch_ir_main

PAGES = ROOT / "docs" / "torch-ir"
GUIDES = [PAGES / "guide.md", PAGES / "guide.ko.md"]
EXTENDING = [PAGES / "extending.md", PAGES / "extending.ko.md"]
ALL_PAGES = sorted(PAGES.rglob("*.md"))


class VGG16(nn.Module):
    """VGG-16 without its dropout: thirteen 3x3 convolutions, three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()
        )
        self.head = nn.Linear(4096, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.classifier(self.features(x).flatten(1)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(blocks: list[str], page: Path) -> dict[str, Any]:
    """Execute blocks one after another in one namespace."""
    names: dict[str, Any] = {"__name__": "guide"}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"<{page.name}, Python block {number}>", "exec"), names)
    return names


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_guide(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Korean guide has the same blocks, as the next test says, so that one run is enough."""
    install_torchvision(monkeypatch, resnet18=resnet18, resnet50=resnet50, vgg16=VGG16)
    monkeypatch.setattr(base, "_registry", dict(base._registry))
    blocks = code_blocks(GUIDES[0], "python")
    names = run(blocks, GUIDES[0])
    text = capsys.readouterr().out

    assert "IR is valid" in text and "validation failed" not in text
    assert text.count("Verification: PASSED") == 1 and "Output shape: torch.Size([1, 10])" in text
    assert names["is_valid"] and names["valid"] and names["report"].is_valid
    assert "ResNet18 IR: 69 nodes" in text and "Weights are valid" in text
    assert "MyCustomModel_v2" in text and "Conversion error" not in text
    assert re.search(r"Largest difference: 0\.0[12]\d", text)
    assert set(names["irs"]) == {"ResNet18", "ResNet50", "VGG16"}
    assert sum(n.op_type == "aten.conv2d.default" for n in names["irs"]["VGG16"].nodes) == 13
    for file in ("model_ir.json", "MyModel_ir.json", "VGG16_ir.json"):
        assert (folder / file).exists()
    assert check_model(find_models("custom")[0]).passed

    # What the guide does when a verification fails, with one that does.
    (analysis,) = (block for block in blocks if block.startswith("if not is_valid"))
    broken = {k: v + 1 for k, v in names["original_model"].state_dict().items()}
    verify = names["verify_ir_with_state_dict"]
    inputs = names["test_inputs"]
    is_valid, report = verify(
        names["loaded_ir"], broken, names["original_model"], inputs, atol=1e-5
    )
    exec(analysis, {"is_valid": is_valid, "report": report})
    text = capsys.readouterr().out
    assert "Max difference: " in text and "is_close=False" in text


@pytest.mark.parametrize("pages", [GUIDES, EXTENDING], ids=["guide", "extending"])
def test_both_languages_show_the_same_code(pages: list[Path]) -> None:
    english, korean = pages
    for language in ("python", "bash", "mermaid", ""):
        assert code_blocks(english, language) == code_blocks(korean, language)
    titles = [
        re.findall(r"^#+ [\d.]+", page.read_text(encoding="utf-8"), re.MULTILINE) for page in pages
    ]
    assert titles[0] == titles[1] and len(titles[0]) > 5


def test_extending(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        names = run(code_blocks(EXTENDING[0], "python"), EXTENDING[0])
    finally:
        torch_ir.unregister_op("aten.linear.default")
    text = capsys.readouterr().out
    assert "scaled_relu: float32[2, 4] = mylib.scaled_relu.default(dropout, factor=0.5)" in text
    assert "npu.relu" in text and "3 -> 2" in text and "digraph {" in text
    assert float(names["simulated"].sub(names["output"]).abs().max()) < 0.05
    assert torch_ir.list_registered_ops() == []


def test_api_page_is_what_the_code_says() -> None:
    text = (PAGES / "api" / "index.md").read_text(encoding="utf-8")
    assert text == api_page(), "run python -m tests.docs.api --write docs/torch-ir/api/index.md"
    for name in torch_ir.__all__:
        assert f"\n### {name}\n" in text


def test_the_shown_drawing_and_summary_are_real(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    irs = {}
    for name in ("TransformerBlock", "DeepResNet"):
        spec = find_models(model=name)[0]
        irs[name] = extract_ir(spec.meta_model(), spec.meta_inputs(1), model_name=name)
    (drawing,) = code_blocks(GUIDES[0], "mermaid")
    assert drawing == ir_to_mermaid(irs["TransformerBlock"]) + "\n"
    irs["DeepResNet"].save("model_ir.json")
    assert torch_ir_main(["info", "model_ir.json"]) == 0
    assert capsys.readouterr().out in code_blocks(GUIDES[0], "")


def commands(page: Path) -> list[list[str]]:
    """The command lines of a page, split into words."""
    lines = [line for block in code_blocks(page, "bash") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize("page", [GUIDES[0], PAGES / "cli.md"], ids=lambda page: page.stem)
def test_torch_ir_commands(page: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extract_ir(nn.Sequential(nn.Linear(3, 2), nn.ReLU()).eval(), torch.randn(1, 3)).save(
        "model_ir.json"
    )
    found = [words[1:] for words in commands(page) if words[0] == "torch-ir"]
    assert any("graph.png" in words for words in found)
    if importlib.util.find_spec("PIL") is None:
        found = [words for words in found if "graph.png" not in words]
    for words in found:
        assert torch_ir_main(words) == 0, words
    assert capsys.readouterr().err == ""
    assert json.loads((folder / "summary.json").read_text())["num_nodes"] == 2
    assert {word for words in found for word in words if word.startswith("graph.")} == {
        file.name for file in folder.glob("graph.*")
    }


def test_cli_page_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    page = (PAGES / "cli.md").read_text(encoding="utf-8")
    for command in ([], ["info"], ["visualize"]):
        with pytest.raises(SystemExit):
            torch_ir_main([*command, "--help"])
        options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert options and all(f"`{o}" in page or f" {o}" in page for o in options)


def test_commands_of_the_comprehensive_test(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = commands(GUIDES[0])
    ours = [words[3:] for words in found if words[:3] == ["python", "-m", "tests"]]
    assert len(ours) == 5
    for words in ours:
        assert comprehensive_main(words) == 0, words
    out = capsys.readouterr().out
    assert "9 of 9 models passed" in out and "3 of 3 models passed" in out
    (tree,) = (block for block in code_blocks(GUIDES[0], "") if block.startswith("reports/"))
    for name in re.findall(r"\w+\.md", tree):
        assert (folder / "reports" / name).exists()

    # One of the pytest lines in a process of its own; `-k` and the report options in one.
    (line,) = (words for words in found if words[0] == "pytest" and "-k" in words)
    for name in ("tests", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "reports" / "SUMMARY.md").unlink()
    done = subprocess.run(
        [sys.executable, "-m", *line, "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = (folder / "reports" / "SUMMARY.md").read_text(encoding="utf-8")
    assert "| Models | 3 |" in summary and "CrossAttention" in summary


def test_format_page() -> None:
    page = PAGES / "format.md"
    (text,) = code_blocks(page, "json")
    ir = deserialize_ir(text)
    validate_ir(ir, check_shapes=True)
    assert ir.to_dict() == json.loads(text)

    fields = set(json.loads(text)) | {"tied_weights", "file", "key"}
    for item in (*json.loads(text)["nodes"], ir.nodes[1].inputs[0].to_dict()):
        fields.update(item)
    described = set(re.findall(r"`(\w+)`", page.read_text(encoding="utf-8")))
    assert fields <= described


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.relative_to(PAGES).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert links or page.name == "models.md"
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_seed_links_what_there_is() -> None:
    """The pages that the guide's last section has always named."""
    for link in ("api/index.md", "operators.md", "extending.md", "cli.md"):
        assert f"]({link})" in GUIDES[0].read_text(encoding="utf-8") and (PAGES / link).exists()


def test_readme(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, partitioned = code_blocks(ROOT / "README.md", "python")
    run([first], ROOT / "README.md")
    ours, theirs = capsys.readouterr().out.split()
    assert ours == theirs
    run([partitioned], ROOT / "README.md")
    error = float(capsys.readouterr().out.split()[-1])
    assert error < 0.05
