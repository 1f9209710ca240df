"""Graphs that earlier systems got wrong: operands, in-place ops, inputs, outputs, constants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.torch_ir.models import randomize
from tests.torch_ir.support import assert_same, check_model, ops_of
from torch_ir import (
    ConversionError,
    IRExecutor,
    extract_ir,
    register_executor,
    unregister_op,
)


class Fn(nn.Module):
    """A module around a plain function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def check(function: Any, *inputs: Any) -> Any:
    return check_model(Fn(function).eval(), inputs)


# --- None and optional operands ---------------------------------------------------------------


def test_clamp_with_max_only() -> None:
    ir = check(lambda x, t: x.clamp(max=t), torch.randn(4), torch.zeros(4))
    assert ir.nodes[0].attrs == {"min": None}


def test_clamp_with_min_only() -> None:
    ir = check(lambda x, t: x.clamp(min=t), torch.randn(4), torch.zeros(4))
    assert ir.nodes[0].attrs == {}


def test_layer_norm_with_bias_but_no_weight() -> None:
    def norm(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(x, (6,), None, b)

    ir = check(norm, torch.randn(2, 6), torch.randn(6))
    assert ir.nodes[0].attrs["weight"] is None


def test_batch_norm_without_affine() -> None:
    ir = check_model(randomize(nn.BatchNorm2d(3, affine=False)), torch.randn(2, 3, 4, 4))
    assert ir.nodes[0].attrs["weight"] is None
    assert len(ir.nodes[0].inputs) == 3


def test_keyword_only_tensor() -> None:
    def search(a: torch.Tensor, v: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return torch.searchsorted(a, v, right=True, sorter=s)

    values = torch.randn(8)
    check(search, values, torch.randn(3), values.argsort())


def test_attention_with_a_mask() -> None:
    q, k, v = torch.randn(2, 2, 4, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    mask = torch.zeros(4, 5).masked_fill(torch.rand(4, 5) > 0.5, float("-inf"))
    mask[:, 0] = 0
    check(
        lambda q, k, v, m: nn.functional.scaled_dot_product_attention(q, k, v, m, scale=0.3),
        q,
        k,
        v,
        mask,
    )


def test_index_with_none_entries() -> None:
    ir = check(lambda x, i: x[:, i], torch.randn(3, 4), torch.tensor([2, 0]))
    node = next(n for n in ir.nodes if n.op_type == "aten.index.Tensor")
    assert node.attrs["_tensor_list_sizes"] == [2]
    assert node.attrs["_tensor_list_none_masks"] == [[True, False]]


# --- scalars, tensor lists, several outputs ---------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32, torch.bool])
def test_scalar_operands_keep_their_type(dtype: torch.dtype) -> None:
    x = torch.randint(0, 2, (5,)).to(dtype)
    check(lambda x: (x + 2, x * 2.5, x / 3, x + True, x == 1, 2 - x.float()), x)


def test_scalar_operand_is_an_attribute() -> None:
    ir = check(lambda x: x / 2, torch.randn(3))
    assert ir.nodes[0].op_type == "aten.div.Tensor"
    assert ir.nodes[0].attrs == {"other": 2}


def test_alpha() -> None:
    ir = check(lambda x, y: torch.sub(x, y, alpha=2), torch.randn(3), torch.randn(3))
    assert ir.nodes[0].attrs == {"alpha": 2}


def test_tensor_lists() -> None:
    x, y = torch.randn(2, 3), torch.randn(4, 3)
    ir = check(lambda x, y: (torch.cat([x, y, x]), torch.stack((x,), 1)), x, y)
    assert ir.nodes[0].attrs == {"_tensor_list_sizes": [3]}
    assert ir.nodes[1].attrs == {"_tensor_list_sizes": [1], "dim": 1}


def test_lstm_has_two_tensor_lists() -> None:
    ir = check_model(randomize(nn.LSTM(4, 5, num_layers=2)), torch.randn(3, 2, 4))
    lstm = next(n for n in ir.nodes if n.op_type == "aten.lstm.input")
    assert lstm.attrs["_tensor_list_sizes"] == [2, 8]


def test_getitem_and_split() -> None:
    ir = check(lambda x: x.split([1, 3], dim=1)[1] + x.chunk(2, 1)[0].sum(), torch.randn(2, 4))
    split = ir.nodes[0]
    assert [t.name for t in split.outputs] == [f"{split.name}_0", f"{split.name}_1"]
    picks = [n for n in ir.nodes if n.op_type == "<built-in function getitem>"]
    last = next(n for n in picks if n.attrs == {"index": 1})
    assert [(t.producer_node, t.producer_output_idx) for t in last.inputs] == [
        (split.name, 0),
        (split.name, 1),
    ]


def test_a_list_of_one_output() -> None:
    ir = check(lambda x: x.chunk(1)[0] * 2, torch.randn(2, 4))
    assert [t.name for t in ir.nodes[0].outputs] == [ir.nodes[0].name]


def test_max_with_indices() -> None:
    check(lambda x: x.max(dim=1), torch.randn(3, 4))


# --- in-place operators -----------------------------------------------------------------------


def test_in_place_result_read_through_an_earlier_view() -> None:
    def update(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        view = y[1:]
        y.add_(1)
        view.mul_(3)
        return view + y[0]

    check(update, torch.randn(3, 4))


def test_in_place_on_an_input_leaves_the_caller_alone() -> None:
    def update(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x[0].zero_()
        return x, x.sum()

    x = torch.randn(2, 3)
    ir = check(update, x.clone())
    kept = x.clone()
    (changed, _) = IRExecutor(ir).execute(x)
    assert_same(x, kept)
    assert float(changed[0].abs().sum()) == 0
    writes = [n.attrs["_mutates"] for n in ir.nodes if "_mutates" in n.attrs]
    assert writes and all(names == [ir.graph_inputs[0].name] for names in writes)


def test_in_place_through_dropout_which_returns_its_input() -> None:
    def update(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(x, 0.5, training=False).add_(1)

    check(update, torch.randn(4))


class Cache(nn.Module):
    """A static key cache, written by position."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.zeros(1, 6, 3))

    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        self.cache.index_copy_(1, position, x)
        return self.cache.sum(1)


def test_buffer_mutation_names_the_buffer_and_keeps_state() -> None:
    model = Cache().eval()
    x = torch.randn(1, 1, 3)
    ir = extract_ir(model, (x, torch.tensor([2])))
    node = next(n for n in ir.nodes if n.op_type == "aten.index_copy_.default")
    assert node.inputs[0].name == "b_cache"
    assert node.attrs["_mutates"] == ["b_cache"]
    weights = model.state_dict()
    executor = IRExecutor(ir, weights=weights)
    for position in (2, 4):
        expected = model(x, torch.tensor([position]))
        assert_same(executor.execute((x, torch.tensor([position])))[0], expected)
    fresh = Cache().state_dict()
    executor.load_weights_from_state_dict(fresh)
    executor.execute((x, torch.tensor([0])))
    assert_same(fresh["cache"], torch.zeros(1, 6, 3))


def test_a_buffer_replaced_by_assignment() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count = self.count + 1
            return x * self.count

    model = Counter().eval()
    ir = extract_ir(model, torch.ones(2))
    assert any(n.attrs.get("_mutates") == ["b_count"] for n in ir.nodes)
    executor = IRExecutor(ir, weights={"count": torch.zeros(2)})
    assert [float(executor.execute(torch.ones(2))[0][0]) for _ in range(3)] == [1.0, 2.0, 3.0]


def test_a_returned_buffer_survives_the_next_call() -> None:
    class Returned(Cache):
        def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
            super().forward(x, position)
            return self.cache

    model = Returned().eval()
    ir = extract_ir(model, (torch.ones(1, 1, 3), torch.tensor([1])))
    executor = IRExecutor(ir, weights=Returned().state_dict())
    first = executor.execute((torch.ones(1, 1, 3), torch.tensor([1])))[0]
    kept = first.clone()
    executor.execute((torch.ones(1, 1, 3) * 5, torch.tensor([1])))
    assert_same(first, kept)


def test_training_batch_norm_does_not_touch_the_weights() -> None:
    model = nn.BatchNorm1d(3)
    with pytest.warns(UserWarning, match="train mode"):
        ir = extract_ir(model, torch.randn(4, 3))
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    IRExecutor(ir, weights=weights).execute(torch.randn(4, 3))
    for key, value in model.state_dict().items():
        assert_same(weights[key], value)


# --- inputs and outputs -----------------------------------------------------------------------


def test_several_inputs_by_position_and_by_name() -> None:
    class Two(nn.Module):
        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return left - right

    a, b = torch.randn(3), torch.randn(3)
    ir = check_model(Two().eval(), (a, b))
    by_name = extract_ir(Two().eval(), {"left": a, "right": b})
    assert by_name.nodes[0].inputs == ir.nodes[0].inputs
    for executor in (IRExecutor(ir), IRExecutor(by_name)):
        assert_same(executor.execute({"right": b, "left": a})[0], a - b)
        assert_same(executor(left=a, right=b)[0], a - b)
        assert_same(executor(a, b)[0], a - b)
        assert_same(executor.execute([a, b])[0], a - b)
    check_model(Two().eval(), {"right": b, "left": a})


def test_nested_inputs_and_outputs() -> None:
    def nested(pair: Any, extra: Any = None, scale: int = 1) -> Any:
        total = pair[0] + pair[1]["deep"] * scale
        return {"sum": total, "none": None, "number": scale, "list": [total * 2, (pair[0],)]}

    ir = check(nested, (torch.randn(3), {"deep": torch.randn(3)}), None, 4)
    assert ir.signature is not None
    assert len(ir.graph_outputs) == 3


def test_nested_dict_is_matched_by_key_not_by_order() -> None:
    ir = extract_ir(
        Fn(lambda d: d["a"] - d["b"]).eval(), ({"a": torch.ones(2), "b": torch.ones(2)},)
    )
    values = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([5.0, 5.0])}
    assert_same(IRExecutor(ir).execute((values,))[0], torch.tensor([4.0, 3.0]))


def test_a_constant_input_must_not_change() -> None:
    ir = extract_ir(Fn(lambda x, n: x * n).eval(), (torch.ones(2), 3))
    with pytest.raises(Exception, match=r"args\[1\].*fixed to 3.*found 4"):
        IRExecutor(ir).execute((torch.ones(2), 4))
    assert_same(IRExecutor(ir).execute((torch.ones(2), 3))[0], torch.full((2,), 3.0))
    assert_same(IRExecutor(ir).execute(torch.ones(2))[0], torch.full((2,), 3.0))


def test_output_that_is_an_input() -> None:
    ir = check(lambda x, y: (x, y + 1), torch.randn(2), torch.randn(2))
    assert ir.graph_outputs[0].name == ir.graph_inputs[0].name


def test_the_same_tensor_returned_twice() -> None:
    def twice(x: torch.Tensor) -> Any:
        y = x * 2
        return y, x, y

    ir = check(twice, torch.randn(2))
    assert [t.name for t in ir.graph_outputs] == ["mul", ir.graph_inputs[0].name, "mul"]


def test_a_weight_and_a_constant_as_outputs() -> None:
    class Out(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3))

        def forward(self, x: torch.Tensor) -> Any:
            return self.weight, 7, "text", x + 1

    check_model(Out().eval(), torch.randn(3))


def test_a_model_without_operators() -> None:
    ir = check(lambda x: x, torch.randn(2))
    assert ir.nodes == []


# --- weights and constants --------------------------------------------------------------------


class Tied(nn.Module):
    """Embedding and output layer share one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.out = nn.Linear(4, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.embed(ids))


@pytest.mark.parametrize("kept", ["embed.weight", "out.weight"])
def test_tied_weights_from_either_name(kept: str) -> None:
    model = randomize(Tied())
    ids = torch.randint(0, 11, (2, 5))
    ir = check_model(model, ids)
    assert {w.name for w in ir.weights} == {"embed.weight", "out.weight"}
    assert ir.tied_weights == {"out.weight": "embed.weight"}
    assert ir.total_parameters == 44
    weights = {kept: model.state_dict()[kept]}
    assert_same(IRExecutor(ir, weights=weights).execute(ids)[0], model(ids))


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([1.5, -2.25, float("inf"), float("nan")], dtype=torch.bfloat16),
        torch.tensor([0, 1, 255], dtype=torch.uint8),
        torch.tensor([True, False]),
        torch.tensor([2**62 + 1, -(2**63)]),
        torch.tensor([0.1, 1e-40, -0.0, float("-inf")]),
        torch.tensor([0.1, 1e-300], dtype=torch.float64),
        torch.tensor([1 + 2j, complex("nan+infj")]),
        torch.tensor([[65504.0]], dtype=torch.float16),
        torch.zeros(0, 3),
        torch.tensor(3.5),
        torch.tensor([0.5, 448.0]).to(torch.float8_e4m3fn),
    ],
    ids=lambda value: f"{value.dtype}{list(value.shape)}",
)
def test_lifted_constants_are_exact(value: torch.Tensor) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = value

        def forward(self, x: torch.Tensor) -> Any:
            return self.value.clone(), x

    ir = check_model(Constant().eval(), torch.randn(2))
    (constant,) = ir.constants.values()
    assert constant.dtype == value.dtype and constant.shape == value.shape
    assert constant.untyped_storage().tolist() == value.untyped_storage().tolist()


def test_a_constant_made_inside_forward_and_inside_no_grad() -> None:
    def add(x: torch.Tensor) -> torch.Tensor:
        y = x + torch.tensor([1.0, 2.0])
        with torch.no_grad():
            y = y * torch.tensor([3.0, 4.0])
        return y

    check(add, torch.randn(2))


def test_non_persistent_buffer_keeps_its_value() -> None:
    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("freq", torch.arange(4.0) / 3, persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.freq

    ir = check_model(Rotary().eval(), torch.randn(4))
    assert list(ir.constants) == ["freq"]
    assert ir.weights == []
    assert ir.weight_name_mapping == {"b_freq": "freq"}

    with torch.device("meta"):
        meta = Rotary().eval()
    bare = extract_ir(meta, torch.randn(4, device="meta"))
    x = torch.randn(4)
    assert [w.name for w in bare.weights] == ["freq"]
    given = IRExecutor(bare, weights={}, constants={"freq": torch.ones(4)})
    assert_same(given.execute(x)[0], x)


def test_meta_model_that_makes_its_own_tensors() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x) + torch.arange(3) * torch.zeros(3, device=x.device)

    with torch.device("meta"):
        meta = Own().eval()
    model = randomize(Own())
    ir = extract_ir(meta, torch.randn(2, 3, device="meta"))
    assert ir == check_model(model, torch.randn(2, 3))


# --- higher-order operators -------------------------------------------------------------------


class NoGrad(nn.Module):
    """Most of the forward runs without gradients, as in many published models."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        with torch.no_grad():
            h = self.a(x)
            with torch.enable_grad():
                h, g = self.b(h).split(2, dim=-1)
        return h + g, g


def test_no_grad_body_is_inlined() -> None:
    ir = check_model(randomize(NoGrad()), torch.randn(3, 4))
    assert ops_of(ir).count("aten.linear.default") == 2
    assert all(op.startswith(("aten.", "<built-in")) for op in ops_of(ir))


@torch.no_grad()
def _decorated(x: torch.Tensor) -> torch.Tensor:
    return x.sin()


def test_no_grad_decorator() -> None:
    ir = check(lambda x: _decorated(x) + 1, torch.randn(3))
    assert ops_of(ir) == ["aten.sin.default", "aten.add.Tensor"]


def test_autocast_becomes_casts() -> None:
    class Auto(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> Any:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y = self.linear(x)
                with torch.autocast("cpu", enabled=False):
                    z = self.linear(x)
            return y, z, y.float() @ z.mT

    ir = check_model(randomize(Auto()), torch.randn(3, 4))
    casts = [n for n in ir.nodes if n.op_type == "aten.to.dtype" and n.attrs["dtype"] == "bfloat16"]
    assert len(casts) == 3


def test_autocast_inside_composite_operators() -> None:
    class Auto(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2)

        def forward(self, x: torch.Tensor) -> Any:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y = torch.einsum("ij,kj->ik", x[:, 0], x[:, 0])
                z, weights = self.attention(x, x, x)
                parts = z.to(torch.float64).split(3)
                norm = nn.functional.layer_norm(z, (8,)) + nn.functional.softmax(z, -1)
            return y, z, weights, parts[1], norm

    ir = check_model(randomize(Auto()), torch.randn(5, 2, 8))
    assert "aten.bmm.default" in ops_of(ir)
    assert not any(op.startswith("prim") for op in ops_of(ir))


# --- writes that depend on strides ------------------------------------------------------------


@pytest.mark.parametrize("transposed", [False, True])
def test_whatever_the_strides_an_input_is_never_written(transposed: bool) -> None:
    """Whether this reshape is a view depends on strides that the IR does not know."""

    def update(x: torch.Tensor) -> torch.Tensor:
        return x.t().reshape(-1).add_(1)

    ir = extract_ir(Fn(update).eval(), torch.zeros(3, 4))
    x = torch.zeros(4, 3).t() if transposed else torch.zeros(3, 4)
    assert_same(IRExecutor(ir).execute(x)[0], torch.ones(12))
    assert_same(x.contiguous(), torch.zeros(3, 4))


def test_whatever_its_strides_a_weight_is_never_written() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.zeros(3, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.table.t().reshape(-1).add_(x)

    ir = extract_ir(Model().eval(), torch.ones(12))
    weights = {"table": torch.zeros(4, 3).t()}
    IRExecutor(ir, weights=weights).execute(torch.ones(12))
    assert_same(weights["table"].contiguous(), torch.zeros(3, 4))


def test_a_registered_executor_may_return_its_input() -> None:
    register_executor("aten.sin.default")(lambda inputs, attrs: inputs)
    try:
        ir = extract_ir(Fn(lambda x: x.sin().add_(1)).eval(), torch.zeros(3))
        x = torch.zeros(3)
        assert_same(IRExecutor(ir).execute(x)[0], torch.ones(3))
        assert_same(x, torch.zeros(3))
    finally:
        unregister_op("aten.sin.default")


def test_an_operator_that_looks_like_a_copy_writes_through() -> None:
    """`_unsafe_view` declares no alias and still returns one."""

    def update(x: torch.Tensor) -> torch.Tensor:
        y = torch.ops.aten._unsafe_view.default(x, [12])
        return y.mul_(2)

    ir = extract_ir(Fn(update).eval(), torch.ones(3, 4))
    x = torch.ones(3, 4)
    IRExecutor(ir).execute(x)
    assert_same(x, torch.ones(3, 4))


class Overlapping(nn.Module):
    """Two buffers in one memory."""

    def __init__(self, write: bool) -> None:
        super().__init__()
        self.write = write
        self.register_buffer("whole", torch.zeros(3))
        self.register_buffer("column", self.whole.view(3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.whole.add_(x) if self.write else self.whole + x
        return self.column.sum() + total


def test_a_write_to_one_of_two_overlapping_buffers_is_refused() -> None:
    """The other one would keep its old values."""
    check_model(Overlapping(write=False).eval(), torch.ones(3))
    with pytest.raises(ConversionError, match=r"'add_' writes to 'b_\w+', which shares its memory"):
        extract_ir(Overlapping(write=True).eval(), torch.ones(3))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_one_tensor_given_for_several_inputs(device: str) -> None:
    same = torch.ones(2, 3, device=device)
    model = Fn(lambda x, y, z: x - y * z[0]).eval()
    ir = extract_ir(model, (same, same, [same]))
    assert len(ir.graph_inputs) == 3
    x, y, z = torch.randn(3, 2, 3)
    (found,) = IRExecutor(ir, {}).execute((x, y, z))
    assert torch.equal(found, x - y * z)
