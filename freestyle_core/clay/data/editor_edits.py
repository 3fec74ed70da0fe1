"""What the clay editor makes of its own training pairs, for `train_refine` to learn from."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...checks import check_numbers
from ...files.tensors import load_tensors, save_tensors
from ...method.stylize import Denoising, StylizeSettings
from ...models.editor import Editor
from ...models.unet_predictor import UNetPredictor
from ...seeds import step_generator
from ..styles.captions import PLAIN_WORDINGS, describe, wordings
from .editor_pairs import LatentPairs

log = logging.getLogger(__name__)

EDITED_TOGETHER = 16
EDIT_GUIDANCE = 1.6  # s_I and s_T alike, which saves `train_refine` a guess by the image alone


@dataclass(frozen=True)
class EditSettings:
    """How many edits are made, and how."""

    count: int = 2400  # of training pairs
    held_out: int = 48  # of held-out pairs
    in_shard: int = 240
    steps: tuple[int, ...] = (20, 10)  # of the default and of the quick preset, in turns

    def __post_init__(self) -> None:
        check_numbers(self)


class ManyTexts(Editor):
    """An editor with another text for every picture of a batch; the last text is the negative."""

    def predictor(
        self,
        condition: Tensor,
        text: Tensor,
        timesteps: Tensor,
        keep_features: bool = False,
        reference: int | None = None,
    ) -> UNetPredictor:
        negative = text[-1:].expand(len(condition), -1, -1)
        texts = torch.cat([text[:-1], negative, negative])
        return UNetPredictor(self.unet, condition, texts, timesteps, keep_features, reference)


@dataclass(frozen=True)
class Edits:
    """Pictures as the editor makes them, before decoding, and the pairs that they are of."""

    latents: Tensor  # [N,C,h,w], half precision, scaled
    rows: Tensor  # [N], of the pairs


def prompts_of(pairs: LatentPairs, rows: Tensor, generator: torch.Generator) -> list[str]:
    """Return the whole prompt of each of some pairs, with a wording of its own style."""
    settings, prompts = StylizeSettings(), []
    for row in rows.tolist():
        style, attributes = pairs.edit(row)
        words = PLAIN_WORDINGS if style is None else wordings(style)
        choice = int(torch.randint(len(words), (), generator=generator))
        prompts.append(settings.prompt(describe(words[choice], attributes, generator)))
    return prompts


@torch.no_grad()
def edit_pairs(
    editor: Editor, pairs: LatentPairs, rows: Tensor, steps: int, generator: torch.Generator
) -> Tensor:
    """Return the edited latents [N,C,h,w] of some pairs."""
    settings = StylizeSettings(
        steps=steps, image_guidance=EDIT_GUIDANCE, text_guidance=EDIT_GUIDANCE
    )
    source = pairs.sources(rows, generator)
    prompts = prompts_of(pairs, rows, generator)
    text = editor.encode_text([*prompts, settings.negative])
    noise = torch.randn(source.shape, generator=generator).to(editor.device)
    denoising = Denoising(editor, source.to(editor.device), text, noise, settings)
    while not denoising.finished:
        denoising.step()
    return denoising.latents.half().cpu()


def make_edits(
    editor: Editor, pairs: LatentPairs, folder: Path, settings: EditSettings, seed: int
) -> Edits:
    """Return the edits of training pairs, then those of held-out pairs; kept in `folder`."""
    editor = ManyTexts(**vars(editor))
    folder.mkdir(parents=True, exist_ok=True)
    held_out = len(pairs.style) - pairs.train
    latents, chosen = [], []
    count, most, steps = settings.count, settings.in_shard, settings.steps
    for number in range(-(-count // most) + 1):
        path = folder / f"edits_{number:04d}.pt"
        if not path.exists():
            generator = step_generator(seed, number)
            last = number * most >= count
            size = settings.held_out if last else min(most, count - number * most)
            low, high = (pairs.train, held_out) if last else (0, pairs.train)
            rows = low + torch.randint(high, (size,), generator=generator)
            made = [
                edit_pairs(editor, pairs, part, steps[i % len(steps)], generator)
                for i, part in enumerate(rows.split(EDITED_TOGETHER))
            ]
            save_tensors(path, {"latents": torch.cat(made), "rows": rows})
            log.info("made %s", path.name)
        shard = load_tensors(path)
        latents.append(shard["latents"])
        chosen.append(shard["rows"])
    return Edits(torch.cat(latents), torch.cat(chosen))


class Targets:
    """The true restyled heads of the pairs, read from their shards as they are asked for."""

    def __init__(self, data_dir: Path) -> None:
        paths = sorted(data_dir.glob("pairs_*.pt"))
        self.shards = [torch.load(p, weights_only=True, mmap=True)["target"] for p in paths]
        self.places = [(s, i) for s, shard in enumerate(self.shards) for i in range(len(shard))]

    def __getitem__(self, rows: Tensor) -> Tensor:  # [N] -> [N,3,H,W], in [0,1]
        places = [self.places[row] for row in rows.tolist()]
        return torch.stack([self.shards[s][i] for s, i in places]).float() / 255
