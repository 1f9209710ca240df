"""Where weights come from: mapped safetensors files, sharded directories, dicts."""

from __future__ import annotations

import json
import math
import mmap
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from npu_compiler.dtypes import DTYPES
from npu_runtime.convert import Array, as_array
from npu_runtime.dtypes import dtype_name, numpy_dtype
from npu_runtime.errors import FileError, WeightError

INDEX_NAME = "model.safetensors.index.json"
# What the one file of a model that has no index is called.
SINGLE_NAME = "model.safetensors"
_TORCH_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt"})
# safetensors' word for a dtype -> ours.
_SAFETENSORS_DTYPES = {
    "BOOL" if name == "bool" else d.short.upper(): name for name, d in DTYPES.items()
}


class TensorSource(ABC):
    """Named tensors. Shapes and dtypes are known without reading any data."""

    # For messages: the file, or what the caller gave.
    label: str

    @abstractmethod
    def names(self) -> Iterable[str]:
        """Every name there is."""

    @abstractmethod
    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and dtype name of a tensor."""

    @abstractmethod
    def get(self, name: str) -> Array:
        """The data; a read-only view of the file where that is possible."""

    def read_into(self, name: str, first: int, out: Array) -> None:
        """Copy bytes of a tensor, from byte ``first`` on, as many as ``out`` (uint8) holds.
        Several threads may read at once. Raises FileError.
        """
        data = np.ascontiguousarray(self.get(name)).reshape(-1).view(np.uint8)
        np.copyto(out, data[first : first + out.size])

    @abstractmethod
    def expect(self, name: str) -> None:
        """Say that the data of ``get`` is about to be read as a whole."""

    @abstractmethod
    def release(self, name: str) -> None:
        """Say that the data of ``get`` has been copied: the file's pages need not stay mapped."""


class ArraySource(TensorSource):
    """A dict of arrays, such as a state_dict."""

    label = "the given weights"

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._arrays = {name: as_array(value, f"weight {name!r}") for name, value in arrays.items()}

    def names(self) -> Iterable[str]:
        return self._arrays

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        array = self._arrays[name]
        return array.shape, dtype_name(array.dtype)

    def get(self, name: str) -> Array:
        return self._arrays[name]

    def expect(self, name: str) -> None:
        """An array is in memory already."""

    def release(self, name: str) -> None:
        """An array is the caller's."""


class SafetensorsSource(TensorSource):
    """One mapped ``.safetensors`` file; the safetensors library checks its header."""

    def __init__(self, path: Path) -> None:
        self.label = str(path)
        self._tensors: dict[str, tuple[tuple[int, ...], str, int]] = {}
        try:
            with safe_open(path, framework="np") as file:
                self._file = os.open(path, os.O_RDONLY)
                weakref.finalize(self, os.close, self._file)
                self._map = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)
                self._bytes: Array = np.frombuffer(self._map, np.uint8)
                # The library has checked that tensors lie one behind another, without holes.
                at = 8 + int.from_bytes(self._map[:8], "little")
                for name in file.offset_keys():
                    piece = file.get_slice(name)
                    dtype = piece.get_dtype()
                    shape = tuple(piece.get_shape())
                    if dtype not in _SAFETENSORS_DTYPES:
                        raise FileError(f"{path}: tensor {name!r} has dtype {dtype}, unknown here")
                    own = _SAFETENSORS_DTYPES[dtype]
                    self._tensors[name] = (shape, own, at)
                    at += math.prod(shape) * DTYPES[own].size
        except SafetensorError as error:
            raise FileError(
                f"{path}: not a safetensors file, or a damaged one ({error}); "
                "save weights with safetensors.torch.save_file"
            ) from error
        except OSError as error:
            if isinstance(error, FileError):
                raise
            raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error

    def names(self) -> Iterable[str]:
        return self._tensors

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        shape, dtype, _ = self._tensors[name]
        return shape, dtype

    def get(self, name: str) -> Array:
        shape, dtype, at = self._tensors[name]
        return np.ndarray(shape, numpy_dtype(dtype), self._bytes, at)

    def read_into(self, name: str, first: int, out: Array) -> None:
        at = self._tensors[name][2] + first
        done = 0
        while done < out.size:
            try:
                count = os.preadv(self._file, [out.data[done:]], at + done)
            except OSError as error:
                raise FileError(
                    f"{self.label}: cannot be read: {error.strerror or error}"
                ) from error
            if count == 0:
                raise FileError(
                    f"{self.label}: tensor {name!r} ends at byte {at + done}, "
                    f"{out.size - done} bytes are missing: the file was changed while it was read"
                )
            done += count

    def expect(self, name: str) -> None:
        self._advise(name, "MADV_WILLNEED")

    def release(self, name: str) -> None:
        self._advise(name, "MADV_DONTNEED")

    def _advise(self, name: str, advice: str) -> None:
        """Tell the system about the whole pages of a tensor, where it can be told."""
        shape, dtype, at = self._tensors[name]
        first = -(-at // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (at + math.prod(shape) * DTYPES[dtype].size) // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last and hasattr(mmap, advice):
            self._map.madvise(getattr(mmap, advice), first, last - first)


class ShardedSource(TensorSource):
    """Several safetensors files and the index that says which tensor is where."""

    def __init__(self, index: Path) -> None:
        self.label = str(index)
        try:
            content = json.loads(index.read_bytes())
            places = dict(content["weight_map"])
            if not all(isinstance(v, str) for v in places.values()):
                raise TypeError("weight_map has a value that is not a file name")
        except OSError as error:
            raise FileError(f"{index}: cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(f"{index}: not an index of safetensors shards ({error!r})") from error
        shards = {shard: self._open(index, shard) for shard in sorted(set(places.values()))}
        self._shards = {}
        held = {shard: frozenset(source.names()) for shard, source in shards.items()}
        for name, shard in places.items():
            if name not in held[shard]:
                raise FileError(f"{index}: tensor {name!r} is not in {shard}, where it should be")
            self._shards[name] = shards[shard]

    @staticmethod
    def _open(index: Path, shard: str) -> SafetensorsSource:
        path = index.parent / shard
        if Path(shard).is_absolute() or ".." in Path(shard).parts:
            raise FileError(f"{index}: shard {shard!r} lies outside the folder of the index")
        if not path.exists():
            raise FileError(
                f"{path}: no such file, but {index.name} says that tensors are in it; was the "
                "model copied or downloaded in part?"
            )
        return SafetensorsSource(path)

    def names(self) -> Iterable[str]:
        return self._shards

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        return self._shards[name].describe(name)

    def get(self, name: str) -> Array:
        return self._shards[name].get(name)

    def read_into(self, name: str, first: int, out: Array) -> None:
        self._shards[name].read_into(name, first, out)

    def expect(self, name: str) -> None:
        self._shards[name].expect(name)

    def release(self, name: str) -> None:
        self._shards[name].release(name)


def open_tensors(source: str | os.PathLike[str] | Mapping[str, Any] | TensorSource) -> TensorSource:
    """The tensors of a safetensors path, a sharded directory (or its index), a dict of arrays, or
    a source of one's own.

    Raises FileError for what is missing, damaged or no such file, WeightError for other types.
    """
    if isinstance(source, TensorSource):
        return source
    if isinstance(source, Mapping):
        return ArraySource(source)
    if not isinstance(source, (str, os.PathLike)):
        raise WeightError(
            f"weights of type {type(source).__name__}: give a safetensors path, a directory of "
            "shards, or a dict of arrays"
        )
    path = Path(source)
    if path.suffix in _TORCH_SUFFIXES:
        raise _not_read(path)
    if path.is_dir():
        return _open_directory(path)
    if not path.exists():
        raise FileError(f"{path}: no such file")
    return ShardedSource(path) if path.suffix == ".json" else SafetensorsSource(path)


def _open_directory(folder: Path) -> TensorSource:
    if (folder / INDEX_NAME).exists():
        return ShardedSource(folder / INDEX_NAME)
    # Beside it there may be the same weights in the layout of another program.
    if (folder / SINGLE_NAME).exists():
        return SafetensorsSource(folder / SINGLE_NAME)
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return SafetensorsSource(files[0])
    pickled = sorted(p for p in folder.iterdir() if p.suffix in _TORCH_SUFFIXES)
    if pickled and not files:
        raise _not_read(pickled[0])
    raise FileError(
        f"{folder}: no {INDEX_NAME}, no {SINGLE_NAME} and {len(files)} other safetensors files; "
        "give the file or the index"
    )


def _not_read(path: Path) -> FileError:
    """What is said of a file in PyTorch's own format."""
    return FileError(
        f"{path}: PyTorch's own format is not read here; save it with "
        "safetensors.torch.save_file(model.state_dict(), 'model.safetensors'), or give "
        f"load_weights(torch.load({path.name!r}, weights_only=True), …) the tensors"
    )
