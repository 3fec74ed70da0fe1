"""The one command that trains all clay models, at a fiftieth of its size: it lands where it did."""

import json
import logging

import pytest

from freestyle_core.clay.__main__ import main
from freestyle_core.files.networks import PARTS

EFFORT = "0.02"
# part: measure, published value, margin. Measured on one thread; a run on two threads ended 0.6 dB
# apart for the EG3D and 0.03 dB for the VAE.
PUBLISHED = {
    "eg3d": ("psnr_db", 12.9, 1.5),
    "vae": ("styled_psnr_db", 16.7, 1.0),
    "i2t": ("psnr_db", 19.8, 1.0),
}


@pytest.mark.slow
def test_one_command_trains_every_model_to_the_published_rehearsal_numbers(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert main(["train", "--work", str(tmp_path), "--effort", EFFORT]) == 0
    models = tmp_path / "models"
    assert all((models / part).exists() for part in PARTS.values())
    scores = tmp_path / "scores.json"
    measure = ["evaluate", "--models", str(models), "--identities", "4", "--json", str(scores)]
    assert main([*measure, "--only", "eg3d", "vae", "i2t"]) == 0
    numbers = json.loads(scores.read_text(encoding="utf-8"))
    for part, (name, expected, margin) in PUBLISHED.items():
        assert numbers[part][name] == pytest.approx(expected, abs=margin), part
