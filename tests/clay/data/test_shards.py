"""The data sets of the clay models: what a row holds, and that shards are made once, by one."""

import pytest
import torch
from torch.testing import assert_close

from freestyle_core.clay.data import shards
from freestyle_core.clay.data.shards import (
    FRONT_VIEWS,
    PITCH_RANGE,
    SHARD,
    YAW_RANGE,
    cameras_at,
    heads_shard,
    load_shards,
    make_data,
    pairs_shard,
    random_views,
    renders_shard,
)
from freestyle_core.clay.draw import draw, plain_head
from freestyle_core.clay.styles.attributes import ATTRIBUTES
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.method.render import render_views
from freestyle_core.models.eg3d import EG3D
from freestyle_core.types import Portrait, Triplane

SIZE = 16


@pytest.fixture(scope="module")
def heads():
    return heads_shard(0, heads=2, resolution=SIZE)


def test_a_row_of_heads_is_the_head_of_its_code(heads):
    head = plain_head(heads["z"][1])
    image, alpha, depth = draw(head, cameras_at(heads["view"][1]), SIZE)
    assert_close(heads["image"][1].float() / 255, image, atol=0.5001 / 255, rtol=0)
    assert_close(heads["alpha"][1].float() / 255, alpha, atol=1e-6, rtol=0)
    assert_close(heads["depth"][1].float(), depth, atol=2e-3, rtol=0)
    points = heads["points"][1].float()
    assert points.min() < -0.499 and points.max() > 0.499  # the whole box
    assert_close(heads["distance"][1].float(), head.distance(points), atol=2e-3, rtol=0)


def test_front_views_stay_in_front_and_one_goes_round(heads):
    views = random_views(2000, torch.Generator().manual_seed(0))
    limits = torch.tensor([YAW_RANGE, PITCH_RANGE])
    assert (views.abs() <= limits).all()
    assert_close(views.abs().amax(0), limits, rtol=0.01, atol=0)
    assert_close(views.mean(0), torch.zeros(2), rtol=0, atol=2.0)
    made = torch.cat([heads_shard(i, heads=1, resolution=4)["view"] for i in range(6)])
    assert (made[:, :FRONT_VIEWS, 0].abs() <= YAW_RANGE).all()
    around = made[:, FRONT_VIEWS]
    assert 60 < around[:, 0].abs().max() <= 180 and (around[:, 1].abs() <= PITCH_RANGE).all()


def test_a_shard_is_a_function_of_its_index(heads):
    again, other = (heads_shard(index, heads=2, resolution=SIZE) for index in (0, 1))
    assert all(torch.equal(heads[name], again[name]) for name in heads)
    assert not torch.equal(heads["z"], other["z"])


def test_pairs_are_two_views_of_three_edits_of_every_head(heads):
    pairs, again = pairs_shard(3, heads), pairs_shard(3, heads)
    assert all(torch.equal(pairs[name], again[name]) for name in pairs)
    count = 2 * 3 * 2
    assert pairs["target"].shape == pairs["source"].shape == (count, 3, SIZE, SIZE)
    local = torch.tensor([0] * 6 + [1] * 6)
    assert torch.equal(pairs["identity"], 3 * SHARD + local)
    assert torch.equal(pairs["source"], heads["image"][local, pairs["view_index"]])
    assert torch.equal(pairs["view"], heads["view"][local, pairs["view_index"]])
    first, second = pairs["view_index"].view(-1, 2).T
    assert (first != second).all() and pairs["view_index"].max() < FRONT_VIEWS
    for name in ("style", "attributes"):
        assert torch.equal(*pairs[name].unflatten(0, (-1, 2)).unbind(1))
    edited = (pairs["source"].float() - pairs["target"].float()).abs().flatten(1).mean(1)
    assert (edited > 1).all()
    filled = pairs["attributes"]  # -1 where fewer than two were asked for
    assert filled.shape == (count, 2) and filled.min() == -1 and filled.max() < len(ATTRIBUTES)
    corner = pairs["target"][:, :, 0, 0]
    assert (corner == 255).float().mean() > 0.9  # white behind the heads
    assert set(pairs["style"].tolist()) <= set(range(-1, len(STYLES)))


def test_renders_are_the_generators_front_views_of_the_same_heads(heads, small_config):
    from dataclasses import replace

    torch.manual_seed(0)
    eg3d = EG3D(replace(small_config, z_dim=64)).eval()
    made = renders_shard(heads, eg3d)
    assert torch.equal(made["z"], heads["z"])
    assert torch.equal(made["view"], heads["view"][:, :FRONT_VIEWS])
    ws = eg3d.map(heads["z"][1:], torch.zeros(1, eg3d.config.c_dim))
    portrait = Portrait(eg3d.renderer(), Triplane(eg3d.planes(ws), eg3d.config.box_size), ws)
    expected = render_views(portrait, cameras_at(made["view"][1])).image
    assert_close(made["image"][1].float() / 255, expected, atol=0.51 / 255, rtol=0)


def test_workers_share_the_shards_and_make_none_twice(tmp_path, monkeypatch):
    made = []

    def shard(index):
        made.append(index)
        return {"z": torch.full((2, 1), float(index))}

    monkeypatch.setattr(shards, "heads_shard", shard)
    make_data(tmp_path, "heads", range(5), worker=1, workers=2)
    assert made == [1, 3]
    make_data(tmp_path, "heads", range(5), worker=0, workers=2)
    make_data(tmp_path, "heads", range(6))
    assert made == [1, 3, 0, 2, 4, 5]
    assert load_shards(tmp_path, "heads")["z"].flatten().tolist() == [
        0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5,
    ]  # fmt: skip
    assert load_shards(tmp_path, "heads", 2)["z"].flatten().tolist() == [0, 0, 1, 1]
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".pt"]


def test_pairs_are_made_of_the_heads_of_their_index(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "heads_shard", lambda index: {"z": torch.tensor([index])})
    monkeypatch.setattr(shards, "pairs_shard", lambda index, heads: {"of": heads["z"] + 10 * index})
    monkeypatch.setattr(shards, "renders_shard", lambda heads, eg3d: {"of": heads["z"] + eg3d})
    for kind in ("heads", "pairs", "renders"):
        make_data(tmp_path, kind, range(3), eg3d=100)
    assert load_shards(tmp_path, "pairs")["of"].tolist() == [0, 11, 22]
    assert load_shards(tmp_path, "renders")["of"].tolist() == [100, 101, 102]
