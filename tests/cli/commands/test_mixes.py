"""`mix` of small portraits: in a region, of more than two, and what it refuses."""

import json

import pytest
import torch
from PIL import Image

from freestyle_core.__main__ import main
from freestyle_core.cli.commands import mix as mix_command
from freestyle_core.files.portrait import load_portrait, save_portrait
from tests.cli.commands.small import failed, names
from tests.tiny import tiny_eg3d, tiny_portrait


@pytest.fixture
def saved(tmp_path, models, monkeypatch):
    """Four portraits of the small generator, and one of another."""
    eg3d = tiny_eg3d()
    for seed in range(4):
        save_portrait(tmp_path / f"{seed}.safetensors", tiny_portrait(eg3d, seed))
    save_portrait(tmp_path / "other.safetensors", tiny_portrait(tiny_eg3d(seed=9)))
    settings = mix_command.PortraitSettings
    monkeypatch.setattr(settings, "mix_frames", 2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mix(models, *argv):
    model = ["--eg3d", f"{models}/eg3d.safetensors", "--device", "cpu", "--mix", "3"]
    return ["mix", *argv, *model, "--out", "out"]


def painted(path, size=16, columns=8, value=255):
    picture = Image.new("L", (size, size), 0)
    picture.paste(value, (0, 0, columns, size))
    picture.save(path)
    return str(path)


PAIR = ("0.safetensors", "1.safetensors")
FOUR = tuple(f"{seed}.safetensors" for seed in range(4))


def test_a_mask_saves_the_second_inside_it(saved, models, capsys):
    argv = mix(models, *PAIR, "--mask", painted(saved / "mask.png"), "--through")
    assert main(argv) == 0
    assert names(saved / "out") == ["mix.json", "mix.mp4", "mix.png", "portrait.safetensors"]
    eg3d = tiny_eg3d()
    got = load_portrait(saved / "out" / "portrait.safetensors", eg3d=eg3d)
    assert got.provenance["area"] == "mask" and got.provenance["amount"] == 1.0
    assert torch.equal(got.triplane.planes, tiny_portrait(eg3d, 0).triplane.planes)
    (region,) = got.triplane.regions
    assert float(region.weights[:20].min()) > 0.999 and float(region.weights[-20:].max()) == 0
    record = json.loads((saved / "out" / "mix.json").read_text())
    assert record["where"]["mask"]["file"].endswith("mask.png") and record["where"]["through"]
    # what is saved there is an ordinary portrait: it is shown, and mixed on
    again = ["render", "out/portrait.safetensors", "--out", "front.png", "--device", "cpu"]
    assert main([*again, "--eg3d", f"{models}/eg3d.safetensors"]) == 0


def test_a_region_by_name_at_half(saved, models):
    argv = mix(models, *PAIR, "--region", "hair", "--amount", "0.5", "--space", "planes")
    assert main(argv) == 0
    got = load_portrait(saved / "out" / "portrait.safetensors", eg3d=tiny_eg3d())
    assert got.provenance["area"] == "hair" and got.provenance["space"] == "planes"
    assert float(got.triplane.regions[0].weights.max()) == 1


def test_four_by_weights(saved, models):
    assert main(mix(models, *FOUR, "--weights", "0.1", "0.2", "0.3", "0.4")) == 0
    eg3d = tiny_eg3d()
    got = load_portrait(saved / "out" / "portrait.safetensors", eg3d=eg3d)
    planes = [tiny_portrait(eg3d, seed).triplane.planes for seed in range(4)]
    expected = sum(0.1 * (index + 1) * p for index, p in enumerate(planes))
    torch.testing.assert_close(got.triplane.planes, expected)
    assert json.loads((saved / "out" / "mix.json").read_text())["weights"] == [0.1, 0.2, 0.3, 0.4]


def test_without_weights_pictures_alone(saved, models):
    assert main(mix(models, *FOUR[:3])) == 0
    assert names(saved / "out") == ["mix.json", "mix.mp4", "mix.png"]


BAD = {
    "mask of another size": ([*PAIR, "--mask", "small.png"], "the mask has 8 x 8 pixels, but"),
    "empty mask": ([*PAIR, "--mask", "empty.png"], "the mask is empty; paint over"),
    "no mask": ([*PAIR, "--mask", "none.png"], "none.png is not there"),
    "no picture": ([*PAIR, "--mask", "0.safetensors"], "is no readable picture"),
    "through nothing": ([*PAIR, "--through"], "--through is about a mask; add --mask FILE"),
    "unknown region": ([*PAIR, "--region", "nose"], "invalid choice: 'nose'"),
    "unknown space": ([*PAIR, "--space", "w"], "invalid choice: 'w'"),
    "codes of none": ([*PAIR, "--space", "codes"], "the first portrait has no style code"),
    "negative": ([*PAIR, "--weights", "1.5", "-0.5"], "weights must be from 0 to 1"),
    "no whole": ([*PAIR, "--weights", "0.5", "0.6"], "must be 1 together, got 0.5, 0.6"),
    "too few": ([*FOUR, "--weights", "0.5", "0.5"], "4 portraits need as many weights, got 2"),
    "amount of three": ([*FOUR[:3], "--amount", "0.5"], "between two portraits, got 3"),
    "both": ([*PAIR, "--amount", "0.5", "--weights", "0.5", "0.5"], "leave one out"),
    "five": ([*FOUR, "0.safetensors"], "a mix is of 2 to 4 portraits, got 5"),
    "another generator": (["0.safetensors", "other.safetensors"], "other weights; give the EG3D"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case, saved, models, capsys):
    painted(saved / "small.png", size=8, columns=4)
    painted(saved / "empty.png", value=0)
    before = names(saved)
    argv, message = BAD[case]
    assert message in failed(capsys, mix(models, *argv), 2)
    assert names(saved) == before


def test_a_mix_goes_through_the_pipeline_again(saved, models, portrait_args):
    argv = mix(models, *PAIR, "--region", "face")
    assert main(argv) == 0
    mixed = saved / "out" / "portrait.safetensors"
    again = [*portrait_args[:-1], "again", "--from", str(mixed), "--train", "planes"]
    assert main(again) == 0
    eg3d = tiny_eg3d()
    got = load_portrait(saved / "again" / "portrait.safetensors", eg3d=eg3d)
    assert got.provenance["prompt"] == "an elf" and got.provenance["area"] == "face"
    record = json.loads((saved / "again" / "run.json").read_text())
    assert record["from"]["file"] == str(mixed)
    modulated = [*portrait_args[:-1], "no", "--from", str(mixed), "--train", "modulation"]
    assert main(modulated) == 2 and not (saved / "no").exists()
