"""Names by position: ``input``, ``output``, ``logits`` and the like stand for a program's real
tensor names.
"""

from __future__ import annotations

from collections.abc import Sequence

# What a lone input or output may be called, whatever its name in the IR.
_LONE = {"input": ("input", "x"), "output": ("output", "logits")}


def aliases(kind: str, names: Sequence[str]) -> dict[str, str]:
    """Alias -> name for the inputs (``kind`` "input") or outputs ("output") of an entry point.

    ``input_0``, ``input_1``, ... count positions; a lone tensor is also ``input`` (or ``output``,
    ``logits``). A name that exists is never an alias of another one.
    """
    found = {f"{kind}_{i}": name for i, name in enumerate(names)}
    if len(names) == 1:
        found |= dict.fromkeys(_LONE[kind], names[0])
    return {alias: name for alias, name in found.items() if alias not in names}
