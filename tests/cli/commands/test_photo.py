"""`photo` on small models: what it writes, and what it refuses before it writes anything."""

import json

import pytest
import torch
from PIL import Image

from freestyle_core.__main__ import main
from freestyle_core.cli.commands import photo as photo_command
from freestyle_core.files.media.image import load_image
from freestyle_core.files.networks import example_photo, load_eg3d
from freestyle_core.files.portrait import load_portrait
from freestyle_core.photo.faces import pose_of
from freestyle_core.pipeline import PortraitSettings
from tests.cli.commands.small import FILES, failed, names

OWN = ["aligned.png", "overlay.png", "photo.safetensors"]


@pytest.fixture
def args(portrait_args):
    return ["photo", str(example_photo()), *portrait_args[1:]]


def test_a_photograph_becomes_all_files_of_a_portrait_and_three_more(
    args, models, tmp_path, capsys
):
    assert main([*args, "--by", "i2t"]) == 0
    out = tmp_path / "out"
    assert names(out) == sorted([*FILES, *OWN])
    said = capsys.readouterr()
    assert said.out.startswith("yaw +") and "1 face; taken: 0" in said.out
    assert "[2/8] a portrait of the photo" in said.err
    record = json.loads((out / "run.json").read_text())
    assert record["files"] == sorted([*FILES, *OWN])
    assert record["from"]["file"] == str(example_photo())
    # the first view is the photograph's; the others stay
    settings = PortraitSettings.from_record(record["settings"])
    eg3d = load_eg3d(models / "eg3d.safetensors")
    cameras = settings.cameras(eg3d.config.rig())
    pose = record["from"]["pose"]
    assert pose_of(cameras.cam_to_world[0]).yaw_deg == pytest.approx(pose["yaw_deg"], abs=1e-3)
    assert 5 < pose["yaw_deg"] < 30 and -15 < pose["roll_deg"] < 0  # drawn at 16 and -6
    plain = PortraitSettings(("an elf",), views=2).cameras(eg3d.config.rig())
    assert torch.equal(cameras.cam_to_world[1:], plain.cam_to_world[1:])
    # the portrait before it was restyled
    head = load_portrait(out / "photo.safetensors", eg3d=eg3d)
    assert head.provenance["photo"] == "i2t" and not head.is_stylized
    assert load_image(out / "aligned.png").shape == (3, 16, 16)
    assert min(load_image(out / "overlay.png").shape[1:]) >= 512


def test_points_by_hand_take_the_place_of_the_detector(args, tmp_path, monkeypatch):
    taken = {}
    real = photo_command.align_photo

    def align(photo, config, **given):
        taken.update(given)
        return real(photo, config, **given)

    monkeypatch.setattr(photo_command, "align_photo", align)
    monkeypatch.setattr(photo_command, "make_run", lambda *_: None)
    assert main([*args, "--points", "185,262 265,256 228,300 205,342 262,332"]) == 0
    assert taken["detector"] is None and len(taken["faces"]) == 1
    assert taken["faces"][0].points[1].tolist() == [265, 256]


def _noise(path):
    values = torch.randint(0, 256, (80, 90, 3), generator=torch.Generator().manual_seed(1))
    Image.fromarray(values.to(torch.uint8).numpy()).save(path)


REFUSED = {
    "no file": ("none.jpg", [], "none.jpg is not there"),
    "no face": ("noise.png", [], "no face was found in the picture of 90 x 80 pixels"),
    "no picture": ("words.jpg", [], "is no picture"),
    "heic": ("phone.heic", [], "is a HEIC picture"),
    "no such face": (None, ["--face", "1"], "face 1 was asked for, but the picture has 1 face"),
    "three points": (None, ["--points", "1,2 3,4 5,6"], "got 6 numbers"),
    "points outside": (None, ["--points", "1,2 3,4 5,6 7,8 900,9"], "must lie in the picture"),
    "no numbers": (None, ["--points", "left eye"], "five points"),
    "points and face": (None, ["--face", "1", "--points", "1,2 3,2 2,3 1,4 3,4"], "leave out --fa"),
    "way": (None, ["--by", "magic"], "invalid choice: 'magic'"),
    "from": (None, ["--from", "p.safetensors"], "unrecognized arguments"),
    "modulation": (None, ["--train", "modulation"], "starts from a head as its generator"),
    "no style": (None, ["--views", "1"], "views must be 2 to 32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_one_line_and_nothing_is_written(case, args, tmp_path, capsys):
    name, more, message = REFUSED[case]
    _noise(tmp_path / "noise.png")
    (tmp_path / "words.jpg").write_text("no picture at all")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    if name is not None:
        args[1] = str(tmp_path / name)
    assert message in failed(capsys, [*args, *more], 2)
    assert names(tmp_path) == ["noise.png", "phone.heic", "words.jpg"]
