"""IR to JSON and back. Reading trusts nothing: every field is checked and every error names its
place."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .attrs import attr_to_json
from .collector import collector_paused
from .constants import constant_from_dict, constant_to_dict, large_constants, pack_constants
from .errors import SerializationError, TorchIRError
from .files import replace_file
from .ir import FORMAT_VERSION, IR, IRNode, TensorMeta
from .reading import Reader
from .validate import validate_ir

__all__ = [
    "IRSerializer",
    "deserialize_ir",
    "dict_to_ir",
    "ir_to_dict",
    "load_ir",
    "save_ir",
    "serialize_ir",
]


def ir_to_dict(ir: IR) -> dict[str, Any]:
    """Return an IR as plain dicts, lists, strings and finite numbers, for any JSON library."""
    return _as_dict(ir, {})


def _as_dict(ir: IR, files: Mapping[str, str]) -> dict[str, Any]:
    """Return an IR as plain data, with the constants in ``files`` referred to by file name."""
    result: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "model_name": ir.model_name,
        "pytorch_version": ir.pytorch_version,
        "graph_inputs": [tensor.to_dict() for tensor in ir.graph_inputs],
        "graph_outputs": [tensor.to_dict() for tensor in ir.graph_outputs],
        "weights": [tensor.to_dict() for tensor in ir.weights],
        "weight_name_mapping": dict(ir.weight_name_mapping),
        "nodes": [_node_to_dict(node) for node in ir.nodes],
    }
    if ir.constants:
        result["constants"] = {
            name: constant_to_dict(value, files.get(name), name)
            for name, value in ir.constants.items()
        }
    if ir.tied_weights:
        result["tied_weights"] = dict(ir.tied_weights)
    if ir.signature is not None:
        result["signature"] = {
            side: [
                {key: attr_to_json(value) if key == "value" else value for key, value in e.items()}
                for e in entries
            ]
            for side, entries in ir.signature.items()
        }
    return result


def _node_to_dict(node: IRNode) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": node.name,
        "op_type": node.op_type,
        "inputs": [tensor.to_dict() for tensor in node.inputs],
        "outputs": [tensor.to_dict() for tensor in node.outputs],
        "attrs": {key: attr_to_json(value) for key, value in node.attrs.items()},
    }
    if node.source:
        result["source"] = dict(node.source)
    return result


def dict_to_ir(data: Mapping[str, Any], folder: Path | None = None) -> IR:
    """Build an IR from the dict that `ir_to_dict` returns; see `validate_ir` for further checks.

    Args:
        folder: where the files of large constants are looked for.

    Raises:
        SerializationError: a field is missing or has the wrong type, or the format is newer than
            this reader.
    """
    top = Reader(data, "IR")
    _check_version(top)
    nodes = [_read_node(item, index) for index, item in enumerate(top.items("nodes"))]
    ir = IR(
        model_name=top.text("model_name"),
        pytorch_version=top.text("pytorch_version"),
        graph_inputs=_read_tensors(top, "graph_inputs"),
        graph_outputs=_read_tensors(top, "graph_outputs"),
        weights=_read_tensors(top, "weights"),
        weight_name_mapping=top.text_map("weight_name_mapping"),
        nodes=nodes,
        tied_weights=top.text_map("tied_weights", optional=True),
    )
    if "constants" in data:
        ir.constants = {
            name: constant_from_dict(name, value, folder)
            for name, value in top.mapping("constants").items()
        }
    if "signature" in data:
        ir.signature = _read_signature(Reader(top.mapping("signature"), "signature"))
    return ir


def _check_version(top: Reader) -> None:
    found = top.text("format_version", default=FORMAT_VERSION)
    major = found.split(".")[0]
    if major != FORMAT_VERSION.split(".")[0] or not found.replace(".", "", 1).isdecimal():
        raise SerializationError(
            f"IR format_version {found!r} cannot be read by this version of torch_ir, which reads "
            f"{FORMAT_VERSION.split('.')[0]}.x; extract the IR again or use a matching torch_ir"
        )


def _read_tensors(owner: Reader, key: str) -> list[TensorMeta]:
    return [
        _read_tensor(Reader(item, f"{owner.where}: {key}[{index}]"))
        for index, item in enumerate(owner.items(key))
    ]


def _read_tensor(reader: Reader) -> TensorMeta:
    reader.where += f" ({reader.text('name')!r})"
    producer = reader.text("producer_node", default=None)
    return TensorMeta(
        name=reader.text("name"),
        shape=tuple(reader.sizes("shape")),
        dtype=reader.text("dtype"),
        producer_node=producer,
        producer_output_idx=None if producer is None else reader.integer("producer_output_idx"),
    )


def _read_node(item: Any, index: int) -> IRNode:
    reader = Reader(item, f"nodes[{index}]")
    name = reader.text("name")
    reader.where = f"node {name!r}"
    return IRNode(
        name=name,
        op_type=reader.text("op_type"),
        inputs=_read_tensors(reader, "inputs"),
        outputs=_read_tensors(reader, "outputs"),
        attrs=reader.attributes("attrs"),
        source=reader.text_map("source", optional=True) or None,
    )


def _read_signature(reader: Reader) -> dict[str, Any]:
    sides: dict[str, Any] = {}
    for side in ("inputs", "outputs"):
        entries = []
        for index, item in enumerate(reader.items(side)):
            entry = Reader(item, f"signature {side}[{index}]")
            path = entry.text("path")
            if "name" in item:
                entries.append({"path": path, "name": entry.text("name")})
            else:
                entries.append({"path": path, "value": entry.attribute("value")})
        sides[side] = entries
    return sides


class IRSerializer:
    """Writes and reads IRs.

    Args:
        validate: check the rules of the IR (`validate_ir`) before writing and after reading.
    """

    def __init__(self, validate: bool = True) -> None:
        self.validate = validate

    @collector_paused()
    def serialize(self, ir: IR) -> str:
        """Return an IR as JSON text with one node, tensor or constant per line.

        Raises:
            SerializationError: the IR is invalid or holds a value that JSON cannot.
        """
        if self.validate:
            validate_ir(ir)
        return self._text(ir, ir_to_dict(ir))

    def _text(self, ir: IR, data: dict[str, Any]) -> str:
        try:
            return _layout(data)
        except (TypeError, ValueError) as error:
            raise SerializationError(
                f"IR {ir.model_name!r} cannot be written as JSON: {error}"
            ) from error

    @collector_paused()
    def deserialize(self, text: str | bytes, folder: Path | None = None) -> IR:
        """Build an IR from JSON text.

        Args:
            folder: where the files of large constants are looked for.

        Raises:
            SerializationError: the text is not JSON, not an IR, or breaks a rule of the IR.
        """
        try:
            data = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise SerializationError(f"not valid JSON: {error}") from error
        ir = dict_to_ir(data, folder)
        if self.validate:
            validate_ir(ir)
        return ir

    @collector_paused()
    def save(self, ir: IR, path: str | os.PathLike[str]) -> None:
        """Write an IR to a file, which is replaced only once the new content is complete.

        Constants too large for JSON go into ``<name>.constants.safetensors`` beside it.

        Raises:
            SerializationError: the IR is invalid, or the file cannot be written.
        """
        if self.validate:
            validate_ir(ir)
        target = Path(path)
        large = large_constants(ir.constants)
        beside = target.with_suffix(".constants.safetensors")
        data = _as_dict(ir, dict.fromkeys(large, beside.name))
        text = self._text(ir, data)
        try:
            if large:
                replace_file(beside, pack_constants(large))
            replace_file(target, text.encode("utf-8"))
        except (OSError, UnicodeError) as error:
            raise SerializationError(f"cannot write IR file {target}: {error}") from error

    @collector_paused()
    def load(self, path: str | os.PathLike[str]) -> IR:
        """Read an IR from a file.

        Raises:
            FileNotFoundError: there is no such file.
            SerializationError: the file cannot be read or is not a valid IR.
        """
        file = Path(path)
        try:
            text = file.read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(f"IR file not found: {file}") from None
        except OSError as error:
            raise SerializationError(f"cannot read IR file {file}: {error}") from error
        try:
            return self.deserialize(text, file.parent)
        except TorchIRError as error:
            raise type(error)(f"IR file {file}: {error}") from error


def _refuse_constant(token: str) -> Any:
    raise ValueError(f"the token {token} is not JSON; write it as a string")


def _layout(data: dict[str, Any]) -> str:
    """Format the top level with one list or dict entry per line: compact, yet readable and
    diffable."""

    def dump(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    parts = []
    for key, value in data.items():
        if isinstance(value, list) and value:
            text = "[\n" + ",\n".join("    " + dump(item) for item in value) + "\n  ]"
        elif isinstance(value, dict) and value:
            lines = (f"    {dump(name)}: {dump(item)}" for name, item in value.items())
            text = "{\n" + ",\n".join(lines) + "\n  }"
        else:
            text = dump(value)
        parts.append(f"  {dump(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def serialize_ir(ir: IR) -> str:
    """Return a valid IR as JSON text. See `IRSerializer.serialize`."""
    return IRSerializer().serialize(ir)


def deserialize_ir(text: str | bytes) -> IR:
    """Build an IR from JSON text and validate it. See `IRSerializer.deserialize`."""
    return IRSerializer().deserialize(text)


def save_ir(ir: IR, path: str | os.PathLike[str]) -> None:
    """Validate an IR and write it to a JSON file. See `IRSerializer.save`."""
    IRSerializer().save(ir, path)


def load_ir(path: str | os.PathLike[str]) -> IR:
    """Read an IR from a JSON file and validate it. See `IRSerializer.load`."""
    return IRSerializer().load(path)
