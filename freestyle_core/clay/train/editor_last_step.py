"""Refine the last step of the clay editor and the VAE's decoder together, on the editor's edits.

Trained apart, the U-Net's last step guesses an average of pictures (see `noise_schedule`) and the
decoder, which never saw such latents, draws it soft. This stage edits training heads with the
finished editor, adds the noise of the last step again, and teaches both networks to draw the true
restyled heads from there, in pixels. The loss of `train_editor` stays on, and pictures from their
own latents too, so all other steps and the VAE keep what they know. The encoder is untouched.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...files.bundle import weights_hash
from ...files.editors.load import load_editor, save_editor
from ...files.media.image import save_image
from ...files.networks import load_perceptual
from ...files.tensors import CheckpointFile
from ...method.stylize import StylizeSettings
from ...metrics.image import psnr
from ...models.editor import Editor
from ...models.perceptual import PerceptualDistance
from ...seeds import step_generator
from ...training.loop import Trainer, TrainSettings
from ...training.losses import Perceptual, edge_loss
from ...visualize.contact_sheet import plain_sheet
from ..data.editor_edits import EDIT_GUIDANCE, EditSettings, Targets, make_edits, prompts_of
from ..data.editor_pairs import LatentEncoder, draw_batch, load_pairs
from .editor import TIME_STEPS, edit_losses, token_ids
from .vae import EDGE_WEIGHT

log = logging.getLogger(__name__)

EDITS = EditSettings()
L1_WEIGHT, COLOR_WEIGHT, COLOR_BLOCK, PERCEPTUAL_WEIGHT = 3.0, 3.0, 8, 0.6
LATENT_WEIGHT, V_WEIGHT, V_BATCH = 0.1, 0.3, 6
PLAIN_SHARE = 0.375  # of a batch: pictures from their own latents
UNET_RATE = 0.5  # of the learning rate; the decoder has all of it
# 1 thread: 0.2 s an edit, 1.3 s a step
SETTINGS = TrainSettings(steps=1100, batch_size=8, learning_rate=6e-4, warmup_steps=50)
SHEET_COLUMNS = 12


@dataclass(frozen=True)
class LastStep:
    """The last denoising step of an edit, from its finished latents made noisy again."""

    networks: nn.ModuleDict  # "unet" and "text_encoder"
    tokenize: Callable[[list[str]], Tensor]  # texts -> ids [N,T]
    alphas_cumprod: Tensor  # [T]
    steps: tuple[int, ...]  # numbers of steps of which this is the last

    def __call__(
        self, edited: Tensor, source: Tensor, prompts: list[str], generator: torch.Generator
    ) -> Tensor:
        """Return the guided guess [N,C,h,w] of the finished latents, scaled."""
        unet, encode = self.networks["unet"], self.networks["text_encoder"]
        steps = torch.tensor(self.steps)
        picked = torch.randint(len(steps), (len(edited),), generator=generator)
        t = TIME_STEPS // steps[picked] - 1  # where "trailing" sampling makes its last step
        noise = torch.randn(edited.shape, generator=generator).to(edited)
        t, alphas = t.to(edited.device), self.alphas_cumprod.to(edited.device)
        signal = alphas[t].sqrt()[:, None, None, None]
        spoil = (1 - alphas[t]).sqrt()[:, None, None, None]
        x = signal * edited + spoil * noise

        def v(condition: Tensor, texts: list[str]) -> Tensor:
            text = encode(self.tokenize(texts).to(edited.device))[0].expand(len(x), -1, -1)
            return unet(torch.cat([x, condition], 1), t, encoder_hidden_states=text).sample

        with torch.no_grad():
            nothing = v(torch.zeros_like(source), [StylizeSettings().negative])
        # both guidance scales are the same, so the term with the image alone drops out
        guided = EDIT_GUIDANCE * v(source, prompts) - (EDIT_GUIDANCE - 1) * nothing
        return signal * x - spoil * guided


def drawing_losses(
    drawn: Tensor,  # [N,3,H,W], in [0,1], the edits first
    target: Tensor,  # [N,3,H,W], in [0,1]
    edits: int,  # how many of them are edits
    perceptual: Perceptual,
) -> dict[str, Tensor]:
    """Return the weighted losses of decoded pictures."""
    coarse, true = (F.avg_pool2d(images, COLOR_BLOCK) for images in (drawn, target))
    return {
        "l1": L1_WEIGHT * F.l1_loss(drawn, target),
        "color": COLOR_WEIGHT * F.l1_loss(coarse, true),
        "edge": EDGE_WEIGHT * edge_loss(drawn, target),
        "perceptual": PERCEPTUAL_WEIGHT * perceptual(drawn[:edits], target[:edits]).mean(),
    }


def refine_editor(
    data_dir: Path,
    out_dir: Path,  # of `train_editor`
    perceptual_path: Path,
    *,
    edits: EditSettings = EDITS,
    settings: TrainSettings = SETTINGS,
    device: str = "cpu",
    threads: int | None = None,
) -> Path:
    """Return the folder of the refined editor that `train_editor` left in `out_dir`."""
    if threads is not None:
        torch.set_num_threads(threads)
    editor = load_editor(out_dir / "editor").to(device)
    work_dir = out_dir / f"refine_{weights_hash(editor.unet.state_dict())[:12]}_{edits.count}"
    perceptual = PerceptualDistance(load_perceptual(perceptual_path)).to(device)
    pairs = load_pairs(data_dir, LatentEncoder(editor.vae, out_dir / "latents", device))
    made, targets = make_edits(editor, pairs, work_dir, edits, settings.seed), Targets(data_dir)
    scale, plain = editor.latent_scale, round(PLAIN_SHARE * settings.batch_size)
    learnt = _learnt(editor).requires_grad_(True).train()
    learnt.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    alphas = editor.scheduler.alphas_cumprod
    edit = LastStep(learnt, token_ids(editor.tokenizer), alphas, edits.steps)
    slow = [*learnt["unet"].parameters(), *learnt["text_encoder"].parameters()]
    drawing = [*learnt["decoder"].parameters(), *learnt["post_quant_conv"].parameters()]
    groups: list[dict] = [{"params": slow, "scale": UNET_RATE}, {"params": drawing}]
    trainer = Trainer(learnt, CheckpointFile(work_dir / "checkpoint.pt"), settings, groups)
    trainer.resume()

    def losses_at(step: int) -> dict[str, Tensor]:
        generator = step_generator(settings.seed, step)
        some = torch.randint(edits.count, (settings.batch_size - plain,), generator=generator)
        own = torch.randint(pairs.train, (plain,), generator=generator)
        rows = made.rows[some]
        source = pairs.sources(rows, generator).to(device)
        prompts = prompts_of(pairs, rows, generator)
        guess = edit(made.latents[some].float().to(device), source, prompts, generator)
        latents = torch.cat([guess / scale, pairs.target[own].float().to(device)])
        drawn = editor.vae.decode(latents).sample / 2 + 0.5
        truth = pairs.target[rows].float().to(device) * scale
        target = targets[torch.cat([rows, own])].to(device)
        batch = draw_batch(pairs, V_BATCH, scale, generator)
        others = edit_losses(learnt, edit.tokenize, batch, alphas, generator, device)
        return {
            **drawing_losses(drawn, target, len(some), perceptual),
            "latent": LATENT_WEIGHT * (guess - truth).square().mean(),
            "v": V_WEIGHT * others["v"],
        }

    def finished() -> Editor:
        again = load_editor(out_dir / "editor")
        for name, network in _learnt(again).items():
            network.load_state_dict(trainer.average[name].state_dict())
        return again

    rows, latents = made.rows[edits.count :], made.latents[edits.count :].float()
    truth, own = targets[rows], pairs.target[rows].float() * scale
    before = _decode(load_editor(out_dir / "editor"), latents)

    def on_checkpoint() -> None:
        now = finished()
        generator = step_generator(settings.seed, -1)
        step = LastStep(_learnt(now), edit.tokenize, alphas.cpu(), edits.steps)
        with torch.no_grad():
            source = pairs.sources(rows, generator)
            guess = step(latents, source, prompts_of(pairs, rows, generator), generator)
        after = _decode(now, guess)
        for name, drawn in (("before", before), ("now", after)):
            log.info("held-out edits, %s: %.2f dB", name, float(psnr(drawn, truth).mean()))
        log.info("from their own latents: %.2f dB", float(psnr(_decode(now, own), truth).mean()))
        columns = (x.split(SHEET_COLUMNS) for x in (before, after, truth))
        sheet = [row for three in zip(*columns, strict=True) for row in three]
        save_image(work_dir / "refine.png", plain_sheet(sheet))

    trainer.fit(losses_at, on_checkpoint)
    tokenizer = out_dir / "editor" / "tokenizer"
    return save_editor(work_dir / "editor", finished(), tokenizer_files=tokenizer)


def _learnt(editor: Editor) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "unet": editor.unet,
            "text_encoder": editor.text_encoder,
            "decoder": editor.vae.decoder,
            "post_quant_conv": editor.vae.post_quant_conv,
        }
    )


@torch.no_grad()
def _decode(editor: Editor, latents: Tensor) -> Tensor:
    return torch.cat([editor.decode(part) for part in latents.split(8)])
