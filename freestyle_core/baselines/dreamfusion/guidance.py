"""Score distillation (DreamFusion, arXiv 2209.14988): what a text-to-image model would change.

A picture's latents get noise of a random time step, the teacher says which noise it sees in them
given the words, and where that differs from the noise that was added, the picture is to change:
grad = w(t) (e_hat - e), w(t) = 1 - a_t, with a_t the share of signal at t.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...models.text_to_image import TextToImage

VIEWS = ("front view", "side view", "back view")
TIME_RANGE = (0.02, 0.98)  # of the noise schedule


def view_weights(azimuth_deg: float) -> tuple[float, float, float]:
    """Return how much the words for front, side and back count at an azimuth; they sum to 1."""
    turn = abs((azimuth_deg + 180) % 360 - 180)
    if turn <= 90:
        front = 1 - turn / 90
        return front, 1 - front, 0.0
    side = 1 - (turn - 90) / 90
    return 0.0, side, 1 - side


class Words:
    """The embeddings of a prompt from three sides, and of the negative prompt."""

    def __init__(self, teacher: TextToImage, prompt: str, negative: str) -> None:
        with torch.no_grad():
            texts: Sequence[str] = [f"{prompt}, {view}" for view in VIEWS]
            self.sides = teacher.encode_text(texts)  # [3,T,D]
            self.negative = teacher.encode_text([negative])  # [1,T,D]

    def at(self, azimuth_deg: float) -> Tensor:
        """Return [2,T,D]: the words for a view from `azimuth_deg`, then the negative ones."""
        weights = torch.tensor(view_weights(azimuth_deg)).to(self.sides)
        mixed = (weights[:, None, None] * self.sides).sum(dim=0, keepdim=True)
        return torch.cat([mixed, self.negative])


def draw_time(teacher: TextToImage, generator: torch.Generator) -> int:
    """Return a time step, all from 2 to 98 per cent of the schedule equally likely."""
    total = len(teacher.signal)
    low, high = (int(share * total) for share in TIME_RANGE)
    return int(torch.randint(low, high + 1, (), generator=generator).clamp(0, total - 1))


@torch.no_grad()
def sds_gradient(
    teacher: TextToImage,
    latents: Tensor,  # [1,C,h,w], as the U-Net sees them
    noise: Tensor,  # [1,C,h,w]
    step: int,  # the time step
    text: Tensor,  # [2,T,D], of the words and of the negative ones
    scale: float,  # of the guidance
) -> Tensor:
    """Return w(t) (e_hat - e) [1,C,h,w]; what is not finite becomes finite."""
    noisy = teacher.noised(latents, noise, step)
    positive, negative = teacher.noise(noisy.expand(2, -1, -1, -1), step, text).chunk(2)
    guess = negative + scale * (positive - negative)
    weight = 1 - float(teacher.signal[step])
    return torch.nan_to_num(weight * (guess - noise))


def sds_loss(latents: Tensor, gradient: Tensor) -> Tensor:  # [N,C,h,w] both
    """Return half the square distance to latents - gradient, over N; its gradient is `gradient`."""
    target = (latents - gradient).detach()
    return 0.5 * (latents - target).square().sum() / len(latents)
