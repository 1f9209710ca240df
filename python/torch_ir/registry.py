"""Custom operators: converters and executors that users add for their own ops.

ATen operators and custom operators known to ``torch.ops`` need no registration; their schema says
it all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import RegistrationError

if TYPE_CHECKING:
    import torch

    from .analyzer import NodeInfo
    from .ir import IRNode

    Converter = Callable[[NodeInfo], IRNode]
    OpExecutor = Callable[[list[torch.Tensor], dict[str, Any]], list[torch.Tensor]]

__all__ = [
    "custom_converter",
    "custom_executor",
    "is_registered",
    "list_registered_ops",
    "register_executor",
    "register_op",
    "unregister_op",
]

_converters: dict[str, Converter] = {}
_executors: dict[str, OpExecutor] = {}
_F = TypeVar("_F", bound=Callable[..., Any])


def _registrar(table: dict[str, Any], op_type: str, what: str) -> Callable[[_F], _F]:
    if not isinstance(op_type, str) or not op_type:
        raise RegistrationError(
            f"{what} needs an op name such as 'mylib.myop.default', found {op_type!r}; "
            "use it as @" + what + "('mylib.myop.default')"
        )

    def add(function: _F) -> _F:
        if not callable(function):
            raise RegistrationError(f"{what}({op_type!r}): expected a function, found {function!r}")
        table[op_type] = function
        return function

    return add


def register_op(op_type: str) -> Callable[[_F], _F]:
    """Decorate a function ``(NodeInfo) -> IRNode`` that converts calls of one operator.

    The latest registration for an operator wins.

    Raises:
        RegistrationError: ``op_type`` is not a name, or the decorated object is not callable.
    """
    return _registrar(_converters, op_type, "register_op")


def register_executor(op_type: str) -> Callable[[_F], _F]:
    """Decorate a function ``(inputs, attrs) -> list`` that executes one operator.

    ``inputs`` are the node's tensors in order, ``attrs`` its attributes as the IR holds them
    (dtypes by name); the result lists the node's output tensors. The function must not change its
    inputs. The latest registration for an operator wins, over PyTorch's own implementation too.

    Raises:
        RegistrationError: ``op_type`` is not a name, or the decorated object is not callable.
    """
    return _registrar(_executors, op_type, "register_executor")


def unregister_op(op_type: str) -> None:
    """Forget the converter and the executor registered for an operator, if any."""
    _converters.pop(op_type, None)
    _executors.pop(op_type, None)


def list_registered_ops() -> list[str]:
    """Return the names of the operators with a registered converter or executor, sorted."""
    return sorted(_converters.keys() | _executors.keys())


def is_registered(op_type: str) -> bool:
    """Whether a converter or an executor was registered for an operator."""
    return op_type in _converters or op_type in _executors


def custom_converter(op_type: str) -> Converter | None:
    """Return the converter registered for an operator."""
    return _converters.get(op_type)


def custom_executor(op_type: str) -> OpExecutor | None:
    """Return the executor registered for an operator."""
    return _executors.get(op_type)
