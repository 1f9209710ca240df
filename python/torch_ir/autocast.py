"""Turns an autocast region into explicit casts, by asking PyTorch which ones it would make.

Each call of the region is run on fake tensors under the same autocast settings while the dispatcher
is watched. The copies that autocast makes of the call's own arguments are the casts to insert;
where it acts inside a composite operator, the call is written out as the operators that it ends in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from .ir import TensorMeta

__all__ = ["AutocastCall", "AutocastRegion"]


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


@dataclass(slots=True)
class _Event:
    """One operator that reached the dispatcher."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operator that reaches the dispatcher."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[_Event] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        # Questions about a tensor (its device, its size) compute nothing.
        if any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(result)):
            self.events.append(_Event(func, args, kwargs, result))
        return result


@dataclass
class AutocastCall:
    """What autocast does to one call, found by running it on fake tensors.

    Attributes:
        target: the operator that is called.
        fakes: its arguments with a fake tensor of its own for each one, so that a tensor passed
            twice stays two arguments.
        metas: the tensor that each of them stands for, by identity.
        events: the operators that reached the dispatcher.
        result: what the call returned.
    """

    target: Any
    fakes: Any
    metas: dict[int, TensorMeta]
    events: list[_Event]
    result: Any

    @classmethod
    def watch(
        cls,
        target: Any,
        arguments: Any,
        values: Mapping[str, torch.Tensor],
        region: AutocastRegion,
    ) -> AutocastCall:
        """Run a call under ``region``; ``values`` has a fake tensor for each tensor's name."""
        metas: dict[int, TensorMeta] = {}

        def fake(leaf: Any) -> Any:
            if not isinstance(leaf, TensorMeta):
                return leaf
            alias = values[leaf.name].detach()
            metas[id(alias)] = leaf
            return alias

        fakes = tree_map(fake, arguments)
        watcher = _Watcher()
        with region.active(), watcher:
            result = target(*fakes[0], **fakes[1])
        return cls(target, fakes, metas, watcher.events, result)

    def casts(self) -> dict[int, torch.dtype] | None:
        """Return the arguments (by position among all leaves) to cast, and their new dtypes.

        None where casts of arguments alone do not have the same effect, because autocast acts
        inside a composite operator.
        """
        if self._explained_by({}):
            return {}
        copied: dict[int, torch.dtype] = {
            id(event.args[0]): event.kwargs["dtype"]
            for event in self._copies()
            if event.kwargs.get("dtype") is not None
        }
        wanted = {
            index: copied[id(leaf)]
            for index, leaf in enumerate(tree_leaves(self.fakes))
            if id(leaf) in copied
        }
        return wanted if self._explained_by(wanted) else None

    def _copies(self) -> list[_Event]:
        return [event for event in self.events if event.func is torch.ops.aten._to_copy.default]

    def _explained_by(self, wanted: dict[int, torch.dtype]) -> bool:
        """Whether the call without autocast does the same once these arguments are cast.

        A cast that the operator makes by itself is seen on both sides and stays its own business.
        """
        positions = iter(range(len(tree_leaves(self.fakes))))

        def cast(leaf: Any) -> Any:
            dtype = wanted.get(next(positions))
            return leaf if dtype is None else leaf.to(dtype)

        arguments = tree_map(cast, self.fakes)
        watcher = _Watcher()
        with torch.no_grad(), watcher:
            result = self.target(*arguments[0], **arguments[1])
        plain = AutocastCall(self.target, arguments, {}, watcher.events, result)
        complete = len(plain._copies()) + len(wanted) == len(self._copies())
        return complete and _same_dtypes(self.result, result)

    def expand(self, emit: Callable[[Any, Any, Any], list[TensorMeta]]) -> Any:
        """Write the call out as the operators that it ended in, and return the tensors it makes.

        Args:
            emit: adds an operator with its arguments and its traced result, and returns a
                description of each tensor in the result.
        """
        known = dict(self.metas)

        def known_tensor(leaf: Any) -> Any:
            return known[id(leaf)] if isinstance(leaf, torch.Tensor) else leaf

        for event in self.events:
            arguments = tree_map(known_tensor, (event.args, event.kwargs))
            tensors = [t for t in tree_leaves(event.result) if isinstance(t, torch.Tensor)]
            metas = emit(event.func, arguments, event.result)
            known.update((id(t), meta) for t, meta in zip(tensors, metas, strict=True))
        return tree_map(known_tensor, self.result)


def _same_dtypes(left: Any, right: Any) -> bool:
    def dtypes(tree: Any) -> list[Any]:
        return [leaf.dtype for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    return dtypes(left) == dtypes(right)
