"""The image editor of Sec. 3.1: what the editing loop asks of one, and one made of diffusers parts.

`ImageEditor` is the whole contract; the host program may bring another implementation. The VAE's
latents of the input image are used twice: scaled, as the start of the denoising, and unscaled, as
the U-Net's image condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import InputError, MismatchError
from .unet_predictor import UNetPredictor, can_be_shallow

PAPER_GUIDANCE = (1.5, 20.0)  # s_I and s_T of section 4.1
PAPER_STEPS = 20  # of denoising


class ImageEditor(Protocol):
    """An InstructPix2Pix model, T(phi, ...) in eq. 2, as `stylize_views` uses it.

    Latents are float32; an implementation computes in whatever number format suits it.
    """

    @property
    def device(self) -> torch.device:
        """Where latents live."""

    @property
    def factor(self) -> int:
        """Image pixels per latent position, along one side."""

    @property
    def latent_channels(self) -> int:
        """C of a latent image."""

    @property
    def latent_scale(self) -> float:
        """What E(I) is multiplied by to become a latent of the denoising."""

    @property
    def guidance(self) -> tuple[float, float]:
        """s_I and s_T that suit this model."""

    @property
    def steps(self) -> int:
        """How many steps of denoising suit this model, at tau 1."""

    @property
    def scheduler(self) -> Any:
        """A diffusers scheduler; only its type and its config are used, so it is never changed."""

    def encode(self, images: Tensor) -> Tensor:
        """Return E(I) [N,C,h,w], unscaled, of images [N,3,H,W] in [0,1]."""

    def decode(self, latents: Tensor) -> Tensor:
        """Return images [N,3,H,W] in [0,1] of scaled latents [N,C,h,w]."""

    def encode_text(self, texts: Sequence[str]) -> Any:
        """Return what `predict` takes as `text`; refuse a text that would be cut off."""

    @property
    def keeps_features(self) -> bool:
        """Whether a `Predictor` of this editor can leave out the deep part of its network."""

    def working(self, latents: Tensor) -> AbstractContextManager[Any]:
        """Hold the U-Net ready for a `predictor` on latents of this shape."""

    def predictor(
        self,
        condition: Tensor,  # [N,C,h,w], E(I)
        text: Any,  # encode_text([positive, negative])
        timesteps: Tensor,  # [S], on the CPU, indices into the noise schedule
        keep_features: bool = False,  # whether shallow calls will come
    ) -> Predictor:
        """Return what guesses the noise of these views; it is used while `working` holds."""


class Predictor(Protocol):
    """The U-Net on one batch of views; what all steps share is made before the first of them."""

    def __call__(
        self,
        latents: Tensor,  # [N,C,h,w], as the scheduler scales them for this step
        step: int,  # index into the timesteps
        branches: int = 3,  # 1 to 3
        shallow: bool = False,  # may take the deep features of the call before
    ) -> tuple[Tensor, ...]:
        """Return the first of e(I, positive), e(I, negative), e(no image, negative), [N,C,h,w].

        Nothing here waits for the device.
        """


@dataclass(frozen=True)
class Editor:
    """An `ImageEditor` of diffusers and transformers modules; runs in the U-Net's number format."""

    vae: Any  # diffusers AutoencoderKL
    unet: Any  # diffusers UNet2DConditionModel, twice the latent channels in
    text_encoder: Any  # transformers CLIPTextModel
    tokenizer: Any  # transformers CLIPTokenizer
    scheduler: Any  # diffusers DDIMScheduler; only its config is used, so it is never changed
    guidance: tuple[float, float] = PAPER_GUIDANCE  # s_I and s_T that suit this model
    steps: int = PAPER_STEPS  # of denoising that suit it, at tau 1

    def __post_init__(self) -> None:
        latent, noisy = self.vae.config.latent_channels, self.unet.config.in_channels
        if noisy != 2 * latent:
            raise MismatchError(
                f"an InstructPix2Pix U-Net takes {2 * latent} channels for this VAE of {latent} "
                f"latent channels, got {noisy}; load an instruction editor, not a text-to-image one"
            )
        text, cross = self.text_encoder.config.hidden_size, self.unet.config.cross_attention_dim
        if text != cross:
            raise MismatchError(
                f"the text encoder gives {text} numbers per token but the U-Net expects {cross}; "
                "take both from the same model"
            )
        marks = [self.tokenizer.bos_token_id, self.tokenizer.eos_token_id]
        self._check_ids([*marks, self.tokenizer.pad_token_id])  # they are in every prompt

    @property
    def device(self) -> torch.device:
        """The device of the U-Net, where everything runs."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the U-Net, in which everything runs."""
        return next(self.unet.parameters()).dtype

    @property
    def factor(self) -> int:
        """Image pixels per latent position, along one side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def latent_channels(self) -> int:
        """Channels of a latent image."""
        return self.vae.config.latent_channels

    @property
    def latent_scale(self) -> float:
        """What the VAE's latents are multiplied by for the U-Net."""
        return self.vae.config.scaling_factor

    @property
    def max_tokens(self) -> int:
        """Tokens the text encoder reads, with the start and the end token."""
        positions = self.text_encoder.config.max_position_embeddings
        return min(self.tokenizer.model_max_length, positions)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Editor:
        """Move the networks, in place as torch does, and return the editor."""
        for network in (self.vae, self.unet, self.text_encoder):
            network.to(device) if dtype is None else network.to(device, dtype)
        return self

    def encode(
        self,
        images: Tensor,  # [N,3,H,W], in [0,1]
    ) -> Tensor:
        """Return E(I): the unscaled latents [N,C,h,w], the mode of the VAE's posterior."""
        images = images.to(self.device, self.dtype)
        return self.vae.encode(images * 2 - 1).latent_dist.mode().float()

    def decode(
        self,
        latents: Tensor,  # [N,C,h,w], scaled as the U-Net sees them
    ) -> Tensor:
        """Return the images [N,3,H,W] in [0,1]."""
        images = self.vae.decode((latents / self.latent_scale).to(self.dtype)).sample
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def working(self, latents: Tensor) -> AbstractContextManager[Any]:
        """Do nothing: whoever owns the editor has put it where it shall run."""
        return nullcontext()

    @property
    def keeps_features(self) -> bool:
        """Whether the U-Net ends as those of Stable Diffusion do."""
        return can_be_shallow(self.unet)

    def predictor(
        self,
        condition: Tensor,  # [N,C,h,w], E(I)
        text: Tensor,  # [2,T,D], of the positive and of the negative prompt
        timesteps: Tensor,  # [S]
        keep_features: bool = False,
    ) -> UNetPredictor:
        """Return what guesses the noise of these views in every step."""
        text = torch.cat([text, text[1:]]).repeat_interleave(len(condition), dim=0)
        return UNetPredictor(self.unet, condition, text, timesteps, keep_features)

    def pieces(self, text: str) -> list[str]:
        """Return the words and pieces of words in which the text encoder reads a text."""
        return self.tokenizer.tokenize(text)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return the text encoder's last hidden states [N,T,D]; refuse what it would cut off."""
        limit = self.max_tokens
        for text in texts:
            check_length(text, len(self.tokenizer(text, verbose=False).input_ids), limit)
        tokens = self.tokenizer(
            list(texts), padding="max_length", max_length=limit, return_tensors="pt"
        )
        mask = None
        if getattr(self.text_encoder.config, "use_attention_mask", False):
            mask = tokens.attention_mask.to(self.device)
        self._check_ids(tokens.input_ids.flatten().tolist())
        hidden = self.text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)
        return hidden[0].to(self.dtype)

    def _check_ids(self, ids: Sequence[int | None]) -> None:
        """Raise unless the text encoder has a row for every token.

        On a graphics card a row that is not there would fail every later call of the process.
        """
        rows = self.text_encoder.config.vocab_size
        for token in ids:
            if token is None or not 0 <= token < rows:
                raise MismatchError(
                    f"the tokenizer gives the token {token}, but the text encoder knows only 0 to "
                    f"{rows - 1}; take both from the same model"
                )


def check_length(
    text: str,
    count: int,  # tokens of `text`, with the start and the end token
    limit: int,  # tokens the text encoder reads, counted in the same way
) -> None:
    """Raise unless the text encoder reads all of `text`."""
    if count > limit:
        raise InputError(
            f"prompt has {count - 2} tokens, the text encoder reads {limit - 2}; "
            f"shorten it by about {count - limit} words or word pieces: {text[:60]!r}"
        )
