"""CLIPs from files: what is found, what loads, what is refused and with which words."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from freestyle_core.errors import DownloadError, FileFormatError, MismatchError
from freestyle_core.files import clip as clips
from freestyle_core.files.clip import find_clips, load_clip, needed_files
from freestyle_core.files.clip_weights import config_of, save_model, shapes_of
from freestyle_core.files.editors.download import RemoteFile
from freestyle_core.files.networks import ASSETS
from tests.hub import Hub, serving
from tests.tiny_clip import PIXELS, save_tiny_clip, tiny_clip

PAIR = ["an elf", "a photo of a zombie"]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Nothing at hand: an empty cache of the hub, no embedded CLIP, no ComfyUI."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(clips, "EMBEDDED", tmp_path / "embedded")
    monkeypatch.setattr(clips, "_comfyui_folders", lambda: [])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("saved") / "tiny")


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def features(clip):
    image = torch.rand(2, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return clip.encode_images(image), clip.encode_texts(PAIR)


def edit_config(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def edit_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def test_a_saved_clip_comes_back_in_half_precision(saved, tmp_path):
    before = tiny_clip(tmp_path)
    clip = load_clip(saved)
    assert clip.name == "tiny" and clip.pixels == PIXELS and not clip.training
    stored = load_file(saved / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    for key, value in before.model.state_dict().items():
        torch.testing.assert_close(clip.model.state_dict()[key], value.half().float())
    for got, expected in zip(features(clip), features(before), strict=True):
        torch.testing.assert_close(got, expected, atol=2e-2, rtol=0)
    assert not any(value.requires_grad for value in clip.parameters())


def test_loading_draws_no_random_numbers(saved):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_clip(saved)
    assert torch.equal(torch.rand(1), expected)


def test_transformers_itself_reads_what_is_saved(saved):
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(saved, local_files_only=True).float().eval()
    ours = load_clip(saved).model.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in model.state_dict().items())


def test_weights_of_torch_are_read_without_running_them(folder):
    state = load_file(folder / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(16)[None]  # of older versions
    torch.save(state, folder / "pytorch_model.bin")
    expected = features(load_clip(folder))
    (folder / "model.safetensors").unlink()
    assert all(map(torch.equal, features(load_clip(folder)), expected))
    torch.save({**state, "logit_scale": print}, folder / "pytorch_model.bin")
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_clip(folder)


def test_one_file_needs_no_config(folder, tmp_path):
    one = tmp_path / "models" / "whole.safetensors"
    one.parent.mkdir()
    shutil.copy(folder / "model.safetensors", one)
    shutil.copytree(folder, one.parent / "tokenizer")
    clip = load_clip(one)
    assert clip.name == "ViT-?/8 (whole.safetensors)"
    assert all(map(torch.equal, features(clip), features(load_clip(folder))))


def test_the_sizes_of_a_real_clip_are_read_off_its_tensors():
    """ViT-L/14, by its published sizes."""
    shapes = {
        "text_model.embeddings.token_embedding.weight": (49408, 768),
        "text_model.embeddings.position_embedding.weight": (77, 768),
        "vision_model.embeddings.patch_embedding.weight": (1024, 3, 14, 14),
        "vision_model.embeddings.position_embedding.weight": (257, 1024),
        "visual_projection.weight": (768, 1024),
        "text_projection.weight": (768, 768),
    }
    for tower, layers, width in (("text", 12, 768), ("vision", 24, 1024)):
        for layer in range(layers):
            shapes[f"{tower}_model.encoder.layers.{layer}.mlp.fc1.weight"] = (4 * width, width)
    config = config_of(shapes, Path("clip_l.safetensors"))
    text, vision = config["text_config"], config["vision_config"]
    assert config["projection_dim"] == 768 and vision["image_size"] == 224
    assert (vision["num_hidden_layers"], vision["num_attention_heads"]) == (24, 16)
    assert (text["num_hidden_layers"], text["num_attention_heads"]) == (12, 12)
    assert (vision["intermediate_size"], vision["patch_size"]) == (4096, 14)
    assert (text["eos_token_id"], text["bos_token_id"]) == (49407, 49406)
    assert text["hidden_act"] == "quick_gelu"
    laion = config_of(shapes, Path("CLIP-ViT-L-14-laion2B.safetensors"))
    assert laion["vision_config"]["hidden_act"] == "gelu"


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ("vision_model", "only the image tower; a text similarity needs both"),
        ("text_model", "only the text tower; a text similarity needs both"),
        ("nothing", "no CLIP, or only the inner part"),
    ],
)
def test_half_a_clip_is_named_and_refused(folder, tmp_path, kept, words):
    projection = {"vision_model": "visual_projection", "text_model": "text_projection"}.get(kept)
    state = load_file(folder / "model.safetensors")
    state = {k: v for k, v in state.items() if k.split(".")[0] in (kept, projection)}
    state = state or {"something": torch.zeros(1)}
    save_file(state, tmp_path / "clip_vision.safetensors")
    with pytest.raises(FileFormatError, match=words):
        load_clip(tmp_path / "clip_vision.safetensors")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(FileFormatError, match=words):
        load_clip(folder)
    assert [clip.name for clip in find_clips([tmp_path])] == ["tiny"]  # a config promises more


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["vision_config"].update(hidden_size=10**7), "hidden_size = 1e\\+07"),
        (lambda c: c["text_config"].update(num_hidden_layers=900_000), "900000 layers"),
        (lambda c: c["vision_config"].update(num_attention_heads=7), "impossible|cannot"),
        (lambda c: c["vision_config"].update(image_size=64), "misshapen"),
        (lambda c: c["text_config"].update(num_hidden_layers=1), "unknown tensor"),
        (lambda c: c["text_config"].update(num_hidden_layers=3), "lacks tensor"),
        (lambda c: c.update(projection_dim=32), "misshapen"),
        (lambda c: c["text_config"].update(hidden_act="run"), "impossible|cannot"),
        (lambda c: c["text_config"].update(hidden_size="64"), "impossible|cannot"),
        (lambda c: c.update(text_config=5), "impossible|cannot"),
        (lambda c: c.update(model_type="clip_vision_model"), "clip_vision_model, expected a clip"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(folder, change, words):
    edit_config(folder, change)
    with pytest.raises(FileFormatError, match=words):
        load_clip(folder)


def test_values_that_no_network_has_are_refused(folder):
    def spoil(state):
        state["visual_projection.weight"][0, 0] = float("nan")

    edit_weights(folder, spoil)
    with pytest.raises(FileFormatError, match="NaN or infinite values in tensor visual_projection"):
        load_clip(folder)


def test_damaged_files_are_named(folder):
    (folder / "model.safetensors").write_bytes(b"\x10" * 200)
    with pytest.raises(FileFormatError, match=r"model.safetensors cannot be read"):
        load_clip(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileFormatError, match="holds no weights of a CLIP"):
        load_clip(folder)


def test_a_folder_without_config_or_words_says_so(folder, monkeypatch):
    (folder / "vocab.json").unlink()
    monkeypatch.setattr("freestyle_core.files.editors.load._cached_tokenizer", lambda: None)
    with pytest.raises(FileFormatError, match="holds no tokenizer and none is on this machine"):
        load_clip(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileFormatError, match="no CLIP folder: it has no config.json"):
        load_clip(folder)


def test_the_tokenizer_of_another_clip_is_refused(folder):
    edit_config(folder, lambda c: c["text_config"].update(eos_token_id=5))
    with pytest.raises(MismatchError, match="looks for the end token 5"):
        load_clip(folder)


@pytest.mark.parametrize("name", ["B/32", "L/14"])
def test_a_known_clip_that_is_not_here_says_what_to_do(name):
    with pytest.raises(FileFormatError, match=f"CLIP {name} is not on .*--download"):
        load_clip(name)


def test_an_unknown_choice_lists_the_choices(tmp_path):
    with pytest.raises(FileFormatError, match="choose auto, clay, B/32, L/14, a folder"):
        load_clip("H/14")
    with pytest.raises(FileFormatError, match="not even in .*embedded; install again"):
        load_clip()


def cached(saved, tmp_path, repository, parts=("",)):
    """Lay a CLIP out as the hub's cache does, its files spread over snapshots."""
    root = tmp_path / "cache" / f"models--{repository.replace('/', '--')}" / "snapshots"
    for name in ("config.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        (root / "main").mkdir(parents=True, exist_ok=True)
        shutil.copy(saved / name, root / "main" / name)
    (root / parts[-1]).mkdir(exist_ok=True)
    shutil.copy(saved / "model.safetensors", root / parts[-1] / "model.safetensors")
    return root


def test_auto_takes_b32_then_l14_then_folders_and_last_the_clay_one(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "embedded")
    assert load_clip().name == "tiny" and [c.name for c in find_clips()] == ["clay"]
    mine = tmp_path / "mine"
    shutil.copytree(saved, mine / "deep" / "some clip")
    shutil.copy(saved / "model.safetensors", mine / "one.safetensors")
    names = [clip.name for clip in find_clips([mine])]
    assert names == ["deep/some clip", "one.safetensors", "clay"]
    cached(saved, tmp_path, "openai/clip-vit-large-patch14", ["main"])
    assert [clip.name for clip in find_clips([mine])][0] == "L/14"
    cached(saved, tmp_path, "openai/clip-vit-base-patch32", ["of the conversion"])
    found = find_clips([mine])
    assert [clip.name for clip in found] == ["B/32", "L/14", *names]
    assert found[0].weights.parent.name == "of the conversion" and found[0].place.name == "main"
    assert all(map(torch.equal, features(load_clip("B/32")), features(load_clip(saved))))
    assert clips._best([], False, lambda *_: None).name == "B/32"


def test_a_folder_given_twice_is_found_once(saved, tmp_path):
    assert [clip.place for clip in find_clips([saved, saved.parent])] == [saved]


def test_a_clip_is_fetched_when_asked_and_only_then(saved, monkeypatch):
    names = ("config.json", "vocab.json", "merges.txt", "tokenizer_config.json")
    files = {name: (saved / name).read_bytes() for name in (*names, "model.safetensors")}
    files["pytorch_model.bin"] = b"never"
    files["tf_model.h5"] = b"never"
    repository = "openai/clip-vit-base-patch32"
    with serving(Hub(files, repository), monkeypatch) as hub:
        with pytest.raises(FileFormatError):
            load_clip("B/32")
        assert not hub.requests
        reports = []
        clip = load_clip(download=True, progress=lambda *report: reports.append(report))
        assert all(map(torch.equal, features(clip), features(load_clip(saved))))
        assert set(hub.fetched()) == {*names, "model.safetensors"}
        assert hub.fetched()[-1] == "config.json" and reports[-1] == (1, 1)
        hub.requests.clear()
        load_clip("B/32")  # now it is here
        assert [c.name for c in find_clips()] == ["B/32"] and not hub.requests
        with pytest.raises(DownloadError, match="clip-vit-large-patch14 was not downloaded"):
            load_clip("L/14", download=True)


def test_without_safetensors_the_weights_of_torch_are_fetched():
    def listed(*names):
        return [RemoteFile(name, 1, None, "") for name in names]

    words = ("vocab.json", "merges.txt", "tokenizer_config.json", "config.json")
    chosen = needed_files(listed("pytorch_model.bin", "flax_model.msgpack", *words))
    assert [file.name for file in chosen] == ["pytorch_model.bin", *words]
    with pytest.raises(DownloadError, match=r"lacks model.safetensors, merges.txt"):
        needed_files(listed("vocab.json", "tokenizer_config.json", "config.json"))


def test_comfyui_is_looked_for_above_its_custom_nodes(tmp_path, monkeypatch):
    pack = tmp_path / "ComfyUI" / "custom_nodes" / "pack" / "freestyle_core" / "files"
    (tmp_path / "ComfyUI" / "models" / "clip_vision").mkdir(parents=True)
    monkeypatch.undo()
    monkeypatch.setattr(clips, "__file__", str(pack / "clip.py"))
    assert clips._comfyui_folders() == [tmp_path / "ComfyUI" / "models" / "clip_vision"]


def test_the_embedded_clip_lies_beside_the_clay_models(monkeypatch):
    monkeypatch.undo()
    assert clips.EMBEDDED == ASSETS.parent / "clip"


def test_saving_leaves_no_path_of_this_machine(saved, tmp_path):
    clip = load_clip(saved)
    folder = save_model(tmp_path / "again", clip.model, "again")
    config = json.loads((folder / "config.json").read_text())
    assert config["name"] == "again" and "_name_or_path" not in config
    assert str(tmp_path) not in json.dumps(config)
    assert shapes_of(folder / "model.safetensors") == shapes_of(saved / "model.safetensors")
