"""Learn a style pack: one network for several heads, trained as a single head is (eq. 7).

The paper fine-tunes for one head (Alg. 2). Here the same loop, loss and edited views train a
network that changes the planes of whatever head it is given, see `models/style_pack.py`. Read
`make_style_pack`, then `learn_style_pack`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_numbers
from ..errors import InputError
from ..files.bundle import weights_hash
from ..geometry.cameras import front_camera, grid_cameras
from ..method.fewshot import few_shot_set
from ..method.finetune import FinetuneSettings, finetune_portraits
from ..method.flatten import flattened
from ..method.render import RenderSettings, render_views
from ..method.sample import sample_portrait
from ..method.stylize import StylizeSettings, stylize_views
from ..models.editor import ImageEditor
from ..models.eg3d import EG3D
from ..models.style_pack import StylePackConfig, StylePackNet
from ..progress import Portion, Progress, no_progress
from ..seeds import check_seed
from ..training.losses import Perceptual
from ..types import FewShotSet, Portrait, StyleCode, StylePack
from .apply import apply_style_pack, check_generator

SPREAD_HEADS = 16  # heads whose planes say how much each channel varies
LEAST_SPREAD = 1e-6
MOST_HEADS = 64
EDIT_SHARE = 0.5  # of the time, for the views; the rest is training


@dataclass(frozen=True)
class PackSettings:
    """How a pack is learnt: on which heads, from which views, in how many steps."""

    heads: int = 8  # of the seeds from `seed` on
    seed: int = 0  # also of the edit's noise and of the training
    psi: float = 1.0  # truncation; what varies more teaches more
    views: int = 4  # the camera grid is views x views, and the front
    yaw_range_deg: float = 30.0
    pitch_range_deg: float = 30.0
    iterations: int = 400
    batch_size: int = 2
    learning_rate: float = 0.002
    sizes: dict[str, Any] = field(default_factory=dict)  # of `StylePackConfig`, to replace some
    # the paper's s_I: edits go further from the head, and what they do not share averages out
    edit: StylizeSettings = field(default_factory=lambda: StylizeSettings(image_guidance=1.5))
    render: RenderSettings = field(default_factory=RenderSettings)

    def __post_init__(self) -> None:
        check_numbers(self)
        check_seed(self.seed)
        check_seed(self.seed + self.heads)
        if not 1 <= self.heads <= MOST_HEADS:
            raise InputError(f"a pack is learnt on 1 to {MOST_HEADS} heads, got {self.heads}")
        if not 2 <= self.views <= 32:
            raise InputError(f"views must be 2 to 32, got {self.views}; 4 gives 17 views")
        if not 0 <= self.psi <= 1:
            raise InputError(f"psi must be from 0 to 1, got {self.psi}")

    def tune(self) -> FinetuneSettings:
        """Return the settings of the training, which checks the rest."""
        return FinetuneSettings(
            iterations=self.iterations,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            preview_every=0,
            render=self.render,
        )


class PackPlanes(nn.Module):
    """A source of planes (`method/sources.py`): those of all heads, changed by one network."""

    own: Tensor

    def __init__(self, network: StylePackNet, planes: Tensor) -> None:  # [N,3,C,R,R]
        super().__init__()
        self.network = network  # learns
        self.register_buffer("own", planes, persistent=False)

    def planes(self, rows: Tensor) -> Tensor:
        own = self.own[rows]
        return own + self.network(own)

    def style(self, row: int) -> StyleCode | None:
        return None

    def penalty(self) -> Tensor | None:
        return None


def make_style_pack(
    eg3d: EG3D,
    editor: ImageEditor,
    perceptual: Perceptual,
    prompt: str,
    *,
    settings: PackSettings | None = None,
    licence: str = "",
    progress: Progress = no_progress,
) -> StylePack:
    """Return the style that an editor makes of words, for any head of the generator.

    The heads of `settings.heads` seeds are rendered and edited, and one network learns them all.
    The preview is a head that was not among them.
    """
    settings = settings or PackSettings()
    tune = settings.tune()
    cameras = grid_cameras(
        settings.views,
        eg3d.config.rig(),
        yaw_range_deg=settings.yaw_range_deg,
        pitch_range_deg=settings.pitch_range_deg,
    )
    edit = replace(settings.edit, seed=settings.seed)
    heads: list[Portrait] = []
    sets: list[FewShotSet] = []
    for index in range(settings.heads):
        share = Portion(
            progress,
            EDIT_SHARE * index / settings.heads,
            EDIT_SHARE * (index + 1) / settings.heads,
        )
        head = sample_portrait(eg3d, settings.seed + index, psi=settings.psi)
        seen = render_views(head, cameras, settings=settings.render).image
        edited = stylize_views(editor, seen, prompt, settings=edit, progress=share)
        heads.append(head)
        sets.append(few_shot_set(head, edited, cameras, prompt))
    pack = learn_style_pack(
        eg3d,
        heads,
        sets,
        perceptual,
        sizes=settings.sizes,
        settings=tune,
        progress=Portion(progress, EDIT_SHARE, 1.0),
    )
    return replace(pack, licence=licence, preview=preview(pack, eg3d, settings))


def learn_style_pack(
    eg3d: EG3D,
    portraits: Sequence[Portrait],  # N heads of that generator
    sets: Sequence[FewShotSet],  # their edited views, all of one style
    perceptual: Perceptual,
    *,
    sizes: dict[str, Any] | None = None,  # of `StylePackConfig`, to replace some
    settings: FinetuneSettings | None = None,
    progress: Progress = no_progress,
) -> StylePack:
    """Return the style that the sets show, for any head of the generator.

    Raises InputError for sets of different styles, MismatchError for heads of another generator.
    """
    settings = settings or PackSettings().tune()
    prompts = sorted({few_shot.prompt for few_shot in sets})
    if len(prompts) != 1:
        raise InputError(f"a style pack is of one style, got {len(prompts)}: {prompts}")
    renderer = weights_hash(eg3d.renderer().state_dict())
    for portrait in portraits:
        check_generator(portrait, renderer, eg3d.config.name)
    heads = [flattened(portrait) for portrait in portraits]
    with torch.inference_mode(False), torch.enable_grad():
        planes = torch.cat([head.triplane.planes.detach().clone() for head in heads]).float()
        network = _fresh(eg3d, sizes or {}, settings.seed).to(planes.device)
        finetune_portraits(
            None,
            "",
            heads,
            sets,
            perceptual,
            source=PackPlanes(network, planes),
            settings=settings,
            progress=progress,
        )
    network = network.requires_grad_(False).eval()
    return StylePack(network, prompts[0], renderer, eg3d.config.name, heads=len(heads))


def preview(pack: StylePack, eg3d: EG3D, settings: PackSettings) -> Tensor:
    """Return the front view [3,H,W] of a head that the pack was not learnt on."""
    head = sample_portrait(eg3d, settings.seed + settings.heads)
    styled = apply_style_pack(pack, head)
    return render_views(styled, front_camera(eg3d.config.rig()), settings=settings.render).image[0]


@torch.no_grad()
def spread(eg3d: EG3D, heads: int = SPREAD_HEADS) -> Tensor:  # [3,C]
    """Return how much each channel of a generator's planes varies, over heads and texels."""
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0
    for seed in range(heads):  # one at a time: a full-size head has 25 MB of planes
        planes = sample_portrait(eg3d, seed, psi=1.0).triplane.planes.double()
        total = total + planes.mean(dim=(0, 3, 4)) / heads
        squares = squares + planes.square().mean(dim=(0, 3, 4)) / heads
    assert isinstance(total, Tensor) and isinstance(squares, Tensor)  # there is a head
    return (squares - total.square()).clamp_min(LEAST_SPREAD**2).sqrt().float()


def _fresh(eg3d: EG3D, sizes: dict[str, Any], seed: int) -> StylePackNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        network = StylePackNet(StylePackConfig.of(eg3d.config, **sizes))
    network.scale.copy_(spread(eg3d))
    return network
