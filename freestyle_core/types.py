"""The records that travel between the verbs. All are frozen and never mutated after creation.

Shapes use B batch, V views, P vertices, Q faces. Cameras follow OpenCV axes (x right, y down,
z forward) in a world whose y axis points up; `CameraBatch` is the only place that says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from .errors import ShapeError


@dataclass(frozen=True)
class CameraRig:
    """Where the cameras of a model stand: the numbers its generator was trained with."""

    radius: float  # scene units, distance of the front camera from the scene origin
    pivot: tuple[float, float, float]  # scene units, the point every camera looks at
    focal: float  # focal length divided by the image size


@dataclass(frozen=True)
class CameraBatch:
    """V pinhole cameras: OpenCV axes, world y up, intrinsics normalised by the image size."""

    cam_to_world: Tensor  # [V,4,4]
    intrinsics: Tensor  # [V,3,3]

    def __post_init__(self) -> None:
        views = self.cam_to_world.shape[0]
        if self.cam_to_world.shape != (views, 4, 4) or self.intrinsics.shape != (views, 3, 3):
            raise ShapeError(
                "cameras need cam_to_world [V,4,4] and intrinsics [V,3,3], got "
                f"{tuple(self.cam_to_world.shape)} and {tuple(self.intrinsics.shape)}"
            )

    def __len__(self) -> int:
        return self.cam_to_world.shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> CameraBatch:
        """Return the chosen views, always as a batch (an int gives a batch of one)."""
        if isinstance(index, int):
            index = [index]
        return CameraBatch(self.cam_to_world[index], self.intrinsics[index])

    def label(self) -> Tensor:
        """Return [V,25]: the 16 row-major cam_to_world and 9 row-major intrinsics numbers."""
        return torch.cat([self.cam_to_world.flatten(1), self.intrinsics.flatten(1)], dim=1)

    def to(self, device: torch.device | str) -> CameraBatch:
        """Return the same cameras on `device`."""
        return CameraBatch(self.cam_to_world.to(device), self.intrinsics.to(device))

    def repeated(self, views: int) -> CameraBatch:
        """Return a single camera as a batch of equal ones."""
        return CameraBatch(
            self.cam_to_world.expand(views, -1, -1), self.intrinsics.expand(views, -1, -1)
        )

    def clone(self) -> CameraBatch:
        """Return a copy with tensors of its own."""
        return CameraBatch(self.cam_to_world.clone(), self.intrinsics.clone())

    @staticmethod
    def cat(batches: Sequence[CameraBatch]) -> CameraBatch:
        """Return the cameras of all batches, one batch after the other."""
        return CameraBatch(
            torch.cat([batch.cam_to_world for batch in batches]),
            torch.cat([batch.intrinsics for batch in batches]),
        )


@dataclass(frozen=True)
class Region:
    """Planes whose features are added, times a weight, in a part of the cube.

    No masking of planes does this: what a plane holds goes through the whole cube along an axis.
    """

    weights: Tensor  # [N,N,N], axes (x,y,z), on a lattice that spans the cube, faces included
    planes: Tensor  # [1,3,C,R,R]

    def __post_init__(self) -> None:
        shape, planes = tuple(self.weights.shape), tuple(self.planes.shape)
        if len(shape) != 3 or len(set(shape)) != 1 or shape[0] < 2:
            raise ShapeError(f"a region needs weights [N,N,N], N at least 2, got {shape}")
        if len(planes) != 5 or planes[:2] != (1, 3) or planes[3] != planes[4]:
            raise ShapeError(f"a region needs planes [1,3,C,R,R], got {planes}")

    def to(self, device: torch.device | str) -> Region:
        """Return the region on `device`."""
        return Region(self.weights.to(device), self.planes.to(device))


@dataclass(frozen=True)
class Triplane:
    """Three axis-aligned feature planes that span the cube of side `box_size` about the origin.

    A portrait that is mixed by region has `regions`: the feature of a point is that of the planes
    plus the weighted ones of the regions.
    """

    planes: Tensor  # [B,3,C,R,R]
    box_size: float  # scene units
    regions: tuple[Region, ...] = ()  # with B = 1 only

    def __post_init__(self) -> None:
        shape = tuple(self.planes.shape)
        if len(shape) != 5 or shape[1] != 3 or shape[3] != shape[4]:
            raise ShapeError(f"triplane needs planes [B,3,C,R,R], got {shape}")
        for region in self.regions:
            if region.planes.shape != self.planes.shape:
                raise ShapeError(
                    f"a region adds planes {tuple(region.planes.shape)} to planes {shape}; both "
                    "must be of one portrait and the same size"
                )

    def to(self, device: torch.device | str) -> Triplane:
        """Return the planes and regions on `device`."""
        moved = tuple(region.to(device) for region in self.regions)
        return replace(self, planes=self.planes.to(device), regions=moved)


_Network = TypeVar("_Network", bound="Network")


class Network(Protocol):
    """What a record asks of any network in it: an `nn.Module` with a config."""

    config: Any  # a frozen dataclass of models/, with `to_dict`

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the weights that may be trained."""

    def state_dict(self) -> dict[str, Any]:
        """Return all weights by name."""

    def to(self: _Network, device: Any) -> _Network:
        """Move the weights, in place, and return the network."""


class Renderer(Network, Protocol):
    """What every view of a portrait needs; `models.eg3d.EG3DRenderer` is one."""

    decoder: Any  # gives density and colour of a feature
    parent: str | None  # hash of the renderer that it was tuned from; None: it is a generator's own

    def fold(self, planes: Tensor, regions: Sequence[Region] = ()) -> Any:  # [B,3,C,R,R]
        """Return the planes, with their regions, ready for `decode`."""

    def decode(self, planes: Any, points: Tensor) -> tuple[Tensor, Tensor]:  # points [B,N,3]
        """Return raw density [B,N,1] and colour features [B,N,F]."""

    def decode_density(self, planes: Any, points: Tensor) -> Tensor:
        """Return the raw density [B,N,1] alone."""

    def superresolve(
        self, features: Tensor, w: Tensor, *, dtype: torch.dtype | None = None
    ) -> Tensor:  # [B,F,h,h] and [B or 1,L,w] -> [B,3,H,W]
        """Return images in about [-1,1]."""


class PlaneNetwork(Network, Protocol):
    """What makes planes of a front view; `models.i2t.I2T` is one."""

    def encode(self, image: Tensor) -> Tensor:  # [B,3,H,W] in [0,1] -> [B,c,k,k]
        """Return the codes of front views."""

    def decode(self, w_s: Tensor) -> Tensor:  # [B,c,k,k] -> [B,3,C,R,R]
        """Return the planes of codes."""


@dataclass(frozen=True)
class StyleCode:
    """What a fine-tuned I2T network makes of one style's front view."""

    w_s: Tensor  # [B,c,k,k]
    network: PlaneNetwork  # the fine-tuned I2T
    parent: str  # hash of the pre-trained weights the network started from
    residual: Tensor | None = None  # [1,3,C,R,R], added to the planes that the network makes

    def __post_init__(self) -> None:
        if self.residual is None:
            return
        shape = tuple(self.residual.shape)
        if len(shape) != 5 or shape[:2] != (1, 3) or shape[3] != shape[4]:
            raise ShapeError(f"a style's residual needs planes [1,3,C,R,R], got {shape}")

    def planes(self) -> Tensor:
        """Return [B,3,C,R,R]: what the network makes of the code, and the residual on top."""
        made = self.network.decode(self.w_s)
        return made if self.residual is None else made + self.residual

    def to(self, device: torch.device | str, *, network: bool = True) -> StyleCode:
        """Return the code on `device`. Its network, which is shared, moves with it, or not."""
        if network:
            self.network.to(device)
        residual = None if self.residual is None else self.residual.to(device)
        return replace(self, w_s=self.w_s.to(device), residual=residual)


@dataclass(frozen=True)
class Portrait:
    """Whatever can be rendered, meshed, mixed and saved."""

    renderer: Renderer  # EG3D's decoder and super-resolution, frozen, or tuned for it alone
    triplane: Triplane
    w: Tensor  # [B,L,w_dim], modulates super-resolution
    style: StyleCode | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def is_stylized(self) -> bool:
        """Whether this is a restyled head, or a mix with one; `style` may be None all the same."""
        if self.style is not None:
            return True
        histories: list[Any] = [self.provenance]
        while histories:  # no recursion: a file may nest its mixes as deep as it likes
            history = histories.pop()
            if isinstance(history, dict):
                if "prompt" in history:
                    return True
                mixed = history.get("mix")
                histories.extend(mixed if isinstance(mixed, list) else [])
        return False

    def to(self, device: torch.device | str, *, networks: bool = True) -> Portrait:
        """Return the portrait on `device`. Its networks, which are shared, move with it, or not."""
        style = None if self.style is None else self.style.to(device, network=networks)
        if networks:
            self.renderer.to(device)
        return replace(self, triplane=self.triplane.to(device), w=self.w.to(device), style=style)


@dataclass(frozen=True)
class Rendering:
    """V rendered views. `image` is at full size; the rest at the neural rendering resolution."""

    image: Tensor  # [V,3,H,W], in [0,1]
    raw: Tensor  # [V,3,h,w], in [0,1], before super-resolution
    depth: Tensor  # [V,1,h,w], scene units along the ray
    alpha: Tensor  # [V,1,h,w], in [0,1]
    cameras: CameraBatch

    def part(self, rows: Sequence[int]) -> Rendering:
        """Return some of the views."""
        chosen = list(rows)
        return Rendering(
            self.image[chosen],
            self.raw[chosen],
            self.depth[chosen],
            self.alpha[chosen],
            self.cameras[chosen],
        )


@dataclass(frozen=True)
class OrbitViews:
    """V views of a portrait on a grid of angles, row by row, fit for showing."""

    image: Tensor  # [V,3,H,W], in [0,1]
    alpha: Tensor | None  # [V,1,H,W], in [0,1]; None: the pictures have their own background
    depth: Tensor  # [V,1,h,w], scene units along the ray, smooth where the head is not


@dataclass(frozen=True)
class FewShotSet:
    """The stylised views of one identity (D_s in the paper)."""

    images: Tensor  # [V,3,H,W], in [0,1]
    cameras: CameraBatch  # V
    front: int  # index of the front view
    prompt: str

    def __post_init__(self) -> None:
        if len(self.cameras) != self.images.shape[0]:
            raise ShapeError(
                f"few-shot set has {self.images.shape[0]} images but {len(self.cameras)} cameras; "
                "give one camera per image, in the same order"
            )


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh with one colour per vertex; y up, front towards +z."""

    vertices: Tensor  # [P,3], scene units, or metres once `extract_mesh` has scaled them
    faces: Tensor  # [Q,3], int64
    colors: Tensor  # [P,3], sRGB in [0,1]
    confidence: Tensor | None = None  # [P], in [0,1]: how far to trust each, `with_confidence`


@dataclass(frozen=True)
class StylePack:
    """A style for any head of one generator; `packs/` makes and applies it."""

    network: Network  # models.style_pack.StylePackNet: planes [B,3,C,R,R] -> what changes them
    prompt: str  # the words of the style
    renderer: str  # hash of the generator's renderer, as portrait files name it
    eg3d: str  # the generator's name
    heads: int = 1  # how many it was learnt on
    licence: str = ""  # under which it may be passed on
    preview: Tensor | None = None  # [3,H,W], in [0,1]: a head in the style


@dataclass(frozen=True)
class Splats:
    """P Gaussian splats with one colour from every side; y up, front towards +z.

    Values are activated: nothing is a logarithm or logit, as it is in the files.
    """

    positions: Tensor  # [P,3], scene units, or metres once `extract_splats` has scaled them
    scales: Tensor  # [P,3], above 0, standard deviations along the own axes, the same unit
    rotations: Tensor  # [P,4], quaternions w x y z of length one
    opacities: Tensor  # [P], in [0,1]
    colors: Tensor  # [P,3], sRGB, about [0,1]

    def __post_init__(self) -> None:
        count = self.positions.shape[0]
        wanted: dict[str, tuple[int, ...]] = {
            "positions": (count, 3),
            "scales": (count, 3),
            "rotations": (count, 4),
        }
        wanted |= {"opacities": (count,), "colors": (count, 3)}
        for name, shape in wanted.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ShapeError(
                    f"splats need {name} {list(shape)}, got {list(getattr(self, name).shape)}"
                )

    def __len__(self) -> int:
        return self.positions.shape[0]

    def scaled(self, factor: float) -> Splats:
        """Return the splats so many times as large about the origin."""
        return replace(self, positions=self.positions * factor, scales=self.scales * factor)

    def part(self, rows: Tensor) -> Splats:  # int64 [N] or bool [P]
        """Return some of the splats."""
        return Splats(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def to(self, device: torch.device | str) -> Splats:
        """Return the splats on `device`."""
        return Splats(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))
