"""One named style: what it changes of a head and of the picture taken of it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..heads.noise import Color, Look
from .filters import ImageFilter
from .materials import Post, Texture

Geometry = Callable[[Tensor, Tensor, Tensor, Tensor, dict], Tensor]
WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Style:
    """One named style; every hook may be None.

    parameters: head parameters that replace the identity's; `shifts` are added afterwards.
    palette: colours that replace the head's, and the numbers gloss, glint, blush_strength.
    texture: (points [N,3], normals [N,3], colors [6,N,3], p) -> colors, before the lighting.
    post: (points, normals, c [N,3], albedo [N,3], ao [N,1], w [6,N], specular [N]) -> c, after it.
    image_filter: (image [V,3,H,W], alpha [V,1,H,W]) -> image, after rendering.
    field: (f [6,N], x [N], y [N], z [N], p) -> f, extra geometry in head coordinates.
    consistent_3d: False where the views of one head disagree by construction (image filters).
    """

    name: str
    parameters: dict[str, float] = dataclasses.field(default_factory=dict)
    palette: dict[str, Color | float] = dataclasses.field(default_factory=dict)
    texture: Texture | None = None
    post: Post | None = None
    image_filter: ImageFilter | None = None
    field: Geometry | None = None
    consistent_3d: bool = True
    shifts: dict[str, float] = dataclasses.field(default_factory=dict)
    look: Look = Look()

    def apply(self, parameters: dict[str, float]) -> dict[str, float]:
        """Return an identity's head parameters as this style changes them."""
        p = {**parameters, **self.parameters}
        return {name: value + self.shifts.get(name, 0.0) for name, value in p.items()}


PLAIN = Style("plain")  # the identity as it is
