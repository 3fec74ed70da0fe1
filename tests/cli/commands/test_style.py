"""`style make`, `apply`, `show` and `list`, and `portrait --pack`, on small models."""

import argparse
import json

import pytest
import torch

from freestyle_core.__main__ import main
from freestyle_core.cli.commands.portrait import NOT_WITH_PACK
from freestyle_core.cli.options.portrait import add_portrait
from freestyle_core.files import style_pack as packs
from freestyle_core.files.portrait import load_portrait, save_portrait
from freestyle_core.files.style_pack import load_style_pack
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.packs.apply import apply_style_pack
from freestyle_core.visualize.style_page import page_cameras
from tests.cli.commands.small import failed, names
from tests.pages import page_data, strip
from tests.tiny import tiny_eg3d

SHOWN = [
    "front.png",
    "mesh.glb",
    "portrait.safetensors",
    "run.json",
    "turntable.mp4",
    "views.png",
]


def made(models, folder, *argv):
    return [
        *("style", "make", "an elf", "--heads", "2", "--views", "2", "--iterations", "2"),
        *("--eg3d", f"{models}/eg3d.safetensors", "--editor", f"{models}/editor"),
        *("--perceptual", f"{models}/perceptual.safetensors", "--device", "cpu"),
        *("--out", f"{folder}/elf.safetensors", *argv),
    ]


@pytest.fixture(scope="module")
def shelf(models, tmp_path_factory):
    """A folder with one pack, made by the command."""
    folder = tmp_path_factory.mktemp("packs")
    assert main(made(models, folder, "--licence", "CC0-1.0", "--seed", "5")) == 0
    return folder


@pytest.fixture
def place(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "PACKS", shelf)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def apply(models, *argv):
    own = ["--eg3d", f"{models}/eg3d.safetensors", "--device", "cpu", "--frames", "2"]
    return ["style", "apply", *argv, *own, "--out", "out"]


def test_a_pack_is_made_of_words(shelf):
    assert names(shelf) == ["elf.safetensors"]
    pack = load_style_pack(shelf / "elf.safetensors")
    assert (pack.prompt, pack.heads, pack.licence) == ("an elf", 2, "CC0-1.0")
    assert pack.preview.shape == (3, 16, 16)


def test_a_head_is_restyled_and_shown(place, shelf, models):
    assert main(apply(models, "elf", "--seed", "4", "--psi", "0.5", "--strength", "0.5")) == 0
    assert names(place / "out") == SHOWN
    eg3d = tiny_eg3d()
    got = load_portrait(place / "out" / "portrait.safetensors", eg3d=eg3d)
    pack = load_style_pack(shelf / "elf.safetensors")
    expected = apply_style_pack(pack, sample_portrait(eg3d, 4, psi=0.5), 0.5)
    assert torch.equal(got.triplane.planes, expected.triplane.planes)
    record = json.loads((place / "out" / "run.json").read_text())
    assert (record["seed"], record["psi"], record["strength"]) == (4, 0.5, 0.5)
    assert record["pack"]["prompt"] == "an elf" and record["from"] is None
    assert record["files"] == SHOWN and len(record["sha256"]) == len(SHOWN) - 1
    # and what was restyled is restyled again
    again = apply(models, str(shelf / "elf.safetensors"), "--from", "out/portrait.safetensors")
    assert main(again) == 0
    twice = load_portrait(place / "out" / "portrait.safetensors", eg3d=eg3d)
    assert twice.provenance["prompts"] == ["an elf", "an elf"]
    record = json.loads((place / "out" / "run.json").read_text())
    assert record["seed"] is None and record["from"]["file"] == "out/portrait.safetensors"


def test_the_portrait_command_takes_the_pack_of_its_words(place, models):
    argv = ["portrait", "An elf", "--pack", "--eg3d", f"{models}/eg3d.safetensors", "--seed", "2"]
    assert main([*argv, "--frames", "2", "--device", "cpu", "--out", "out"]) == 0
    assert names(place / "out") == SHOWN
    record = json.loads((place / "out" / "run.json").read_text())
    assert record["seed"] == 2 and record["psi"] == 0.7 and record["turntable"]["frames"] == 2


def test_a_page_shows_the_head_in_every_pack(place, shelf, models, capsys):
    own = ["--eg3d", f"{models}/eg3d.safetensors", "--device", "cpu"]
    assert main(["style", "show", *own, "--seed", "3", "--views", "3", "--out", "a/page.html"]) == 0
    assert names(place / "a") == ["page.html"]
    assert capsys.readouterr().out.startswith("a/page.html: 1 style, 0.0 MB")
    text = (place / "a" / "page.html").read_text(encoding="utf-8")
    assert "<title>Head 3 in 1 style</title>" in text
    shown = page_data(text)
    assert [style["name"] for style in shown["styles"]] == ["plain", "elf"]
    assert [style["words"] for style in shown["styles"]] == ["the head before", "an elf"]
    eg3d = tiny_eg3d()
    head = sample_portrait(eg3d, 3, psi=0.7)
    elf = apply_style_pack(load_style_pack(shelf / "elf.safetensors"), head, 1.0)
    cameras = page_cameras(3, eg3d.config.rig())
    for style, portrait in zip(shown["styles"], (head, elf), strict=True):
        wanted = torch.cat(list(render_views(portrait, cameras).image), dim=2)
        assert (strip(style) - wanted).abs().mean() < 0.03  # JPEG
    # a saved portrait, some packs, and no strength
    argv = ["style", "show", "elf", f"{shelf}/elf.safetensors", *own, "--strength", "0"]
    save_portrait(place / "anna.safetensors", head)
    assert main([*argv, "--from", "anna.safetensors", "--views", "5"]) == 0
    text = (place / "styles.html").read_text(encoding="utf-8")
    assert "<title>anna in 2 styles</title>" in text
    strips = [style["strip"] for style in page_data(text)["styles"]]
    assert len(strips) == 3 and len(set(strips)) == 1 and page_data(text)["views"] == 5


def test_a_page_of_an_even_number_of_views_or_of_another_generator_is_refused(
    place, models, capsys
):
    own = ["style", "show", "--device", "cpu", "--eg3d"]
    argv = [*own, f"{models}/eg3d.safetensors", "--views", "4"]
    assert "views must be an odd number from 3 to 61, got 4" in failed(capsys, argv, 2)
    argv = [*own, f"{models}/other_eg3d.safetensors"]
    assert "the style pack belongs to EG3D tiny" in failed(capsys, argv, 2)
    assert names(place) == []


def test_packs_are_listed(place, shelf, capsys):
    assert main(["style", "list"]) == 0
    assert main(["style", "list", str(shelf)]) == 0
    assert main(["style", "list", "."]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("elf: 'an elf', for tiny, CC0-1.0, ") and lines[0].endswith(" KB")
    assert lines[1].startswith("elf.safetensors: 'an elf'")
    assert lines[2] == "no style packs in ."


BAD = {
    "unknown": (["style", "apply", "teapot"], "come with this package: elf"),
    "missing file": (["style", "apply", "no.safetensors"], "no style pack no.safetensors"),
    "strength": (["style", "apply", "elf", "--strength", "3"], "strength must be from 0 to 2"),
    "nan": (["style", "apply", "elf", "--strength", "nan"], "strength must be from 0 to 2"),
    "psi": (["style", "apply", "elf", "--psi", "2"], "psi must be from 0 to 1"),
    "frames": (["style", "apply", "elf", "--frames", "0"], "at least 1 frame, got 0"),
    "generator": (["style", "apply", "elf"], "which is not the embedded one; give its file"),
    "start": (["style", "apply", "elf", "--from", "no"], "no is not there"),
    "two heads": (["style", "apply", "elf", "--from", "a", "--psi", "1"], "brings its own head"),
    "two heads shown": (["style", "show", "elf", "--from", "a", "--psi", "1"], "its own head"),
    "two heads of a pack": (["portrait", "an elf", "--pack", "--from", "a", "--psi", "1"], "own h"),
    "two heads styled": (["portrait", "an elf", "--from", "a", "--psi", "1"], "its own head"),
    "page": (["style", "show", "elf", "--out", "a.png"], "--out must be a .html file, got 'a.png'"),
    "shown strength": (["style", "show", "elf", "--strength", "3"], "strength must be from 0 to 2"),
    "shown psi": (["style", "show", "elf", "--psi", "2"], "psi must be from 0 to 1"),
    "heads": (["style", "make", "an elf", "--heads", "0"], "1 to 64 heads, got 0"),
    "steps": (["style", "make", "an elf", "--iterations", "0"], "iterations must be at least 1"),
    "views": (["style", "make", "an elf", "--views", "1"], "views must be 2 to 32, got 1"),
    "words": (["style", "make", " "], "the style is empty"),
    "ending": (["style", "make", "an elf", "--out", "a.bin"], "must be a .safetensors file"),
    "folder": (["style", "list", "nowhere"], "there is no folder nowhere"),
    "nothing": (["style"], "the following arguments are required: make|apply|show|list"),
    "two": (["portrait", "an elf", "--pack", "--style2", "b"], "so --style2 means nothing"),
    "trained": (["portrait", "an elf", "--pack", "--batch-size", "2"], "--batch-size means"),
    "noise": (["portrait", "an elf", "--pack", "--noise", "surface"], "--noise means nothing"),
    "words of none": (["portrait", "a mug", "--pack"], "come with this package: elf"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_is_one_line_and_leaves_nothing(place, capsys, case):
    argv, message = BAD[case]
    assert message in failed(capsys, argv, 2)
    assert names(place) == []


def test_every_option_of_a_run_is_used_by_a_pack_or_refused_with_one():
    parser = argparse.ArgumentParser()
    add_portrait(parser.add_subparsers())
    given = set(vars(parser.parse_args(["portrait", "an elf"])))
    used = {"style", "seed", "psi", "start", "pack", "preset", "frames", "path", "out"}
    used |= {"device", "eg3d", "debug", "editor_precision"}  # the last has a default for all runs
    assert given - used == set(NOT_WITH_PACK)


def test_a_pack_for_another_generator_is_refused(place, models, capsys):
    argv = [*apply(models, "elf"), "--eg3d", f"{models}/other_eg3d.safetensors"]
    assert "the style pack belongs to EG3D tiny" in failed(capsys, argv, 2)
    assert names(place) == []
