"""Measure the clay models on held-out identities and cameras, against the procedural truth.

The procedural world knows what every head looks like from every side and in every style, so each
stage has an objective score: the generator against the head of the same code, an edit against the
true restyled head and against its rivals, the final portrait against the truth at new cameras.
Each `measure_*` returns numbers by name; `python -m freestyle_core.clay evaluate` prints them.
"""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry.cameras import front_camera, grid_cameras
from ..method.render import render_views
from ..method.sample import latent, sample_portrait
from ..method.stylize import StylizeSettings, stylize_views
from ..metrics.image import psnr
from ..pipeline import Models, style_views
from ..presets import DEFAULT, Preset
from ..progress import Progress, no_progress
from ..training.losses import Perceptual
from ..types import CameraBatch, Portrait, Triplane
from .data.shards import RESOLUTION, cameras_at, draw_edit
from .draw import draw, plain_head, styled_head
from .styles.attributes import with_attributes
from .styles.captions import HELD_OUT, canonical, describe
from .styles.catalogue import STYLES, jitter_style
from .styles.style import PLAIN

log = logging.getLogger(__name__)

Scores = tuple[Tensor, Tensor]  # PSNR and perceptual distance, [N] each

FIRST_SEED = 10_000  # identities from here on were never trained on
YAW_RANGE, PITCH_RANGE = 35.0, 30.0  # degrees, either side
PIPELINE_STYLES = (
    "Na'vi",
    "zombie",
    "bronze statue",
    "elf",
    "clown",
    "gold",
    "robot",
    "Hulk",
    "sand",
    "devil",
    "ice",
    "vampire",
)


def random_cameras(count: int, seed: int) -> CameraBatch:
    """Return cameras uniform in the range that scores are taken over."""
    generator = torch.Generator().manual_seed(seed)
    view = torch.rand(count, 2, generator=generator) * 2 - 1
    return cameras_at(view * torch.tensor([YAW_RANGE, PITCH_RANGE]))


def code_of_seed(seed: int) -> Tensor:
    """Return the identity code [64] that `sample_portrait` maps for a seed."""
    return latent(seed, 64)[0]


def _mean(values: Sequence[Tensor]) -> float:
    return float(torch.cat([v.reshape(-1).float() for v in values]).mean())


@torch.no_grad()
def measure_eg3d(models: Models, identities: int = 64, views: int = 2) -> dict[str, float]:
    """Return PSNR and depth error against the procedural heads, and how often the nearest is own.

    The PSNR is taken against the head drawn with smooth edges (four rays a pixel), and again with
    the one ray a pixel of the training data, whose jagged edges nothing can learn. The nearest head
    is sought among all `identities` seen from the front, by perceptual distance.
    """
    scores, jagged, depths, made, true = [], [], [], [], []
    front = front_camera(models.eg3d.config.rig())
    for seed in range(FIRST_SEED, FIRST_SEED + identities):
        portrait, head = sample_portrait(models.eg3d, seed), plain_head(code_of_seed(seed))
        cameras = random_cameras(views, seed)
        image, alpha, depth = draw(head, cameras, RESOLUTION)
        out = render_views(portrait, cameras)
        scores.append(psnr(out.image, draw(head, cameras, RESOLUTION, supersample=2)[0]))
        jagged.append(psnr(out.image, image))
        factor = RESOLUTION // out.depth.shape[-1]
        whole = torch.nn.functional.avg_pool2d(alpha, factor) == 1
        small = torch.nn.functional.avg_pool2d(depth, factor)
        depths.append((out.depth - small).abs()[whole])
        made.append(render_views(portrait, front).image)
        true.append(draw(head, front, RESOLUTION)[0])
    own = _nearest(models.perceptual, torch.cat(made), torch.cat(true))
    return {
        "psnr_db": _mean(scores),
        "psnr_jagged_db": _mean(jagged),
        "depth_error_median": float(torch.cat(depths).median()),
        "identity_accuracy": float((own == torch.arange(identities)).float().mean()),
    }


def _all_styles(seed: int, camera: CameraBatch) -> Tensor:
    z = code_of_seed(seed)
    return torch.cat([draw(styled_head(z, s), camera, RESOLUTION)[0] for s in STYLES.values()])


def _nearest(distance: Perceptual, images: Tensor, candidates: Tensor) -> Tensor:
    """Return for each image [N] the index of the perceptually nearest candidate."""
    rows = []
    for image in images:
        rows.append(distance(image[None].expand_as(candidates), candidates).argmin())
    return torch.stack(rows)


@torch.no_grad()
def measure_vae(models: Models, identities: int = 32) -> dict[str, float]:
    """Return the PSNR of reconstructions of plain and of restyled heads."""
    plain: list[Tensor] = []
    styled: list[Tensor] = []
    generator = torch.Generator().manual_seed(FIRST_SEED)
    styles = list(STYLES.values())
    for seed in range(FIRST_SEED, FIRST_SEED + identities):
        cameras, z = random_cameras(1, seed), code_of_seed(seed)
        style = jitter_style(styles[seed % len(styles)], generator)
        for head, scores in ((plain_head(z), plain), (styled_head(z, style), styled)):
            image = draw(head, cameras, RESOLUTION)[0]
            code = models.editor.vae.encode(image * 2 - 1).latent_dist.mode()
            again = (models.editor.vae.decode(code).sample / 2 + 0.5).clamp(0, 1)
            scores.append(psnr(again, image))
    return {"plain_psnr_db": _mean(plain), "styled_psnr_db": _mean(styled)}


@torch.no_grad()
def measure_editor(
    models: Models,
    identities: int = 4,
    *,
    wordings: str = "canonical",
    settings: StylizeSettings | None = None,
    progress: Progress = no_progress,
) -> dict[str, float]:
    """Return how often an edit is nearest to the true style, and to its own identity.

    The source is the generator's front view, as in the pipeline. Style: among all styles of the
    same head. Identity: among 16 heads in the same style. `wordings` "held_out" takes the prompts
    that were kept out of training.
    """
    settings = settings or StylizeSettings()
    front = front_camera(models.eg3d.config.rig())
    seeds = range(FIRST_SEED, FIRST_SEED + 16)
    style_hits, identity_hits = [], []
    names = list(STYLES)
    truth = torch.stack([_all_styles(s, front) for s in seeds])  # [16,styles,3,H,W]
    sources = torch.cat([render_views(sample_portrait(models.eg3d, s), front).image for s in seeds])
    for i, name in enumerate(names):
        prompts = HELD_OUT[name] if wordings == "held_out" else (canonical(name),)
        for k in range(identities):
            prompt = prompts[k % len(prompts)]
            edited = stylize_views(models.editor, sources[k : k + 1], prompt, settings=settings)
            style_hits.append(_nearest(models.perceptual, edited, truth[k]) == i)
            identity_hits.append(_nearest(models.perceptual, edited, truth[:, i]) == k)
        progress(i + 1, len(names))
    return {"style_accuracy": _mean(style_hits), "identity_accuracy": _mean(identity_hits)}


@torch.no_grad()
def measure_attributes(
    models: Models, count: int = 48, *, progress: Progress = no_progress
) -> dict[str, float]:
    """Return how often words that are added to a style move the edit towards the head they mean.

    A hit is an edit ("an old zombie with a red beard") with a higher PSNR against the head with the
    attributes than the edit by the style's words alone has ("a zombie"); 0.5 is chance.
    """
    front = front_camera(models.eg3d.config.rig())
    generator = torch.Generator().manual_seed(FIRST_SEED)
    hits: list[Tensor] = []
    while len(hits) < count:
        style, names = draw_edit(generator)
        if not names or style is PLAIN:
            continue
        seed = FIRST_SEED + len(hits) % 16
        prompt = describe(canonical(style.name), names, generator)
        source = render_views(sample_portrait(models.eg3d, seed), front).image
        with_words, without = (
            stylize_views(models.editor, source, words) for words in (prompt, canonical(style.name))
        )
        head = styled_head(code_of_seed(seed), with_attributes(style, names))
        truth = draw(head, front, RESOLUTION)[0]
        hits.append(psnr(with_words, truth) > psnr(without, truth))
        progress(len(hits), count)
    return {"attribute_accuracy": _mean(hits)}


@torch.no_grad()
def measure_i2t(models: Models, identities: int = 16, grid: int = 3) -> dict[str, float]:
    """Return the PSNR of I2T(front view) against the generator's own views of the grid."""
    network = models.i2t
    if network is None:
        raise InputError("there is no I2T to measure; load the models with one")
    cameras = grid_cameras(grid, models.eg3d.config.rig())
    scores = []
    for seed in range(FIRST_SEED, FIRST_SEED + identities):
        portrait = sample_portrait(models.eg3d, seed)
        own = render_views(portrait, cameras).image
        triplane = Triplane(network(own[:1]), portrait.triplane.box_size)
        again = Portrait(portrait.renderer, triplane, portrait.w)
        scores.append(psnr(render_views(again, cameras).image, own))
    return {"psnr_db": _mean(scores)}


def measure_pipeline(
    models: Models,
    *,
    styles: Sequence[str] = PIPELINE_STYLES,
    identities: int = 1,
    preset: Preset = DEFAULT,
    progress: Progress = no_progress,
) -> dict[str, float]:
    """Return PSNR and perceptual distance to the true restyled head, of portrait and edited set.

    Each run is one of the portrait command, but for psi: it is 1, since the truth belongs to the
    head as it was drawn, not to one pulled towards the average. The portrait is seen by 16 cameras
    it was not trained on, the edited set at its own. Three and a half minutes each on 2 cores; the
    log gets the numbers of every portrait.
    """
    portrait_scores: list[Scores] = []
    edited_scores: list[Scores] = []
    runs = [(s, i) for s in styles for i in range(FIRST_SEED, FIRST_SEED + identities)]
    for done, (name, seed) in enumerate(runs):
        made = style_views(models, preset.settings(canonical(name), seed=seed, psi=1.0))
        head = styled_head(code_of_seed(seed), STYLES[name])
        new = random_cameras(16, seed)
        with torch.no_grad():
            seen = render_views(made.portraits[0], new, settings=made.settings.render).image
            both = (
                (seen, new, portrait_scores),
                (made.sets[0].images, made.cameras, edited_scores),
            )
            for images, at, scores in both:
                truth = draw(head, at, RESOLUTION)[0]
                scores.append((psnr(images, truth), models.perceptual(images, truth)))
        log.info("%s, head %d: %s", name, seed, _summary(portrait_scores[-1:], edited_scores[-1:]))
        progress(done + 1, len(runs))
    return _summary(portrait_scores, edited_scores)


def _summary(portraits: list[Scores], edits: list[Scores]) -> dict[str, float]:
    return {
        "portrait_psnr_db": round(_mean([p for p, _ in portraits]), 3),
        "portrait_perceptual": round(_mean([d for _, d in portraits]), 4),
        "edited_psnr_db": round(_mean([p for p, _ in edits]), 3),
        "edited_perceptual": round(_mean([d for _, d in edits]), 4),
    }
