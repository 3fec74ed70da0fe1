"""A portrait that is restyled again: two edits in a row, on the same head."""

from dataclasses import replace

import pytest
import torch

from freestyle_core.errors import InputError, MismatchError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.files.editors.load import load_editor
from freestyle_core.files.networks import embedded, load_eg3d
from freestyle_core.files.portrait import load_portrait, save_portrait
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.method.areas import named_area
from freestyle_core.method.finetune import FinetuneSettings
from freestyle_core.method.mix import mix_portraits
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.method.stylize import StylizeSettings
from freestyle_core.models.eg3d import EG3D
from freestyle_core.pipeline import Models, PortraitSettings, style_views
from tests.tiny import tiny_eg3d, tiny_perceptual
from tests.tiny_editor import save_tiny_editor


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    return load_editor(save_tiny_editor(tmp_path_factory.mktemp("editor")))


def models_of(eg3d, editor, perceptual):
    return Models(eg3d, None, perceptual, editor, {})


@pytest.fixture(scope="module")
def tiny(editor):
    return models_of(tiny_eg3d(), editor, tiny_perceptual())


def settings(words, **tune):
    given = {"train": "planes", "iterations": 2, "batch_size": 1, "preview_every": 0, **tune}
    return PortraitSettings(
        prompts=(words,),
        views=2,
        edit=StylizeSettings(steps=2),
        tune=FinetuneSettings(**given),
    )


def test_the_portrait_itself_is_shown_to_the_editor_and_learns_its_pictures(tiny):
    first = style_views(tiny, settings("an elf")).portraits[0]
    seen = []

    def edit(_editor, views, prompt, **_):
        seen.append((views, prompt))
        return views

    again = style_views(tiny, settings("a zombie"), start=first, edit=edit)
    cameras = again.cameras
    torch.testing.assert_close(seen[0][0], render_views(first, cameras).image)
    assert seen[0][1] == "a zombie" and torch.equal(again.original, seen[0][0])
    (second,) = again.portraits
    assert second.provenance["prompt"] == "a zombie"
    assert second.provenance["prompts"] == ["an elf", "a zombie"]
    assert second.provenance["seed"] == first.provenance["seed"]
    third = style_views(tiny, settings("a robot"), start=second, edit=edit).portraits[0]
    assert third.provenance["prompts"] == ["an elf", "a zombie", "a robot"]
    assert "prompts" not in first.provenance


def test_a_mix_in_a_region_is_restyled_too_and_saved(tiny, tmp_path):
    heads = [sample_portrait(tiny.eg3d, seed) for seed in (1, 2)]
    area = named_area("face", tiny.eg3d.config.rig(), lattice=17)
    mixed = mix_portraits(*heads, 1.0, area=area)
    (made,) = style_views(tiny, settings("a zombie"), start=mixed).portraits
    assert made.triplane.regions == () and made.provenance["area"] == "face"
    save_portrait(tmp_path / "p", made)
    again = load_portrait(tmp_path / "p", eg3d=tiny.eg3d)
    assert torch.equal(again.triplane.planes, made.triplane.planes)


def test_a_portrait_of_another_generator_is_refused(tiny):
    other = sample_portrait(tiny_eg3d(seed=9), 0)
    with pytest.raises(MismatchError, match="was not made with EG3D tiny; give the EG3D"):
        style_views(tiny, settings("a zombie"), start=other)
    with pytest.raises(InputError, match="'modulation' starts from a head"):
        start = sample_portrait(tiny.eg3d, 0)
        style_views(tiny, settings("a zombie", train="modulation"), start=start)


def test_a_portrait_with_a_renderer_of_its_own_begins_where_it_was_tuned_from(tiny):
    head = sample_portrait(tiny.eg3d, 0)
    tuned = EG3D(tiny.eg3d.config)
    tuned.load_state_dict(tiny.eg3d.state_dict())
    with torch.no_grad():
        tuned.decoder.net[0].weight.mul_(1.5)
    parent = weights_hash(tiny.eg3d.renderer().state_dict())
    start = replace(head, renderer=tuned.eval().renderer(parent=parent))
    (made,) = style_views(tiny, settings("a zombie"), start=start).portraits
    assert made.renderer is start.renderer


def test_two_edits_in_a_row_keep_the_head(editor):
    eg3d = load_eg3d(embedded("eg3d"))
    models = models_of(eg3d, editor, lambda a, b: a.new_zeros(len(a)))
    gold, turned = torch.tensor([1.0, 0.75, 0.45]).view(3, 1, 1), [2, 1, 0]
    edits = iter([lambda v: 1 - (1 - v * gold) * (v < 0.98), lambda v: v[:, turned]])

    def edit(_editor, views, _prompt, **_):
        return next(edits)(views)

    head = sample_portrait(eg3d, 12, psi=0.7)
    portrait = head
    for words in ("gold", "blue"):
        made = style_views(models, settings(words, iterations=14), start=portrait, edit=edit)
        (portrait,) = made.portraits
    unseen = orbit_cameras([15.0, -20.0], [5.0, -10.0], eg3d.config.rig())
    before, after = (render_views(p, unseen) for p in (head, portrait))
    solid = [view.alpha > 0.5 for view in (before, after)]
    shared = (solid[0] & solid[1]).sum() / (solid[0] | solid[1]).sum()
    assert float(shared) > 0.97  # of the outline
    apart = (before.depth - after.depth).abs()[solid[0] & solid[1]]
    assert float(apart.median()) < 0.01  # of a head that is 0.45 wide
    # and it is both edits of it: gold, then with red and blue exchanged
    wanted = (before.image * gold)[:, turned]
    inside = torch.nn.functional.interpolate(solid[0].float(), scale_factor=2) > 0
    errors = [((view - wanted).square() * inside).sum() for view in (after.image, before.image)]
    assert float(errors[0] / errors[1]) < 0.35  # after 14 steps of each
