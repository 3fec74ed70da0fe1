"""The whole method in one call: a seed and one or two styles become stylised portraits.

`make_portrait` joins the verbs in the paper's order: sample, render the views, edit them and
fine-tune, then all that is made of the result. `cli/run_files.py` writes what it returns.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from .checks import check_numbers
from .errors import InputError, MismatchError
from .files.bundle import weights_hash
from .files.editors.load import load_editor
from .files.media.video import frame_rate
from .files.networks import embedded, load_eg3d, load_i2t
from .files.perceptual import AUTO, load_distance
from .geometry.cameras import grid_cameras, orbit_cameras, turntable_cameras
from .method.fewshot import few_shot_set
from .method.finetune import FinetuneSettings, finetune_portraits
from .method.mesh import MeshSettings, extract_mesh
from .method.mix import mix_portraits, mix_sweep
from .method.prompts import prompt_notes
from .method.render import RenderSettings, render_views
from .method.sample import sample_portrait
from .method.stylize import StylizeSettings, stylize_views
from .models.editor import Editor
from .models.eg3d import EG3D
from .models.i2t import I2T
from .progress import Stages
from .seeds import check_seed
from .training.losses import Perceptual
from .types import CameraBatch, CameraRig, FewShotSet, Mesh, Portrait, Triplane

SHEET_POSITIONS = ((0.5, 0.0), (0.5, 0.25), (0.5, 0.75), (0.5, 1.0), (0.0, 0.5), (1.0, 0.5))
MAX_FRAMES = 10_000
_log = logging.getLogger(__name__)
MIX_YAWS_DEG = (-25.0, 0.0, 25.0)


@dataclass(frozen=True)
class ModelPaths:
    """Where the models of a run lie; the defaults are the embedded ones."""

    eg3d: Path = embedded("eg3d")
    i2t: Path = embedded("i2t")
    perceptual: Path | str = AUTO  # or VGG, of files/perceptual.py
    editor: Path = embedded("editor")


@dataclass(frozen=True)
class Models:
    """Everything a run needs, on one device, with the hash of each part's weights."""

    eg3d: EG3D
    i2t: I2T
    perceptual: Perceptual
    editor: Editor
    hashes: dict[str, str]


@dataclass(frozen=True)
class TurntableSettings:
    """The camera path of the video."""

    path: str = "ellipse"  # sweep, orbit or ellipse
    frames: int = 72
    fps: float = 24.0
    yaw_range_deg: float = 30.0
    pitch_range_deg: float = 10.0  # ellipse only

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 1 <= self.frames <= MAX_FRAMES:
            raise InputError(
                f"a video needs at least 1 frame, got {self.frames}, and at most {MAX_FRAMES}"
            )
        frame_rate(self.fps)

    def cameras(self, rig: CameraRig) -> CameraBatch:
        """Return one camera per frame."""
        return turntable_cameras(
            self.frames,
            rig,
            kind=self.path,
            yaw_range_deg=self.yaw_range_deg,
            pitch_range_deg=self.pitch_range_deg,
        )


@dataclass(frozen=True)
class PortraitSettings:
    """One run. The defaults are the paper's wherever it says something."""

    prompts: tuple[str, ...]  # one style, or two to mix
    seed: int = 0  # of the identity, the edit's noise and the fine-tuning
    psi: float = 0.7  # truncation: 1 as varied as the training data, 0 the average head
    views: int = 10  # the camera grid is views x views, and the front
    yaw_range_deg: float = 30.0
    pitch_range_deg: float = 30.0
    mix_steps: int = 5  # with two styles: columns of the mixing sheet
    mix_frames: int = 48
    edit: StylizeSettings = field(default_factory=StylizeSettings)
    tune: FinetuneSettings = field(default_factory=FinetuneSettings)
    render: RenderSettings = field(default_factory=RenderSettings)
    turntable: TurntableSettings = field(default_factory=TurntableSettings)
    mesh: MeshSettings = field(default_factory=MeshSettings)

    def __post_init__(self) -> None:
        check_numbers(self)
        if len(self.prompts) not in (1, 2):
            raise InputError(f"a run makes one style or mixes two, got {len(self.prompts)} styles")
        for prompt in self.prompts:
            self.edit.prompt(prompt)  # refuses an empty one
        check_seed(self.seed)
        if not 2 <= self.views <= 32:
            raise InputError(f"views must be 2 to 32, got {self.views}; 10 gives 101 views")
        if not 2 <= self.mix_steps <= 64:
            raise InputError(f"mix steps must be 2 to 64, both ends, got {self.mix_steps}")
        if not 1 <= self.mix_frames <= MAX_FRAMES:
            raise InputError(f"mix frames must be 1 to {MAX_FRAMES}, got {self.mix_frames}")
        if not 0 <= self.psi <= 1:
            raise InputError(f"psi must be from 0 to 1, got {self.psi}; 0.7 is usual")


@dataclass(frozen=True)
class StyledPortrait:
    """One style of a run and the pictures of it."""

    prompt: str
    edited: Tensor  # [V,3,H,W], the editor's views
    portrait: Portrait
    front: Tensor  # [3,H,W]
    sheet: Tensor  # [S,3,H,W], final views at the sheet's cameras
    turntable: Tensor  # [F,3,H,W]
    mesh: Mesh


@dataclass(frozen=True)
class MixedSweep:
    """What lies between the two styles of a run."""

    sheet: Tensor  # [R,N,3,H,W], a row per yaw of MIX_YAWS_DEG, a column per step
    frames: Tensor  # [F,3,H,W], there and back while the head turns


@dataclass(frozen=True)
class PortraitRun:
    """Everything a run made; `results.write_run` turns it into files."""

    settings: PortraitSettings
    original: Tensor  # [V,3,H,W], the unstyled views
    sheet_views: list[int]  # the views of the contact sheet
    styles: list[StyledPortrait]
    mixed: MixedSweep | None
    losses: dict[str, list[float]]


def load_models(
    paths: ModelPaths,
    device: torch.device | str = "cpu",
    editor_dtype: torch.dtype = torch.float32,
) -> Models:
    """Return the models on `device`, after checking that they fit together."""
    eg3d = load_eg3d(paths.eg3d)
    i2t = load_i2t(paths.i2t, eg3d=eg3d)
    editor = load_editor(paths.editor, dtype=editor_dtype)
    size = eg3d.config.image_resolution
    if size % editor.factor:
        raise MismatchError(
            f"the editor needs image sides that are multiples of {editor.factor}, but this EG3D "
            f"makes {size} pixels; choose another editor"
        )
    parts = {
        "eg3d": eg3d,
        "i2t": i2t,
        "unet": editor.unet,
        "vae": editor.vae,
        "text_encoder": editor.text_encoder,
    }
    perceptual = parts["perceptual"] = load_distance(paths.perceptual, image_resolution=size)
    hashes = {name: weights_hash(part.state_dict()) for name, part in parts.items()}
    return Models(eg3d.to(device), i2t.to(device), perceptual.to(device), editor.to(device), hashes)


def make_portrait(
    models: Models, settings: PortraitSettings, *, stages: Stages | None = None
) -> PortraitRun:
    """Return the stylised portraits of `settings` and the pictures, videos and meshes of them."""
    stages = stages or Stages()
    for prompt in settings.prompts:  # refuse a prompt that is too long before the minutes of work
        models.editor.encode_text([settings.edit.prompt(prompt)])
        for note in prompt_notes(prompt, models.editor):
            _log.warning("%s", note)
    rig = models.eg3d.config.rig()
    cameras = grid_cameras(
        settings.views,
        rig,
        yaw_range_deg=settings.yaw_range_deg,
        pitch_range_deg=settings.pitch_range_deg,
    )
    with stages.stage("render the views") as progress:
        portrait = _with_hashes(
            sample_portrait(models.eg3d, settings.seed, psi=settings.psi), models
        )
        original = render_views(
            portrait, cameras, settings=settings.render, progress=progress
        ).image
    sets = [
        few_shot_set(portrait, _edited(models, original, prompt, settings, stages), cameras, prompt)
        for prompt in settings.prompts
    ]
    with stages.stage("fine-tune") as progress:
        result = finetune_portraits(
            models.i2t,
            models.hashes["i2t"],
            [portrait] * len(sets),
            sets,
            models.perceptual,
            settings=replace(settings.tune, seed=settings.seed),
            progress=progress,
        )
    shown = sheet_views(settings.views)
    styles = [
        _pictures_of(few_shot, styled, cameras[shown], settings, stages)
        for few_shot, styled in zip(sets, result.portraits, strict=True)
    ]
    mixed = None
    if len(styles) == 2:
        mixed = mixed_pictures(*result.portraits, settings, stages)
    return PortraitRun(settings, original, shown, styles, mixed, result.losses)


def sheet_views(views: int) -> list[int]:
    """Return which of the 1 + views^2 grid cameras the contact sheet shows, front first."""
    last = views - 1
    chosen = [0]
    for row, column in SHEET_POSITIONS:
        index = 1 + round(row * last) * views + round(column * last)
        if index not in chosen:
            chosen.append(index)
    return chosen


def mixed_pictures(
    a: Portrait, b: Portrait, settings: PortraitSettings, stages: Stages
) -> MixedSweep:
    """Return the mixing sheet and the mixing video of two stylised portraits."""
    rig = a.renderer.config.rig()
    sides = orbit_cameras(MIX_YAWS_DEG, [0.0] * len(MIX_YAWS_DEG), rig)
    frames = replace(settings.turntable, frames=settings.mix_frames).cameras(rig)
    total = settings.mix_steps + settings.mix_frames
    with stages.stage("mix the styles") as progress:
        columns = []
        for done, between in enumerate(mix_sweep(a, b, settings.mix_steps)):
            columns.append(render_views(between, sides, settings=settings.render).image)
            progress(done + 1, total, columns[-1][1])
        pictures = []
        for index in range(settings.mix_frames):
            between = mix_portraits(a, b, there_and_back(index, settings.mix_frames))
            pictures.append(render_views(between, frames[index], settings=settings.render).image)
            progress(settings.mix_steps + index + 1, total, pictures[-1][0])
    return MixedSweep(torch.stack(columns, dim=1), torch.cat(pictures))


def there_and_back(index: int, frames: int) -> float:
    """Return the mixing amount of a frame: 0 at the first, 1 in the middle, then back."""
    return 1 - abs(1 - 2 * index / frames)


def to_device(portrait: Portrait, device: torch.device | str) -> Portrait:
    """Return the portrait on `device`; its networks move there."""
    style = portrait.style
    if style is not None:
        style = replace(style, w_s=style.w_s.to(device), network=style.network.to(device))
    planes = Triplane(portrait.triplane.planes.to(device), portrait.triplane.box_size)
    return replace(
        portrait,
        renderer=portrait.renderer.to(device),
        triplane=planes,
        w=portrait.w.to(device),
        style=style,
    )


def _edited(
    models: Models, original: Tensor, prompt: str, settings: PortraitSettings, stages: Stages
) -> Tensor:
    edit = replace(settings.edit, seed=settings.seed)
    with stages.stage(f"edit into {_short(prompt)}") as progress:
        return stylize_views(models.editor, original, prompt, settings=edit, progress=progress)


def _pictures_of(
    few_shot: FewShotSet,
    portrait: Portrait,
    sheet_cameras: CameraBatch,
    settings: PortraitSettings,
    stages: Stages,
) -> StyledPortrait:
    prompt = few_shot.prompt
    with stages.stage(f"render {_short(prompt)}") as progress:
        turntable = settings.turntable.cameras(portrait.renderer.config.rig())
        both = CameraBatch(
            torch.cat([sheet_cameras.cam_to_world, turntable.cam_to_world]),
            torch.cat([sheet_cameras.intrinsics, turntable.intrinsics]),
        )
        images = render_views(portrait, both, settings=settings.render, progress=progress).image
    sheet, frames = images[: len(sheet_cameras)], images[len(sheet_cameras) :]
    with stages.stage(f"mesh of {_short(prompt)}") as progress:
        surface = extract_mesh(portrait, settings=settings.mesh, progress=progress)
    return StyledPortrait(prompt, few_shot.images, portrait, sheet[0], sheet, frames, surface)


def _with_hashes(portrait: Portrait, models: Models) -> Portrait:
    provenance = {**portrait.provenance, "hashes": dict(models.hashes)}
    return replace(portrait, provenance=provenance)


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= 28 else prompt[:25] + "..."
