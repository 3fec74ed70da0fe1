"""Fine-tuned results on disk: what is found again, and under which key."""

from dataclasses import asdict, replace
from functools import partial
from typing import get_args

import pytest
import torch

from freestyle_core.errors import InputError
from freestyle_core.files.bundle import load_bundle
from freestyle_core.files.finetune_cache import (
    KIND,
)
from freestyle_core.method.finetune import (
    FinetuneState,
    finetune_portraits,
)
from freestyle_core.method.finetune_settings import NEED_I2T, Train
from freestyle_core.types import Region, Triplane
from tests.files.finetune_cache.small import (
    RESIDUALS,
    SETTINGS,
    key_of,
    prompts,
    with_residuals,
    without_network,
)
from tests.tiny import tiny_eg3d, tiny_i2t


def test_a_kept_result_comes_back_bit_by_bit(store, trained):
    portraits, sets, result = trained
    key = key_of(portraits, sets)
    assert store.load(key, portraits, prompts(sets)) is None
    store.save(key, result.portraits, result.losses)
    got, losses = store.load(key, portraits, prompts(sets))
    assert losses == result.losses
    assert got[0].style.network is got[1].style.network  # so Style Mix mixes the codes alone
    for a, b in zip(got, result.portraits, strict=True):
        assert torch.equal(a.triplane.planes, b.triplane.planes)
        assert torch.equal(a.style.w_s, b.style.w_s) and torch.equal(a.w, b.w)
        assert a.renderer is b.renderer and a.style.parent == "parent"
        assert a.provenance["prompt"] == b.provenance["prompt"]
        ours, theirs = a.style.network.state_dict(), b.style.network.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_key_changes_with_everything_that_decides_the_result(trained):
    (head, other), (few, second), _ = trained
    cameras = replace(few.cameras, cam_to_world=few.cameras.cam_to_world + 0.001)
    images = few.images.clone()
    images[1, 0, 0, 0] += 0.01
    box = Triplane(head.triplane.planes + 0.001, head.triplane.box_size)
    keys = [
        key_of([head], [few]),
        key_of([head], [few], parent="another"),
        key_of([head], [few], perceptual="clay"),
        key_of([head], [few], settings=asdict(replace(SETTINGS, seed=1))),
        key_of([other], [few]),
        key_of([replace(head, triplane=box)], [few]),
        key_of([replace(head, w=head.w + 0.001)], [few]),
        key_of([replace(head, renderer=tiny_eg3d(5).renderer())], [few]),
        key_of([head], [replace(few, images=images)]),
        key_of([head], [replace(few, cameras=cameras)]),
        key_of([head, head], [few, second]),
        key_of([head, head], [second, few]),
    ]
    assert len(set(keys)) == len(keys)


def test_a_result_without_a_network_is_kept_as_its_planes_alone(store, trained):
    portraits, sets, result = trained
    store.save("a" * 64, without_network(result), result.losses)
    got, losses = store.load("a" * 64, portraits, prompts(sets))
    assert losses == result.losses
    for a, b in zip(got, result.portraits, strict=True):
        assert torch.equal(a.triplane.planes, b.triplane.planes) and torch.equal(a.w, b.w)
        assert a.style is None and a.is_stylized and a.renderer is b.renderer
        assert a.provenance["prompt"] == b.provenance["prompt"]
    state = load_bundle(store.root / f"{'a' * 64}.safetensors", KIND).state
    assert {name for name in state if "loss" not in name} == {"planes.0", "planes.1"}


@pytest.mark.parametrize("values", [(0.5, -2.0), (0.5, None)])
def test_residuals_are_kept_with_the_code_and_the_network(store, trained, values):
    portraits, sets, result = trained
    made = with_residuals(result, *values)
    store.save("a" * 64, made, result.losses)
    got, _ = store.load("a" * 64, portraits, prompts(sets))
    assert got[0].style.network is got[1].style.network
    for a, b, value in zip(got, made, values, strict=True):
        assert torch.equal(a.triplane.planes, b.triplane.planes)
        assert torch.equal(a.style.w_s, b.style.w_s)
        if value is None:
            assert a.style.residual is None
        else:
            assert a.style.residual.unique().tolist() == [value]
            assert a.style.residual.shape == a.triplane.planes.shape


@pytest.mark.parametrize("train", get_args(Train))
def test_what_fine_tuning_makes_of_each_kind_is_kept_bit_by_bit(store, trained, train):
    portraits, sets, _ = trained
    settings, states = replace(SETTINGS, train=train), []
    run = partial(
        finetune_portraits,
        tiny_i2t() if train in NEED_I2T else None,
        "parent" if train in NEED_I2T else "",
        portraits,
        sets,
        lambda a, b: a.new_zeros(len(a)),
        eg3d=tiny_eg3d(),
        settings=settings,
    )
    result = run(on_checkpoint=states.append, checkpoint_every=1)
    store.save_checkpoint("key", states[0].step, states[0].tensors, states[0].task)
    resumed = run(resume=FinetuneState(*store.load_checkpoint("key")))
    store.save("key", resumed.portraits, resumed.losses)
    got, losses = store.load("key", portraits, prompts(sets))
    assert losses == result.losses
    for a, b in zip(got, result.portraits, strict=True):
        assert torch.equal(a.triplane.planes, b.triplane.planes)
        assert (a.style is None) == (train not in NEED_I2T)
        if a.style is not None:
            assert torch.equal(a.style.w_s, b.style.w_s)
            assert (a.style.residual is None) == (train == "i2t")
            # a code laid out anew is summed in another order
            torch.testing.assert_close(a.style.planes().detach(), a.triplane.planes)
    if train in NEED_I2T:
        assert got[0].style.network is got[1].style.network


def test_only_what_one_fine_tuning_made_is_kept(store, trained):
    portraits, _, result = trained
    bare, styled = without_network(result), result.portraits
    other = replace(styled[1], style=replace(styled[1].style, network=tiny_i2t()))
    for made in ([], portraits, [bare[0], styled[1]], [styled[0], other], [bare[0], portraits[1]]):
        with pytest.raises(InputError, match="results of one fine-tuning"):
            store.save("a" * 64, made, result.losses)
    assert store.entries() == []


def test_the_key_covers_what_is_trained(trained):
    (head, _), (few, _), _ = trained
    plain = asdict(SETTINGS)
    later = ("train", "budget_s", "sample_share", "skip_empty", *RESIDUALS)
    for name in later:  # as before there were these
        del plain[name]

    def key(train, **changes):
        return key_of([head], [few], settings={**plain, "train": train, **RESIDUALS, **changes})

    assert len({key("i2t"), key("planes"), key("both")}) == 3
    for train in ("planes", "both"):
        assert key(train, residual_gains=(5.0, 4.0)) != key(train)
        assert key(train, residual_smooth=0.1) != key(train)
    # a network's result has the name that it had before there were residuals, so it is found
    assert key("i2t") == key("i2t", residual_gains=(1.0,)) == key_of([head], [few], settings=plain)
    for train in get_args(Train):
        assert key(train, budget_s=0.0) == key(train) != key(train, budget_s=9.0)
        same = key(train, sample_share=1.0, skip_empty=False)
        assert key(train) == same != key(train, sample_share=0.5)
        assert same != key(train, skip_empty=True)


def test_planes_learnt_without_an_i2t_are_the_same_whatever_i2t_is_at_hand(trained):
    (head, _), (few, _), _ = trained

    def key(train, parent):
        return key_of([head], [few], settings={**asdict(SETTINGS), "train": train}, parent=parent)

    assert key("planes", "one") == key("planes", "another") == key("planes", "")
    assert key("both", "one") != key("both", "another")


def test_the_words_alone_do_not_change_the_key_but_the_result_carries_them(store, trained):
    portraits, sets, result = trained
    renamed = [replace(s, prompt=s.prompt + "!") for s in sets]
    key = key_of(portraits, sets)
    assert key_of(portraits, renamed) == key
    store.save(key, result.portraits, result.losses)
    got, _ = store.load(key, portraits, prompts(renamed))
    assert [p.provenance["prompt"] for p in got] == ["a bronze statue!", "an elf!"]


def test_the_words_before_the_last_are_kept_too(store, trained):
    portraits, sets, result = trained
    again = [
        replace(p, provenance={**p.provenance, "prompts": ["a clown", p.provenance["prompt"]]})
        for p in result.portraits
    ]
    key = key_of(portraits, sets)
    store.save(key, again, result.losses)
    got, _ = store.load(key, portraits, ["x", "y"])
    assert [p.provenance["prompts"] for p in got] == [["a clown", "x"], ["a clown", "y"]]


def test_the_key_covers_the_regions_of_a_portrait(trained):
    (head, _), (few, _), _ = trained
    planes = head.triplane.planes
    regions = [
        (),
        (Region(torch.zeros(3, 3, 3), planes),),
        (Region(torch.ones(3, 3, 3), planes),),
        (Region(torch.ones(3, 3, 3), 2 * planes),),
    ]
    heads = [replace(head, triplane=replace(head.triplane, regions=r)) for r in regions]
    keys = [key_of([one], [few]) for one in heads]
    assert keys[0] == key_of([head], [few]) and len(set(keys)) == 4
