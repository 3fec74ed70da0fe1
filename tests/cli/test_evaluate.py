"""`evaluate` end to end, on models small enough to run in seconds."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from freestyle_core import __main__ as main_module
from freestyle_core import presets
from freestyle_core.__main__ import main
from freestyle_core.cli.commands import evaluate as evaluate_command
from freestyle_core.cli.edited_views import beside, read_edited, write_edited
from freestyle_core.errors import FileFormatError, InputError
from freestyle_core.evaluation.report import MEANINGS
from freestyle_core.evaluation.settings import EvaluateSettings
from freestyle_core.files.media.image import load_image, save_image
from freestyle_core.files.networks import load_eg3d, save_eg3d, save_perceptual
from freestyle_core.files.portrait import load_portrait, save_portrait
from freestyle_core.method.render import render_views
from tests.evaluation.test_evaluate import PixelClip
from tests.tiny import tiny_eg3d, tiny_perceptual
from tests.tiny_editor import save_tiny_editor

ALWAYS = {"sharpness", "clipped"}
SURFACE = {
    "warp",
    "feature",
    "consistency_gain",
    "roughness",
    "truth",
}  # untrained planes have none


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of one small run, with its models."""
    folder = tmp_path_factory.mktemp("made")
    save_eg3d(folder / "eg3d.safetensors", tiny_eg3d())
    save_perceptual(folder / "perceptual.safetensors", tiny_perceptual().net)
    save_tiny_editor(folder / "editor")
    patch = pytest.MonkeyPatch()  # a level that the densities of untrained planes reach
    settings = presets.MeshSettings
    patch.setattr(presets, "MeshSettings", lambda **given: settings(**{**given, "level": 0.35}))
    sizes = "--views 2 --steps 2 --iterations 2 --frames 3 --device cpu --seed 3".split()
    models = [f"--{x}={folder}/{x}.safetensors" for x in ("eg3d", "perceptual")]
    models.append(f"--editor={folder}/editor")
    assert main(["portrait", "an elf", *sizes, *models, "--out", str(folder / "run")]) == 0
    patch.undo()
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A CLIP of mean colours, and fewer views."""
    words = {"a photo of an elf": (1.0, 0.2, 0.2), "a photo of a goblin": (0.2, 1.0, 0.2)}
    monkeypatch.setattr(PixelClip, "words", {**PixelClip.words, **words})
    monkeypatch.setattr(evaluate_command, "load_clip", lambda *a, **k: PixelClip())
    monkeypatch.setattr(EvaluateSettings, "path_frames", 3)


def call(made, *more, file="run/portrait.safetensors"):
    models = [f"--{x}={made}/{x}.safetensors" for x in ("eg3d", "perceptual")]
    return main(["evaluate", str(made / file), *models, "--device", "cpu", *more])


def test_a_run_is_measured_with_all_it_kept(made, tmp_path, capsys):
    out = [f"--json={tmp_path}/scores.json", f"--picture={tmp_path}/scores.png"]
    assert call(made, *out) == 0
    said = capsys.readouterr().out
    assert "clip_text" in said and "original: seed 3 at psi 0.7" in said
    assert "time and memory:" in said and "no run.json" not in said
    record = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    measurable = {name for name, _, _ in MEANINGS if not any(word in name for word in SURFACE)}
    assert set(record["scores"]) == measurable
    assert "enough of one surface" in record["missing"]["warp_long_rmse"]
    assert record["protocol"]["prompt"] == "an elf" and record["protocol"]["edited_views"] == 5
    assert record["made_in"]["seconds_total"] > 0 and record["edited"] == "edited.png"
    assert "too far apart" in record["missing"]["edited_disagreement"]  # a grid of 2 x 2
    assert load_image(tmp_path / "scores.png").shape[0] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores.json", "scores.png"]


def test_the_remade_original_is_the_head_of_the_seed(made):
    from freestyle_core.geometry.cameras import front_camera
    from freestyle_core.method.sample import sample_portrait

    eg3d = load_eg3d(made / "eg3d.safetensors")
    portrait = load_portrait(made / "run/portrait.safetensors", eg3d=eg3d)
    args = evaluate_args(made)
    view, source = evaluate_command.original_of(args, portrait, torch.device("cpu"))
    camera = front_camera(eg3d.config.rig())
    same = render_views(sample_portrait(eg3d, 3, psi=0.7), camera).image
    assert torch.equal(view(camera).image, same) and "seed 3" in source


def evaluate_args(made, **given):
    return SimpleNamespace(**{"original": None, "eg3d": made / "eg3d.safetensors", **given})


def test_a_portrait_alone_says_what_it_lacks(made, tmp_path, capsys):
    lone = tmp_path / "lone.safetensors"
    shutil.copy(made / "run/portrait.safetensors", lone)
    assert call(made, "--clip", "none", file=lone) == 0
    said = capsys.readouterr().out
    assert "not measured: clip: no CLIP" in said and "no run.json of this portrait" in said
    assert "not measured: edit_fidelity" in said


def test_an_unstyled_head_has_no_original(made, tmp_path, capsys):
    from freestyle_core.method.sample import sample_portrait

    head = sample_portrait(load_eg3d(made / "eg3d.safetensors"), 3)
    save_portrait(tmp_path / "head.safetensors", head)
    assert call(made, f"--json={tmp_path}/x.json", file=tmp_path / "head.safetensors") == 0
    assert "was not restyled" in capsys.readouterr().out
    record = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert ALWAYS <= set(record["scores"]) and "clip_text" in record["missing"]


def test_other_words_original_and_pictures_are_taken(made, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    sheet = load_image(made / "run/edited.png")
    for index in range(5):
        row, column = divmod(index, 3)
        tile = sheet[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        save_image(pictures / f"{index}.png", tile)
    results = []
    for given in (["--edited", str(made / "run")], ["--edited", str(pictures)]):
        target = tmp_path / "out.json"
        original = ["--original", str(made / "run/portrait.safetensors")]
        words = ["--prompt", "a goblin", f"--json={target}"]
        assert call(made, *given, *original, *words) == 0
        results.append(json.loads(target.read_text(encoding="utf-8")))
    assert results[0]["scores"] == results[1]["scores"]  # the same pictures, kept in two ways
    assert results[0]["scores"]["identity"] == pytest.approx(1, abs=1e-5)  # itself
    assert results[0]["protocol"]["texts"][0] == "a photo of a goblin"


def test_the_kept_views_are_those_that_were_learnt(made, tmp_path):
    eg3d = load_eg3d(made / "eg3d.safetensors")
    file = made / "run/portrait.safetensors"
    portrait = load_portrait(file, eg3d=eg3d)
    images = torch.rand(5, 3, 16, 16, generator=torch.manual_seed(0))
    write_edited(tmp_path / "edited.png", images)
    again = read_edited(tmp_path / "edited.png", file, portrait, "an elf")
    assert (again.images - images).abs().max() <= 0.5 / 255 + 1e-6
    assert len(again.cameras) == 5 and again.front == 0 and again.prompt == "an elf"
    for number in ("", "2"):
        (tmp_path / f"edited{number}.png").touch()
        assert beside(tmp_path / f"portrait{number}.safetensors").name == f"edited{number}.png"
    assert beside(tmp_path / "else" / "portrait.safetensors") is None


def test_pictures_of_a_folder_are_taken_as_a_person_counts_them(made, tmp_path):
    file = made / "run/portrait.safetensors"
    portrait = load_portrait(file, eg3d=load_eg3d(made / "eg3d.safetensors"))
    for index in range(10):  # a front view and 3 x 3
        save_image(tmp_path / f"view {index + 1}.png", torch.full((3, 16, 16), index / 10))
    found = read_edited(tmp_path, file, portrait, "an elf")
    expected = torch.arange(10) / 10
    torch.testing.assert_close(found.images.mean((1, 2, 3)), expected, atol=0.003, rtol=0)


def test_what_is_no_set_of_views_is_refused(made, tmp_path, capsys):
    portrait = load_portrait(
        made / "run/portrait.safetensors", eg3d=load_eg3d(made / "eg3d.safetensors")
    )
    file = made / "run/portrait.safetensors"
    save_image(tmp_path / "odd.png", torch.rand(3, 16, 17))
    with pytest.raises(FileFormatError, match="not views of 16"):
        read_edited(tmp_path / "odd.png", file, portrait, "x")
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        read_edited(tmp_path / "run", file, portrait, "x")
    for name in "ab":
        save_image(tmp_path / f"run/{name}.png", torch.rand(3, 16, 16))
    with pytest.raises(InputError, match="has 2 views"):
        read_edited(tmp_path / "run", file, portrait, "x")
    save_image(tmp_path / "run/c.png", torch.rand(3, 8, 8))
    with pytest.raises(InputError, match=r"c\.png has another size"):
        read_edited(tmp_path / "run", file, portrait, "x")
    assert call(made, "--json=x.txt") == 2
    assert "must end in .json" in capsys.readouterr().err


@pytest.fixture
def world(monkeypatch, made):
    """A world in which a portrait of seed 3 in the style "elves" is just as it should be."""
    eg3d = load_eg3d(made / "eg3d.safetensors")
    portrait = load_portrait(made / "run/portrait.safetensors", eg3d=eg3d)
    asked = []

    def truth(style, seed):
        asked.append((style, seed))
        return lambda cameras: 0.1 + 0.8 * render_views(portrait, cameras).image

    knows = SimpleNamespace(
        fits=lambda generator: generator.config == eg3d.config,
        style_of={"an elf": "elves"}.get,
        truth=truth,
    )
    monkeypatch.setattr(main_module, "_world", lambda: knows)
    return SimpleNamespace(portrait=portrait, asked=asked)


def test_the_true_head_is_asked_for_where_a_world_knows_it(made, world, tmp_path, capsys):
    known = replace(world.portrait, provenance={**world.portrait.provenance, "psi": 1.0})
    file = tmp_path / "known.safetensors"
    save_portrait(file, known)
    assert call(made, f"--json={tmp_path}/x.json", file=file) == 0
    record = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert world.asked == [("elves", 3)] and "truth" not in record["missing"]
    seen = render_views(known, EvaluateSettings().held_out(known.renderer.config.rig())).image
    error = (0.2 * seen - 0.1).square().mean((1, 2, 3))
    assert record["scores"]["truth_psnr"] == pytest.approx(float(-10 * error.log10().mean()), 1e-4)
    assert record["scores"]["truth_perceptual"] > 0
    # other words, and the truncated head of the run itself: the report says what is missing
    capsys.readouterr()
    assert call(made, "--prompt", "a goblin", file=file) == 0
    assert "not measured: truth: 'a goblin' are no words of a style" in capsys.readouterr().out
    assert call(made) == 0
    assert "known of a seed at psi 1 alone; this portrait has seed 3 and psi 0.7" in (
        capsys.readouterr().out
    )
    assert len(world.asked) == 1


def test_a_generator_of_another_world_has_no_truth(made, capsys):
    assert call(made) == 0
    assert "not measured: truth: nobody knows the true head" in capsys.readouterr().out


def test_a_dino_that_is_named_must_load(made, tmp_path, capsys):
    assert call(made, "--dino", str(tmp_path)) == 2
    assert "no folder of a vision transformer" in capsys.readouterr().err
