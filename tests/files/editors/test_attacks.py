"""Editor folders and checkpoints that lie: refused with our own error before memory is taken."""

import json
import os
import shutil
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freestyle_core.errors import FileFormatError, FreeStyleError
from freestyle_core.files.editors.config_limits import LARGEST_NUMBER
from freestyle_core.files.editors.load import CONFIGS, load_editor
from tests.files.official.test_pickle_rules import LIES
from tests.pickle_tools import peak_mb
from tests.tiny_checkpoint import save_checkpoint, tiny_editor
from tests.tiny_editor import save_tiny_editor

MB = 300  # that a refusal may take
NETWORKS = ("vae", "unet", "text_encoder")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = save_tiny_editor(tmp_path_factory.mktemp("editor"))
    load_editor(folder)  # so that no test counts the libraries
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(path, match, **options):
    before = peak_mb()
    with pytest.raises(FileFormatError, match=match):
        load_editor(path, **options)
    assert peak_mb() - before < MB


GREEDY = {
    "U-Net a million wide": ("unet", {"block_out_channels": [4, 2**20]}, "network of"),
    "U-Net twice as wide": ("unet", {"cross_attention_dim": 2**16}, "network of"),
    "VAE a million wide": ("vae", {"block_out_channels": [2**20, 2**20]}, "network of"),
    "VAE of many channels": ("vae", {"latent_channels": 2**19}, "network of"),
    "words without end": ("text_encoder", {"vocab_size": 2**20}, "network of"),
    "prompts without end": ("text_encoder", {"max_position_embeddings": 2**20}, "network of"),
    "wide text encoder": ("text_encoder", {"intermediate_size": 2**20}, "network of"),
    "width past all numbers": ("unet", {"in_channels": 10**30}, "in_channels = 1e.30"),
    "minus a billion": ("vae", {"in_channels": -(10**9)}, "in_channels = -1e.09"),
    "endless width": ("vae", {"scaling_factor": float("inf")}, "scaling_factor = inf"),
    "a million layers": ("text_encoder", {"num_hidden_layers": 2**20}, "1048576 layers"),
    "many layers a block": ("unet", {"layers_per_block": 10**5}, "100000 layers"),
    "many transformers": ("unet", {"transformer_layers_per_block": [1, 10**6]}, "1000000 layers"),
    "many blocks": (
        "unet",
        {
            "block_out_channels": [4] * 10**5,
            "down_block_types": ["DownBlock2D"] * 10**5,
            "up_block_types": ["UpBlock2D"] * 10**5,
        },
        "100000 layers",
    ),
    "a trillion time steps": ("scheduler", {"num_train_timesteps": 10**12}, "num_train_timesteps"),
}


@pytest.mark.parametrize("name", GREEDY)
def test_configs_that_ask_for_all_memory_are_refused(folder, name):
    part, changes, match = GREEDY[name]
    change(folder / part / CONFIGS[part], **changes)
    refused(folder, match)


@pytest.mark.parametrize("part", [*NETWORKS, "scheduler"])
@pytest.mark.parametrize("text", ["[1, 2]", '"x"', "null", "7", "[" * 10**5, '{"a":' * 10**5])
def test_configs_that_are_something_else_are_refused(folder, part, text):
    (folder / part / CONFIGS[part]).write_text(text)
    refused(folder, part)


def test_a_config_of_many_megabytes_is_refused_unread(folder):
    with (folder / "unet" / "config.json").open("wb") as file:
        file.truncate(2**36)  # 64 GiB of nothing, on no disk
    refused(folder, "larger than any config")


@pytest.mark.parametrize("part", NETWORKS)
@pytest.mark.parametrize("name", LIES)
def test_weights_that_lie_are_refused(folder, part, name):
    next((folder / part).glob("*.safetensors")).write_bytes(LIES[name])
    refused(folder, part)


WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(-2, 9), max_size=3),
    st.dictionaries(st.text(max_size=2), st.none()),
    st.lists(st.lists(st.none(), max_size=1), max_size=2),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), part=st.sampled_from([*NETWORKS, "scheduler"]), wrong=WRONG)
def test_settings_of_any_type_and_size_never_end_in_another_error(saved, data, part, wrong):
    path = saved / part / CONFIGS[part]
    text = path.read_text()
    field = data.draw(st.sampled_from(sorted(json.loads(text))))
    try:
        change(path, **{field: wrong})
        before = peak_mb()
        try:
            load_editor(saved)
        except FreeStyleError as error:
            assert str(error) and "\n" not in str(error)
        assert peak_mb() - before < MB
    finally:
        path.write_text(text)


# Checkpoints -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    editor, words = tiny_editor(folder / "words")
    path = save_checkpoint(folder / "editor.ckpt", editor)
    load_editor(path, tokenizer=words)
    return path, words


def rewritten(path, to, *, compression=zipfile.ZIP_STORED, **contents):
    """Write a copy of a .ckpt archive, some of its entries replaced."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w", compression) as new:
        for entry in old.infolist():
            name = entry.filename.rsplit("/", 1)[-1].replace(".", "_")
            new.writestr(entry.filename, contents.get(name, old.read(entry)), compression)
    return to


def test_a_packed_checkpoint_could_grow_without_end_and_is_refused(checkpoint, tmp_path):
    path, words = checkpoint
    bomb = rewritten(
        path, tmp_path / "e.ckpt", compression=zipfile.ZIP_DEFLATED, data_pkl=bytes(2**26)
    )
    assert bomb.stat().st_size < 2**22  # of 64 MiB
    refused(bomb, "compressed", tokenizer=words)


CODE = {
    "call": b"cposix\nsystem\n(S'touch executed'\ntR.",
    "evaluation": b'cbuiltins\neval\n(S\'open("executed", "w")\'\ntR.',
    "hidden in a state": b"(dS'state_dict'\ncposix\nsystem\n(S'touch executed'\ntRs.",
    "cut short": b"\x80\x02}q\x00(X",
    "empty": b"",
    "list": b"]q\x00.",
    "lists that double": b"]\x94" + b"".join(b"(h%ch%ce" % (0, 0) for _ in range(40)) + b".",
}


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "bare"])
@pytest.mark.parametrize("name", CODE)
def test_pickles_in_checkpoints_run_nothing(checkpoint, tmp_path, monkeypatch, name, packed):
    monkeypatch.chdir(tmp_path)
    path, words = checkpoint
    if packed:
        rewritten(path, tmp_path / "e.ckpt", data_pkl=CODE[name])
    else:
        (tmp_path / "e.ckpt").write_bytes(CODE[name])
    refused(tmp_path / "e.ckpt", r"e\.ckpt", tokenizer=words)
    assert not os.path.exists("executed")


def test_the_limit_leaves_room_for_every_real_model():
    """The largest number in Stable Diffusion 1 is its vocabulary of 49,408 words."""
    assert LARGEST_NUMBER > 10 * 49_408


@pytest.mark.parametrize("name", LIES)
def test_single_files_that_lie_are_refused(checkpoint, tmp_path, name):
    path = tmp_path / "lie.safetensors"
    path.write_bytes(LIES[name])
    refused(path, r"lie\.safetensors", tokenizer=checkpoint[1])


# Settings that contradict each other -----------------------------------------------------------

UNFIT = {
    "heads that do not divide": ("text_encoder", {"num_attention_heads": 3}, "text_encoder"),
    "VAE that halves twice": (
        "vae",
        {"down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]},
        "vae",
    ),
    "words of another width": ("unet", {"encoder_hid_dim": "x"}, "unet"),
    "sampler that starts at text": ("scheduler", {"beta_start": "x"}, "scheduler"),
    "sampler of 7.5 steps": ("scheduler", {"num_train_timesteps": 7.5}, "scheduler"),
    "sampler of half a step": ("scheduler", {"steps_offset": 7.5}, "scheduler.*cannot run"),
    "endless prompts as text": ("tokenizer", {"model_max_length": "x"}, "model_max_length = 'x'"),
    "prompts of nothing": ("tokenizer", {"model_max_length": 2}, "model_max_length = 2, expected"),
    "a list of prompts": ("tokenizer", {"model_max_length": [1]}, r"model_max_length = \[1\]"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_settings_that_cannot_run_are_refused_when_loading(folder, name):
    part, changes, match = UNFIT[name]
    change(folder / part / CONFIGS[part], **changes)
    refused(folder, match)
