"""The whole method in one call: a seed and one or two styles become stylised portraits.

`style_views` joins the steps in the paper's order: sample, render the views, edit them, fine-tune;
`make_portrait` adds all that is shown of the result. `cli/run_files.py` writes what it returns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checks import check_numbers, rebuilt
from .errors import InputError, MismatchError
from .files.bundle import weights_hash
from .files.editors.load import load_editor
from .files.networks import embedded, load_eg3d, load_i2t
from .files.perceptual import AUTO, load_distance
from .geometry.cameras import grid_cameras, with_front
from .method.fewshot import few_shot_set
from .method.finetune import FinetuneSettings, finetune_portraits
from .method.mesh import MeshSettings, extract_mesh
from .method.prompts import prompt_notes
from .method.reedit import MOST_ROUNDS, REPLACED, reedit_views, surface_views
from .method.render import RenderSettings, render_views
from .method.sample import sample_portrait
from .method.stylize import StylizeSettings, stylize_views
from .models.editor import Editor
from .models.eg3d import EG3D
from .models.i2t import FRESH, I2T, fresh_i2t
from .progress import Portion, Progress, Stages
from .seeds import check_seed
from .training.losses import Perceptual
from .types import CameraBatch, CameraRig, FewShotSet, Mesh, Portrait, Rendering
from .visualize.mix_video import MixedSweep, mixed_pictures
from .visualize.turntable import MAX_FRAMES, TurntableSettings

SHEET_POSITIONS = ((0.5, 0.0), (0.5, 0.25), (0.5, 0.75), (0.5, 1.0), (0.0, 0.5), (1.0, 0.5))
EDIT_SHARE = 0.8  # of the time to edit, where what does not fit is edited again
LEAST_S = 0.001  # of training, where no time is left: one step
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelPaths:
    """Where the models of a run lie; the defaults are the embedded ones."""

    eg3d: Path = embedded("eg3d")
    i2t: Path | str | None = embedded("i2t")  # or FRESH; None: planes alone are trained
    perceptual: Path | str = AUTO  # or VGG, of files/perceptual.py
    editor: Path = embedded("editor")


@dataclass(frozen=True)
class Models:
    """Everything a run needs, on one device, with the hash of each part's weights."""

    eg3d: EG3D
    i2t: I2T | None
    perceptual: Perceptual
    editor: Editor
    hashes: dict[str, str]


@dataclass(frozen=True)
class PortraitSettings:
    """One run. The defaults are those of the balanced preset; `presets.PAPER` is the paper."""

    prompts: tuple[str, ...]  # one style, or two to mix
    seed: int = 0  # of the identity, the edit's noise and the fine-tuning
    psi: float = 0.7  # truncation: 1 as varied as the training data, 0 the average head
    views: int = 7  # the camera grid is views x views, and the front
    yaw_range_deg: float = 30.0
    pitch_range_deg: float = 30.0
    mix_steps: int = 5  # with two styles: columns of the mixing sheet
    mix_frames: int = 48
    front: tuple[float, ...] = ()  # cam_to_world [16] of another first camera: a photograph's
    reedit: int = 0  # noises that views are edited with again which do not fit; 0: with none
    edit: StylizeSettings = field(default_factory=StylizeSettings)
    tune: FinetuneSettings = field(default_factory=FinetuneSettings)
    render: RenderSettings = field(default_factory=RenderSettings)
    turntable: TurntableSettings = field(default_factory=TurntableSettings)
    mesh: MeshSettings = field(default_factory=MeshSettings)

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("edit", "tune"):
            own = getattr(self, name).seed
            if own not in (0, self.seed):
                raise InputError(
                    f"{name}.seed is {own}, but one seed rules a whole run and it is {self.seed}; "
                    f"leave {name}.seed at 0"
                )
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
        if not 0 <= self.reedit <= MOST_ROUNDS:
            raise InputError(f"reedit must be 0 to {MOST_ROUNDS}, got {self.reedit}")
        if len(self.front) not in (0, 16):
            raise InputError(f"front must be the 16 numbers of a camera, got {len(self.front)}")
        if not 0 <= self.psi <= 1:
            raise InputError(f"psi must be from 0 to 1, got {self.psi}; 0.7 is usual")

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> PortraitSettings:
        """Return the settings that `asdict` made into `values`, as "settings" of run.json."""
        return rebuilt(cls, values)

    def resolved(self) -> PortraitSettings:
        """Return settings that say which seeds the edit and the fine-tuning use: the run's."""
        return replace(
            self,
            edit=replace(self.edit, seed=self.seed),
            tune=replace(self.tune, seed=self.seed),
        )

    def cameras(self, rig: CameraRig) -> CameraBatch:
        """Return the cameras of the views that are edited, the front first."""
        ranges = {"yaw_range_deg": self.yaw_range_deg, "pitch_range_deg": self.pitch_range_deg}
        grid = grid_cameras(self.views, rig, **ranges)
        return with_front(grid, self.front) if self.front else grid


@dataclass(frozen=True)
class StyledViews:
    """What the method itself makes: one head, its views, and a portrait per style."""

    settings: PortraitSettings  # as they were used, see `PortraitSettings.resolved`
    cameras: CameraBatch  # V, the front view first
    original: Tensor  # [V,3,H,W], the unstyled views
    sets: list[FewShotSet]  # one per style: the editor's views
    portraits: list[Portrait]  # one per style
    losses: dict[str, list[float]]


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
class PortraitRun:
    """Everything a run made; `cli/run_files.py` turns it into files."""

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
    i2t = _i2t(paths.i2t, eg3d)
    editor = load_editor(paths.editor, dtype=editor_dtype)
    size = eg3d.config.image_resolution
    if size % editor.factor:
        raise MismatchError(
            f"the editor needs image sides that are multiples of {editor.factor}, but this EG3D "
            f"makes {size} pixels; choose another editor"
        )
    parts = {
        "eg3d": eg3d,
        "unet": editor.unet,
        "vae": editor.vae,
        "text_encoder": editor.text_encoder,
    }
    if i2t is not None:
        parts["i2t"] = i2t.to(device)
    perceptual = parts["perceptual"] = load_distance(paths.perceptual, image_resolution=size)
    hashes = {name: weights_hash(part.state_dict()) for name, part in parts.items()}
    return Models(eg3d.to(device), i2t, perceptual.to(device), editor.to(device), hashes)


def _i2t(path: Path | str | None, eg3d: EG3D) -> I2T | None:
    if path is None:
        return None
    return fresh_i2t(eg3d.config) if str(path) == FRESH else load_i2t(path, eg3d=eg3d)


def style_views(
    models: Models,
    settings: PortraitSettings,
    *,
    stages: Stages | None = None,
    training_seconds: Callable[[], float] | None = None,  # asked for when training begins
    edit: Callable[..., Tensor] | None = None,  # in place of `stylize_views`, as `kept_views`
    render: Callable[..., Tensor] | None = None,  # the images of `render_views`, in its place
    start: Portrait | None = None,  # in place of the head of the seed, restyled already or not
) -> StyledViews:
    """Return the head of a seed restyled: the paper's method, without what is shown of it.

    With a `start`, that portrait is restyled: its views are edited, and its planes learn them.

    With `training_seconds`, fine-tuning makes as many of its iterations as fit into that time, and
    the settings that come back say how many those were.
    """
    stages, settings = stages or Stages(), settings.resolved()
    for prompt in settings.prompts:  # refuse a prompt that is too long before the minutes of work
        models.editor.encode_text([settings.edit.prompt(prompt)])
        for note in prompt_notes(prompt, models.editor):
            _log.warning("%s", note)
    if start is not None:
        _check_start(models, settings, start)
    cameras = settings.cameras(models.eg3d.config.rig())
    with stages.stage("render the views") as progress:
        if start is None:
            start = sample_portrait(models.eg3d, settings.seed, psi=settings.psi)
        portrait = _with_hashes(start, models)
        seen = None
        if render is None:
            seen = render_views(portrait, cameras, settings=settings.render, progress=progress)
            original = seen.image
        else:
            original = render(portrait, cameras, settings=settings.render, progress=progress)
    sets, heads = [], []
    for prompt in settings.prompts:
        with stages.stage(f"edit into {_short(prompt)}") as progress:
            few_shot, head = _edited(
                models.editor, portrait, original, seen, cameras, prompt, settings, progress, edit
            )
        sets.append(few_shot)
        heads.append(head)
    with stages.stage("fine-tune") as progress:
        tune = settings.tune
        if training_seconds is not None:
            tune = replace(tune, budget_s=max(training_seconds(), LEAST_S))
        result = finetune_portraits(
            models.i2t,
            models.hashes.get("i2t", ""),
            heads,
            sets,
            models.perceptual,
            eg3d=models.eg3d,
            settings=tune,
            progress=progress,
        )
    if training_seconds is not None:
        tune = replace(settings.tune, iterations=len(result.losses["total"]))
        settings = replace(settings, tune=tune)
    return StyledViews(settings, cameras, original, sets, result.portraits, result.losses)


def make_portrait(
    models: Models,
    settings: PortraitSettings,
    *,
    stages: Stages | None = None,
    training_seconds: Callable[[], float] | None = None,  # see `style_views`
    edit: Callable[..., Tensor] | None = None,
    render: Callable[..., Tensor] | None = None,
    start: Portrait | None = None,
) -> PortraitRun:
    """Return the stylised portraits of `settings` and the pictures, videos and meshes of them."""
    stages = stages or Stages()
    made = style_views(
        models,
        settings,
        stages=stages,
        training_seconds=training_seconds,
        edit=edit,
        render=render,
        start=start,
    )
    settings, shown = made.settings, sheet_views(settings.views)
    styles = [
        _pictures_of(few_shot, styled, made.cameras[shown], settings, stages)
        for few_shot, styled in zip(made.sets, made.portraits, strict=True)
    ]
    mixed = None
    if len(styles) == 2:
        first, second = made.portraits
        with stages.stage("mix the styles") as progress:
            mixed = mixed_pictures(
                first,
                second,
                steps=settings.mix_steps,
                frames=settings.mix_frames,
                turntable=settings.turntable,
                settings=settings.render,
                progress=progress,
            )
    return PortraitRun(settings, made.original, shown, styles, mixed, made.losses)


def _check_start(models: Models, settings: PortraitSettings, start: Portrait) -> None:
    """Raise unless a portrait is one of the models' generator, and can be trained as asked."""
    own = weights_hash(models.eg3d.renderer().state_dict())
    if own not in (start.renderer.parent, weights_hash(start.renderer.state_dict())):
        raise MismatchError(
            f"the portrait to begin with was not made with EG3D {models.eg3d.config.name}; give "
            "the EG3D that it was made with"
        )
    if settings.tune.train == "modulation":
        raise InputError(
            "training 'modulation' starts from a head as its generator makes it, not from a "
            "portrait; train 'planes'"
        )


def sheet_views(views: int) -> list[int]:
    """Return which of the 1 + views^2 grid cameras the contact sheet shows, front first."""
    last = views - 1
    chosen = [0]
    for row, column in SHEET_POSITIONS:
        index = 1 + round(row * last) * views + round(column * last)
        if index not in chosen:
            chosen.append(index)
    return chosen


def _edited(
    editor: Editor,
    portrait: Portrait,
    original: Tensor,  # [V,3,H,W]
    seen: Rendering | None,  # the same with its depth, where it is at hand
    cameras: CameraBatch,  # V
    prompt: str,
    settings: PortraitSettings,
    progress: Progress,
    edit: Callable[..., Tensor] | None,
) -> tuple[FewShotSet, Portrait]:
    """Return the edited views, and the head, which remembers those that were edited again."""
    edit, again = edit or stylize_views, settings.reedit
    first = Portion(progress, 0.0, EDIT_SHARE) if again else progress
    extra = surface_views(portrait, cameras, settings.edit, seen, settings.render)
    edited = edit(editor, original, prompt, settings=settings.edit, progress=first, **extra)
    few_shot = few_shot_set(portrait, edited, cameras, prompt)
    if not again:
        return few_shot, portrait
    made = reedit_views(
        editor,
        portrait,
        original,
        few_shot,
        seen=seen,
        settings=settings.edit,
        rounds=again,
        render=settings.render,
        edit=edit,
        progress=Portion(progress, EDIT_SHARE, 1.0),
    )
    if made.doubted:
        _log.warning("%s", made)
    provenance = {**portrait.provenance, REPLACED: made.replaced}
    return made.few_shot, replace(portrait, provenance=provenance)


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
        both = CameraBatch.cat([sheet_cameras, turntable])
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
