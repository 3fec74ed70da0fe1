"""The editing loop against diffusers' own pipeline, and what it promises around it."""

import copy
import json
from dataclasses import fields, replace

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline

from freestyle_core.errors import Cancelled, FreeStyleError, InputError, ShapeError
from freestyle_core.files.editors.load import load_editor
from freestyle_core.method.stylize import Denoising, StylizeSettings, stylize_views
from tests.tiny_editor import save_tiny_editor

SETTINGS = StylizeSettings(steps=4, text_guidance=3.0, image_guidance=1.4, batch_size=2)
SD = DDIMScheduler(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
)
ZERO_SNR = DDIMScheduler(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample_range=4.5,
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    timestep_spacing="trailing",
)


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    return load_editor(save_tiny_editor(tmp_path_factory.mktemp("editor")))


@pytest.fixture
def images():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def by_diffusers(editor, images, prompt, negative, noise, settings):
    """The same edit by the reference pipeline."""
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=editor.vae,
        text_encoder=editor.text_encoder,
        tokenizer=editor.tokenizer,
        unet=editor.unet,
        scheduler=copy.deepcopy(editor.scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    count = len(images)
    return pipeline(
        prompt=[prompt] * count,
        negative_prompt=[negative] * count,
        image=images,
        num_inference_steps=settings.steps,
        guidance_scale=settings.text_guidance,
        image_guidance_scale=settings.image_guidance,
        latents=noise.expand(count, -1, -1, -1),
        output_type="pt",
    ).images


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


def denoising(editor, condition, noise, **changes):
    text = editor.encode_text(["an elf", ""])
    return Denoising(editor, condition, text, noise, replace(SETTINGS, **changes))


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


def test_guidance_weighs_three_branches(editor):
    """A U-Net that answers 1, 2 and 4 for (I,t), (I,0) and (0,0): 4 + 1.5 (2-4) + 3 (1-2) = -2.

    From x = 0 at a and no noise to its 1 - a: x_0 = -sqrt(1 - a) e / sqrt(a) = 2 sqrt((1 - a) / a).
    """

    class Answers(torch.nn.Module):
        config = editor.unet.config

        def __init__(self):
            super().__init__()
            self.dtype_holder = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, t, encoder_hidden_states):
            with_image = x[:, 4:].abs().sum((1, 2, 3)) > 0
            with_text = (encoder_hidden_states == 1).all(2).all(1)
            values = torch.where(with_image, 2.0, 4.0) - with_text.float()
            answer = values[:, None, None, None].expand(-1, 4, 8, 8)
            return type("Output", (), {"sample": answer})

    editor = replace(editor, unet=Answers())
    text = torch.stack([torch.ones(5, 8), torch.zeros(5, 8)])
    settings = replace(SETTINGS, steps=1, image_guidance=1.5, text_guidance=3.0)
    start = Denoising(editor, torch.ones(2, 4, 8, 8), text, torch.zeros(2, 4, 8, 8), settings)
    start.latents = torch.zeros(2, 4, 8, 8)
    start.step()
    assert start.schedule.timesteps.tolist() == [0]  # where a = 1 - 0.0001
    expected = torch.full((2, 4, 8, 8), 2 * (0.0001 / 0.9999) ** 0.5)
    torch.testing.assert_close(start.latents, expected, atol=1e-5, rtol=0)


def unet_calls(editor, images, **changes):
    """Return how many rows each call of the whole U-Net has, and each one of its last layer."""
    whole, last = [], []
    layer = editor.unet.up_blocks[-1].resnets[-1]
    hooks = [
        editor.unet.register_forward_hook(lambda _, args, __: whole.append(len(args[0]))),
        layer.register_forward_hook(lambda _, args, __: last.append(len(args[0]))),
    ]
    settings = replace(SETTINGS, tau=1.0, steps=6, **changes)
    result = stylize_views(editor, images[:1], "an elf", settings=settings)
    for hook in hooks:
        hook.remove()
    return result, whole, last


def test_options_that_leave_out_nothing_change_nothing(editor, images):
    expected, calls, _ = unet_calls(editor, images)
    assert calls == [3] * 6
    off = {"guidance_interval": (0.0, 1.0), "reuse_unconditional": 1, "reuse_features": 1}
    assert torch.equal(unet_calls(editor, images, **off)[0], expected)


@pytest.mark.parametrize(
    ("interval", "calls"),
    [
        ((0.0, 1.0), [3, 3, 3, 3, 3, 3]),
        ((0.25, 0.75), [1, 1, 3, 3, 3, 1]),  # steps 0/6 to 5/6; 2/6, 3/6 and 4/6 lie inside
        ((0.5, 1.0), [1, 1, 1, 3, 3, 3]),  # 3/6 lies inside
        ((0.0, 0.5), [3, 3, 3, 1, 1, 1]),  # and here outside
        ((0.5, 0.5), [1] * 6),
    ],
)
def test_outside_the_interval_only_the_text_and_the_image_are_followed(
    editor, images, interval, calls
):
    result, whole, _ = unet_calls(editor, images, guidance_interval=interval)
    assert whole == calls
    without = unet_calls(editor, images, image_guidance=1.0, text_guidance=1.0)
    assert without[1] == [1] * 6
    assert torch.equal(result, without[0]) == (calls == [1] * 6)


def test_a_branch_that_weighs_nothing_is_left_out(editor, images):
    result, whole, _ = unet_calls(editor, images, image_guidance=1.0)
    assert whole == [2] * 6
    almost = unet_calls(editor, images, image_guidance=1.0 + 1e-6)
    assert almost[1] == [3] * 6
    torch.testing.assert_close(result, almost[0], atol=1e-4, rtol=0)


def test_the_pull_of_the_image_is_shared_by_steps_in_a_row(editor, images):
    expected, _, _ = unet_calls(editor, images)
    result, whole, _ = unet_calls(editor, images, reuse_unconditional=3)
    assert whole == [3, 2, 2, 3, 2, 2]
    assert 0 < (result - expected).abs().max() < 0.1
    changes = {"reuse_unconditional": 2, "guidance_interval": (0.15, 1.0)}
    assert unet_calls(editor, images, **changes)[1] == [1, 3, 2, 3, 2, 3]


@torch.no_grad()
def test_a_shared_pull_is_that_of_the_step_before(editor):
    """e(0,0) is taken as e(I,0) - (e'(I,0) - e'(0,0)), with e' of the step before."""
    answers = iter([(1.0, 2.0, 4.0), (3.0, 5.0)])
    condition = torch.ones(1, 4, 8, 8)
    start = denoising(editor, condition, condition, image_guidance=1.5, reuse_unconditional=2)
    start._predict = lambda *_: tuple(torch.full((1,), value) for value in next(answers))
    assert start._with_guidance(condition).tolist() == [4 + 1.5 * (2 - 4) + 3 * (1 - 2)]
    assert start._with_guidance(condition).tolist() == [7 + 1.5 * (5 - 7) + 3 * (3 - 5)]


def test_deep_features_are_shared_by_steps_in_a_row(editor, images):
    expected, _, _ = unet_calls(editor, images)
    result, whole, last = unet_calls(editor, images, reuse_features=2)
    assert whole == [3, 3, 3] and last == [3] * 6
    assert 0 < (result - expected).abs().max() < 0.2
    # where more branches are asked for than were kept, the whole network runs
    changes = {"reuse_features": 6, "guidance_interval": (0.5, 1.0)}
    assert unet_calls(editor, images, **changes)[1] == [1, 3]
    assert not editor.unet.up_blocks[-1].resnets[-1]._forward_pre_hooks


@torch.no_grad()
def test_a_shallow_call_at_the_same_step_is_the_whole_call(editor):
    text, condition = editor.encode_text(["an elf", ""]), torch.randn(2, 4, 8, 8)
    predictor = editor.predictor(condition, text, torch.tensor([900, 300]), keep_features=True)
    latents = torch.randn(2, 4, 8, 8)
    expected = predictor(latents, 1)
    for branches in (3, 2, 1):
        got = predictor(latents, 1, branches, shallow=True)
        torch.testing.assert_close(got, expected[:branches], atol=1e-5, rtol=0)
    # what is new in a step goes through: its noise and its time
    other = predictor(torch.randn(2, 4, 8, 8), 1, 1, shallow=True)[0]
    assert (other - expected[0]).abs().mean() > 0.01
    assert (predictor(latents, 0, 1, shallow=True)[0] - expected[0]).abs().max() > 1e-6


def test_an_editor_that_cannot_share_features_says_so_once(editor, images, monkeypatch, caplog):
    monkeypatch.setattr(type(editor), "keeps_features", False)
    expected, _, _ = unet_calls(editor, images)
    assert not caplog.records
    result, whole, _ = unet_calls(editor, images, reuse_features=2)
    assert whole == [3] * 6 and torch.equal(result, expected)
    assert [record.getMessage() for record in caplog.records] == [
        "reuse_features is 2, but this editor always runs its whole network; the setting is ignored"
    ]


def test_guidance_left_open_is_the_editor_s_own(editor, images):
    own = replace(editor, guidance=(1.2, 3.5))
    told = replace(SETTINGS, image_guidance=1.2, text_guidance=3.5)
    left = replace(SETTINGS, image_guidance=None, text_guidance=None)
    expected = stylize_views(editor, images, "an elf", settings=told)
    assert torch.equal(stylize_views(own, images, "an elf", settings=left), expected)


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


def test_prompt_is_the_template_filled():
    settings = StylizeSettings()
    expected = "turn the head into a bronze statue, realistic, detail, 8k, photorealistic"
    assert settings.prompt("  a bronze statue ") == expected
    assert replace(settings, decorative="").prompt("an elf") == "turn the head into an elf"
    bare = replace(settings, template="{style}")
    assert bare.prompt("a {decorative} elf") == "a {decorative} elf"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tau": 0.0}, "tau must be above 0 and at most 1, got 0.0"),
        ({"tau": 1.01}, "got 1.01"),
        ({"tau": float("nan")}, "got nan"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"template": "turn the head"}, "must contain {style}"),
        ({"reuse_unconditional": 0}, "reuse_unconditional must be at least 1, got 0"),
        ({"reuse_features": 0}, "reuse_features must be at least 1, got 0"),
        ({"reuse_features": 1.5}, "reuse_features must be a whole number, got 1.5"),
        ({"guidance_interval": (0.6, 0.5)}, r"from 0 to 1 and rising, got \(0.6, 0.5\)"),
        ({"guidance_interval": (-0.1, 1.0)}, "from 0 to 1"),
        ({"guidance_interval": (0.0, 1.1)}, "from 0 to 1"),
        ({"guidance_interval": (0.5,)}, "must be two shares"),
        ({"guidance_interval": (0.0, float("nan"))}, "must be a finite number"),
        ({"text_guidance": float("inf")}, "text_guidance must be a finite number, got inf"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message.replace("{", r"\{")):
        StylizeSettings(**changes)


def test_an_editor_brings_its_own_number_of_steps(editor):
    counted = []

    def steps(own, asked):
        counted.clear()
        stylize_views(
            replace(editor, steps=own),
            torch.rand(1, 3, 16, 16),
            "an elf",
            settings=StylizeSettings(steps=asked, tau=1.0),
            progress=lambda done, total, preview=None: counted.append(total),
        )
        return counted[0] - 2  # the VAE counts two

    assert steps(own=7, asked=None) == 7
    assert steps(own=7, asked=4) == 4
    assert StylizeSettings().count() == 20  # the paper's, where there is no editor to ask


def test_every_setting_decides_the_edit_but_those_of_words_and_batch():
    others = {
        "tau": 0.8,
        "steps": 10,
        "image_guidance": 1.1,
        "text_guidance": 3.1,
        "seed": 1,
        "guidance_interval": (0.0, 0.9),
        "reuse_unconditional": 2,
        "reuse_features": 2,
    }
    words_and_batch = {"template", "decorative", "negative", "batch_size"}
    assert {field.name for field in fields(StylizeSettings)} == others.keys() | words_and_batch
    usual = StylizeSettings()
    decided = [usual.decides((1.5, 20.0))]
    decided += [replace(usual, **{name: x}).decides((1.5, 20.0)) for name, x in others.items()]
    assert len({json.dumps(one, sort_keys=True) for one in decided}) == 1 + len(others)
    assert replace(usual, batch_size=3).decides((1.5, 20.0)) == decided[0]
    # guidance that is left open is the editor's own
    told = replace(usual, image_guidance=1.5, text_guidance=20.0)
    assert told.decides((2.0, 3.0)) == decided[0] != usual.decides((2.0, 3.0))


def test_more_steps_than_the_schedule_has_are_refused(editor, images):
    all_of_them = replace(SETTINGS, steps=1000, tau=0.001)  # of which one runs
    assert stylize_views(editor, images[:1], "an elf", settings=all_of_them).shape[0] == 1
    with pytest.raises(InputError, match="steps must be at most 1000, .* got 1001"):
        stylize_views(editor, images, "an elf", settings=StylizeSettings(steps=1001))


def test_an_editor_that_gives_nan_is_named(editor, images, monkeypatch):
    """As half precision does where it overflows; a black picture would say nothing."""
    broken = torch.full((1, 3, 16, 16), 0.5)
    broken[0, 1, 2, 3] = float("nan")
    monkeypatch.setattr(type(editor), "decode", lambda self, latents: broken)
    with pytest.raises(FreeStyleError, match="made NaN of a view: .* load it in float32 or"):
        stylize_views(editor, images, "an elf", settings=StylizeSettings(steps=2))


@pytest.mark.parametrize("style", ["", "  \n"])
def test_an_empty_style_is_refused(editor, images, style):
    with pytest.raises(InputError, match="the style is empty"):
        stylize_views(editor, images, style)


def test_a_prompt_the_text_encoder_would_cut_is_refused(editor, images):
    settings = replace(SETTINGS, template="{style}", negative="")
    fits = " ".join(["elf"] * 46)  # the encoder reads 48 tokens, two of them are start and end
    stylize_views(editor, images[:1], fits, settings=settings)
    with pytest.raises(InputError, match="47 tokens, the text encoder reads 46"):
        stylize_views(editor, images, fits + " elf", settings=settings)
    with pytest.raises(InputError, match="47 tokens"):
        stylize_views(editor, images, "elf", settings=replace(settings, negative=fits + " elf"))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.rand(3, 16, 16), r"\[V,3,H,W\] with V >= 1, got \(3, 16, 16\)"),
        (torch.rand(0, 3, 16, 16), "V >= 1"),
        (torch.rand(1, 4, 16, 16), "V >= 1"),
        (torch.rand(1, 3, 16, 17), "17x16 pixels .* multiples of 2; resize"),
        (torch.full((1, 3, 16, 16), float("nan")), "NaN"),
        (torch.rand(1, 3, 16, 16) * 255, r"must be in \[0,1\]"),
    ],
)
def test_bad_images_are_refused(editor, bad, message):
    with pytest.raises(ShapeError, match=message):
        stylize_views(editor, bad, "an elf", settings=SETTINGS)


def test_noise_of_another_size_is_refused(editor, images):
    with pytest.raises(ShapeError, match=r"noise must be \[1, 4, 8, 8\]"):
        stylize_views(editor, images, "an elf", settings=SETTINGS, noise=torch.zeros(1, 4, 4, 4))
