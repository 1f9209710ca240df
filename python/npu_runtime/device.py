"""The device that programs run on: what exists on this machine, and which one to take."""

from __future__ import annotations

import atexit
import os
import threading
from contextlib import suppress

from npu_compiler.errors import CacheError
from npu_runtime import _native
from npu_runtime.device_cache import cache_folder
from npu_runtime.errors import DeviceUnavailableError

# The order in which Device() chooses. The reference device is for tests: it has to be asked for.
PREFERENCE = ("metal", "cuda", "cpu")
ENVIRONMENT_VARIABLE = "NPU_SIM_DEVICE"

# One native device per kind: devices own threads and queues, which programs on one device share.
_opened: dict[str, _native.Device] = {}
_opening = threading.Lock()
# Libraries that outlive the interpreter keep modules, and with them what modules hold.
atexit.register(_opened.clear)


def available_devices() -> tuple[str, ...]:
    """Kinds of the devices of this machine, the preferred one first."""
    kinds = tuple(_native.available_devices())
    preferred = tuple(kind for kind in PREFERENCE if kind in kinds)
    return preferred + tuple(kind for kind in kinds if kind not in preferred)


def _reason(kind: str) -> str:
    """What a device that is not there says of it; empty for a kind that does not exist."""
    if kind not in PREFERENCE:
        return ""
    try:
        _native.Device(kind)
    except DeviceUnavailableError as error:
        # A kind that this build lacks has no more to say.
        return "" if str(error).startswith("no device") else f" ({error})"
    return ""


class Device:
    """A device: ``Device()`` is the fastest there is, ``Device("cpu")`` the one of that kind.

    Without an argument the environment variable ``NPU_SIM_DEVICE`` chooses if it is set. A kind
    that this machine lacks is a DeviceUnavailableError that lists those it has.
    """

    def __init__(self, kind: str | None = None) -> None:
        kinds = available_devices()
        chosen = kind or os.environ.get(ENVIRONMENT_VARIABLE) or kinds[0]
        if chosen not in kinds:
            where = "" if kind else f" (from the environment variable {ENVIRONMENT_VARIABLE})"
            raise DeviceUnavailableError(
                f"no device {chosen!r}{where}: this machine has {', '.join(kinds)}{_reason(chosen)}"
            )
        with _opening:
            if chosen not in _opened:
                _opened[chosen] = _native.Device(chosen)
                # Without a home directory nothing is kept.
                with suppress(CacheError):
                    _opened[chosen].set_cache_folder(str(cache_folder(chosen)))
            self._native = _opened[chosen]

    @property
    def kind(self) -> str:
        """``"cpu"``, ``"reference"``, ``"metal"`` or ``"cuda"``."""
        return self._native.kind

    @property
    def name(self) -> str:
        """What a person would call it: the processor and the instruction set in use."""
        return self._native.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What did not go as it should, without harm to any result: a cache that cannot be
        written."""
        return tuple(self._native.notes)

    @property
    def native(self) -> _native.Device:
        """The native device; shared by all Device objects of a kind."""
        return self._native

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self._native is other._native

    def __hash__(self) -> int:
        return hash(self.kind)

    def __repr__(self) -> str:
        return f"Device({self.kind!r}): {self.name}"
