"""Text-to-image diffusion as a teacher: it says what noise it sees in a picture, given words.

`TextToImage` holds either a text-to-image Stable Diffusion or an InstructPix2Pix editor whose image
condition is left out (zeros). Such editors are trained with the image dropped from a share of the
pairs, so they know that case, and then make pictures of words alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..checks import check_numbers
from ..errors import InputError, MismatchError
from .editor import Editor
from .latent_diffusion import LatentDiffusion


@dataclass(frozen=True)
class Suits:
    """What a teacher can be asked for; the defaults are for a Stable Diffusion of full size."""

    guidance: float = 100.0  # how far the words are exaggerated in score distillation
    template: str = "a DSLR photo of the head of {style}"  # what words it was taught with
    negative: str = ""
    # degrees of yaw and of pitch to each side of the front from which it has seen heads through
    # the lens of the generator; None: from all around, through any lens
    views: tuple[float, float] | None = None
    white: bool = False  # whether all it has seen is on white

    def __post_init__(self) -> None:
        check_numbers(self)
        if "{style}" not in self.template:
            raise InputError(f"template must contain {{style}}, got {self.template!r}")
        if self.views is not None and not (
            len(self.views) == 2 and 0 < self.views[0] <= 180 and 0 < self.views[1] < 89
        ):
            raise InputError(
                "views must be degrees of yaw, above 0 and at most 180, and of pitch, above 0 and "
                f"below 89, got {self.views}"
            )

    @staticmethod
    def from_record(said: Any) -> Suits:
        """Return what plain values say; raise InputError for what they cannot mean."""
        if not isinstance(said, dict):
            raise InputError(f"expected a record of settings, got {said!r:.60}")
        unknown = said.keys() - {known.name for known in fields(Suits)}
        if unknown:
            raise InputError(f"there is no setting {min(unknown)!r:.60}")
        views = said.get("views")
        try:
            return Suits(**{**said, "views": None if views is None else tuple(views)})
        except TypeError as error:
            raise InputError(f"settings of the wrong kind ({error!s:.100})") from error

    def prompt(self, style: str) -> str:
        """Return the words for a style."""
        if not style.strip():
            raise InputError("the prompt is empty; say what the head shall be, as in 'an elf'")
        return self.template.replace("{style}", style.strip())


@dataclass(frozen=True)
class TextToImage(LatentDiffusion):
    """Guesses the noise in latents of pictures; runs in the U-Net's number format."""

    suits: Suits = Suits()

    @staticmethod
    def from_editor(editor: Editor, suits: Suits | None = None) -> TextToImage:
        """Return an editor, sharing its networks, as one that is given no image.

        None: what the editor says that suits it.
        """
        suits = Suits.from_record(editor.alone or {}) if suits is None else suits
        parts = editor.vae, editor.unet, editor.text_encoder, editor.tokenizer, editor.scheduler
        return TextToImage(*parts, suits)

    def _check_channels(self, latent: int, noisy: int) -> None:
        if noisy not in (latent, 2 * latent):
            raise MismatchError(
                f"a text-to-image U-Net takes {latent} channels for this VAE, or {2 * latent} with "
                f"an image to edit, got {noisy}; load another model"
            )

    @property
    def is_editor(self) -> bool:
        """Whether this is an editor whose image is left out."""
        return self.unet.config.in_channels == 2 * self.latent_channels

    @property
    def image_size(self) -> int:
        """Pixels along a side of the pictures it was trained with."""
        return self.unet.config.sample_size * self.factor

    @property
    def signal(self) -> Tensor:
        """The share of a picture's variance [T] that is left at each time step, on the CPU."""
        return self.scheduler.alphas_cumprod

    def encode(
        self,
        images: Tensor,  # [N,3,H,W], in [0,1]
    ) -> Tensor:
        """Return latents [N,C,h,w] as the U-Net sees them, with a gradient."""
        return self.encode_mode(images) * self.latent_scale

    def noised(self, latents: Tensor, noise: Tensor, step: int) -> Tensor:  # [N,C,h,w] both
        """Return sqrt(a) latents + sqrt(1 - a) noise, with a the signal of time step `step`."""
        share = float(self.signal[step])
        return share**0.5 * latents + (1 - share) ** 0.5 * noise

    @torch.no_grad()
    def noise(
        self,
        noisy: Tensor,  # [N,C,h,w]
        step: int,  # index into the noise schedule
        text: Tensor,  # [N,T,D], `encode_text`
    ) -> Tensor:
        """Return the noise [N,C,h,w] that the U-Net sees, in float32."""
        seen = noisy.to(self.device, self.dtype)
        if self.is_editor:
            seen = torch.cat([seen, torch.zeros_like(seen)], dim=1)
        at = torch.full((len(seen),), step, device=self.device)
        guess = self.unet(seen, at, encoder_hidden_states=text.to(self.dtype)).sample.float()
        return self._as_noise(guess, noisy.float(), step)

    def _as_noise(self, guess: Tensor, noisy: Tensor, step: int) -> Tensor:
        predicts: Any = self.scheduler.config.prediction_type
        share = float(self.signal[step])
        if predicts == "epsilon":
            return guess
        if predicts == "v_prediction":  # v = sqrt(a) e - sqrt(1 - a) x_0
            return share**0.5 * guess + (1 - share) ** 0.5 * noisy
        raise MismatchError(
            f"a model that predicts {predicts!r} cannot be distilled; load one that predicts "
            "epsilon or v_prediction"
        )
