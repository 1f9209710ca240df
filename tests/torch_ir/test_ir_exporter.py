"""Extraction: kinds of models and inputs, meta checks, and models that cannot be extracted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import torch_ir
from tests.torch_ir.models import MLP, Bottleneck, randomize
from tests.torch_ir.support import check_model, ops_of
from torch_ir import (
    ConversionError,
    ExportError,
    TorchIRWarning,
    convert_exported_program,
    export_model,
    extract_ir,
)
from torch_ir.analyzer import GraphAnalyzer, NodeInfo
from torch_ir.converter import IRConverter
from torch_ir.exporter import (
    get_model_name,
    is_meta_module,
    is_meta_tensor,
    validate_inputs_meta,
    validate_meta_device,
)


def _meta_mlp() -> nn.Module:
    with torch.device("meta"):
        return MLP().eval()


META_INPUT = (torch.randn(2, 12, device="meta"),)


def test_model_name() -> None:
    assert extract_ir(_meta_mlp(), META_INPUT).model_name == "MLP"
    assert extract_ir(_meta_mlp(), META_INPUT, model_name="MyModel_v2").model_name == "MyModel_v2"
    assert get_model_name(MLP()) == "MLP"
    assert get_model_name(MLP(), "other") == "other"


@pytest.mark.parametrize("strict", [False, True])
def test_strict_accepts_meta_and_ordinary_models(strict: bool) -> None:
    from_meta = extract_ir(_meta_mlp(), META_INPUT, strict=strict)
    assert from_meta == extract_ir(MLP().eval(), torch.randn(2, 12), strict=strict)
    assert from_meta.pytorch_version == torch.__version__


def test_input_containers() -> None:
    model, x = MLP().eval(), torch.randn(2, 12)
    first = extract_ir(model, x)
    assert first == extract_ir(model, (x,)) == extract_ir(model, [x]) == extract_ir(model, {"x": x})


def test_meta_predicates() -> None:
    assert is_meta_tensor(torch.empty(1, device="meta"))
    assert not is_meta_tensor(torch.empty(1)) and not is_meta_tensor(None)
    assert is_meta_module(_meta_mlp()) and not is_meta_module(MLP())
    assert is_meta_module(nn.ReLU())
    validate_meta_device(_meta_mlp())
    validate_inputs_meta((torch.empty(1, device="meta"), 3, {"a": None}))
    with pytest.raises(ExportError, match=r"'layers\.0\.weight'.*must be on meta device"):
        validate_meta_device(MLP())
    with pytest.raises(ExportError, match=r"\[1\]\['a'\].*must be on meta device"):
        validate_inputs_meta((META_INPUT[0], {"a": torch.empty(1)}))


def test_export_model_is_strict_about_meta() -> None:
    with pytest.raises(ExportError, match="must be on meta device"):
        export_model(MLP().eval(), META_INPUT)
    with pytest.raises(ExportError, match="must be on meta device"):
        export_model(_meta_mlp(), (torch.randn(2, 12),))
    assert isinstance(export_model(_meta_mlp(), META_INPUT), torch.export.ExportedProgram)
    exported = export_model(MLP().eval(), (torch.randn(2, 12),), strict=False)
    assert isinstance(exported, torch.export.ExportedProgram)


def test_converter_and_function_agree() -> None:
    exported = export_model(_meta_mlp(), META_INPUT, strict=False)
    ir = IRConverter(strict=False).convert(exported, model_name="MyModel")
    assert ir == convert_exported_program(exported, model_name="MyModel")
    assert ir == extract_ir(_meta_mlp(), META_INPUT, model_name="MyModel")
    assert convert_exported_program(exported).model_name == ""


def test_a_program_exported_elsewhere() -> None:
    model = randomize(Bottleneck())
    x = torch.randn(1, 3, 32, 32)
    plain = convert_exported_program(torch.export.export(model, (x,)), "Bottleneck")
    assert plain == extract_ir(model, x)
    on_meta = torch.export.export(
        Bottleneck().to("meta").eval(), (torch.randn(1, 3, 32, 32, device="meta"),)
    )
    assert ops_of(convert_exported_program(on_meta)) == ops_of(plain)


def test_a_functionalised_program_shows_its_buffer_updates() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count.add_(1)
            return x * self.count

    exported = torch.export.export(Counter().eval(), (torch.ones(2),)).run_decompositions({})
    ir = convert_exported_program(exported, "Counter")
    last = ir.nodes[-1]
    assert (last.op_type, last.attrs) == ("aten.copy_.default", {"_mutates": ["b_count"]})
    executor = torch_ir.IRExecutor(ir, weights={"count": torch.zeros(2)})
    assert [float(executor(torch.ones(2))[0][0]) for _ in range(2)] == [1.0, 2.0]


def test_analyzer() -> None:
    analyzer = GraphAnalyzer(export_model(_meta_mlp(), META_INPUT))
    assert [t.name for t in analyzer.get_graph_inputs()] == ["x"]
    assert [t.name for t in analyzer.get_graph_outputs()] == ["linear_2"]
    assert [w.name for w in analyzer.get_weights()][:2] == ["layers.0.weight", "layers.0.bias"]
    assert analyzer.get_weight_name_mapping()["p_layers_3_bias"] == "layers.3.bias"
    info = analyzer.get_call_function_nodes()[0]
    assert isinstance(info, NodeInfo)
    assert (info.name, info.op, info.op_type) == ("linear", "call_function", "aten.linear.default")
    assert info.target is torch.ops.aten.linear.default
    assert [t.name for t in info.input_metas] == ["x", "p_layers_0_weight", "p_layers_0_bias"]
    assert [t.shape for t in info.output_metas] == [(2, 16)]
    assert len(info.args) == 3 and info.kwargs == {} and info.attrs == {}
    with pytest.raises(ConversionError, match="ExportedProgram"):
        GraphAnalyzer(MLP())  # type: ignore[arg-type]


def test_train_mode_warns() -> None:
    with pytest.warns(TorchIRWarning, match=r"MLP is in train mode.*model\.eval"):
        extract_ir(MLP(), torch.randn(2, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("error", TorchIRWarning)
        extract_ir(MLP().eval(), torch.randn(2, 12))


def test_dynamic_shapes_name_the_dimension() -> None:
    dims = ({1: torch.export.Dim("width", min=4, max=64)},)

    class Add(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    exported = torch.export.export(Add().eval(), (torch.randn(2, 12),), dynamic_shapes=dims)
    with pytest.raises(ConversionError, match=r"'x': dimension 1 is dynamic"):
        convert_exported_program(exported)


def test_data_dependent_size() -> None:
    class Nonzero(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nonzero(x)

    with pytest.raises(ConversionError, match="'nonzero': dimension 0 is dynamic"):
        extract_ir(Nonzero().eval(), torch.randn(4))


def test_a_number_read_from_a_tensor() -> None:
    class Item(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x.sum().item()

    with pytest.raises(ConversionError, match=r"'item'.*run time"):
        extract_ir(Item().eval(), torch.randn(4))


def test_data_dependent_control_flow_is_explained() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(ExportError, match=r"Branch.*torch\.where"):
        extract_ir(Branch().eval(), torch.randn(4))


def test_a_model_that_fails_and_things_that_are_no_model() -> None:
    class Fails(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyError("missing thing")

    with pytest.raises(ExportError, match=r"Fails.*missing thing"):
        extract_ir(Fails().eval(), torch.randn(4))
    with pytest.raises(ExportError, match="function"):
        extract_ir(lambda x: x, torch.randn(4))  # type: ignore[arg-type]


def test_a_failed_export_restores_the_meta_model() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)
            self.plain = torch.ones(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

    with torch.device("meta"):
        model = Fails().eval()
    before = [(id(p), p.device) for p in model.parameters()]
    with pytest.raises(ExportError):
        extract_ir(model, torch.randn(3, device="meta"))
    assert [(id(p), p.device) for p in model.parameters()] == before
    assert model.plain.is_meta


def test_sequential_transformer_and_multi_input_models() -> None:
    layer = nn.TransformerEncoderLayer(d_model=16, nhead=4, dim_feedforward=32)
    encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
    check_model(randomize(encoder), torch.randn(5, 2, 16))
    with torch.device("meta"):
        meta = nn.LSTM(4, 5, num_layers=2).eval()
    lstm = extract_ir(meta, torch.randn(3, 2, 4, device="meta"))
    assert lstm == check_model(randomize(nn.LSTM(4, 5, num_layers=2)), torch.randn(3, 2, 4))
    check_model(randomize(nn.Sequential(nn.Linear(4, 4), nn.Tanh())), torch.randn(3, 4))


def _without_torch(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where torch cannot be imported."""
    (folder / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None\n")
    package = Path(torch_ir.__file__).parent.parent
    return subprocess.run(
        [sys.executable, *(["-c", code] if code else []), *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": os.pathsep.join([str(folder), str(package)])},
        check=False,
        cwd=folder,
    )


def test_without_torch_the_message_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "try:\n    from torch_ir.serializer import load_ir\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = _without_torch(code, tmp_path)
    assert done.stdout.startswith("MissingTorchError")
    assert "pip install npu-sim[torch]" in done.stdout


def test_without_torch_the_command_ends_with_one_line(tmp_path: Path) -> None:
    # What pip writes for an entry point.
    script = tmp_path / "torch-ir"
    script.write_text("import sys\nfrom torch_ir.cli import main\nsys.exit(main())\n")
    for arguments in ([str(script), "--version"], ["-m", "torch_ir", "info", "x.json"]):
        done = _without_torch("", tmp_path, *arguments)
        assert done.returncode == 1
        assert re.fullmatch(r"torch-ir: .*pip install npu-sim\[torch\]\n", done.stderr)
        assert done.stdout == ""


def test_public_names_exist() -> None:
    for name in torch_ir.__all__:
        assert getattr(torch_ir, name) is not None
    assert (Path(torch_ir.__file__).parent / "py.typed").exists()
