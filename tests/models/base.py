"""The register of test models: names, inputs, and the graph patterns that they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from tests.models.weights import randomize

__all__ = ["ModelSpec", "all_categories", "all_models", "find_models", "register_model"]

_Model = TypeVar("_Model", bound=type[nn.Module])


@dataclass(frozen=True)
class ModelSpec:
    """A registered test model.

    Attributes:
        input_shapes: one shape per input, without the batch dimension.
        input_dtypes: one dtype per input; integers are drawn from 0 to ``integer_limit`` - 1.
        categories: what the model is found by; the first one is where it belongs.
    """

    name: str
    model_class: type[nn.Module]
    input_shapes: tuple[tuple[int, ...], ...]
    input_dtypes: tuple[torch.dtype, ...]
    integer_limit: int
    categories: tuple[str, ...]
    description: str

    def meta_model(self) -> nn.Module:
        """Return the model on the meta device, without weights, in eval mode."""
        with torch.device("meta"):
            return self.model_class().eval()

    def model(self, seed: int) -> nn.Module:
        """Return the model with random weights and statistics that look trained, in eval mode."""
        return randomize(self.model_class(), seed)

    def meta_inputs(self, batch: int) -> tuple[torch.Tensor, ...]:
        """Return inputs without data."""
        return tuple(
            torch.empty(batch, *shape, dtype=dtype, device="meta")
            for shape, dtype in zip(self.input_shapes, self.input_dtypes, strict=True)
        )

    def inputs(self, batch: int, seed: int) -> tuple[torch.Tensor, ...]:
        """Return random inputs on the CPU."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            torch.randn(batch, *shape, dtype=dtype, generator=generator)
            if dtype.is_floating_point
            else torch.randint(
                self.integer_limit, (batch, *shape), dtype=dtype, generator=generator
            )
            for shape, dtype in zip(self.input_shapes, self.input_dtypes, strict=True)
        )


_registry: dict[str, ModelSpec] = {}


def register_model(
    name: str,
    input_shapes: Sequence[Sequence[int]],
    categories: Sequence[str],
    description: str,
    input_dtypes: Sequence[torch.dtype] | None = None,
    integer_limit: int = 2,
) -> Callable[[_Model], _Model]:
    """Decorate a model class that can be built without arguments.

    Args:
        name: a Python identifier; its report is called ``<name>.md``.
        input_shapes: one shape per input, without the batch dimension.
        categories: at least one, e.g. ``["attention"]``.
        input_dtypes: one dtype per input, float32 by default.
        integer_limit: integer inputs are drawn from 0 to this number - 1.

    Raises:
        ValueError: the name is taken or no identifier, or there is no category or input.
    """
    if not name.isidentifier():
        raise ValueError(f"test model {name!r}: the name must be a Python identifier")
    if name in _registry:
        raise ValueError(f"test model {name!r} is already registered; choose another name")
    if isinstance(categories, str) or not categories:
        raise ValueError(f"test model {name!r}: categories must be a list with at least one name")
    dtypes = tuple(input_dtypes or [torch.float32] * len(input_shapes))
    if not input_shapes or len(dtypes) != len(input_shapes):
        raise ValueError(
            f"test model {name!r}: found {len(input_shapes)} input shapes and {len(dtypes)} "
            "dtypes; give one of each per input"
        )

    def add(model_class: _Model) -> _Model:
        _registry[name] = ModelSpec(
            name=name,
            model_class=model_class,
            input_shapes=tuple(tuple(shape) for shape in input_shapes),
            input_dtypes=dtypes,
            integer_limit=integer_limit,
            categories=tuple(categories),
            description=description,
        )
        return model_class

    return add


def all_models() -> list[ModelSpec]:
    """Return every registered model in the order of registration."""
    return list(_registry.values())


def all_categories() -> list[str]:
    """Return every category in the order of first use."""
    return list(dict.fromkeys(name for spec in all_models() for name in spec.categories))


def find_models(category: str | None = None, model: str | None = None) -> list[ModelSpec]:
    """Return the models of a category, the model of a name, or all of them.

    Raises:
        LookupError: there is no such category or model, or the model is not in the category.
    """
    if category is not None and category not in all_categories():
        raise LookupError(f"unknown category {category!r}; there are {', '.join(all_categories())}")
    if model is not None and model not in _registry:
        raise LookupError(f"unknown model {model!r}; there are {', '.join(_registry)}")
    found = [
        spec
        for spec in all_models()
        if (category is None or category in spec.categories) and model in (None, spec.name)
    ]
    if not found:
        raise LookupError(f"model {model!r} is not in category {category!r}")
    return found
