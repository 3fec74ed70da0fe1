"""A set of edited views of the embedded models, made once: some views are another head's."""

from types import SimpleNamespace

import pytest
import torch

from freestyle_core.files.editors.load import load_editor
from freestyle_core.files.networks import embedded, load_eg3d
from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.method.audit import auditor_of
from freestyle_core.method.fewshot import few_shot_set
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.method.stylize import StylizeSettings, stylize_views

SWAPPED = [4, 9, 20]  # of 26 views


@pytest.fixture(scope="session")
def swapped():
    """Return a head, its views `seen`, and their edits: `clean`, and `mixed` with another's."""
    eg3d, editor = load_eg3d(embedded("eg3d")), load_editor(embedded("editor"))
    cameras = grid_cameras(5, eg3d.config.rig(), yaw_range_deg=20, pitch_range_deg=20)
    head, stranger = (sample_portrait(eg3d, seed, psi=0.7) for seed in (0, 5))
    seen = render_views(head, cameras)
    both = torch.cat([seen.image, render_views(stranger, cameras[SWAPPED]).image])
    settings = StylizeSettings(steps=6)
    edited = stylize_views(editor, both, "a bronze statue", settings=settings)
    mixed = edited[:26].clone()
    mixed[SWAPPED] = edited[26:]
    bad = torch.zeros(26, dtype=torch.bool)
    bad[SWAPPED] = True
    sets = [few_shot_set(head, x, cameras, "a bronze statue") for x in (edited[:26], mixed)]
    return SimpleNamespace(
        head=head,
        editor=editor,
        seen=seen,
        clean=sets[0],
        mixed=sets[1],
        bad=bad,
        settings=settings,
        auditor=auditor_of(head, cameras, seen=seen),
    )
