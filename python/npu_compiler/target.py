"""TargetConfig: the NPU that programs are compiled for."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from npu_compiler.dtypes import COMPUTE
from npu_compiler.errors import CompileOptionError


@dataclass(frozen=True)
class TargetConfig:
    """The simulated NPU.

    ``channel_alignment``: channels of 4-D activations are padded to a multiple of it. 4-D inputs of
    at most ``row_major_input_channels`` channels stay in NCHW planes. ``compute_dtypes`` are the
    storage types that matrix and image kernels accept. ``buffer_alignment`` (bytes) is the
    alignment of every buffer in the arena.
    """

    channel_alignment: int = 64
    row_major_input_channels: int = 16
    compute_dtypes: tuple[str, ...] = COMPUTE
    buffer_alignment: int = 64

    def __post_init__(self) -> None:
        for name in ("channel_alignment", "buffer_alignment"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise CompileOptionError(
                    f"TargetConfig.{name} must be a positive integer, got {value!r}"
                )
        if self.buffer_alignment % 64:
            raise CompileOptionError(
                "TargetConfig.buffer_alignment must be a multiple of 64, got "
                f"{self.buffer_alignment}"
            )
        if self.row_major_input_channels < 0:
            raise CompileOptionError(
                "TargetConfig.row_major_input_channels must not be negative, got "
                f"{self.row_major_input_channels}"
            )
        unknown = [d for d in self.compute_dtypes if d not in COMPUTE]
        if unknown or not self.compute_dtypes:
            raise CompileOptionError(
                f"TargetConfig.compute_dtypes must be some of {COMPUTE}, got {self.compute_dtypes}"
            )

    def to_dict(self) -> dict[str, object]:
        """Plain data, for a program's metadata."""
        return asdict(self)
