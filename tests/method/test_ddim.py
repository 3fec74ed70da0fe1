"""The prepared noise levels: diffusers' own to the bit where both mean the same."""

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from freestyle_core.method.ddim import Schedule

SD = {"beta_schedule": "scaled_linear", "steps_offset": 1, "set_alpha_to_one": False}
CLEAN_LAST = {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}


def numbers():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 4, 8, 8, generator=generator)


@pytest.mark.parametrize(
    "config",
    [
        {**SD, "clip_sample": False},
        {**SD, "clip_sample": True, "clip_sample_range": 0.5},
        {**CLEAN_LAST, "clip_sample": True, "clip_sample_range": 2.0},
        {**CLEAN_LAST, "clip_sample": False, "rescale_betas_zero_snr": True},
        {"prediction_type": "sample", "clip_sample": False},
    ],
)
@pytest.mark.parametrize(("steps", "run"), [(20, 18), (10, 9), (5, 5)])
def test_where_the_steps_divide_the_schedule_it_is_diffusers_to_the_bit(config, steps, run):
    reference = DDIMScheduler(**config)
    reference.set_timesteps(steps)
    schedule = Schedule(reference, steps, run)
    timesteps = reference.timesteps[-run:]
    assert torch.equal(schedule.timesteps, timesteps)
    start, noise, guess = numbers()
    expected = reference.add_noise(start, noise, timesteps[:1])
    got = schedule.noised(start, noise)
    assert torch.equal(got, expected)
    for step, t in enumerate(timesteps):
        expected = reference.step(guess, t, expected).prev_sample
        got = schedule.advanced(schedule.scaled(got, step), guess, step)
        assert torch.equal(got, expected), step


@pytest.mark.parametrize("steps", [1, 2, 3, 6, 7, 15, 61, 122, 999])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_right_guesses_lead_to_the_clean_latents(steps, spacing):
    """In any number of steps; the first betas are large, as those of the embedded editor are.

    In 15 steps, "trailing" ends at 66; 1000 // 15 less is level 0, with three quarters noise. In
    61 the list of diffusers has one more, -1.
    """
    betas = torch.cat([torch.tensor([0.75]), torch.full((999,), 0.002)])
    scheduler = DDIMScheduler(
        trained_betas=betas.numpy(),
        timestep_spacing=spacing,
        prediction_type="v_prediction",
        clip_sample=False,
    )
    schedule = Schedule(scheduler, steps, steps)
    assert len(schedule) == steps and schedule.timesteps.min() >= 0
    clean, noise, _ = numbers()
    latents = schedule.noised(clean, noise)
    for step, t in enumerate(schedule.timesteps):
        a = scheduler.alphas_cumprod[t]
        expected = a.sqrt() * clean + (1 - a).sqrt() * noise
        torch.testing.assert_close(latents, expected, atol=1e-4, rtol=0)
        latents = schedule.advanced(latents, a.sqrt() * noise - (1 - a).sqrt() * clean, step)
    torch.testing.assert_close(latents, clean, atol=1e-4, rtol=0)


def test_another_scheduler_takes_its_own_steps_and_is_not_changed():
    scheduler = EulerDiscreteScheduler()
    own = EulerDiscreteScheduler()
    own.set_timesteps(6)
    schedule = Schedule(scheduler, 6, 6)
    start, noise, guess = numbers()
    latents = expected = schedule.noised(start, noise)
    assert torch.equal(latents, own.add_noise(start, noise, own.timesteps[:1]))
    for step, t in enumerate(own.timesteps):
        seen = own.scale_model_input(expected, t)
        assert torch.equal(schedule.scaled(latents, step), seen)
        expected = own.step(guess, t, expected).prev_sample
        latents = schedule.advanced(latents, guess, step)
        assert torch.equal(latents, expected)
    assert scheduler.num_inference_steps is None
