"""The measures of the clay models: perfect models score perfectly, known faults what they should.

The models here are stand-ins that draw from the procedural world itself, at 16 pixels.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from freestyle_core.clay import draw as drawing
from freestyle_core.clay import evaluate
from freestyle_core.clay.draw import plain_head, styled_head
from freestyle_core.clay.evaluate import (
    FIRST_SEED,
    code_of_seed,
    measure_attributes,
    measure_editor,
    measure_eg3d,
    measure_i2t,
    measure_pipeline,
    measure_vae,
    random_cameras,
)
from freestyle_core.clay.styles.attributes import with_attributes
from freestyle_core.clay.styles.captions import HELD_OUT, canonical
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.method.sample import latent, sample_portrait
from freestyle_core.models.config import EG3DConfig
from freestyle_core.presets import FAST
from tests.tiny import tiny_eg3d

SIZE = 16
PERFECT = 100.0  # dB, the highest that is told
NAMES = ("zombie", "bronze statue")
RIG = EG3DConfig(camera_radius=2.7, camera_pivot=(0.0, 0.0, 0.0), focal=4.2647).rig()


drawn = {}


def draw(head, cameras, resolution, **options):
    """Draw every head from every side once: most of these tests look at the same few."""
    look = (
        *head.parameters.values(),
        head.style and head.style.name,
        resolution,
        *options.values(),
    )
    key = (look, cameras.cam_to_world.numpy().tobytes())
    if key not in drawn:
        drawn[key] = drawing.draw(head, cameras, resolution, **options)
    return tuple(value.clone() for value in drawn[key])


def distance(a, b):
    return (a - b).square().mean((1, 2, 3))


def models(**parts):
    eg3d = SimpleNamespace(config=SimpleNamespace(rig=lambda: RIG))
    rest = {"i2t": None, "editor": None, "perceptual": distance, "parent": "hash"}
    return SimpleNamespace(**{"eg3d": eg3d, **rest, **parts})


@pytest.fixture(autouse=True)
def world(monkeypatch):
    """A generator whose portraits are seeds, and that renders the head of a seed exactly."""

    def render_views(seed, cameras, settings=None):
        image, alpha, depth = draw(plain_head(code_of_seed(seed)), cameras, SIZE)
        return SimpleNamespace(image=image, alpha=alpha, depth=depth, cameras=cameras)

    monkeypatch.setattr(evaluate, "RESOLUTION", SIZE)
    monkeypatch.setattr(evaluate, "draw", draw)
    monkeypatch.setattr(evaluate, "sample_portrait", lambda eg3d, seed: seed)
    monkeypatch.setattr(evaluate, "render_views", render_views)
    return monkeypatch


def test_the_code_of_a_seed_is_what_the_generator_maps():
    assert torch.equal(code_of_seed(5), latent(5, 64)[0])


def test_cameras_of_scores_fill_their_range():
    matrix = random_cameras(500, 0).cam_to_world
    x, y, z = matrix[:, :3, 3].T
    yaw, pitch = torch.rad2deg(torch.atan2(x, z)), torch.rad2deg(torch.asin(y / 2.7))
    for values, limit in ((yaw, 35.0), (pitch, 30.0)):
        assert limit - 1 < values.max() < limit + 0.01
        assert -limit - 0.01 < values.min() < 1 - limit


def test_a_perfect_generator(world):
    got = measure_eg3d(models(), identities=2, views=1)
    assert got["psnr_jagged_db"] == pytest.approx(PERFECT)  # it draws one ray a pixel
    assert 15 < got["psnr_db"] < 50
    assert got["depth_error_median"] == 0 and got["identity_accuracy"] == 1


def test_a_generator_of_one_head_a_little_too_far_away(world):
    exact = evaluate.render_views

    def render_views(seed, cameras, settings=None):
        out = exact(FIRST_SEED, cameras)
        out.depth = out.depth + 0.25
        return out

    world.setattr(evaluate, "render_views", render_views)
    got = measure_eg3d(models(), identities=3, views=1)
    assert got["identity_accuracy"] == pytest.approx(1 / 3)
    # two of three heads stand elsewhere by a few hundredths
    assert got["depth_error_median"] == pytest.approx(0.25, abs=0.05)
    assert got["psnr_jagged_db"] < 60


def vae(offset):
    """Its latents are the pictures; what comes back is brighter by `offset`."""
    code = lambda x: SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: x))  # noqa: E731
    return SimpleNamespace(encode=code, decode=lambda x: SimpleNamespace(sample=x - 2 * offset))


def test_the_vae_is_measured_on_plain_and_restyled_heads():
    assert measure_vae(models(editor=SimpleNamespace(vae=vae(0.0))), 2) == {
        "plain_psnr_db": pytest.approx(PERFECT),
        "styled_psnr_db": pytest.approx(PERFECT),
    }
    got = measure_vae(models(editor=SimpleNamespace(vae=vae(0.1))), 2)
    # 0.1 darker everywhere, but where it was black already: at least 20 dB
    assert 19.99 < got["plain_psnr_db"] < 21 and 19.99 < got["styled_psnr_db"] < 23


def knowing(style_of=lambda name: name, seed_of=lambda seed: seed, asked=None):
    """Return an edit that is the true restyled head; of another style or head, if asked to."""
    prompts = {canonical(name): name for name in NAMES}
    prompts |= {words: name for name in NAMES for words in HELD_OUT[name]}

    def stylize_views(editor, source, prompt, settings=None):
        if asked is not None:
            asked.append(prompt)
        seeds = range(FIRST_SEED, FIRST_SEED + 16)
        at = evaluate.front_camera(RIG)
        seed = min(seeds, key=lambda s: distance(evaluate.render_views(s, at).image, source).item())
        style = STYLES[style_of(prompts[prompt])]
        return draw(styled_head(code_of_seed(seed_of(seed)), style), at, SIZE)[0]

    return stylize_views


@pytest.fixture
def few_styles(world):
    world.setattr(evaluate, "STYLES", {name: STYLES[name] for name in NAMES})
    return world


@pytest.mark.parametrize(
    ("edit", "style", "identity"),
    [
        (knowing(), 1, 1),
        (knowing(style_of=lambda name: NAMES[NAMES.index(name) - 1]), 0, None),
        (knowing(seed_of=lambda seed: FIRST_SEED + 1), None, 0.5),
    ],
)
def test_edits_are_judged_by_style_and_by_identity(few_styles, edit, style, identity):
    few_styles.setattr(evaluate, "stylize_views", edit)
    steps = []

    def progress(done, total, preview=None):
        steps.append((done, total))

    got = measure_editor(models(), 2, progress=progress)
    assert style is None or got["style_accuracy"] == style
    assert identity is None or got["identity_accuracy"] == identity
    assert steps == [(1, 2), (2, 2)]


def test_held_out_words_are_asked_when_they_are_wanted(few_styles):
    asked = []
    few_styles.setattr(evaluate, "stylize_views", knowing(asked=asked))
    assert measure_editor(models(), 2, wordings="held_out")["style_accuracy"] == 1
    assert asked == [words for name in NAMES for words in HELD_OUT[name][:2]]


@pytest.mark.parametrize(("listens", "accuracy"), [(True, 1.0), (False, 0.0)])
def test_added_words_count_when_they_bring_the_edit_nearer(world, listens, accuracy):
    asked = []
    draw_edit = evaluate.draw_edit

    def remembered(generator):
        asked.append(draw_edit(generator))
        return asked[-1]

    def stylize_views(editor, source, prompt, settings=None):
        style, names = asked[-1]
        if listens and prompt != canonical(style.name):
            style = with_attributes(style, names)
        seed = FIRST_SEED + len(hits)
        head = styled_head(code_of_seed(seed), style)
        return drawing.draw(head, evaluate.front_camera(RIG), SIZE)[0]

    hits = []
    world.setattr(evaluate, "draw_edit", remembered)
    world.setattr(evaluate, "stylize_views", stylize_views)
    got = measure_attributes(models(), 3, progress=lambda done, total, p=None: hits.append(done))
    assert got == {"attribute_accuracy": accuracy} and hits == [1, 2, 3]


def test_a_run_is_measured_against_the_restyled_head_at_psi_1(world):
    asked, steps = [], []

    class Truth:
        """Stands for a portrait: the restyled head, a tenth darker."""

        def __init__(self, name, seed):
            self.head = styled_head(code_of_seed(seed), STYLES[name])

    def style_views(models, settings):
        asked.append((settings.prompts, settings.seed, settings.psi, settings.views))
        name = {canonical(style): style for style in NAMES}[settings.prompts[0]]
        portrait, cameras = Truth(name, settings.seed), settings.cameras(RIG)
        edited = draw(portrait.head, cameras, SIZE)[0] + 0.01
        sets = [SimpleNamespace(images=edited)]
        return SimpleNamespace(portraits=[portrait], sets=sets, cameras=cameras, settings=settings)

    def render_views(portrait, cameras, settings=None):
        assert len(cameras) == 16
        return SimpleNamespace(image=draw(portrait.head, cameras, SIZE)[0] - 0.1)

    world.setattr(evaluate, "style_views", style_views)
    world.setattr(evaluate, "render_views", render_views)
    got = measure_pipeline(
        models(),
        styles=NAMES,
        identities=2,
        preset=replace(FAST, views=2),
        progress=lambda done, total, preview=None: steps.append((done, total)),
    )
    # -10 log10(0.1^2) and -10 log10(0.01^2)
    assert got == {
        "portrait_psnr_db": pytest.approx(20, abs=0.01),
        "portrait_perceptual": pytest.approx(0.01, abs=1e-4),
        "edited_psnr_db": pytest.approx(40, abs=0.01),
        "edited_perceptual": pytest.approx(0.0001, abs=1e-4),
    }
    seeds = (FIRST_SEED, FIRST_SEED + 1)
    assert asked == [((canonical(name),), seed, 1.0, 2) for name in NAMES for seed in seeds]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_network_that_knows_the_planes_is_perfect(monkeypatch):
    from freestyle_core.method.render import render_views

    monkeypatch.setattr(evaluate, "sample_portrait", sample_portrait)
    monkeypatch.setattr(evaluate, "render_views", render_views)
    eg3d = tiny_eg3d()
    true = [sample_portrait(eg3d, FIRST_SEED + index).triplane.planes for index in range(2)]
    calls = iter(true)
    got = measure_i2t(models(eg3d=eg3d, i2t=lambda front: next(calls)), 2, grid=2)
    assert got["psnr_db"] == pytest.approx(PERFECT)
    got = measure_i2t(models(eg3d=eg3d, i2t=lambda front: -true[0]), 2, grid=2)
    assert got["psnr_db"] < 60
