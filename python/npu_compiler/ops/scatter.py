"""The internal operator behind writes through a view: a tensor, some elements replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.graph import Node
from npu_compiler.ops.arguments import require
from npu_compiler.ops.record import COPYABLE, OpRecord

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

SCATTER_VIEW = "npu.scatter_view"


def _lower(lowering: Lowering, node: Node) -> None:
    """Copy the tensor to row-major memory, where every view that PyTorch could take is strided, and
    write there.
    """
    base = lowering.read(node.tensor("self"))
    whole = lowering.temporary(node.name, base.shape, base.dtype)
    lowering.copy(base, whole, node, name=f"{node.name}.copy")
    place = whole
    for step, index in node.args["chain"]:
        # Imported here: the registry of operators imports this module.
        from npu_compiler.ops import find_op

        record = find_op(step.op_type)
        views = None if record is None or record.view is None else record.view(step, place)
        require(views is not None, f"{step.name} is not a view of contiguous memory")
        place = (views or [place])[index]
    lowering.copy(lowering.read(node.tensor("part")), place, node, name=node.name)
    lowering.alias(node.output, whole)


RECORDS = (OpRecord(SCATTER_VIEW, "self:T, part:T, chain", lower=_lower, dtypes=COPYABLE),)
