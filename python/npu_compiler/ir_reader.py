"""Reads the IR (a dict, a JSON file, or an object with ``to_dict``) into an IRGraph, validating
every field.

Whatever is wrong gets one IRError that names the node and the field; zero-sized and 0-d tensors are
legal.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from npu_compiler.dtypes import DTYPES, FOREIGN
from npu_compiler.errors import IRError, IRFileNotFoundError
from npu_compiler.graph import GETITEM, IRGraph, Node, Source, Value
from npu_compiler.ir_constants import read_constants
from npu_compiler.ops import find_op
from npu_compiler.ops.signature import MUTATES, STRIDES
from npu_compiler.program.schema import MAX_ARENA_BYTES, MAX_DIM, MAX_ELEMENTS, MAX_RANK

_NONFINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_KINDS = {"dict": dict, "list": list, "string": str}


def load_ir(source: object) -> IRGraph:
    """An IRGraph from a path to a JSON file, a dict, or an object whose ``to_dict()`` gives one.

    Raises IRFileNotFoundError, or IRError for anything that is not a well-formed IR.
    """
    return source if isinstance(source, IRGraph) else load_ir_from_dict(*ir_data(source))


def ir_data(source: object) -> tuple[Mapping[str, Any], Path | None]:
    """The dict form of an IR given in any way, and the folder of its file, where there is one."""
    if isinstance(source, (str, os.PathLike)):
        return load_ir_file(source)
    if isinstance(source, Mapping):
        return source, None
    convert = getattr(source, "to_dict", None)
    if callable(convert):
        return convert(), None
    raise IRError(
        f"an IR is a path, a dict or an object with to_dict(), got {type(source).__name__}"
    )


def load_ir_file(path: str | os.PathLike[str]) -> tuple[Mapping[str, Any], Path]:
    """The dict form of the IR in a JSON file, and the file's folder."""
    file = Path(path)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IRFileNotFoundError(f"IR file not found: {file}") from None
    except OSError as error:
        raise IRError(f"cannot read the IR file {file}: {error}") from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise IRError(f"{file} is not an IR file: {error}") from error
    return _expect(data, "dict", f"the IR in {file}"), file.parent


def load_ir_from_dict(
    data: Mapping[str, Any], folder: Path | None = None, *, foreign: bool = False
) -> IRGraph:
    """An IRGraph from the dict form of an IR; ``folder`` holds constants outside the JSON.

    With ``foreign``, what only PyTorch can run is accepted: dtypes, ranks and sizes that the NPU
    lacks, and nodes that do not fit their operator's record (``IRGraph.unbound`` says why). The
    values of constants are not read. For deciding what runs where, not for compiling.
    """
    return _Reader(data, folder, foreign).read()


def _expect(value: Any, kind: str, where: str) -> Any:
    if not isinstance(value, _KINDS[kind]):
        raise IRError(f"{where} must be a {kind}, found {_short(value)}")
    if kind == "string" and not is_text(value):
        raise IRError(f"{where} is no valid Unicode text: {_short(value)}")
    return value


def is_text(value: str) -> bool:
    """Whether ``value`` can be written as UTF-8 (JSON can spell lone surrogates)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def decode_attr(value: Any) -> Any:
    """Undo the JSON spelling of values that JSON lacks."""
    if isinstance(value, str):
        return _NONFINITE.get(value, value)
    if isinstance(value, (list, tuple)):
        return [decode_attr(item) for item in value]
    if isinstance(value, dict) and list(value) == ["str"]:
        return value["str"]
    return value


def size_problem(shape: tuple[int, ...], dtype: str) -> str | None:
    """Why no program can hold a tensor of this shape; None if one can."""
    if len(shape) > MAX_RANK:
        return f"rank {len(shape)} exceeds {MAX_RANK}"
    size = DTYPES[dtype].size * math.prod(max(n, 1) for n in shape)
    if size > MAX_ARENA_BYTES:
        return f"shape {list(shape)} needs {size} bytes, over {MAX_ARENA_BYTES}"
    if max(shape, default=0) > MAX_DIM:
        return f"shape {list(shape)} has a size over {MAX_DIM}"
    return None


class _Reader:
    def __init__(self, data: Mapping[str, Any], folder: Path | None, foreign: bool) -> None:
        if not isinstance(data, Mapping):
            raise IRError(f"an IR must be a dict, found {_short(data)}")
        self.data = data
        self.folder = folder
        self.foreign = foreign
        self.unbound: dict[str, str] = {}
        self.values: dict[str, Value] = {}
        self.node_outputs: dict[str, list[Value]] = {}
        self.weights: dict[str, Value] = {}
        self.input_names: set[str] = set()

    def _list(self, key: str, required: bool = True) -> list[Any]:
        if key not in self.data:
            if required:
                raise IRError(f"the IR has no field {key!r}")
            return []
        return list(_expect(self.data[key], "list", f"the IR's field {key!r}"))

    def read(self) -> IRGraph:
        name = self.data.get("model_name", "model")
        _expect(name, "string", "the IR's field 'model_name'")
        mapping = self._mapping()
        raw_constants = self.data.get("constants") or {}
        constants = {} if self.foreign else read_constants(raw_constants, self.folder)
        declared = {key: (array.shape, array.dtype.name) for key, array in constants.items()}
        if self.foreign:
            declared = self._constant_shapes(raw_constants)
        for key in declared:
            _expect(key, "string", "the name of a constant")
        self._declare_parameters(mapping, declared)
        inputs = [self._declare_input(i, t) for i, t in enumerate(self._list("graph_inputs"))]
        nodes = [self._node(i, raw) for i, raw in enumerate(self._list("nodes"))]
        output_names = []
        outputs = []
        for i, raw in enumerate(self._list("graph_outputs")):
            tensor = self._tensor(raw, f"graph output {i}")
            outputs.append(self._lookup(tensor, raw, f"graph output {i}"))
            output_names.append(tensor[0])
        return IRGraph(
            name,
            inputs,
            outputs,
            nodes,
            self.weights,
            constants,
            mapping,
            output_names,
            self.unbound,
        )

    def _constant_shapes(self, raw: Any) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of each constant, read from its values only where nothing states them."""
        found = {}
        for key, entry in _expect(raw, "dict", "the IR's field 'constants'").items():
            stated = isinstance(entry, Mapping) and "shape" in entry
            if stated:
                found[key] = self._tensor({**entry, "name": key}, "constant")[1:]
            else:
                array = read_constants({key: entry}, self.folder)[key]
                found[key] = (array.shape, array.dtype.name)
        return found

    def _mapping(self) -> dict[str, str]:
        mapping = _expect(
            self.data.get("weight_name_mapping", {}), "dict", "the IR's field 'weight_name_mapping'"
        )
        for placeholder, key in mapping.items():
            _expect(placeholder, "string", "a placeholder in weight_name_mapping")
            _expect(key, "string", f"weight_name_mapping[{placeholder!r}]")
        return dict(mapping)

    def _declare_parameters(
        self, mapping: dict[str, str], constants: Mapping[str, tuple[tuple[int, ...], str]]
    ) -> None:
        keyed: dict[str, tuple[tuple[int, ...], str]] = {}
        for i, raw in enumerate(self._list("weights", required=False)):
            key, shape, dtype = self._tensor(raw, f"weight {i}")
            if key in keyed:
                raise IRError(f"weight {i}: the name {key!r} is used twice")
            keyed[key] = (shape, dtype)
        tied = _expect(self.data.get("tied_weights", {}), "dict", "the IR's field 'tied_weights'")
        names = {**{key: key for key in keyed}, **{key: key for key in constants}, **mapping}
        for placeholder, key in names.items():
            if key in constants:
                value = Value(placeholder, *constants[key], "constant", key)
            elif key in keyed:
                # A file of weights may hold a tied tensor under its first key alone.
                first = tied.get(key, key)
                if first not in keyed or keyed[first] != keyed[key]:
                    raise IRError(f"tied_weights[{key!r}] is {first!r}, no weight of its shape")
                value = Value(placeholder, *keyed[key], "weight", first)
            else:
                raise IRError(
                    f"weight_name_mapping[{placeholder!r}] is {key!r}, "
                    "which is neither in weights nor in constants"
                )
            self.weights[placeholder] = value

    def _declare_input(self, index: int, raw: Any) -> Value:
        name, shape, dtype = self._tensor(raw, f"graph input {index}")
        self._unused(name, f"graph input {index}")
        value = Value(name, shape, dtype, "input")
        self.values[name] = value
        self.input_names.add(name)
        return value

    def _unused(self, name: str, where: str) -> None:
        if name in self.values:
            raise IRError(f"{where}: the name {name!r} is used twice")

    def _tensor(self, raw: Any, where: str) -> tuple[str, tuple[int, ...], str]:
        _expect(raw, "dict", where)
        name = _expect(raw.get("name"), "string", f"{where}: name")
        where = f"{where} ({name!r})"
        dtype = _expect(raw.get("dtype"), "string", f"{where}: dtype")
        dtype = dtype.removeprefix("torch.")
        if dtype not in DTYPES and not (self.foreign and dtype in FOREIGN):
            raise IRError(f"{where}: unknown dtype {dtype!r}; known are {', '.join(DTYPES)}")
        shape = raw.get("shape")
        if not isinstance(shape, (list, tuple)):
            raise IRError(f"{where}: shape must be a list, found {_short(shape)}")
        largest = MAX_ELEMENTS if self.foreign else MAX_DIM
        for n in shape:
            if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= largest:
                raise IRError(f"{where}: shape {_short(list(shape))} has the invalid size {n!r}")
        problem = None if self.foreign else size_problem(tuple(shape), dtype)
        if problem is not None:
            raise IRError(f"{where}: {problem}")
        return name, tuple(shape), dtype

    def _known(self, raw: Any) -> Value | None:
        """The common case, for the sake of speed: a tensor described just as it was declared."""
        if type(raw) is not dict or type(raw.get("name")) is not str:
            return None
        value = self.values.get(raw["name"])
        if value is None or raw.get("dtype") != value.dtype or type(raw.get("shape")) is not list:
            return None
        made_by = None if value.producer is None else value.producer.name
        stated = raw.get("producer_node")
        same = tuple(raw["shape"]) == value.shape and stated in (None, made_by or value.name)
        return value if same else None

    def _lookup(self, tensor: tuple[str, tuple[int, ...], str], raw: Any, where: str) -> Value:
        name, shape, dtype = tensor
        producer = raw.get("producer_node")
        value = self.values.get(name)
        if value is None and (producer is None or producer == name):
            value = self.weights.get(name)
        if value is None and producer is not None:
            outputs = self.node_outputs.get(producer)
            index = raw.get("producer_output_idx", 0)
            if outputs is None:
                raise IRError(
                    f"{where} ({name!r}): its producer {producer!r} is no earlier node or input"
                )
            if not isinstance(index, int) or not 0 <= index < len(outputs):
                raise IRError(
                    f"{where} ({name!r}): producer_output_idx {index!r} is out of range, "
                    f"{producer!r} has {len(outputs)} outputs"
                )
            value = outputs[index]
        if value is None:
            raise IRError(
                f"{where} ({name!r}): nothing earlier produces it, it is no input or weight"
            )
        if value.producer is not None and producer not in (None, value.producer.name):
            raise IRError(
                f"{where} ({name!r}): producer_node is {producer!r}, "
                f"but {value.producer.name!r} produces it"
            )
        if value.shape != shape or value.dtype != dtype:
            raise IRError(
                f"{where} ({name!r}): used as {dtype}{list(shape)}, "
                f"but it is {value.dtype}{list(value.shape)}"
            )
        return value

    def _node(self, index: int, raw: Any) -> Node:
        _expect(raw, "dict", f"node {index}")
        name = _expect(raw.get("name"), "string", f"node {index}: name")
        where = f"node {name!r}"
        if name in self.node_outputs or name in self.input_names:
            raise IRError(f"{where}: the name is used twice")
        op_type = _expect(raw.get("op_type"), "string", f"{where}: op_type")
        attrs = _expect(raw.get("attrs", {}), "dict", f"{where}: attrs")
        attrs = {str(key): decode_attr(value) for key, value in attrs.items()}
        raw_inputs = _expect(raw.get("inputs", []), "list", f"{where}: inputs")
        inputs = []
        for i, tensor in enumerate(raw_inputs):
            value = self._known(tensor)
            if value is None:
                place = f"{where}: input {i}"
                value = self._lookup(self._tensor(tensor, place), tensor, place)
            inputs.append(value)
        node = Node(
            name,
            op_type,
            self._bind(name, op_type, inputs, attrs),
            source=_source(raw.get("source"), where),
            mutates=tuple(map(str, attrs.get(MUTATES) or ())),
        )
        for i, tensor in enumerate(_expect(raw.get("outputs", []), "list", f"{where}: outputs")):
            out_name, shape, dtype = self._tensor(tensor, f"{where}: output {i}")
            self._unused(out_name, f"{where}: output {i}")
            value = Value(out_name, shape, dtype, "node", producer=node, index=i)
            self.values[out_name] = value
            node.outputs.append(value)
        if attrs.get(STRIDES) is not None:
            _set_strides(node, attrs[STRIDES])
        self.node_outputs[name] = node.outputs
        return node

    def _bind(
        self, name: str, op_type: str, inputs: list[Value], attrs: dict[str, Any]
    ) -> dict[str, Any]:
        if op_type == GETITEM:
            index = attrs.get("index")
            if not isinstance(index, int) or not 0 <= index < len(inputs):
                raise IRError(
                    f"node {name!r}: getitem index {index!r} is out of range, {len(inputs)} inputs"
                )
            return {"self": list(inputs), "index": index}
        record = find_op(op_type)
        if record is None:
            # Kept as it is: the constraint check names every unsupported node at once.
            return {**{f"input{i}": value for i, value in enumerate(inputs)}, "attrs": attrs}
        try:
            return record.bind(name, inputs, attrs)
        except IRError as error:
            if not self.foreign:
                raise
            self.unbound[name] = str(error).removeprefix(f"node {name!r} ({op_type}): ")
        return {**{f"input{i}": value for i, value in enumerate(inputs)}, "attrs": attrs}


def _set_strides(node: Node, stated: Any) -> None:
    """Note the strides that the IR states of the node's outputs."""
    outputs = node.outputs
    rows = stated if isinstance(stated, list) else []
    fits = len(rows) == len(outputs) and all(
        strides is None
        or (
            (isinstance(strides, list) and len(strides) == value.rank)
            and all(type(s) is int and 0 <= s <= MAX_ELEMENTS for s in strides)
        )
        for value, strides in zip(outputs, rows, strict=True)
    )
    if not fits:
        raise IRError(
            f"node {node.name!r}: {STRIDES} must list strides or null for each of its "
            f"{len(outputs)} outputs, found {_short(stated)}"
        )
    for value, strides in zip(outputs, rows, strict=True):
        value.strides = None if strides is None else tuple(strides)


def _source(raw: Any, where: str) -> Source | None:
    if not raw:
        return None
    _expect(raw, "dict", f"{where}: source")
    module = _expect(raw.get("module", ""), "string", f"{where}: source module")
    location = _expect(raw.get("location", ""), "string", f"{where}: source location")
    file, _, line = location.rpartition(":")
    if not line.isdecimal() or len(line) > 9:
        file, line = location, "0"
    return Source(module, file, int(line))
