"""Ip2p Editor from Model: ComfyUI's own MODEL, CLIP and VAE as an editor, with any LoRA applied.

ComfyUI loads, moves and evicts the three; the editing loop stays the library's. ComfyUI speaks of
x = x_t / sqrt(a) and of sigma = sqrt((1 - a) / a) where the loop has x_t and a, the share of signal
left at step t, and its models return a clean image instead of the noise. Read `ComfyPredictor`
first.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy_api.latest import io
from torch import Tensor

from ..freestyle_core.errors import InputError, MismatchError
from ..freestyle_core.files.editors.checkpoint import EDITOR_CHANNELS, scheduler_of
from ..freestyle_core.models.editor import PAPER_GUIDANCE, PAPER_STEPS, check_length
from .schema import EditorSocket, schema

PROMPT_TOKENS = 77  # of one piece of text in ComfyUI, start and end token included


class ComfyEditor:
    """An `ImageEditor` of ComfyUI's MODEL, CLIP and VAE."""

    guidance = PAPER_GUIDANCE
    steps = PAPER_STEPS
    takes_reference = False
    keeps_features = False

    def __init__(self, model: Any, clip: Any, vae: Any) -> None:
        check_model(model.model)
        if clip is None or vae is None:
            raise InputError("clip and vae are needed too; a checkpoint loader gives all three")
        self.model, self.clip, self.vae = model, clip, vae
        self.scheduler = scheduler_of(model.model.model_sampling.sigmas)
        self._options: dict[str, Any] = {}  # of the model, while it works

    @property
    def device(self) -> torch.device:
        """Where the MODEL computes."""
        return self.model.load_device

    @property
    def factor(self) -> int:
        """Image pixels per latent position, along one side."""
        return self.vae.downscale_ratio

    @property
    def latent_channels(self) -> int:
        """Channels of a latent image."""
        return self.model.model.latent_format.latent_channels

    @property
    def latent_scale(self) -> float:
        """What the VAE's latents are multiplied by for the U-Net."""
        return self.model.model.latent_format.scale_factor

    def encode(self, images: Tensor) -> Tensor:  # [N,3,H,W], in [0,1] -> [N,C,h,w], unscaled
        """Return E(I)."""
        return self.vae.encode(images.movedim(1, -1)).to(self.device, torch.float32)

    def decode(self, latents: Tensor) -> Tensor:  # [N,C,h,w], scaled -> [N,3,H,W], in [0,1]
        """Return the images."""
        images = self.vae.decode(latents / self.latent_scale)
        return images.to(self.device, torch.float32).movedim(-1, 1)

    def encode_text(self, texts: Sequence[str]) -> list[list[Any]]:
        """Return one CONDITIONING per text; brackets are words here, never weights."""
        return [self._conditioning(text) for text in texts]

    def pieces(self, text: str) -> list[str]:
        """Return the words and pieces of words in which the CLIP reads a text."""
        tokens = next(iter(self.clip.tokenize(as_words(text)).values()))
        read = [self.clip.tokenizer.untokenize(pairs) for pairs in tokens]
        words = [str(word) for part in read for _, word in part]
        return [word for word in words if not word.startswith("<|")]  # start and end of the text

    def _conditioning(self, text: str) -> list[Any]:
        tokens = self.clip.tokenize(as_words(text))
        for pieces in tokens.values():
            if len(pieces) > 1:
                check_length(text, _length(pieces), PROMPT_TOKENS)
        conditioning = self.clip.encode_from_tokens_scheduled(tokens)
        config = self.model.model.model_config.unet_config
        width, expected = conditioning[0][0].shape[-1], config.get("context_dim")
        if expected not in (None, width):
            raise MismatchError(
                f"this CLIP gives {width} numbers per token but the MODEL expects {expected}; "
                "take both from the same checkpoint"
            )
        return conditioning

    @contextmanager
    def working(self, latents: Tensor) -> Iterator[None]:
        """Have the MODEL loaded, its patches applied, for work on latents of this shape."""
        options = comfy.model_patcher.create_model_options_clone(self.model.model_options)
        comfy.sampler_helpers.prepare_model_patcher(self.model, {}, options)
        shape = [3 * len(latents), *latents.shape[1:]]
        _, _, others = comfy.sampler_helpers.prepare_sampling(self.model, shape, {}, options)
        try:
            comfy.samplers.cast_to_load_options(
                options, device=self.device, dtype=self.model.model_dtype()
            )
            self.model.pre_run()
            self._options = options
            yield
        finally:
            self._options = {}
            self.model.cleanup()
            comfy.sampler_helpers.cleanup_models({}, others)

    def predictor(
        self,
        condition: Tensor,  # [N,C,h,w], E(I)
        text: list[list[Any]],  # CONDITIONING of the positive and of the negative prompt
        timesteps: Tensor,  # [S], on the CPU
        keep_features: bool = False,  # never: ComfyUI's models are run whole
        reference: int | None = None,  # never: each view is edited by itself
    ) -> "ComfyPredictor":
        """Return what guesses the noise of these views, while the editor is `working`."""
        return ComfyPredictor(self.model.model, self._options, condition, text, timesteps)


class ComfyPredictor:
    """A `Predictor` of a ComfyUI model; the conditions of all steps are made once, as in core."""

    def __init__(
        self,
        model: Any,
        options: dict[str, Any],  # of the model, loaded
        condition: Tensor,  # [N,C,h,w], E(I)
        text: list[list[Any]],
        timesteps: Tensor,  # [S], on the CPU
    ) -> None:
        self._model, self._options = model, options
        self._sigmas = model.model_sampling.sigmas.cpu()[timesteps].to(condition.device)
        positive, negative = text
        branches = [
            (positive, condition),
            (negative, condition),
            (negative, torch.zeros_like(condition)),
        ]
        self._conditions = [
            comfy.samplers.encode_model_conds(
                model.extra_conds,
                comfy.sampler_helpers.convert_cond(words),
                condition,  # of which only shape and device are asked
                condition.device,
                "positive" if words is positive else "negative",
                concat_latent_image=image,
            )
            for words, image in branches
        ]

    def __call__(
        self,
        latents: Tensor,  # [N,C,h,w], x_t
        step: int,
        branches: int = 3,
        shallow: bool = False,
    ) -> tuple[Tensor, ...]:
        """Return the first of e(I, positive), e(I, negative), e(no image, negative), [N,C,h,w]."""
        sigma = self._sigmas[step]
        x = latents * (sigma**2 + 1).sqrt()
        clean = comfy.samplers.calc_cond_batch(
            self._model, self._conditions[:branches], x, sigma.expand(len(x)), self._options
        )
        return tuple((x - one) / sigma for one in clean)  # x = clean + sigma * e


def as_words(text: str) -> str:
    """Return a text whose brackets ComfyUI reads as brackets, also those escaped by hand."""
    plain = text.replace("\\(", "(").replace("\\)", ")")
    return plain.replace("(", "\\(").replace(")", "\\)")


def check_model(model: Any) -> None:
    """Raise unless this is an InstructPix2Pix model with a table of noise levels."""
    channels = model.model_config.unet_config.get("in_channels")
    if not hasattr(model, "process_ip2p_image_in") or channels != EDITOR_CHANNELS:
        raise MismatchError(
            f"this MODEL ({type(model).__name__}) is not InstructPix2Pix; load such a checkpoint, "
            "for example instruct-pix2pix-00-22000.safetensors"
        )
    sampling = model.model_sampling
    sigmas = getattr(sampling, "sigmas", torch.zeros(1))
    steps = torch.arange(len(sigmas), device=sigmas.device)
    if len(sigmas) < 2 or not torch.equal(sampling.timestep(sigmas).long(), steps):
        raise MismatchError(
            f"this MODEL samples by {type(sampling).__name__}, without numbered noise levels; "
            "load an InstructPix2Pix checkpoint of Stable Diffusion 1"
        )


def _length(pieces: list[list[tuple[Any, float]]]) -> int:
    """Return how many tokens a text has, with one start and one end token, without padding."""
    around = {pieces[0][0][0], pieces[-1][-1][0]}
    entries = [token for piece in pieces for token, _ in piece]
    words = [token for token in entries if not (isinstance(token, int) and token in around)]
    return max(len(words) + 2, PROMPT_TOKENS + 1)  # more than one piece is always too long


class Ip2pEditorFromModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "Ip2pEditorFromModel",
            display_name="Ip2p Editor from Model",
            description="Makes an editor of an InstructPix2Pix checkpoint that ComfyUI loaded "
            "itself, with any LoRA applied; ComfyUI manages its memory.",
            search_aliases=["instruct pix2pix", "checkpoint", "lora", "image editor", "style"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The MODEL of an InstructPix2Pix checkpoint, from Load Checkpoint or a "
                    "LoRA loader behind it.",
                ),
                io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint."),
                io.Vae.Input("vae", tooltip="The VAE of the same checkpoint, or another for it."),
            ],
            outputs=[
                EditorSocket.Output(
                    display_name="editor", tooltip="The editor, for Ip2p SDEdit Stylize."
                )
            ],
        )

    @classmethod
    def execute(cls, model, clip, vae):
        return io.NodeOutput(ComfyEditor(model, clip, vae))
