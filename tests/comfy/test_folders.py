"""What the loaders offer of folders as people have them, and that what is offered loads."""

import shutil
from pathlib import Path

import pytest

from freestyle_core.files.networks import save_eg3d
from tests.comfy.graphs import HEAD, node
from tests.tiny import tiny_eg3d
from tests.tiny_editor import save_tiny_editor

TIME_LIMIT = 120
SNAPSHOT = "models--some--editor/snapshots/0123abcd"


def options(server, node_id, name="model"):
    info = server.get(f"/object_info/{node_id}")[node_id]["input"]["required"][name]
    return info[1]["options"]


@pytest.fixture(scope="module")
def models(server):
    """Put into the model folders what a search can stumble over; take it away afterwards."""
    folder = server.base / "models"
    eg3d, diffusers = folder / "eg3d", folder / "diffusers"
    made = [eg3d / "odd", diffusers / "timbrooks", diffusers / "t2i", diffusers / "cut"]
    made.append(diffusers / SNAPSHOT.split("/")[0])
    (eg3d / "odd" / "deep").mkdir(parents=True)
    save_eg3d(eg3d / "odd" / "deep" / "SHOUTED.SAFETENSORS", tiny_eg3d(seed=9))
    shutil.copy(eg3d / "official.pkl", eg3d / "odd" / "FFHQ.PKL")
    shutil.copy(folder / "i2t" / "tiny.safetensors", eg3d / "odd" / "an_i2t.safetensors")
    (eg3d / "odd" / "broken.safetensors").write_bytes(b"?" * 99)
    try:
        (eg3d / "odd" / "dead.safetensors").symlink_to(eg3d / "nowhere")
        (eg3d / "odd" / "loop").symlink_to(eg3d / "odd", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    save_tiny_editor(diffusers / "timbrooks" / "instruct-pix2pix")
    _as_in_the_hubs_cache(diffusers / SNAPSHOT, diffusers / "tiny-editor")
    shutil.copytree(diffusers / "tiny-editor", diffusers / "t2i")
    index = diffusers / "t2i" / "model_index.json"
    index.write_text(index.read_text().replace("InstructPix2Pix", ""))
    shutil.copytree(diffusers / "tiny-editor", diffusers / "cut")
    shutil.rmtree(diffusers / "cut" / "unet")
    yield folder
    for path in made:
        shutil.rmtree(path)


def _as_in_the_hubs_cache(snapshot, editor):
    """Copy an editor with every file a link to a blob, as huggingface_hub keeps it."""
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(p for p in editor.rglob("*") if p.is_file())):
        shutil.copy(path, blobs / str(number))
        link = snapshot / path.relative_to(editor)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blobs / str(number))


def test_every_eg3d_that_loads_is_offered_and_nothing_else(server, models):
    shown = options(server, "FreeStyleLoadEG3D")
    assert [name for name in shown if "odd" in name] == [
        "odd/FFHQ.PKL",
        "odd/deep/SHOUTED.SAFETENSORS",
    ]
    for name in shown[1:]:
        prompt = {
            "eg3d": node("FreeStyleLoadEG3D", model=name),
            "show": node("PreviewAny", source=["eg3d", 0]),
        }
        assert server.run(prompt, TIME_LIMIT).end.kind == "execution_success", name


def make_eg3d(path, whole):
    path = path.with_suffix(".safetensors")
    save_eg3d(path, tiny_eg3d(seed=9))
    if not whole:  # a weight is another number, so it is found out when it is loaded
        data = bytearray(path.read_bytes())
        data[-2] ^= 1
        path.write_bytes(data)
    return path


def make_editor(path, whole):
    save_tiny_editor(path)
    if not whole:
        for weights in (path / "unet").glob("*.safetensors"):
            weights.write_bytes(weights.read_bytes()[:-4])
    return path


@pytest.mark.parametrize(
    ("part", "loader", "make"),
    [
        ("eg3d", "FreeStyleLoadEG3D", make_eg3d),
        ("diffusers", "FreeStyleLoadIp2pEditor", make_editor),
    ],
)
def test_of_equal_names_the_one_in_the_first_root_is_loaded(server, part, loader, make):
    roots = [Path(root) for root in server.get("/internal/folder_paths")[part]]
    assert len(roots) == 2
    ends, made = [], []
    try:
        for name, whole in (("twice", (True, False)), ("the other way", (False, True))):
            paths = [
                make(root / name, is_whole) for root, is_whole in zip(roots, whole, strict=True)
            ]
            made += paths
            assert options(server, loader).count(paths[0].name) == 1
            prompt = {
                "model": node(loader, model=paths[0].name),
                "show": node("PreviewAny", source=["model", 0]),
            }
            ends.append(server.run(prompt, TIME_LIMIT).end.kind)
    finally:
        for path in made:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert ends == ["execution_success", "execution_error"]


def test_editors_in_nested_folders_and_in_the_hubs_layout_are_offered_and_load(server, models):
    shown = options(server, "FreeStyleLoadIp2pEditor")
    nested = ["timbrooks/instruct-pix2pix", SNAPSHOT]
    assert sorted(shown[1:-1]) == sorted([*nested, "tiny-editor"])
    for name in nested:
        prompt = {
            "editor": node("FreeStyleLoadIp2pEditor", model=name),
            "show": node("PreviewAny", source=["editor", 0]),
        }
        assert server.run(prompt, TIME_LIMIT).end.kind == "execution_success", name


def test_what_is_there_but_cannot_load_is_named_when_it_is_asked_for(server, models):
    for name in ("t2i", "cut"):
        prompt = {
            "name": node("ProbeText", text=name),
            "editor": node("FreeStyleLoadIp2pEditor", model=["name", 0]),
            "show": node("PreviewAny", source=["editor", 0]),
        }
        run = server.run(prompt, TIME_LIMIT)
        assert run.end.kind == "execution_error"
        assert name in run.end.data["exception_message"]


def test_portraits_behind_links_load_beside_dead_links_and_foreign_files(server, models):
    prompt = {
        **{name: HEAD[name] for name in ("eg3d", "head")},
        "save": node("FreeStyleSavePortrait", portrait=["head", 0], filename_prefix="kept/p"),
    }
    assert server.run(prompt, TIME_LIMIT).end.kind == "execution_success"
    output, elsewhere = server.base / "output", server.base / "elsewhere"
    elsewhere.mkdir()
    (output / "kept" / "p_00001_.safetensors").rename(elsewhere / "P.SafeTensors")
    (output / "behind").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "back").symlink_to(output, target_is_directory=True)
    (output / "kept" / "dead.safetensors").symlink_to(output / "nowhere")
    shutil.copy(models / "i2t" / "tiny.safetensors", output / "kept" / "no_portrait.safetensors")
    try:
        shown = options(server, "FreeStyleLoadPortrait", "portrait")
        assert "behind/P [output]" in shown
        assert not any("dead" in name or "no_portrait" in name or "back" in name for name in shown)
        load = {
            "load": node("FreeStyleLoadPortrait", portrait="behind/P [output]"),
            "show": node("PreviewAny", source=["load", 0]),
        }
        assert server.run(load, TIME_LIMIT).end.kind == "execution_success"
    finally:
        (output / "behind").unlink()
        shutil.rmtree(elsewhere)
        shutil.rmtree(output / "kept")
