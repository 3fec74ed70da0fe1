"""What every Stable Diffusion model consists of: a VAE, a U-Net, a text encoder with its tokenizer.

`models/editor.py` edits pictures with them, `models/text_to_image.py` makes pictures of words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import InputError, MismatchError

_Model = TypeVar("_Model", bound="LatentDiffusion")


@dataclass(frozen=True)
class LatentDiffusion:
    """The modules of diffusers and transformers; all run in the U-Net's number format."""

    vae: Any  # diffusers AutoencoderKL
    unet: Any  # diffusers UNet2DConditionModel
    text_encoder: Any  # transformers CLIPTextModel
    tokenizer: Any  # transformers CLIPTokenizer
    scheduler: Any  # diffusers DDIMScheduler; only its config is used, so it is never changed

    def __post_init__(self) -> None:
        self._check_channels(self.vae.config.latent_channels, self.unet.config.in_channels)
        text, cross = self.text_encoder.config.hidden_size, self.unet.config.cross_attention_dim
        if text != cross:
            raise MismatchError(
                f"the text encoder gives {text} numbers per token but the U-Net expects {cross}; "
                "take both from the same model"
            )
        marks = [self.tokenizer.bos_token_id, self.tokenizer.eos_token_id]
        self._check_ids([*marks, self.tokenizer.pad_token_id])  # they are in every prompt

    def _check_channels(self, latent: int, noisy: int) -> None:
        """Raise unless the U-Net takes `noisy` channels for a VAE of `latent` channels."""
        raise NotImplementedError

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

    def to(self: _Model, device: torch.device | str, dtype: torch.dtype | None = None) -> _Model:
        """Move the networks, in place as torch does, and return the model."""
        for network in (self.vae, self.unet, self.text_encoder):
            network.to(device) if dtype is None else network.to(device, dtype)
        return self

    def encode_mode(
        self,
        images: Tensor,  # [N,3,H,W], in [0,1]
    ) -> Tensor:
        """Return the unscaled latents [N,C,h,w], the mode of the posterior, with a gradient."""
        images = images.to(self.device, self.dtype)
        return self.vae.encode(images * 2 - 1).latent_dist.mode().float()

    def decode(
        self,
        latents: Tensor,  # [N,C,h,w], scaled as the U-Net sees them
    ) -> Tensor:
        """Return the images [N,3,H,W] in [0,1]."""
        images = self.vae.decode((latents / self.latent_scale).to(self.dtype)).sample
        return (images.float() / 2 + 0.5).clamp(0, 1)

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
