"""Train the clay InstructPix2Pix: a CLIP text encoder and a U-Net, together, on restyled heads.

The U-Net predicts v on a noise schedule of its own (`noise_schedule`) that begins in pure noise
(zero terminal signal), sampled at "trailing" time steps: 20 DDIM steps then start where training
did, also at tau = 1.

Text and image are left out of some pairs, as in InstructPix2Pix, so guidance can weigh them. The
paper's text scale of 20 suits an editor that hardly follows its words otherwise; this one is small
and its words decide nearly everything, so it carries its own scales (`GUIDANCE`), found by trying.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...files.editors.load import save_editor
from ...files.media.image import save_image
from ...files.tensors import CheckpointFile
from ...method.stylize import StylizeSettings, stylize_views
from ...metrics.image import psnr
from ...models.editor import Editor
from ...models.text_to_image import Suits
from ...seeds import step_generator
from ...training.loop import Trainer, TrainSettings
from ...visualize.contact_sheet import plain_sheet
from ..data.editor_pairs import (
    NOTHING_CAPTIONS,
    Batch,
    LatentEncoder,
    LatentPairs,
    draw_batch,
    load_pairs,
)
from ..data.shards import PITCH_RANGE, YAW_RANGE
from ..data.tokenizer import build_tokenizer
from ..styles.attributes import ATTRIBUTES
from ..styles.captions import PLAIN_WORDINGS, canonical, describe, sample_caption
from ..styles.catalogue import STYLES

log = logging.getLogger(__name__)

TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS = 128, 3, 4
GUIDANCE = (2.2, 1.6)  # s_I, s_T
TEACHING_GUIDANCE = 4.0  # of the words, in score distillation without an image
DROPPED = 0.06  # share of pairs without text, and again without image, and without both
CAPTIONS_FOR_TOKENS = 60  # per style
PREVIEW_HEADS = 8
TIME_STEPS = 1000
LEAST_NOISE_SIGNAL = 0.5  # sqrt(alpha) of the last step; see `noise_schedule`
SCHEDULE = {
    "num_train_timesteps": TIME_STEPS,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "clip_sample": True,
    "clip_sample_range": 12.0,  # colour latents have standard deviation 3
}
# One core (AVX-512, 1 thread): 25 ms a pair forwards and backwards.
SETTINGS = TrainSettings(
    steps=15000, batch_size=16, learning_rate=8e-4, warmup_steps=200, clip_norm=1.0
)


def build_networks(tokenizer_folder: Path) -> nn.ModuleDict:
    """Return the untrained text encoder and U-Net."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    text_config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=TEXT_HEADS,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet: Any = UNet2DConditionModel(
        sample_size=16,
        in_channels=32,
        out_channels=16,
        layers_per_block=1,
        block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        # the whole sentence also reaches every layer, beside the time step
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )
    return nn.ModuleDict({"text_encoder": CLIPTextModel(text_config), "unet": unet})


def noise_schedule() -> list[float]:
    """Return the betas [TIME_STEPS] of a schedule whose last step leaves most of the noise to jump.

    sqrt(alpha) rises linearly from exactly 0 (pure noise) to LEAST_NOISE_SIGNAL, and the last step
    goes from there straight to the predicted picture. Below that noise a network this small only
    hardens its own mistakes into blotches: on a schedule that went down to nothing, the predicted
    picture was best (17.9 dB) at a signal of 0.13 to 0.2 and lost 1.1 dB on the rest of the way.
    """
    done = torch.arange(1, TIME_STEPS + 1, dtype=torch.float64) / TIME_STEPS
    signal = LEAST_NOISE_SIGNAL * (1 - done)
    alphas = torch.cat([torch.ones(1, dtype=torch.float64), signal.square()])
    return (1 - alphas[1:] / alphas[:-1]).tolist()


def noise_scheduler():
    """Return the DDIM scheduler that the editor is trained for and saved with."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(trained_betas=noise_schedule(), **SCHEDULE)


def add_noise(
    target: Tensor,  # [N,C,h,w], scaled
    alphas_cumprod: Tensor,  # [T]
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the noisy latents, their time steps [N] and v, with the time steps spread evenly."""
    count, total = len(target), len(alphas_cumprod)
    spread = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    t = (spread * total).long()[torch.randperm(count, generator=generator)]
    noise = torch.randn(target.shape, generator=generator)
    signal = alphas_cumprod[t].sqrt()[:, None, None, None]
    spoil = (1 - alphas_cumprod[t]).sqrt()[:, None, None, None]
    # x_t = sqrt(a) x + sqrt(1-a) n,  v = sqrt(a) n - sqrt(1-a) x
    return signal * target + spoil * noise, t, signal * noise - spoil * target


def edit_losses(
    networks: nn.ModuleDict,
    tokenize: Callable[[list[str]], Tensor],  # texts -> ids [N,T]
    batch: Batch,
    alphas_cumprod: Tensor,
    generator: torch.Generator,
    device: str,
) -> dict[str, Tensor]:
    """Return the loss of the predicted v, with text or image left out of some pairs."""
    noisy, t, v = (x.to(device) for x in add_noise(batch.target, alphas_cumprod, generator))
    left_out = torch.rand(len(noisy), generator=generator)
    no_text = (left_out < 2 * DROPPED).tolist()
    with_image = ((left_out < DROPPED) | (left_out > 3 * DROPPED)).float()
    source = (batch.source * with_image[:, None, None, None]).to(device)
    texts = [
        negative if dropped else caption
        for caption, negative, dropped in zip(batch.captions, batch.negatives, no_text, strict=True)
    ]
    text = networks["text_encoder"](tokenize(texts).to(device))[0]
    predicted = networks["unet"](
        torch.cat([noisy, source], dim=1), t, encoder_hidden_states=text
    ).sample
    return {"v": (predicted - v).square().mean()}


def caption_corpus(seed: int, count: int = CAPTIONS_FOR_TOKENS) -> list[str]:
    """Return the training captions that the tokenizer is learnt from, `count` of every style."""
    generator = step_generator(seed, -1)
    captions: list[str] = []
    for name in STYLES:
        captions += [sample_caption(name, generator) for _ in range(count)]
    for name in ATTRIBUTES:
        captions += [sample_caption(None, generator, [name]) for _ in range(count)]
    default = StylizeSettings()
    captions += [default.negative] * count
    return captions + list(NOTHING_CAPTIONS) * 8


def token_ids(tokenizer: Any) -> Callable[[list[str]], Tensor]:
    """Return what turns texts into ids [N,T], all of one length."""

    def tokenize(texts: list[str]) -> Tensor:
        return tokenizer(
            texts, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids

    return tokenize


def train_editor(
    data_dir: Path,
    out_dir: Path,
    *,
    vae_dir: Path | None = None,  # default: out_dir / "vae"
    settings: TrainSettings = SETTINGS,
    device: str = "cpu",
    threads: int | None = None,
    resume: bool = True,
    captions: int = CAPTIONS_FOR_TOKENS,  # per style, that the tokenizer is learnt from
    preview_heads: int = PREVIEW_HEADS,
) -> Path:
    """Train on the pairs in `data_dir`; return the folder of the editor in diffusers' layout."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTokenizer

    if threads is not None:
        torch.set_num_threads(threads)
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    vae_dir = vae_dir or out_dir / "vae"
    vae = AutoencoderKL.from_pretrained(vae_dir, low_cpu_mem_usage=False).float()
    vae = vae.to(memory_format=torch.channels_last).requires_grad_(False)
    folder = out_dir / "tokenizer"
    if not (resume and (folder / "vocab.json").exists()):
        build_tokenizer(folder, caption_corpus(settings.seed, captions))
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    pairs = load_pairs(data_dir, LatentEncoder(vae, out_dir / "latents", device))
    networks = build_networks(folder).to(device)
    networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoints = CheckpointFile(out_dir / "editor.checkpoint.pt")
    trainer = Trainer(networks, checkpoints, settings)
    if resume:
        trainer.resume()
    scheduler = noise_scheduler()
    preview = Preview(pairs, vae, tokenizer, out_dir / "editor.png", preview_heads)
    tokenize = token_ids(tokenizer)

    def losses_at(step: int) -> dict[str, Tensor]:
        generator = step_generator(settings.seed, step)
        scale = vae.config.scaling_factor
        batch = draw_batch(pairs, settings.batch_size, scale, generator)
        args = networks, tokenize, batch, scheduler.alphas_cumprod, generator, device
        return edit_losses(*args)

    trainer.fit(losses_at, lambda: preview.write(trainer.average))
    editor = preview.editor(trainer.average)
    return save_editor(out_dir / "editor", editor, tokenizer_files=out_dir / "tokenizer")


def text_to_image() -> dict[str, Any]:
    """Return what suits the editor without an image, when it is a text-to-image model.

    Pairs without an image are among those it is trained with (DROPPED), seen from where the heads
    are. Its samples grow
    clearer up to a guidance of about 4 and tear at 7.5.
    """
    settings = StylizeSettings()
    template = settings.template.replace("{decorative}", settings.decorative)
    suits = Suits(TEACHING_GUIDANCE, template, "", (YAW_RANGE, PITCH_RANGE), white=True)
    return asdict(suits)


def _prompt(style: str | None, attributes: list[str]) -> str:
    wording = PLAIN_WORDINGS[0] if style is None else canonical(style)
    return describe(wording, attributes, step_generator(0, -2))


class Preview:
    """A sheet of held-out heads: source, truth, and edited with the default settings."""

    def __init__(
        self,
        pairs: LatentPairs,
        vae: Any,  # diffusers AutoencoderKL
        tokenizer: Any,  # transformers CLIPTokenizer
        path: Path,
        heads: int,
    ) -> None:
        held_out = torch.arange(pairs.train, len(pairs.style))
        rows = held_out[torch.linspace(0, len(held_out) - 1, heads).long()]
        self.vae, self.tokenizer, self.path = vae, tokenizer, path
        self.prompts = [_prompt(*pairs.edit(row)) for row in rows.tolist()]
        with torch.no_grad():
            images = [
                vae.decode(latents[rows].float().to(vae.device)).sample / 2 + 0.5
                for latents in (pairs.source, pairs.target)
            ]
        self.source, self.target = (image.clamp(0, 1) for image in images)

    def editor(self, networks: nn.ModuleDict) -> Editor:
        """Return the editor made of these networks and the VAE."""
        unet, text_encoder = networks["unet"], networks["text_encoder"]
        parts = self.vae, unet, text_encoder, self.tokenizer, noise_scheduler()
        return Editor(*parts, GUIDANCE, alone=text_to_image())

    def write(self, networks: nn.ModuleDict) -> None:
        """Write the sheet: default settings, tau = 1, and no guidance."""
        editor = self.editor(networks)
        sheet = [self.source, self.target]
        for settings in (
            StylizeSettings(),
            StylizeSettings(tau=1.0),
            StylizeSettings(text_guidance=1.0, image_guidance=1.0),
        ):
            edited = [
                stylize_views(editor, self.source[i : i + 1], prompt, settings=settings)
                for i, prompt in enumerate(self.prompts)
            ]
            sheet.append(torch.cat(edited))
        decibels = float(psnr(sheet[2], sheet[1]).mean())
        log.info("held-out PSNR of the default edit %.2f dB", decibels)
        save_image(self.path, plain_sheet(sheet))
