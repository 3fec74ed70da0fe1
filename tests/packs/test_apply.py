from dataclasses import replace

import pytest
import torch

from freestyle_core.errors import InputError, MismatchError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.packs.apply import apply_style_pack
from freestyle_core.types import Region
from tests.tiny import tiny_eg3d, tiny_pack, tiny_portrait


def test_planes_get_the_change_times_the_strength():
    eg3d = tiny_eg3d()
    head, pack = tiny_portrait(eg3d), tiny_pack(eg3d)
    before = head.triplane.planes.clone()
    for strength in (0.0, 0.5, 1.0, 2.0):
        got = apply_style_pack(pack, head, strength)
        torch.testing.assert_close(got.triplane.planes, before + 0.25 * strength)
        assert got.style is None and torch.equal(got.w, head.w)
    assert torch.equal(head.triplane.planes, before)
    assert torch.equal(apply_style_pack(pack, head, 0.0).triplane.planes, before)


def test_it_remembers_the_style_and_those_before_it():
    eg3d = tiny_eg3d()
    head, pack = tiny_portrait(eg3d, 3), tiny_pack(eg3d)
    once = apply_style_pack(pack, head, 0.5)
    assert once.is_stylized and once.provenance["seed"] == 3
    assert once.provenance["prompt"] == "an elf" and "prompts" not in once.provenance
    own = weights_hash(pack.network.state_dict())
    assert once.provenance["pack"] == {"hash": own, "strength": 0.5}
    tuned = replace(once, provenance={**once.provenance, "finetune": {"iterations": 9}})
    twice = apply_style_pack(replace(pack, prompt="a zombie"), tuned)
    assert twice.provenance["prompts"] == ["an elf", "a zombie"]
    assert "finetune" not in twice.provenance  # it tells of other planes
    thrice = apply_style_pack(pack, twice)
    assert thrice.provenance["prompts"] == ["an elf", "a zombie", "an elf"]


def test_a_portrait_mixed_by_region_becomes_plain_planes():
    eg3d = tiny_eg3d()
    head = tiny_portrait(eg3d)
    region = Region(torch.ones(3, 3, 3), torch.full_like(head.triplane.planes, 0.5))
    mixed = replace(head, triplane=replace(head.triplane, regions=(region,)))
    got = apply_style_pack(tiny_pack(eg3d), mixed)
    assert got.triplane.regions == ()
    # the region is everywhere, so that planes can hold it; 0.5 of it, 0.25 of the pack
    apart = (got.triplane.planes - head.triplane.planes).mean()
    assert 0.25 < float(apart) <= 0.76


def test_heads_of_another_generator_are_refused():
    pack = tiny_pack(tiny_eg3d())
    with pytest.raises(MismatchError, match=r"belongs to EG3D tiny .*use heads of the pack's"):
        apply_style_pack(pack, tiny_portrait(tiny_eg3d(seed=9)))


def test_a_renderer_that_was_tuned_from_the_generator_will_do():
    eg3d = tiny_eg3d()
    pack, head = tiny_pack(eg3d), tiny_portrait(tiny_eg3d(seed=9))
    kin = replace(head, renderer=tiny_eg3d(seed=9).renderer(parent=pack.renderer))
    assert apply_style_pack(pack, kin).renderer.parent == pack.renderer


@pytest.mark.parametrize("strength", [-0.1, 2.01, float("nan"), float("inf")])
def test_strength_outside_its_range_is_refused(strength):
    eg3d = tiny_eg3d()
    with pytest.raises(InputError, match="strength must be from 0 to 2, got"):
        apply_style_pack(tiny_pack(eg3d), tiny_portrait(eg3d), strength)
