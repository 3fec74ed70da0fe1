"""Edit Views Again in a real server: pictures that do not fit are mended, all others left alone."""

import re

import numpy as np
from PIL import Image

from tests.comfy.graphs import EDITED, changed, node
from tests.comfy.test_behaviour import succeed, texts

SHOWN = {
    "again": node(
        "FreeStyleReeditViews",
        editor=["editor", 0],
        portrait=["head", 0],
        cameras=["cameras", 0],
        images=["edit", 0],
        style=["edit", 1],
        tau=0.9,
        steps=4,
        image_guidance=1.5,
        text_guidance=3.0,
        seed=0,
    ),
    "edited": node("SaveImage", images=["edit", 0], filename_prefix="edited"),
    "shown": node("SaveImage", images=["again", 0], filename_prefix="again"),
}


def pictures(server, run, name):
    """Return the pictures [V,H,W,3] that a node has saved."""
    files = server.outputs(run)[name]["images"]
    return np.stack([np.asarray(Image.open(server.file(file)).convert("RGB")) for file in files])


def test_pictures_too_far_apart_come_out_as_they_are_and_it_says_so(server):
    run = succeed(server, {**EDITED, **SHOWN})
    assert np.array_equal(pictures(server, run, "shown"), pictures(server, run, "edited"))
    assert "too far apart to be judged" in texts(run.during("again"))[-1]


def test_a_picture_that_does_not_fit_is_restyled_again(server):
    dense = {"views_per_side": 4, "yaw_range_deg": 15.0, "pitch_range_deg": 15.0}
    prompt = {
        **changed(
            {**EDITED, **SHOWN},
            eg3d={"model": "clay (embedded)"},
            editor={"model": "clay (embedded)"},
            cameras=dense,
            again={"images": ["mixed", 0]},
        ),
        "one": node("ImageFromBatch", image=["edit", 0], batch_index=7, length=1),
        "wrong": node("ImageInvert", image=["one", 0]),
        "before": node("ImageFromBatch", image=["edit", 0], batch_index=0, length=7),
        "behind": node("ImageFromBatch", image=["edit", 0], batch_index=8, length=9),
        "first": node("ImageBatch", image1=["before", 0], image2=["wrong", 0]),
        "mixed": node("ImageBatch", image1=["first", 0], image2=["behind", 0]),
    }
    run = succeed(server, prompt)
    right, after = (pictures(server, run, name).astype(int) for name in ("edited", "shown"))
    off = np.abs(right - after).mean((1, 2, 3))
    # edited again with another noise: neither the inverted picture nor the first edit
    assert 0 < off[7] < 20 and np.abs(255 - right[7] - after[7]).mean() > 40
    assert (off > 0).sum() <= 5  # once it is gone, a few others stand out
    text = texts(run.during("again"))[-1]
    said = re.search(r"(\d+) of 17 pictures did not fit, (\d+) replaced", text)
    assert said and int(said[1]) >= int(said[2]) == (off > 0).sum()
