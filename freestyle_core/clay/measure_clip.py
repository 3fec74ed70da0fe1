"""Measure the clay CLIP on heads and wordings it was never trained on.

Drawn heads in every style first, then what the score is for: edited views and portraits. Accuracies
are shares; a `_spread` is the standard deviation over heads. `measure_clip` is the whole measure.
"""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from ..geometry.cameras import front_camera
from ..method.render import render_views
from ..method.sample import sample_portrait
from ..method.stylize import stylize_views
from ..metrics.clip import NEUTRAL, TEMPLATE, clip_direction, clip_gain
from ..models.clip import Clip
from ..pipeline import Models, style_views
from ..presets import FAST
from ..progress import Progress, no_progress
from .data.shards import RESOLUTION
from .draw import draw, plain_head, styled_head
from .evaluate import FIRST_SEED, code_of_seed, random_cameras
from .styles.captions import HELD_OUT, canonical
from .styles.catalogue import STYLES

log = logging.getLogger(__name__)

PORTRAITS = ("zombie", "bronze statue", "clown")
VIEWS = 8  # of a portrait, at cameras it was not trained on


def texts_of(clip: Clip, wording: int | None, template: str = TEMPLATE) -> Tensor:
    """Return features [34,D], a text for every style: a held-out wording, or the canonical one."""
    words = [canonical(name) if wording is None else HELD_OUT[name][wording] for name in STYLES]
    return clip.encode_texts([template.format(style=word) for word in words])


def accuracy(queries: Tensor, candidates: Tensor, right: Tensor) -> Tensor:
    """Return which queries [N,D] have candidate `right` [N] nearest among candidates [M,D]."""
    return (queries @ candidates.T).argmax(1) == right


@torch.no_grad()
def measure_clip(
    clip: Clip,
    models: Models,
    identities: int = 8,
    *,
    portraits: Sequence[str] = PORTRAITS,  # styles that are also made as quick portraits
    progress: Progress = no_progress,
) -> dict[str, float]:
    """Return the retrieval accuracies, and gain and direction of right and of wrong words."""
    seeds = range(FIRST_SEED, FIRST_SEED + identities)
    total = identities + len(STYLES) + len(portraits)
    drawn, plain = [], []
    for done, seed in enumerate(seeds):
        camera, z = random_cameras(1, seed), code_of_seed(seed)
        heads = [plain_head(z), *(styled_head(z, style) for style in STYLES.values())]
        images = torch.cat([draw(head, camera, RESOLUTION)[0] for head in heads])
        features = clip.encode_images(images * 2 - 1)
        plain.append(features[:1])
        drawn.append(features[1:])
        progress(done + 1, total)
    scores = _retrieval(clip, torch.stack(drawn))
    scores |= _changes(clip, torch.stack(drawn), torch.stack(plain))
    scores |= _edited(clip, models, progress, identities, total)
    for done, name in enumerate(portraits):
        scores |= _portrait(clip, models, name)
        progress(total - len(portraits) + done + 1, total)
    return scores


def _retrieval(clip: Clip, drawn: Tensor) -> dict[str, float]:
    """Return accuracies of features [heads,34,D] of every head in every style, both ways."""
    right = torch.arange(len(STYLES))
    wordings = {
        "": [texts_of(clip, None)],
        "_bare": [texts_of(clip, None, "{style}")],
        "_held_out": [texts_of(clip, i) for i in range(3)],
    }
    scores = {}
    for name, texts in wordings.items():
        to_style = [[accuracy(head, text, right) for text in texts] for head in drawn]
        to_image = [[accuracy(text, head, right) for text in texts] for head in drawn]
        for way, hits in (("image_to_style", to_style), ("text_to_image", to_image)):
            of_head = torch.tensor([torch.cat(h).float().mean() for h in hits])
            scores[f"{way}{name}"] = float(of_head.mean())
            scores[f"{way}{name}_spread"] = float(of_head.std(unbiased=False))
    return scores


def _changes(clip: Clip, drawn: Tensor, plain: Tensor) -> dict[str, float]:
    """Return mean gain and direction of a style's own words, and of the next style's."""
    texts, neutral = texts_of(clip, None), clip.encode_texts([NEUTRAL])
    pairs = [(i, i) for i in range(len(STYLES))]
    others = [(i, (i + 1) % len(STYLES)) for i in range(len(STYLES))]
    scores = {}
    for name, which in (("", pairs), ("_of_another", others)):
        gains = [clip_gain(drawn[:, i], plain[:, 0], texts[j]) for i, j in which]
        turns = [clip_direction(drawn[:, i], plain[:, 0], texts[j], neutral) for i, j in which]
        scores[f"gain{name}"] = sum(gains) / len(gains)
        scores[f"direction{name}"] = sum(turns) / len(turns)
    return scores


def _edited(
    clip: Clip, models: Models, progress: Progress, done: int, total: int
) -> dict[str, float]:
    """Return the accuracies of one edit in every style, each of another head of sixteen."""
    front = front_camera(models.eg3d.config.rig())
    edits = []
    for i, name in enumerate(STYLES):
        source = render_views(sample_portrait(models.eg3d, FIRST_SEED + i % 16), front).image
        edits.append(stylize_views(models.editor, source, canonical(name)))
        progress(done + i + 1, total)
    features = clip.encode_images(torch.cat(edits) * 2 - 1)
    right = torch.arange(len(STYLES))
    hits = [accuracy(features, texts_of(clip, i), right) for i in range(3)]
    return {
        "edited_to_style": float(accuracy(features, texts_of(clip, None), right).float().mean()),
        "edited_to_style_held_out": float(torch.cat(hits).float().mean()),
    }


def _portrait(clip: Clip, models: Models, name: str) -> dict[str, float]:
    """Return what a quick portrait scores at new cameras: accuracy, text, gain and direction."""
    made = style_views(models, FAST.settings(canonical(name), seed=FIRST_SEED, psi=1.0))
    cameras = random_cameras(VIEWS, FIRST_SEED)
    original = sample_portrait(models.eg3d, FIRST_SEED)
    views, before = (
        clip.encode_images(render_views(portrait, cameras).image * 2 - 1)
        for portrait in (made.portraits[0], original)
    )
    index = list(STYLES).index(name)
    texts, neutral = texts_of(clip, None), clip.encode_texts([NEUTRAL])
    text = texts[index]
    hits = accuracy(views, texts, torch.full((VIEWS,), index))
    return {
        f"portrait_to_style {name}": float(hits.float().mean()),
        f"portrait_text {name}": float((views @ text).mean()),
        f"portrait_gain {name}": clip_gain(views, before, text),
        f"portrait_direction {name}": clip_direction(views, before, text, neutral),
    }
