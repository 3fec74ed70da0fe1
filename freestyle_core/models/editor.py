"""The image editor of Sec. 3.1: the parts of an InstructPix2Pix model and what each is asked for.

The parts are diffusers and transformers modules. The VAE's latents of the input image are used
twice: scaled, as the start of the denoising, and unscaled, as the U-Net's image condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, MismatchError

PAPER_GUIDANCE = (1.5, 20.0)  # s_I and s_T of section 4.1


@dataclass(frozen=True)
class Editor:
    """An InstructPix2Pix model, T(phi, ...) in eq. 2."""

    vae: nn.Module  # diffusers AutoencoderKL
    unet: nn.Module  # diffusers UNet2DConditionModel, twice the latent channels in
    text_encoder: nn.Module  # transformers CLIPTextModel
    tokenizer: Any  # transformers CLIPTokenizer
    scheduler: Any  # diffusers DDIMScheduler; only its config is used, so it is never changed
    guidance: tuple[float, float] = PAPER_GUIDANCE  # s_I and s_T that suit this model

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
    def max_tokens(self) -> int:
        """Tokens the text encoder reads, with the start and the end token."""
        positions = self.text_encoder.config.max_position_embeddings
        return min(self.tokenizer.model_max_length, positions)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Editor:
        """Move the networks, in place as torch does, and return the editor."""
        for network in (self.vae, self.unet, self.text_encoder):
            network.to(device=device, dtype=dtype)
        return self

    def encode(
        self,
        images: Tensor,  # [N,3,H,W], in [0,1]
    ) -> Tensor:
        """Return E(I): the unscaled latents [N,C,h,w], the mode of the VAE's posterior."""
        return self.vae.encode(images * 2 - 1).latent_dist.mode()

    def decode(
        self,
        latents: Tensor,  # [N,C,h,w], scaled as the U-Net sees them
    ) -> Tensor:
        """Return the images [N,3,H,W] in [0,1]."""
        images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return (images / 2 + 0.5).clamp(0, 1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return the text encoder's last hidden states [N,T,D]; refuse what it would cut off."""
        limit = self.max_tokens
        for text in texts:
            count = len(self.tokenizer(text, verbose=False).input_ids)
            if count > limit:
                raise InputError(
                    f"prompt has {count - 2} tokens, the text encoder reads {limit - 2}; "
                    f"shorten it by about {count - limit} words or word pieces: {text[:60]!r}"
                )
        tokens = self.tokenizer(
            list(texts), padding="max_length", max_length=limit, return_tensors="pt"
        )
        mask = None
        if getattr(self.text_encoder.config, "use_attention_mask", False):
            mask = tokens.attention_mask.to(self.device)
        hidden = self.text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)
        return hidden[0].to(self.dtype)
