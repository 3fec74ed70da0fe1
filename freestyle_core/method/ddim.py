"""The noise levels that a denoising passes through, as plain numbers made before it starts.

Notation: x_t = sqrt(a) x_0 + sqrt(1 - a) e, with a the share of signal left at step t. A step of
DDIM without new noise guesses x_0 and e from x_t and what the network said, then mixes them anew
for the next level. A number on the graphics card would have to be waited for in every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Level:
    """One step: from x_t to the next level."""

    signal: float  # sqrt(a)
    noise: float  # sqrt(1 - a)
    next_signal: float
    next_noise: float


class Schedule:
    """The last `run` of the `steps` levels that a diffusers scheduler names."""

    def __init__(
        self,
        scheduler: Any,  # only its type and its config are used
        steps: int,  # of the whole schedule
        run: int,  # 1 to steps
    ) -> None:
        # a scheduler of our own: set_timesteps changes it
        self._scheduler = type(scheduler).from_config(scheduler.config)
        self._scheduler.set_timesteps(steps)
        # "trailing" spacing sometimes ends with a -1 too many, which would index the noisiest level
        timesteps = self._scheduler.timesteps
        self.timesteps: Tensor = timesteps[timesteps >= 0][-run:]  # [run], on the CPU
        self._levels = _levels(self._scheduler, self.timesteps)

    def __len__(self) -> int:
        return len(self.timesteps)

    def noised(self, start: Tensor, noise: Tensor) -> Tensor:  # [N,C,h,w] both
        """Return the latents as they are before the first step."""
        if self._levels is None:
            return self._scheduler.add_noise(start, noise, self.timesteps[:1])
        return self._levels[0].signal * start + self._levels[0].noise * noise

    def from_noise(self, noise: Tensor) -> Tensor:  # [N,C,h,w]
        """Return the latents before the first step of a whole schedule: noise alone."""
        return noise * float(self._scheduler.init_noise_sigma)

    def scaled(self, latents: Tensor, step: int) -> Tensor:  # [N,C,h,w]
        """Return the latents as the network shall see them."""
        return self._scheduler.scale_model_input(latents, self.timesteps[step])

    def advanced(
        self,
        latents: Tensor,  # [N,C,h,w]
        guess: Tensor,  # [N,C,h,w], what the network said, guided
        step: int,
    ) -> Tensor:
        """Return the latents of the next level."""
        if self._levels is None:
            return self._scheduler.step(guess, self.timesteps[step], latents).prev_sample
        level, config = self._levels[step], self._scheduler.config
        clean, noise = _split(latents, guess, level, config.prediction_type)
        if config.clip_sample:
            clean = clean.clamp(-config.clip_sample_range, config.clip_sample_range)
        return level.next_signal * clean + level.next_noise * noise


def _levels(scheduler: Any, timesteps: Tensor) -> list[_Level] | None:
    """Return the numbers of each step, None for a scheduler that is not plain DDIM.

    A step ends at the level of the next one and the last without noise. diffusers subtracts
    T // steps instead: where steps do not divide T that misses the next level by a little, and the
    last step may end at level 0, which is still noisy in the embedded editor's schedule.
    """
    from diffusers import DDIMScheduler

    plain: Any = DDIMScheduler
    if not isinstance(scheduler, plain) or scheduler.config.thresholding:
        return None
    # in single precision, as diffusers computes them
    signal = torch.stack([*scheduler.alphas_cumprod[timesteps], scheduler.final_alpha_cumprod])
    roots = list(zip((signal**0.5).tolist(), ((1 - signal) ** 0.5).tolist(), strict=True))
    return [_Level(*now, *then) for now, then in zip(roots, roots[1:], strict=False)]


def _split(
    latents: Tensor, guess: Tensor, level: _Level, predicts: str
) -> tuple[Tensor, Tensor]:  # [N,C,h,w] each
    """Return the clean latents and the noise that the network's guess stands for."""
    if predicts == "epsilon":
        return (latents - level.noise * guess) / level.signal, guess
    if predicts == "sample":
        return guess, (latents - level.signal * guess) / level.noise
    # v = sqrt(a) e - sqrt(1 - a) x_0
    return (
        level.signal * latents - level.noise * guess,
        level.signal * guess + level.noise * latents,
    )
