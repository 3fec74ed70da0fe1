from dataclasses import replace

import pytest
import torch

from freestyle_core.errors import Cancelled, InputError, MismatchError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.files.editors.load import load_editor
from freestyle_core.geometry.cameras import front_camera
from freestyle_core.method.finetune import FinetuneSettings
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.method.stylize import StylizeSettings
from freestyle_core.packs.apply import apply_style_pack
from freestyle_core.packs.learn import PackSettings, learn_style_pack, make_style_pack, spread
from tests.tiny import reachable_set, tiny_eg3d, tiny_perceptual, tiny_portrait, tiny_set
from tests.tiny_editor import save_tiny_editor

SIZES = {"hidden": 4, "mean_reduction": 2, "mean_levels": 2}


def trained(eg3d, heads, sets, steps=60, **given):
    settings = FinetuneSettings(
        iterations=steps, batch_size=2, learning_rate=0.02, preview_every=0, **given
    )
    return learn_style_pack(eg3d, heads, sets, tiny_perceptual(), sizes=SIZES, settings=settings)


def test_a_head_that_it_never_saw_comes_nearer_to_the_style():
    eg3d = tiny_eg3d()
    target = reachable_set(eg3d)  # even in colour, so it is the same for all heads
    heads = [tiny_portrait(eg3d, seed) for seed in (1, 2, 3)]
    pack = trained(eg3d, heads, [target] * 3)
    assert pack.prompt == "a bronze statue" and pack.heads == 3 and pack.eg3d == "tiny"
    assert pack.renderer == weights_hash(eg3d.renderer().state_dict())
    assert not any(p.requires_grad for p in pack.network.parameters())
    new = tiny_portrait(eg3d, 7)

    def apart(portrait):
        seen = render_views(portrait, target.cameras).image
        return float((seen - target.images).square().mean())

    assert apart(apply_style_pack(pack, new)) < 0.3 * apart(new)


def test_the_heads_stay_as_they_were_and_a_seed_means_one_pack():
    eg3d = tiny_eg3d()
    heads = [tiny_portrait(eg3d, seed) for seed in (1, 2)]
    before = [head.triplane.planes.clone() for head in heads]
    sets = [tiny_set(eg3d, seed=seed) for seed in (1, 2)]
    tiny_perceptual()  # seeds torch, as `trained` does with another
    state = torch.get_rng_state()
    hashes = [
        weights_hash(trained(eg3d, heads, sets, 2, seed=seed).network.state_dict())
        for seed in (4, 4, 5)
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    assert torch.equal(torch.get_rng_state(), state)
    for head, planes in zip(heads, before, strict=True):
        assert torch.equal(head.triplane.planes, planes)


def test_the_spread_is_that_of_many_heads():
    eg3d = tiny_eg3d()
    with torch.no_grad():
        planes = torch.cat([eg3d_planes(eg3d, seed) for seed in range(5)])
    expected = planes.transpose(0, 2).flatten(2).transpose(0, 1)  # [3,C,5*R*R]
    torch.testing.assert_close(spread(eg3d, 5), expected.std(dim=2, unbiased=False))


def eg3d_planes(eg3d, seed):
    return sample_portrait(eg3d, seed, psi=1.0).triplane.planes


def test_a_pack_is_of_one_style_and_of_one_generator():
    eg3d = tiny_eg3d()
    heads = [tiny_portrait(eg3d, seed) for seed in (1, 2)]
    sets = [tiny_set(eg3d), tiny_set(eg3d, prompt="an elf")]
    with pytest.raises(InputError, match=r"of one style, got 2: \['a bronze statue', 'an elf'\]"):
        trained(eg3d, heads, sets)
    with pytest.raises(InputError, match="of one style, got 0"):
        trained(eg3d, [], [])
    with pytest.raises(MismatchError, match="belongs to EG3D tiny"):
        trained(eg3d, [tiny_portrait(tiny_eg3d(seed=9))], [tiny_set(eg3d)])


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("editor")
    save_tiny_editor(folder)
    return load_editor(folder)


SMALL = PackSettings(
    heads=2, views=2, iterations=2, sizes=SIZES, edit=StylizeSettings(steps=2), seed=11
)


def test_words_become_a_pack(editor):
    eg3d, told = tiny_eg3d(), []
    pack = make_style_pack(
        eg3d,
        editor,
        tiny_perceptual(),
        "an elf",
        settings=SMALL,
        licence="CC0-1.0",
        progress=lambda done, total, *_: told.append(done / total),
    )
    assert (pack.prompt, pack.heads, pack.licence) == ("an elf", 2, "CC0-1.0")
    assert pack.preview.shape == (3, 16, 16)
    # the preview is the first head that was not learnt on
    shown = apply_style_pack(pack, tiny_portrait(eg3d, 13))
    front = render_views(shown, front_camera(eg3d.config.rig())).image[0]
    torch.testing.assert_close(pack.preview, front)
    assert told == sorted(told) and told[-1] == 1 and any(0 < x < 0.5 for x in told)


def test_a_stop_comes_through(editor):
    def stop(done, total, *_):
        if done / total > 0.6:
            raise Cancelled

    with pytest.raises(Cancelled):
        make_style_pack(
            tiny_eg3d(), editor, tiny_perceptual(), "an elf", settings=SMALL, progress=stop
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heads": 0}, "learnt on 1 to 64 heads, got 0"),
        ({"heads": 65}, "1 to 64 heads"),
        ({"views": 1}, "views must be 2 to 32, got 1"),
        ({"psi": 1.1}, "psi must be from 0 to 1"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 2**64 - 1}, "seed must be a whole number"),  # the second head would have none
    ],
)
def test_settings_that_cannot_be_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        PackSettings(**given)


def test_training_that_cannot_be_is_refused_before_the_edits(editor):
    with pytest.raises(InputError, match="iterations must be at least 1"):
        make_style_pack(
            tiny_eg3d(),
            editor,
            tiny_perceptual(),
            "an elf",
            settings=replace(SMALL, iterations=0),
            progress=lambda *_: pytest.fail("it has begun"),
        )
