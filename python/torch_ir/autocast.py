"""Turns an autocast region into explicit casts, by asking PyTorch which ones it would make.

Each call of the region is run on fake tensors under the same autocast settings while the dispatcher
is watched: the copies that autocast makes of the call's own arguments are the casts to insert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from .errors import ConversionError
from .ir import TensorMeta

__all__ = ["AutocastRegion", "cast_arguments"]


@dataclass(frozen=True, slots=True)
class AutocastRegion:
    """The settings of a ``with torch.autocast(...)`` block."""

    device_type: str
    dtype: torch.dtype | None
    enabled: bool

    @contextmanager
    def active(self) -> Iterator[None]:
        """Run the body under these settings, without autocast's cache of casted weights."""
        # A meta tensor stands for a CPU tensor; autocast knows no meta device.
        device = "cpu" if self.device_type == "meta" else self.device_type
        with (
            torch.autocast(device, dtype=self.dtype, enabled=self.enabled, cache_enabled=False),
            torch.no_grad(),
        ):
            yield


class _CastWatcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the copies to another dtype, by identity of the tensor copied."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.casts: list[tuple[torch.Tensor, torch.dtype]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") is not None:
            self.casts.append((args[0], kwargs["dtype"]))
        return func(*args, **kwargs)


def _casts_of(
    target: Any, args: Any, kwargs: Any, region: AutocastRegion | None
) -> list[tuple[torch.Tensor, torch.dtype]]:
    watcher = _CastWatcher()
    with watcher:
        if region is None:
            target(*args, **kwargs)
        else:
            with region.active():
                target(*args, **kwargs)
    return watcher.casts


def cast_arguments(
    name: str,
    target: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    values: dict[str, torch.Tensor],
    region: AutocastRegion,
    emit_cast: Callable[[TensorMeta, torch.dtype], TensorMeta],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call with the casts that autocast would make of them.

    Args:
        name: the node, for error messages.
        values: a fake tensor for each tensor name among the arguments.
        emit_cast: adds a cast to the graph and returns the tensor it makes.

    Raises:
        ConversionError: autocast casts something inside a composite operator, where no cast can be
            placed.
    """

    def fake(leaf: Any) -> Any:
        # A fresh alias per argument: one tensor passed twice stays two arguments.
        return values[leaf.name].detach() if isinstance(leaf, TensorMeta) else leaf

    fakes = tree_map(fake, (args, kwargs))
    plain = _casts_of(target, fakes[0], fakes[1], None)
    under = _casts_of(target, fakes[0], fakes[1], region)
    if len(plain) == len(under):
        return args, kwargs

    leaves = tree_leaves((args, kwargs))
    wanted: dict[int, torch.dtype] = {}
    for tensor, dtype in under[: len(under) - len(plain)]:
        for index, leaf in enumerate(tree_leaves(fakes)):
            if leaf is tensor:
                wanted[index] = dtype
    positions = iter(range(len(leaves)))

    def cast(leaf: Any) -> Any:
        dtype = wanted.get(next(positions))
        return leaf if dtype is None else emit_cast(leaf, dtype)

    if len(wanted) != len(under) - len(plain):
        raise ConversionError(
            f"node {name!r}: autocast changes dtypes inside {target}, which a graph without "
            "autocast cannot show; move this operation out of the autocast block or cast its "
            "inputs explicitly"
        )
    new_args, new_kwargs = tree_map(cast, (args, kwargs))
    return new_args, new_kwargs
