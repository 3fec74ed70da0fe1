from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from freestyle_core.errors import FileFormatError, MismatchError
from freestyle_core.files.bundle import load_bundle, save_bundle, weights_hash
from freestyle_core.files.portrait import load_portrait, save_portrait
from freestyle_core.models.eg3d import EG3D
from freestyle_core.types import Region
from tests.files.tiny_portraits import make_eg3d, make_portrait, rewrite


def make_tuned(eg3d):
    """Return a portrait whose renderer is no generator's any more."""
    portrait = make_portrait(eg3d, styled=False)
    parent = weights_hash(eg3d.renderer().state_dict())
    tuned = EG3D(eg3d.config)
    tuned.load_state_dict(eg3d.state_dict())
    with torch.no_grad():
        tuned.decoder.net[0].weight.mul_(1.5)
    return replace(portrait, renderer=tuned.eval().renderer(parent=parent))


def test_a_tuned_renderer_travels_in_the_file(tmp_path):
    eg3d = make_eg3d()
    portrait = make_tuned(eg3d)
    save_portrait(tmp_path / "p.safetensors", portrait)
    again = load_portrait(tmp_path / "p.safetensors")  # no EG3D file holds these weights
    ours, theirs = portrait.renderer.state_dict(), again.renderer.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert again.renderer.parent == portrait.renderer.parent
    assert again.renderer.config == eg3d.config and not again.renderer.training
    save_portrait(tmp_path / "q.safetensors", again)
    assert (tmp_path / "p.safetensors").read_bytes() == (tmp_path / "q.safetensors").read_bytes()


def test_a_renderer_that_tuning_left_as_it_was_is_named_as_ever(tmp_path):
    eg3d = make_eg3d()
    plain = make_portrait(eg3d, styled=False)
    same = replace(plain, renderer=eg3d.renderer(parent=weights_hash(plain.renderer.state_dict())))
    save_portrait(tmp_path / "plain.safetensors", plain)
    save_portrait(tmp_path / "same.safetensors", same)
    files = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("plain", "same")]
    assert files[0] == files[1]
    assert not any(
        name.startswith("renderer.") for name in load_file(tmp_path / "same.safetensors")
    )


def test_a_tuned_portrait_takes_its_parent_and_no_other_generator(tmp_path):
    eg3d = make_eg3d()
    save_portrait(tmp_path / "p.safetensors", make_tuned(eg3d))
    assert load_portrait(tmp_path / "p.safetensors", eg3d=eg3d).renderer.parent is not None
    with pytest.raises(MismatchError, match="was tuned from EG3D tiny"):
        load_portrait(tmp_path / "p.safetensors", eg3d=make_eg3d(seed=9))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c, s: s.pop("renderer.decoder.net.0.bias"), "lacks tensor decoder.net.0.bias"),
        (lambda c, s: s.update({"renderer.more": torch.zeros(1)}), "unknown tensor more"),
        (lambda c, s: c.pop("tuned_from"), "what its renderer was tuned from"),
        (lambda c, s: c.pop("renderer"), "not among the known|not those of a portrait"),
        (lambda c, s: c["renderer"].update(w_dim=9), "w"),
        (lambda c, s: c["renderer"].update(w_dim=-1), "impossible network"),
    ],
)
def test_a_damaged_tuned_renderer_is_named(tmp_path, damage, message):
    path = tmp_path / "p.safetensors"
    save_portrait(path, make_tuned(make_eg3d()))
    bundle = load_bundle(path, "portrait")
    damage(bundle.config, bundle.state)
    save_bundle(path, "portrait", bundle.config, bundle.state, bundle.extra)
    with pytest.raises((FileFormatError, MismatchError), match=message):
        load_portrait(path)


def with_regions(portrait, count=2):
    generator = torch.Generator().manual_seed(5)
    shape = portrait.triplane.planes.shape
    regions = tuple(
        Region(
            torch.rand(5, 5, 5, generator=generator),
            torch.randn(shape, generator=generator),
        )
        for _ in range(count)
    )
    return replace(portrait, triplane=replace(portrait.triplane, regions=regions))


def test_a_portrait_mixed_by_region_comes_back_bit_by_bit(tmp_path):
    eg3d = make_eg3d()
    portrait = with_regions(make_portrait(eg3d, styled=False))
    save_portrait(tmp_path / "p", portrait)
    again = load_portrait(tmp_path / "p", eg3d=eg3d)
    assert len(again.triplane.regions) == 2
    for one, two in zip(again.triplane.regions, portrait.triplane.regions, strict=True):
        assert torch.equal(one.weights, two.weights) and torch.equal(one.planes, two.planes)
    save_portrait(tmp_path / "q", again)
    assert (tmp_path / "p").read_bytes() == (tmp_path / "q").read_bytes()
    assert load_bundle(tmp_path / "p", "portrait").config["regions"] == 2


def test_a_tuned_renderer_and_regions_travel_together(tmp_path):
    save_portrait(tmp_path / "p", with_regions(make_tuned(make_eg3d()), 1))
    again = load_portrait(tmp_path / "p")
    assert again.renderer.parent is not None and len(again.triplane.regions) == 1


WRONG_REGIONS = {
    "one claimed": ({"regions": 1}, {}),
    "three claimed": ({"regions": 3}, {}),
    "none claimed": ({"regions": 0}, {}),
    "text": ({"regions": "2"}, {}),
    "true": ({"regions": True}, {}),
    "a million": ({"regions": 10**6}, {}),
    "flat weights": ({}, {"region.0.weights": torch.zeros(5, 5)}),
    "uneven weights": ({}, {"region.0.weights": torch.zeros(5, 5, 6)}),
    "one weight": ({}, {"region.0.weights": torch.zeros(1, 1, 1)}),
    "a number": ({}, {"region.0.weights": torch.tensor(1.0)}),
    "whole weights": ({}, {"region.0.weights": torch.zeros(5, 5, 5).long()}),
    "other planes": ({}, {"region.1.planes": torch.zeros(1, 3, 4, 4, 4)}),
    "nan": ({}, {"region.1.planes": torch.full((1, 3, 4, 8, 8), float("nan"))}),
    "more": ({}, {"region.0.more": torch.zeros(1)}),
}


@pytest.mark.parametrize("case", WRONG_REGIONS)
def test_regions_that_lie_are_refused(tmp_path, case):
    eg3d = make_eg3d()
    save_portrait(tmp_path / "p", with_regions(make_portrait(eg3d, styled=False)))
    config, state = WRONG_REGIONS[case]
    rewrite(tmp_path / "p", config=config, state=state)
    with pytest.raises(FileFormatError, match="region|tensors|NaN|finite"):
        load_portrait(tmp_path / "p", eg3d=eg3d)
