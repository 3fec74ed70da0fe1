"""A number that no network can have is refused where it is loaded, with its file and its name."""

import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from freestyle_core.errors import FileFormatError, MismatchError
from freestyle_core.files.bundle import load_bundle, save_bundle
from freestyle_core.files.editors.load import load_editor
from freestyle_core.files.networks import (
    load_eg3d,
    load_i2t,
    load_perceptual,
    save_eg3d,
    save_i2t,
    save_perceptual,
)
from freestyle_core.files.portrait import load_portrait, save_portrait
from freestyle_core.files.values import LARGEST, check_values
from freestyle_core.models.editor import Editor
from freestyle_core.models.perceptual import PerceptualConfig, PerceptualNet
from freestyle_core.pretrain.run import load_checkpoint
from tests.official_pickle import write_official
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_portrait
from tests.tiny_checkpoint import save_checkpoint, tiny_editor
from tests.tiny_editor import save_tiny_editor

WRONG = {
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "flipped exponent": 1e36,
}
BUNDLES = {
    "eg3d": (lambda p: save_eg3d(p, tiny_eg3d()), load_eg3d),
    "i2t": (lambda p: save_i2t(p, tiny_i2t(), eg3d="abc"), load_i2t),
    "perceptual": (
        lambda p: save_perceptual(p, PerceptualNet(PerceptualConfig(channels=(4, 8)))),
        load_perceptual,
    ),
    "portrait": (
        lambda p: save_portrait(p, tiny_portrait(tiny_eg3d())),
        lambda p: load_portrait(p, eg3d=tiny_eg3d()),
    ),
    "checkpoint": (
        lambda p: save_bundle(p, "checkpoint", {"step": 1, "task": ""}, {"x.w": torch.ones(3)}),
        lambda p: load_checkpoint(p, None),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("kind", BUNDLES)
def test_a_value_no_network_has_is_refused_with_file_and_tensor(tmp_path, kind, wrong):
    save, load = BUNDLES[kind]
    save(tmp_path / "whole")
    bundle = load_bundle(tmp_path / "whole", kind)
    for name in list(bundle.state)[:: max(1, len(bundle.state) // 4)]:
        state = {k: v.clone() for k, v in bundle.state.items()}
        state[name].view(-1)[-1] = WRONG[wrong]
        save_bundle(tmp_path / "wrong", kind, bundle.config, state, bundle.extra)
        with pytest.raises(FileFormatError, match=rf"wrong has .* in tensor {name}, as no trained"):
            load(tmp_path / "wrong")


def test_the_largest_value_passes_and_half_precision_has_its_own_limit():
    check_values("f", {"x": torch.tensor([1e10, -1e10]), "i": torch.tensor([2**60])})
    check_values("f", {"x": torch.tensor([65504.0, -65504.0])}, dtype=torch.float16)
    check_values("f", {"x": torch.tensor([65505.0])}, dtype=torch.bfloat16)
    check_values("f", {"x": torch.tensor([1.0]).to(torch.float8_e4m3fn), "e": torch.zeros(0)})
    with pytest.raises(FileFormatError, match="a value of 1.1e"):
        check_values("f", {"x": torch.tensor([0.0, -1.1 * LARGEST])})
    with pytest.raises(FileFormatError, match="more than torch.float16 can hold"):
        check_values("f", {"x": torch.tensor([66000.0])}, dtype=torch.float16)


def test_an_official_pickle_with_nan_is_refused(tmp_path):
    eg3d = tiny_eg3d()
    with torch.no_grad():
        eg3d.decoder.net[0].bias[2] = float("nan")
    write_official(tmp_path / "n.pkl", eg3d)
    with pytest.raises(FileFormatError, match=r"n\.pkl has NaN .* in tensor decoder\.net\.0\.bias"):
        load_eg3d(tmp_path / "n.pkl")


def test_numbers_of_another_kind_are_refused(tmp_path):
    """Whole numbers in the place of weights, as one flipped letter of a header makes them."""
    save_eg3d(tmp_path / "g", tiny_eg3d())
    bundle = load_bundle(tmp_path / "g", "eg3d")
    state = {**bundle.state, "backbone.mapping.w_avg": torch.zeros(8, dtype=torch.int32)}
    save_bundle(tmp_path / "g", "eg3d", bundle.config, state)
    with pytest.raises(FileFormatError, match="misshapen tensor backbone.mapping.w_avg"):
        load_eg3d(tmp_path / "g")
    eg3d = tiny_eg3d()
    save_portrait(tmp_path / "p", tiny_portrait(eg3d))
    bundle = load_bundle(tmp_path / "p", "portrait")
    state = {**bundle.state, "w": bundle.state["w"].to(torch.int32)}
    save_bundle(tmp_path / "p", "portrait", bundle.config, state, bundle.extra)
    with pytest.raises(FileFormatError, match="holds w as torch.int32"):
        load_portrait(tmp_path / "p", eg3d=eg3d)


# Editors -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_editor(tmp_path_factory.mktemp("editor"))


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
def test_an_editor_folder_with_nan_is_refused(folder, tmp_path, part):
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = next((copy / part).glob("*.safetensors"))
    state = load_file(path)
    state[sorted(state)[-1]].view(-1)[0] = float("inf")
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(FileFormatError, match=rf"{part} has NaN or infinite values in tensor "):
        load_editor(copy)


@pytest.mark.parametrize("prefix", ["model.diffusion", "first_stage", "cond_stage"])
@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_a_single_file_with_nan_is_refused(tmp_path, prefix, ending):
    editor, words = tiny_editor(tmp_path)
    path = save_checkpoint(tmp_path / "e.safetensors", editor)
    state = load_file(path)
    name = next(name for name in state if name.startswith(prefix) and name.endswith("bias"))
    state[name][0] = float("nan")
    if ending == "ckpt":
        path = tmp_path / "e.ckpt"
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    with pytest.raises(FileFormatError, match=rf"e\.{ending} has NaN .* in tensor {name}"):
        load_editor(path, tokenizer=words)


def test_values_that_half_precision_cannot_hold_are_refused_before_they_become_infinite(
    folder, tmp_path
):
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = next((copy / "vae").glob("*.safetensors"))
    state = {name: value.float() for name, value in load_file(path).items()}
    state["encoder.conv_in.bias"][0] = 70000
    save_file(state, path, metadata={"format": "pt"})
    assert load_editor(copy, dtype=torch.bfloat16).vae.encoder.conv_in.bias[0] == 70144
    with pytest.raises(FileFormatError, match=r"encoder\.conv_in\.bias, more than torch\.float16"):
        load_editor(copy, dtype=torch.float16)


class OtherWords:
    """A tokenizer of another vocabulary."""

    bos_token_id, eos_token_id, pad_token_id, model_max_length = 0, 1, 1, 16

    def __init__(self, **changes):
        vars(self).update(changes)

    def __call__(self, text, **_):
        ids = torch.full((1, 16), self.word)
        return type("Tokens", (), {"input_ids": ids if isinstance(text, list) else [0, 1]})


@pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id", "pad_token_id"])
@pytest.mark.parametrize("token", [49407, -1, None])
def test_a_tokenizer_of_another_model_is_refused(folder, name, token):
    editor = load_editor(folder)
    parts = (editor.vae, editor.unet, editor.text_encoder)
    with pytest.raises(MismatchError, match=f"the token {token}, but the text encoder knows only"):
        Editor(*parts, OtherWords(**{name: token}), editor.scheduler)


def test_a_word_that_the_text_encoder_does_not_know_is_refused_before_it_is_looked_up(folder):
    editor = load_editor(folder)
    rows = editor.text_encoder.config.vocab_size
    parts = (editor.vae, editor.unet, editor.text_encoder)
    Editor(*parts, OtherWords(word=rows - 1), editor.scheduler).encode_text(["x"])
    with pytest.raises(MismatchError, match=f"token {rows}, .* 0 to {rows - 1}; take both from"):
        Editor(*parts, OtherWords(word=rows), editor.scheduler).encode_text(["x"])


# The hash of the content -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BUNDLES)
def test_a_flipped_bit_anywhere_is_found(tmp_path, kind):
    save, load = BUNDLES[kind]
    path = tmp_path / "f"
    save(path)
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    values = range(8 + size, len(whole), max(1, (len(whole) - size) // 25))
    for at in values:  # the lowest bit of a byte: values change a little, and stay believable
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(FileFormatError, match="its content is not what was saved"):
            load(path)


def test_a_changed_description_is_found(tmp_path):
    path = tmp_path / "p"
    save_portrait(path, tiny_portrait(tiny_eg3d()), settings={"views": 10})
    data = path.read_bytes()
    path.write_bytes(data.replace(b'\\"views\\": 10', b'\\"views\\": 11'))
    with pytest.raises(FileFormatError, match="its content is not what was saved"):
        load_portrait(path, eg3d=tiny_eg3d())


def test_files_of_older_versions_load_without_a_hash(tmp_path):
    eg3d = tiny_eg3d()
    path = tmp_path / "p"
    save_portrait(path, tiny_portrait(eg3d), settings={9: "b", 10: "a"})
    assert load_portrait(path, eg3d=eg3d).provenance["seed"] == 0
    with safe_open(path, "pt") as file:
        text = file.metadata()["freestyle3d"]
    start = text.index(', "sha256": "')
    old = text[:start] + text[start + len(', "sha256": "') + 64 + 1 :]
    save_file(load_file(path), path, metadata={"freestyle3d": old})
    assert load_bundle(path, "portrait").sha256 is None
    assert load_portrait(path, eg3d=eg3d).provenance["seed"] == 0
