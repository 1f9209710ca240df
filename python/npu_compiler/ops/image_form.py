"""Image operators' tensors as batches of 2-D images: 1-D and unbatched forms get axes of size 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from npu_compiler.graph import Value
from npu_compiler.ops.arguments import require
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


@dataclass(frozen=True, slots=True)
class ImageForm:
    """The form of an operator's tensors: (n, c, h, w), (n, c, w) or either without n."""

    spatial: int
    batched: bool

    @classmethod
    def of(cls, value: Value, spatial: int) -> ImageForm:
        """The form of ``value``; refuses a rank that is neither."""
        require(
            value.rank in (spatial + 1, spatial + 2),
            f"the input must have {spatial + 1} or {spatial + 2} dimensions, "
            f"got {list(value.shape)}",
        )
        return cls(spatial, value.rank == spatial + 2)

    def images(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """A shape as (n, c, h, w)."""
        whole = shape if self.batched else (1, *shape)
        n, c, h, w = whole if self.spatial == 2 else (*whole[:2], 1, whole[2])
        return n, c, h, w

    def shape(self, images: tuple[int, int, int, int]) -> tuple[int, ...]:
        """The inverse of ``images``."""
        whole = images if self.spatial == 2 else (*images[:2], images[3])
        return whole if self.batched else whole[1:]

    def view(self, view: View) -> View:
        """An input or result as (n, c, h, w)."""
        if not self.batched:
            view = view.insert(0)
        return view if self.spatial == 2 else view.insert(2)

    def define(self, lowering: Lowering, value: Value) -> View:
        """Memory for a result, as (n, c, h, w): channels_last, but for outputs of the graph of
        fewer than 4 dimensions.
        """
        if value.rank == 4 or any(value is output for output in lowering.graph.outputs):
            return self.view(lowering.define(value, image=True, strided=value.rank == 4))
        dtype = lowering.precision.storage(value.dtype)
        images = lowering.image_memory(value.name, self.images(value.shape), dtype)
        view = images.drop(2) if self.spatial == 1 else images
        lowering.alias(value, view if self.batched else view.drop(0))
        return images
