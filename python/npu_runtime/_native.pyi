"""Native part of npu_runtime: programs, devices, buffers, runs."""

import os
from collections.abc import Sequence

import numpy
import numpy.typing

class EntryPoint:
    """A function of a program."""

    @property
    def name(self) -> str: ...
    @property
    def dispatch_first(self) -> int:
        """Index of its first dispatch in the program."""

    @property
    def dispatch_count(self) -> int: ...
    @property
    def arena_size(self) -> int:
        """Bytes of scratch memory of one run."""

    @property
    def input_names(self) -> list[str]: ...
    @property
    def output_names(self) -> list[str]: ...
    @property
    def input_sizes(self) -> list[int]:
        """Bytes of each input's buffer."""

    @property
    def output_sizes(self) -> list[int]:
        """Bytes of each output's buffer."""

    @property
    def output_donors(self) -> list[int]:
        """Per output, the input whose buffer it must be given, or 0xFFFFFFFF."""

class Program:
    """A verified .npubin file. Immutable."""

    @staticmethod
    def from_file(path: str | os.PathLike[str]) -> Program:
        """
        Maps and verifies a file, which must not change while the program lives. Raises FileError,
        ProgramError or ProgramVersionError.
        """

    @staticmethod
    def from_bytes(data: object) -> Program:
        """Copies and verifies the bytes of a bytes-like object."""

    @property
    def entry_points(self) -> list[EntryPoint]: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def counts(self) -> dict[str, int]:
        """Number of records of each section."""

    @property
    def dispatches(self) -> list[tuple[str, str]]:
        """Name and kernel of each dispatch."""

    @property
    def weight_sizes(self) -> list[int]:
        """Bytes of each weight's buffer, in binding order."""

    @property
    def arena_size(self) -> int:
        """Bytes of scratch memory of one run, the largest of all entry points."""

    @property
    def file_size(self) -> int:
        """Bytes of the file."""

class Buffer:
    """
    A piece of device memory. Has the buffer protocol where the host sees it.
    """

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def writable(self) -> bool:
        """False for wrapped memory that may only be read."""

    @property
    def device(self) -> Device:
        """Where it lies."""

    def upload(self, offset: int, data: object) -> None:
        """Copies the bytes of a bytes-like object to `offset`."""

    def download(self, offset: int, data: object) -> None:
        """
        Copies bytes from `offset` into a writable bytes-like object, as many as it holds.
        """

    def host_view(self) -> numpy.typing.NDArray[numpy.uint8] | None:
        """
        The memory in place as a uint8 array that keeps it alive; None where the host cannot see it.
        """

class BufferExporter:
    """A base of classes that define __buffer__(flags) -> memoryview."""

    def __init__(self) -> None: ...

def round_to_float16(source: object, target: object) -> None:
    """
    Rounds the float32 values of a contiguous array to nearest even into a contiguous, writable one of as many float16 values; beyond its range they become infinite.
    """

class Binding:
    """Weights made ready for one executable. Immutable."""

    @property
    def packed_bytes(self) -> int:
        """Memory that it takes besides that of the weights."""

class Call:
    """An entry point with its buffers, checked and resolved once."""

    def run(self, profile: bool = False) -> list[tuple[int, int, int]] | None:
        """
        As Executable.run. Threads that run one call at once wait for each other.
        """

class Executable:
    """
    A program made ready for a device. Its methods may be called from several threads.
    """

    def bind(self, weights: Sequence[Buffer]) -> Binding:
        """Prepares weights, one buffer per weight of the program, in its order."""

    def run(
        self,
        binding: Binding,
        entry: int,
        inputs: Sequence[Buffer],
        outputs: Sequence[Buffer],
        profile: bool = False,
    ) -> list[tuple[int, int, int]] | None:
        """
        Runs an entry point (by index) and waits for it. With `profile`, returns (dispatch, begin, end) in
        nanoseconds of a steady clock. Raises ArgumentError before anything is written.
        """

    def prepare(
        self, binding: Binding, entry: int, inputs: Sequence[Buffer], outputs: Sequence[Buffer]
    ) -> Call:
        """
        What `run` would do with these buffers, made ready to be done many times.
        """

class Device:
    """A device that runs programs."""

    def __init__(self, kind: str) -> None:
        """Raises DeviceUnavailableError for a kind that this machine lacks."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str:
        """What a person would call it."""

    @property
    def notes(self) -> list[str]:
        """What did not go as it should, without harm to any result."""

    def set_cache_folder(self, path: str) -> None:
        """
        Where the device may keep what it compiles, for the next start; it need not be there.
        """

    def allocate(self, size: int) -> Buffer:
        """Zero-filled memory of `size` bytes."""

    def wrap(self, array: object) -> Buffer:
        """
        A buffer over the memory of a bytes-like object, in place where the device can; keeps it alive.
        """

    def load(self, program: Program) -> Executable:
        """Makes a program ready to run."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

def available_devices() -> list[str]:
    """Kinds of the devices in this build, in order of preference."""
