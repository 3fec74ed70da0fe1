"""The image editor of Sec. 3.1: what the editing loop asks of one, and one made of diffusers parts.

`ImageEditor` is the whole contract; the host program may bring another implementation. The VAE's
latents of the input image are used twice: scaled, as the start of the denoising, and unscaled, as
the U-Net's image condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import MismatchError
from .latent_diffusion import LatentDiffusion, check_length
from .unet_predictor import UNetPredictor, can_be_shallow

__all__ = ["Editor", "ImageEditor", "Predictor", "check_length"]

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
    def takes_reference(self) -> bool:
        """Whether a `Predictor` of this editor can let its views see one of them."""

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
        reference: int | None = None,  # the view that all see; only where `takes_reference`
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
class Editor(LatentDiffusion):
    """An `ImageEditor` of diffusers and transformers modules; runs in the U-Net's number format.

    The U-Net takes twice the latent channels: the noisy picture and the one to edit.
    """

    guidance: tuple[float, float] = PAPER_GUIDANCE  # s_I and s_T that suit this model
    steps: int = PAPER_STEPS  # of denoising that suit it, at tau 1
    # what it can be asked for without an image: a record of `text_to_image.Suits`
    alone: dict[str, Any] | None = field(default=None, compare=False)

    def _check_channels(self, latent: int, noisy: int) -> None:
        if noisy != 2 * latent:
            raise MismatchError(
                f"an InstructPix2Pix U-Net takes {2 * latent} channels for this VAE of {latent} "
                f"latent channels, got {noisy}; load an instruction editor, not a text-to-image one"
            )

    def encode(
        self,
        images: Tensor,  # [N,3,H,W], in [0,1]
    ) -> Tensor:
        """Return E(I): the unscaled latents [N,C,h,w], the mode of the VAE's posterior."""
        return self.encode_mode(images)

    def working(self, latents: Tensor) -> AbstractContextManager[Any]:
        """Do nothing: whoever owns the editor has put it where it shall run."""
        return nullcontext()

    @property
    def takes_reference(self) -> bool:
        """Say that views can see one of them: diffusers lets attention be replaced."""
        return True

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
        reference: int | None = None,
    ) -> UNetPredictor:
        """Return what guesses the noise of these views in every step."""
        text = torch.cat([text, text[1:]]).repeat_interleave(len(condition), dim=0)
        return UNetPredictor(self.unet, condition, text, timesteps, keep_features, reference)
