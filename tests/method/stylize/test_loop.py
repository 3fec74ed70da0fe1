"""The editing loop against diffusers' own pipeline, and what it promises around it."""

import copy
from dataclasses import replace

import pytest
import torch

from freestyle_core.errors import Cancelled, InputError
from freestyle_core.geometry.surface_noise import surface_noise
from freestyle_core.method.stylize import StylizeSettings, stylize_views
from tests.method.stylize.small import SD, SETTINGS, ZERO_SNR, by_diffusers, denoising
from tests.spheres import balls, row


@pytest.mark.parametrize("scheduler", [SD, ZERO_SNR], ids=["sd", "zero-snr"])
@pytest.mark.parametrize("negative", ["", "ugly, bad"])
def test_at_tau_1_equals_the_diffusers_pipeline(editor, images, scheduler, negative):
    editor = replace(editor, scheduler=scheduler)
    # of 6 steps, diffusers would not end each where the next one starts: 1000 / 6 is not whole
    settings = replace(SETTINGS, tau=1.0, steps=5, negative=negative)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    prompt = "turn the head into an elf, realistic, detail, 8k, photorealistic"
    expected = by_diffusers(editor, images, prompt, negative, noise, settings)
    got = stylize_views(editor, images, "an elf", settings=settings, noise=noise)
    assert ((expected > 0) & (expected < 1)).float().mean() > 0.5  # not all clamped
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_the_paper_guidance_equals_the_diffusers_pipeline(editor, images):
    settings = StylizeSettings(steps=20, tau=1.0, image_guidance=1.5, text_guidance=20.0)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))  # of seed 0
    prompt = settings.prompt("a zombie")
    expected = by_diffusers(editor, images, prompt, settings.negative, noise, settings)
    got = stylize_views(editor, images, "a zombie", settings=settings)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_start_is_the_noised_latent(editor):
    condition, noise = torch.full((1, 4, 8, 8), 2.0), torch.full((1, 4, 8, 8), -1.0)
    # 10 steps of the default leading schedule are 900, 800, ..., 0; tau 0.7 runs the last 7
    start = denoising(editor, condition, noise, tau=0.7, steps=10)
    assert start.schedule.timesteps.tolist() == [600, 500, 400, 300, 200, 100, 0]
    betas = torch.linspace(0.0001, 0.02, 1000, dtype=torch.float64)
    a = torch.cumprod(1 - betas, 0)[600]
    # sqrt(a) * scaling_factor * E(I) + sqrt(1 - a) * n
    expected = a.sqrt() * 0.18215 * 2 - (1 - a).sqrt()
    torch.testing.assert_close(start.latents, torch.full((1, 4, 8, 8), expected.item()))


@torch.no_grad()
def test_tau_1_starts_from_noise_alone(editor):
    noise = torch.randn(1, 4, 8, 8)
    start = denoising(editor, torch.ones(1, 4, 8, 8), noise, tau=1.0)
    assert torch.equal(start.latents, noise)
    assert len(start.schedule) == 4


@pytest.mark.parametrize(
    ("tau", "steps", "run"), [(0.9, 20, 18), (1.0, 20, 20), (0.01, 20, 1), (0.5, 3, 2), (1, 1, 1)]
)
@torch.no_grad()
def test_tau_decides_how_many_steps_run(editor, tau, steps, run):
    start = denoising(editor, torch.ones(1, 4, 8, 8), torch.ones(1, 4, 8, 8), tau=tau, steps=steps)
    assert len(start.schedule) == run


def test_batch_size_does_not_change_the_result(editor, images):
    one, all_at_once = (
        stylize_views(editor, images, "an elf", settings=replace(SETTINGS, batch_size=size))
        for size in (1, 8)
    )
    torch.testing.assert_close(one, all_at_once, atol=1e-5, rtol=0)


def test_views_share_one_noise_and_a_seed_fixes_it(editor, images):
    same = images[:1].expand(3, -1, -1, -1)
    first = stylize_views(editor, same, "an elf", settings=SETTINGS)
    torch.testing.assert_close(first[0], first[2], atol=1e-5, rtol=0)
    assert torch.equal(first, stylize_views(editor, same, "an elf", settings=SETTINGS))
    other = stylize_views(editor, same, "an elf", settings=replace(SETTINGS, seed=1))
    assert (first - other).abs().max() > 1e-3


def test_noise_on_the_surface_is_that_of_the_views_in_any_batch(editor, images):
    seen = balls(row(0.0, 10.0, 20.0), 32)
    settings = replace(SETTINGS, noise="surface", seed=5)
    edited = stylize_views(editor, images, "an elf", settings=settings, seen=seen)
    shape = (1, editor.latent_channels, *(side // editor.factor for side in images.shape[2:]))
    screen = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    noise = surface_noise(seen.depth, seen.alpha, seen.cameras, screen, 5)
    wanted = stylize_views(editor, images, "an elf", settings=SETTINGS, noise=noise)
    torch.testing.assert_close(edited, wanted)
    some = stylize_views(editor, images[1:], "an elf", settings=settings, seen=seen.part([1, 2]))
    torch.testing.assert_close(some, edited[1:], atol=1e-5, rtol=0)
    on_screen = stylize_views(editor, images, "an elf", settings=replace(SETTINGS, seed=5))
    assert (edited - on_screen).abs().max() > 1e-3


def test_noise_on_the_surface_needs_the_depth_of_all_pictures(editor, images):
    settings = replace(SETTINGS, noise="surface")
    with pytest.raises(InputError, match="rendering of the 3 pictures.* got none"):
        stylize_views(editor, images, "an elf", settings=settings)
    with pytest.raises(InputError, match="got one of 1 views"):
        stylize_views(editor, images, "an elf", settings=settings, seen=balls(row(0.0), 16))


def test_text_and_images_are_encoded_once(editor, images):
    calls = []
    hooks = [
        editor.text_encoder.register_forward_hook(lambda *_: calls.append("text")),
        editor.vae.encoder.register_forward_hook(lambda _, args, __: calls.append(len(args[0]))),
        editor.unet.register_forward_hook(lambda _, args, __: calls.append(-len(args[0]))),
    ]
    stylize_views(editor, images, "an elf", settings=replace(SETTINGS, tau=0.5))
    for hook in hooks:
        hook.remove()
    # batches of 2 and 1 views, each view encoded alone, 2 of 4 steps, three branches per view
    assert calls == ["text", 1, 1, -6, -6, 1, -3, -3]


def test_progress_counts_steps_and_shows_finished_views(editor, images):
    reports = []
    result = stylize_views(
        editor, images, "an elf", settings=SETTINGS, progress=lambda *report: reports.append(report)
    )
    # batches of 2 and 1 views: 4 steps each, one before for encoding and one after for decoding
    done = [0, 0.5, 1, 2, 3, 4, 5, 5, 5.5, 6, 6, 7, 8, 9, 10, 11, 11, 12]
    assert [report[:2] for report in reports] == [(number, 12) for number in done]
    shown = [report[2] for report in reports if report[2] is not None]
    assert torch.equal(torch.stack(shown), result)


def _running_out(module, most):
    """Make `module` refuse batches of more than `most`, as a full GPU does; return the refusals."""
    refused = []

    def check(_, args, __=None):
        if len(args[0]) > most:
            refused.append(len(args[0]))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return refused, module.register_forward_pre_hook(check)


def test_out_of_memory_halves_the_batch_and_goes_on(editor, images):
    five = torch.cat([images, images[:2]])
    settings = replace(SETTINGS, batch_size=4)
    expected = stylize_views(editor, five, "an elf", settings=settings)
    refused, hook = _running_out(editor.unet, 6)  # three branches of two views
    reports = []
    try:
        got = stylize_views(
            editor,
            five,
            "an elf",
            settings=settings,
            progress=lambda done, total, preview=None: reports.append((done, total)),
        )
    finally:
        hook.remove()
    assert refused == [12]  # tried once; then batches of 2, 2 and 1 views, 4 steps each
    assert reports[-1] == (18, 18)  # each with two more for the VAE
    shares = [done / total for done, total in reports[5:]]  # of the batches after that
    assert shares == sorted(shares)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_too_little_memory_for_one_view_and_other_errors_come_through(editor, images):
    _, hook = _running_out(editor.unet, 2)
    with pytest.raises(torch.OutOfMemoryError):
        stylize_views(editor, images, "an elf", settings=SETTINGS)
    hook.remove()
    calls = []

    def broken(*_):
        calls.append(1)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    hook = editor.unet.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="mat1"):
        stylize_views(editor, images, "an elf", settings=SETTINGS)
    hook.remove()
    assert len(calls) == 1


def test_cancelling_leaves_everything_as_it_was(editor, images):
    before, weights = images.clone(), editor.unet.conv_in.weight.clone()
    config = dict(editor.scheduler.config)

    def cancel(done, total, preview=None):
        if done == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        stylize_views(editor, images, "an elf", settings=SETTINGS, progress=cancel)
    assert torch.equal(images, before)
    assert torch.equal(editor.unet.conv_in.weight, weights)
    assert dict(editor.scheduler.config) == config
    assert editor.scheduler.num_inference_steps is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_close_and_latents_stay_single(editor, images, dtype):
    half = copy.deepcopy(editor).to("cpu", dtype)
    assert half.encode(images).dtype == torch.float32
    expected = stylize_views(editor, images, "an elf", settings=SETTINGS)
    got = stylize_views(half, images, "an elf", settings=SETTINGS)
    assert got.dtype == torch.float32
    assert (got - expected).abs().mean() < 2 / 255


def test_works_inside_inference_mode(editor, images):
    expected = stylize_views(editor, images, "an elf", settings=SETTINGS)
    with torch.inference_mode():
        got = stylize_views(editor, images.clone(), "an elf", settings=SETTINGS)
    assert torch.equal(got, expected)
