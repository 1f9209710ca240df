"""CNNs and MLPs against eager mode, with trained-like BatchNorm statistics."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from tests.torch_ir.models import MLP, Bottleneck, DeepResNet, InplaceResNet, randomize
from tests.torch_ir.support import check_model, ops_of
from torch_ir import extract_ir


def test_deep_resnet_is_as_documented() -> None:
    with torch.device("meta"):
        model = DeepResNet().eval()
    ir = extract_ir(model, (torch.randn(1, 3, 32, 32, device="meta"),))
    assert ir.model_name == "DeepResNet"
    assert (len(ir.nodes), len(ir.weights), ir.total_parameters) == (27, 51, 57_617)
    assert [(t.name, list(t.shape)) for t in ir.graph_inputs] == [("x", [1, 3, 32, 32])]
    assert [(t.name, list(t.shape)) for t in ir.graph_outputs] == [("linear", [1, 10])]
    assert Counter(ops_of(ir)).most_common() == [
        ("aten.conv2d.default", 7),
        ("aten.batch_norm.default", 7),
        ("aten.relu.default", 7),
        ("aten.add.Tensor", 3),
        ("aten.adaptive_avg_pool2d.default", 1),
        ("aten.flatten.using_ints", 1),
        ("aten.linear.default", 1),
    ]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("make", [DeepResNet, InplaceResNet, Bottleneck])
def test_resnets_equal_eager(make: type[nn.Module], batch: int) -> None:
    check_model(randomize(make()), torch.randn(batch, 3, 32, 32))


def test_meta_and_ordinary_models_give_the_same_ir() -> None:
    with torch.device("meta"):
        meta = Bottleneck().eval()
    from_meta = extract_ir(meta, torch.randn(2, 3, 32, 32, device="meta"))
    ordinary = extract_ir(randomize(Bottleneck()), torch.randn(2, 3, 32, 32))
    assert from_meta == ordinary
    assert all(p.is_meta for p in meta.parameters()), "the model must come out as it went in"


def test_conv_attributes_are_kept_without_defaults() -> None:
    ir = extract_ir(randomize(Bottleneck()), torch.randn(1, 3, 32, 32))
    convs = [node.attrs for node in ir.nodes if node.op_type == "aten.conv2d.default"]
    assert convs[0] == {"stride": [2, 2], "padding": [3, 3]}
    assert convs[1] == {}
    assert convs[2] == {"stride": [2, 2], "padding": [1, 1], "groups": 2}
    pool = next(node for node in ir.nodes if node.op_type == "aten.max_pool2d.default")
    assert pool.attrs == {"kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1]}


def test_weights_are_named_by_state_dict_key() -> None:
    model = randomize(DeepResNet())
    ir = extract_ir(model, torch.randn(1, 3, 32, 32))
    assert {w.name for w in ir.weights} == set(model.state_dict())
    assert ir.weight_name_mapping["p_blocks_0_conv1_weight"] == "blocks.0.conv1.weight"
    assert ir.weight_name_mapping["b_bn_running_mean"] == "bn.running_mean"
    conv = ir.nodes[0]
    assert [t.name for t in conv.inputs] == ["x", "p_conv_weight", "p_conv_bias"]
    assert (conv.inputs[0].producer_node, conv.inputs[0].producer_output_idx) == ("x", 0)
    assert conv.inputs[1].producer_node is None
    assert ir.nodes[1].inputs[0].producer_node == "conv2d"


def test_batch_norm_counter_may_be_missing() -> None:
    model = randomize(DeepResNet(channels=8, blocks=1))
    x = torch.randn(2, 3, 16, 16)
    ir = extract_ir(model, x)
    weights = {k: v for k, v in model.state_dict().items() if "num_batches_tracked" not in k}
    from torch_ir import execute_ir

    torch.testing.assert_close(execute_ir(ir, x, weights=weights)[0], model(x), rtol=0, atol=0)


@pytest.mark.parametrize("batch", [1, 5])
def test_mlp(batch: int) -> None:
    ir = check_model(randomize(MLP()), (torch.randn(batch, 12),))
    assert "aten.dropout.default" in ops_of(ir)


def test_other_cnn_layers() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(6, 6, 3, padding="same", groups=6)
            self.up = nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1, bias=False)
            self.norm = nn.GroupNorm(2, 4)
            self.inst = nn.InstanceNorm2d(4, affine=True)
            self.plain = nn.BatchNorm2d(4, affine=False)
            self.act = nn.Hardswish()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.pad(self.depthwise(x), (1, 0, 2, 1), value=float("-inf"))
            y = nn.functional.max_pool2d(y, 3, stride=2, ceil_mode=True, dilation=2)
            y = self.plain(self.inst(self.norm(self.act(self.up(y)))))
            y = nn.functional.interpolate(y, scale_factor=1.5, mode="bilinear", align_corners=False)
            return nn.functional.adaptive_avg_pool2d(y, (3, 5)).mean((2, 3)).softmax(0)

    check_model(randomize(Mixed()), torch.randn(2, 6, 14, 10))


def test_source_says_module_and_line() -> None:
    ir = extract_ir(randomize(DeepResNet(channels=8, blocks=1)), torch.randn(1, 3, 16, 16))
    sources = {node.name: node.source for node in ir.nodes}
    conv = sources["conv2d_1"]
    assert conv is not None
    assert conv["module"] == "blocks.0.conv1"
    file, line = conv["location"].split(":")
    assert file == "tests/models/skip_connections.py"
    assert int(line) > 0
