"""Single-file checkpoints: read back bit for bit, recognised without loading, never executed."""

import sys
import types
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from freestyle_core.errors import FileFormatError
from freestyle_core.files.editors import checkpoint as single_file
from freestyle_core.files.editors import load as editor_files
from freestyle_core.files.editors.load import load_editor
from freestyle_core.method.stylize import StylizeSettings, stylize_views
from freestyle_core.models.editor import PAPER_GUIDANCE
from tests.tiny_checkpoint import checkpoint_state, save_checkpoint, tiny_editor

SETTINGS = StylizeSettings(steps=3, text_guidance=3.0, image_guidance=1.4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An editor whose weights fit half precision exactly, and the folder of its tokenizer."""
    editor, words = tiny_editor(tmp_path_factory.mktemp("words"))
    editor.to("cpu", torch.float16).to("cpu", torch.float32)
    return editor, words


@pytest.fixture(scope="module")
def saved(made, tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "editor.safetensors", made[0])


@pytest.fixture
def words(made):
    return made[1]


def changed(saved, path, **changes):
    """Write a copy of the checkpoint with tensors replaced, or left out where None."""
    state = {**load_file(saved), **changes}
    save_file({name: value for name, value in state.items() if value is not None}, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_checkpoint_gives_the_editor_back(made, tmp_path, suffix):
    editor, words = made
    path = save_checkpoint(tmp_path / f"editor{suffix}", editor)
    loaded = load_editor(path, tokenizer=words)
    for part in ("vae", "unet", "text_encoder"):
        expected, got = getattr(editor, part).state_dict(), getattr(loaded, part).state_dict()
        assert list(expected) == list(got)
        for name, value in expected.items():
            assert torch.equal(value, got[name]), name
    assert loaded.guidance == PAPER_GUIDANCE
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    first, second = (
        stylize_views(e, images, "an elf", settings=SETTINGS) for e in (editor, loaded)
    )
    assert torch.equal(first, second)
    assert first.std() > 0.01


def test_number_format_is_chosen_when_loading(saved, words):
    loaded = load_editor(saved, tokenizer=words, dtype=torch.bfloat16)
    for network in (loaded.vae, loaded.unet, loaded.text_encoder):
        assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
        assert not any(p.requires_grad or p.is_inference() for p in network.parameters())


def test_loading_in_inference_mode_gives_ordinary_networks(saved, words):
    with torch.inference_mode():
        loaded = load_editor(saved, tokenizer=words)
    assert not any(p.is_inference() for p in loaded.unet.parameters())


def test_full_size_sizes_are_read_off_the_tensors():
    """The shapes of Stable Diffusion 1 must give the config that its diffusers folder holds."""
    from tests.tiny_checkpoint import make_text, make_unet, make_vae

    with torch.device("meta"):
        unet = make_unet((320, 640, 1280, 1280), 768, (True, True, True, False), layers=2)
        vae, text = make_vae((128, 256, 512, 512), layers=2), make_text(49408, 768, 12)
        editor = types.SimpleNamespace(unet=unet, vae=vae, text_encoder=text)
        shapes = {name: tuple(value.shape) for name, value in checkpoint_state(editor).items()}
    assert single_file.unet_config(shapes) == {
        "in_channels": 8,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "sample_size": 64,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    }
    config = single_file.vae_config(shapes)
    assert config["block_out_channels"] == [128, 256, 512, 512]
    assert (config["layers_per_block"], config["latent_channels"]) == (2, 4)
    prefix = f"{single_file.TEXT}text_model."
    bare = {name.removeprefix(prefix): shape for name, shape in shapes.items()}
    text = single_file.text_config(bare)
    assert (text["num_hidden_layers"], text["num_attention_heads"]) == (12, 12)
    assert (text["max_position_embeddings"], text["intermediate_size"]) == (77, 3072)
    assert (text["bos_token_id"], text["eos_token_id"]) == (49406, 49407)


def test_noise_levels_become_a_scheduler():
    usual = single_file.scheduler_of()
    a = usual.alphas_cumprod.double()
    again = single_file.scheduler_of(((1 - a) / a).sqrt().float())
    assert dict(again.config) == dict(usual.config)
    sigmas = torch.linspace(0.01, 5, 200)
    other = single_file.scheduler_of(sigmas)
    other.set_timesteps(10)
    assert other.timesteps[0] < 200
    expected = 1 / (sigmas.double() ** 2 + 1)
    torch.testing.assert_close(other.alphas_cumprod.double(), expected, rtol=1e-4, atol=0)


# Recognising files -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("channels", [4, 8, 9])
def test_channels_are_known_from_the_header(tmp_path, suffix, channels):
    path = tmp_path / f"model{suffix}"
    weight = torch.zeros(320, channels, 3, 3, dtype=torch.float16)
    state = {"a": torch.ones(2), single_file.FIRST_WEIGHT: weight, "z": torch.ones(3)}
    if suffix == ".ckpt":
        torch.save({"epoch": 3, "state_dict": state, "lr": 0.1}, path)
    else:
        save_file(state, path)
    assert single_file.input_channels(path) == channels


def test_the_header_is_enough(saved, tmp_path):
    """A checkpoint cut off after its header is still listed: the weights were not read."""
    content = saved.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(content[: 8 + int.from_bytes(content[:8], "little")])
    assert single_file.input_channels(cut) == 8


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"\xff" * 64,
        b"\x02\0\0\0\0\0\0\0{}",
        b"\x02\0\0\0\0\0\0\0[]",
        b"<html>not found</html>",
        b"PK\x03\x04 no zip",
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_other_files_are_no_checkpoints(tmp_path, content, suffix):
    path = tmp_path / f"other{suffix}"
    path.write_bytes(content)
    assert single_file.input_channels(path) is None
    assert single_file.input_channels(tmp_path / "missing") is None
    with pytest.raises(FileFormatError, match="cannot be read|is no Stable Diffusion"):
        load_editor(path, tokenizer=tmp_path_with_tokenizer(tmp_path))


def tmp_path_with_tokenizer(tmp_path):
    folder = tmp_path / "tokenizer"
    folder.mkdir(exist_ok=True)
    for name in editor_files.TOKENIZER_FILES:
        (folder / name).write_text("{}")
    return folder


# Foreign, damaged and hostile files --------------------------------------------------------------


def test_a_text_to_image_checkpoint_is_refused(saved, words, tmp_path):
    weight = load_file(saved)[single_file.FIRST_WEIGHT][:, :4].contiguous()
    path = changed(saved, tmp_path / "sd15.safetensors", **{single_file.FIRST_WEIGHT: weight})
    with pytest.raises(FileFormatError, match="sd15.safetensors is not an image editor.* 4 chan"):
        load_editor(path, tokenizer=words)


def test_a_checkpoint_of_another_generation_is_refused(saved, words, tmp_path):
    label = {f"{single_file.UNET}label_emb.0.0.weight": torch.zeros(1)}
    path = changed(saved, tmp_path / "sdxl.safetensors", **label)
    with pytest.raises(FileFormatError, match="not built on Stable Diffusion 1"):
        load_editor(path, tokenizer=words)
    unet_only = {name: None for name in load_file(saved) if name.startswith(single_file.TEXT)}
    path = changed(saved, tmp_path / "unet.safetensors", **unet_only)
    with pytest.raises(FileFormatError, match="has no text encoder"):
        load_editor(path, tokenizer=words)


VAE, TEXT = "first_stage_model.", "cond_stage_model."
PARTIAL = {
    "no VAE": (lambda k: not k.startswith(VAE), "a U-Net and a text encoder but has no VAE; take"),
    "no text": (
        lambda k: not k.startswith(TEXT),
        "a U-Net and a VAE but has no text encoder",
    ),
    "neither": (lambda k: k.startswith("model."), "a U-Net but has no text encoder and no VAE"),
    "VAE alone": (lambda k: k.startswith(VAE), "no Stable Diffusion checkpoint: it holds a VAE"),
    "nothing": (lambda k: False, "checkpoint: it holds no tensors"),
}


@pytest.mark.parametrize("name", PARTIAL)
def test_a_part_of_a_checkpoint_is_not_called_damaged(saved, words, tmp_path, name):
    keep, message = PARTIAL[name]
    path = tmp_path / "part.safetensors"
    save_file({k: v for k, v in load_file(saved).items() if keep(k)}, path)
    with pytest.raises(FileFormatError, match=message) as caught:
        load_editor(path, tokenizer=words)
    assert "damaged" not in str(caught.value) and "download it again" not in str(caught.value)


def test_weights_of_another_naming_are_shown(words, tmp_path):
    path = tmp_path / "unet.safetensors"
    save_file({"conv_in.weight": torch.zeros(2), "up.x": torch.zeros(2)}, path)
    with pytest.raises(FileFormatError, match=r"holds 2 tensors, such as conv_in\.weight, up\.x;"):
        load_editor(path, tokenizer=words)


@pytest.mark.parametrize("scale", ["out.2.scale_weight", "out.2.weight_scale", "scaled_fp8"])
def test_scaled_fp8_says_what_to_take_instead(saved, words, tmp_path, scale):
    state = load_file(saved)
    state["model.diffusion_model.out.2.weight"] = state["model.diffusion_model.out.2.weight"].to(
        torch.float8_e4m3fn
    )
    state[f"model.diffusion_model.{scale}"] = torch.tensor(0.5)
    save_file(state, tmp_path / "fp8.safetensors")
    with pytest.raises(FileFormatError, match="as scaled fp8, .* take the fp16 version, or"):
        load_editor(tmp_path / "fp8.safetensors", tokenizer=words)


def test_plain_fp8_weights_load(saved, words, tmp_path):
    name = "model.diffusion_model.out.2.weight"
    state = load_file(saved)
    state[name] = state[name].to(torch.float8_e4m3fn)
    save_file(state, tmp_path / "fp8.safetensors")
    loaded = load_editor(tmp_path / "fp8.safetensors", tokenizer=words)
    assert torch.equal(loaded.unet.conv_out.weight, state[name].float())


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (f"{single_file.UNET}middle_block.1.proj_in.weight", "unet"),
        (f"{single_file.VAE}decoder.up.1.block.0.norm1.bias", "vae"),
        (f"{single_file.VAE}quant_conv.bias", "vae"),
        (f"{single_file.TEXT}text_model.final_layer_norm.bias", "text_encoder"),
    ],
)
def test_a_missing_weight_is_noticed(saved, words, tmp_path, name, part):
    path = changed(saved, tmp_path / "short.safetensors", **{name: None})
    with pytest.raises(FileFormatError, match=f"tensors for its {part}, which needs|cannot be"):
        load_editor(path, tokenizer=words)


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_truncated_checkpoint_is_refused(made, saved, words, tmp_path, share):
    for path in (saved, save_checkpoint(tmp_path / "whole.ckpt", made[0])):
        cut = tmp_path / f"cut{path.suffix}"
        content = path.read_bytes()
        cut.write_bytes(content[: int(share * len(content))])
        with pytest.raises(FileFormatError, match="cannot be read .*download it again"):
            load_editor(cut, tokenizer=words)


def test_what_training_programs_leave_behind_is_not_needed(made, words, tmp_path, monkeypatch):
    """A .ckpt of the original training holds classes of pytorch_lightning, and numpy numbers."""
    import numpy

    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = types.ModuleType(name)
    called = []
    module.ModelCheckpoint = type(
        "ModelCheckpoint", (), {"__module__": name, "__setstate__": lambda *_: called.append(1)}
    )
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
        monkeypatch.setitem(sys.modules, part, module)
    instance = module.ModelCheckpoint()
    instance.best = 1
    callbacks = {module.ModelCheckpoint: {"best": numpy.float64(0.5)}, "kept": instance}
    content = {"state_dict": checkpoint_state(made[0]), "callbacks": callbacks}
    torch.save(content, tmp_path / "lightning.ckpt")
    monkeypatch.undo()
    loaded = load_editor(tmp_path / "lightning.ckpt", tokenizer=words)
    assert torch.equal(loaded.unet.conv_in.weight, made[0].unet.conv_in.weight)
    assert not called


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.path}",)


def test_nothing_of_a_ckpt_is_executed(made, words, tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "hostile.ckpt"
    torch.save({"state_dict": checkpoint_state(made[0]), "callbacks": Hostile(canary)}, path)
    assert single_file.input_channels(path) == 8
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_editor(path, tokenizer=words)
    assert not canary.exists()


# The tokenizer -----------------------------------------------------------------------------------


def test_the_tokenizer_may_lie_beside_the_file(made, saved, tmp_path):
    import shutil

    editor, words = made
    path = tmp_path / saved.name
    shutil.copy(saved, path)
    shutil.copytree(words, tmp_path / "tokenizer")
    texts = ["turn the head into an elf"]
    expected = editor.encode_text(texts)
    assert torch.equal(load_editor(path).encode_text(texts), expected)


def test_without_a_tokenizer_the_message_says_what_to_download(saved, monkeypatch):
    monkeypatch.setattr(editor_files, "_cached_tokenizer", lambda: None)
    with pytest.raises(FileFormatError) as error:
        load_editor(saved)
    message = str(error.value)
    assert "https://huggingface.co/openai/clip-vit-large-patch14" in message
    assert str(saved.parent / "tokenizer") in message and "vocab.json" in message
    assert "\n" not in message


def test_the_longest_prompt_of_stable_diffusion_fits(made):
    """SD 1 reads 77 tokens, whatever length a tokenizer's own folder states."""
    editor = made[0]
    limit = editor.text_encoder.config.max_position_embeddings
    tokenizer = editor.tokenizer
    tokenizer.model_max_length = 8192  # as in ComfyUI's copy
    try:
        assert editor.max_tokens == limit
        assert editor.encode_text([" ".join(["elf"] * (limit - 2))]).shape[1] == limit
    finally:
        tokenizer.model_max_length = limit
    assert replace(editor).max_tokens == limit
