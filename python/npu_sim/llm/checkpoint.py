"""Which tensors of a checkpoint a model's parameters are: other prefixes, tied and stacked ones."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from npu_runtime.convert import Array
from npu_runtime.tensor_files import TensorSource
from npu_sim.llm.errors import ModelFilesError

# A stacked parameter of experts -> names of the tensors of expert {e}, one after another along
# its rows, in the styles that checkpoints know.
_STACKED = {
    "mlp.experts.gate_up_proj": (
        ("mlp.experts.{e}.gate_proj.weight", "mlp.experts.{e}.up_proj.weight"),
        ("block_sparse_moe.experts.{e}.w1.weight", "block_sparse_moe.experts.{e}.w3.weight"),
    ),
    "mlp.experts.down_proj": (
        ("mlp.experts.{e}.down_proj.weight",),
        ("block_sparse_moe.experts.{e}.w2.weight",),
    ),
}
# Ends of names of tensors that models compute themselves, or have under another name where their
# output layer is the embedding.
_COMPUTED = (
    ".rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
    "lm_head.weight",
)
# Ends of the model's names for tensors -> the checkpoint's.
_RENAMED = (
    ("mlp.gate.weight", "block_sparse_moe.gate.weight"),
    ("mlp.router.weight", "block_sparse_moe.gate.weight"),
    ("mlp.e_score_correction_bias", "block_sparse_moe.e_score_correction_bias"),
    ("mlp.gate.e_score_correction_bias", "mlp.e_score_correction_bias"),
    ("lm_head.weight", "embed_out.weight"),
    ("block_sparse_moe.router.weight", "block_sparse_moe.router.layer.weight"),
    ("block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.input_linear.weight"),
    ("block_sparse_moe.experts.down_proj", "block_sparse_moe.output_linear.weight"),
)


def checkpoint_names(
    parameters: Mapping[str, Sequence[str]], prefix: str, available: Collection[str]
) -> dict[str, str]:
    """For each parameter the name of the tensor that it is in the checkpoint.

    Args:
        parameters: by name, all names of the same parameter (tied ones have several).
        prefix: of the model without its output layer, which some checkpoints leave out.
        available: names of the checkpoint's tensors. Stacked experts keep the parameter's name.

    Raises:
        ModelFilesError: tensors are missing; lists them.
    """
    found: dict[str, str] = {}
    missing = []
    for name, same in parameters.items():
        choice = next((n for s in same for n in _spellings(s, prefix) if n in available), None)
        if choice is None and stacked_parts(name, available):
            choice = name
        if choice is None:
            missing.append(name)
        else:
            found[name] = choice
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise ModelFilesError(
            f"the checkpoint lacks {len(missing)} tensors of the model: {shown}; a shard may be "
            "missing, config.json may be another model's, or its tensors are called otherwise"
        )
    return found


def _spellings(name: str, prefix: str) -> Iterable[str]:
    """A parameter's name as checkpoints may have it."""
    yield name
    if prefix and name.startswith(f"{prefix}."):
        yield name.removeprefix(f"{prefix}.")
        # The language model among several parts.
        yield f"{prefix}.language_model.{name.removeprefix(f'{prefix}.')}"
    yield f"language_model.{name}"
    for ours, theirs in _RENAMED:
        if name.endswith(ours):
            yield name.removesuffix(ours) + theirs


def stacked_parts(name: str, available: Collection[str]) -> list[list[str]]:
    """The tensors that a stacked parameter of experts consists of: by expert, one above another;
    empty where it is none.
    """
    for suffix, styles in _STACKED.items():
        if not name.endswith(suffix):
            continue
        stem = name.removesuffix(suffix)
        for style in styles:
            experts: list[list[str]] = []
            while all((stem + part).format(e=len(experts)) in available for part in style):
                experts.append([(stem + part).format(e=len(experts)) for part in style])
            if experts:
                return experts
    return []


class UnusedTensorsWarning(UserWarning):
    """A checkpoint holds tensors that the model does not use: it may be another model's."""


def warn_of_unused(place: object, used: Collection[str], available: Collection[str]) -> None:
    """Warn of tensors that no weight of the model is made of, naming up to five.

    Args:
        place: the model directory.
        used: what the model's weights are called in the checkpoint, stacked experts included.
        available: names of the checkpoint's tensors.
    """
    names = frozenset(available)
    parts = {
        part
        for name in used
        if name not in names
        for expert in stacked_parts(name, names)
        for part in expert
    }
    unused = sorted(n for n in names - parts - set(used) if not n.endswith(_COMPUTED))
    if unused:
        shown = ", ".join(unused[:5]) + (f" and {len(unused) - 5} more" if unused[5:] else "")
        warnings.warn(
            f"{place}: the model does not use {len(unused)} tensors of the checkpoint: {shown}; "
            "is config.json that of another model, or of a part of it?",
            UnusedTensorsWarning,
            stacklevel=2,
        )


class CheckpointTensors(TensorSource):
    """The tensors of a checkpoint, and stacked experts as one."""

    def __init__(self, source: TensorSource, wanted: Iterable[str]) -> None:
        self.label = source.label
        self._source = source
        names = frozenset(source.names())
        self._stacks = {n: stacked_parts(n, names) for n in wanted if n not in names}
        self._stacks = {name: parts for name, parts in self._stacks.items() if parts}
        used = {part for parts in self._stacks.values() for expert in parts for part in expert}
        self._names = (names - used) | self._stacks.keys()

    def names(self) -> Iterable[str]:
        """Every name there is."""
        return self._names

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and dtype name of a tensor; a stacked one has the experts first."""
        experts = self._stacks.get(name)
        if experts is None:
            return self._source.describe(name)
        parts = [self._source.describe(part) for part in experts[0]]
        rows = sum(shape[0] for shape, _ in parts)
        return (len(experts), rows, *parts[0][0][1:]), parts[0][1]

    def get(self, name: str) -> Array:
        """The data."""
        experts = self._stacks.get(name)
        if experts is None:
            return self._source.get(name)
        return np.stack(
            [np.concatenate([self._source.get(part) for part in expert]) for expert in experts]
        )

    def read_into(self, name: str, first: int, out: Array) -> None:
        """Copy bytes of a tensor."""
        if name in self._stacks:
            super().read_into(name, first, out)
        else:
            self._source.read_into(name, first, out)

    def expect(self, name: str) -> None:
        """Say that a tensor is about to be read."""
        for part in self._parts(name):
            self._source.expect(part)

    def release(self, name: str) -> None:
        """Say that a tensor has been copied."""
        for part in self._parts(name):
            self._source.release(part)

    def _parts(self, name: str) -> list[str]:
        """The tensors of the checkpoint that a tensor consists of."""
        experts = self._stacks.get(name)
        return [name] if experts is None else [part for expert in experts for part in expert]
