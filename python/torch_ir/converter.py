"""Builds an IR from an exported program."""

from __future__ import annotations

import warnings

import torch
from torch.export import ExportedProgram

from .aliasing import placeholders_written
from .analyzer import GraphAnalyzer, NodeInfo
from .collector import collector_paused
from .errors import ConversionError, TorchIRWarning
from .ir import IR, MUTATES, IRNode
from .plan import make_plan
from .registry import custom_converter

__all__ = ["IRConverter", "convert_exported_program"]


class IRConverter:
    """Converts exported programs.

    Args:
        strict: raise when a converter registered with `register_op` fails. Otherwise a warning is
            given and the node is converted by its schema, as it would be without the registration.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict

    @collector_paused()
    def convert(self, exported: ExportedProgram, model_name: str = "") -> IR:
        """Return the IR of an exported program.

        Raises:
            ConversionError: the program has dynamic shapes, control flow or values that no IR can
                hold.
        """
        analyzer = GraphAnalyzer(exported)
        nodes = [self._convert_node(info) for info in analyzer.get_call_function_nodes()]
        ir = IR(
            model_name=model_name,
            pytorch_version=torch.__version__,
            graph_inputs=analyzer.get_graph_inputs(),
            graph_outputs=analyzer.get_graph_outputs(),
            weights=analyzer.get_weights(),
            weight_name_mapping=analyzer.get_weight_name_mapping(),
            nodes=nodes,
            constants=analyzer.get_constants(),
            tied_weights=analyzer.get_tied_weights(),
            signature=analyzer.get_signature(),
        )
        overlapping = analyzer.get_overlapping()
        for index, written in placeholders_written(ir, make_plan(ir, allow_unknown=True)).items():
            node = ir.nodes[index]
            node.attrs[MUTATES] = sorted(written)
            for name in overlapping.keys() & written:
                raise ConversionError(
                    f"node {node.name!r} writes to {name!r}, which shares its memory with "
                    f"{overlapping[name]}; in an IR weights and buffers are separate tensors, so "
                    "take the view inside forward"
                )
        return ir

    def _convert_node(self, info: NodeInfo) -> IRNode:
        convert = custom_converter(info.op_type)
        if convert is not None:
            try:
                node = convert(info)
                if not isinstance(node, IRNode):
                    raise ConversionError(f"must return an IRNode, returned {type(node).__name__}")
                return node
            except Exception as error:
                message = (
                    f"node {info.name!r}: the converter registered for {info.op_type!r} failed: "
                    f"{error}"
                )
                if self.strict:
                    raise ConversionError(message) from error
                warnings.warn(
                    f"{message}; using the default conversion", TorchIRWarning, stacklevel=3
                )
        return IRNode(
            name=info.name,
            op_type=info.op_type,
            inputs=info.input_metas,
            outputs=info.output_metas,
            attrs=info.attrs,
            source=info.source,
        )


def convert_exported_program(
    exported: ExportedProgram, model_name: str = "", strict: bool = False
) -> IR:
    """Return the IR of an exported program. See `IRConverter`."""
    return IRConverter(strict=strict).convert(exported, model_name=model_name)
