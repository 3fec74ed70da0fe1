"""Editor folders: what is written loads anywhere, and what is damaged or foreign is refused."""

import json
import os
import shutil

import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from safetensors.torch import load_file, save_file

from freestyle_core.errors import FileFormatError, MismatchError
from freestyle_core.files.editors.load import load_editor, save_editor
from freestyle_core.models.editor import PAPER_GUIDANCE
from tests.tiny_editor import save_tiny_editor


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_tiny_editor(tmp_path_factory.mktemp("editor"))


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def weights_of(folder, part):
    return next((folder / part).glob("*.safetensors"))


def edit_json(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_weights_are_stored_half_and_loaded_single(saved):
    editor = load_editor(saved)
    for part, network in (("vae", editor.vae), ("unet", editor.unet)):
        stored = load_file(weights_of(saved, part))
        assert {value.dtype for value in stored.values()} == {torch.float16}
        for name, value in network.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, stored[name].float())
    assert not any(p.requires_grad for p in editor.unet.parameters())
    assert not editor.unet.training


def test_text_encoder_keeps_the_names_that_every_transformers_version_reads(saved):
    stored = load_file(weights_of(saved, "text_encoder"))
    assert all(name.startswith("text_model.") for name in stored)
    loaded = {
        name.removeprefix("text_model."): value
        for name, value in load_editor(saved).text_encoder.state_dict().items()
    }
    for name, value in stored.items():
        assert torch.equal(loaded[name.removeprefix("text_model.")], value.float())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_weights_may_be_read_by_whoever_may_read_their_config(saved):
    for part in ("vae", "unet", "text_encoder"):
        config = saved / part / "config.json"
        assert weights_of(saved, part).stat().st_mode == config.stat().st_mode


def test_nothing_of_the_machine_is_stored(saved):
    for path in saved.rglob("*.json"):
        assert "_name_or_path" not in path.read_text()
    assert {path.name for path in (saved / "tokenizer").iterdir()} >= {"vocab.json", "merges.txt"}


def test_diffusers_itself_loads_the_folder(saved):
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        saved, local_files_only=True, low_cpu_mem_usage=False
    )
    ours = load_editor(saved)
    texts = ["turn the head into an elf"]
    ids = pipeline.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        expected = pipeline.text_encoder.float()(ids)[0]
        torch.testing.assert_close(ours.encode_text(texts), expected)
    weight = pipeline.unet.float().conv_in.weight
    assert torch.equal(ours.unet.conv_in.weight, weight)


def test_attention_needs_little_memory(saved):
    editor = load_editor(saved)
    kinds = {type(p).__name__ for p in editor.unet.attn_processors.values()}
    assert kinds == {"AttnProcessor2_0"}  # torch's scaled_dot_product_attention
    assert editor.text_encoder.config._attn_implementation == "sdpa"


def test_guidance_is_the_paper_s_unless_the_folder_says_otherwise(folder):
    index = folder / "model_index.json"
    edit_json(index, _guidance=[1.2, 3.0])
    assert load_editor(folder).guidance == (1.2, 3.0)
    index.unlink()
    assert load_editor(folder).guidance == PAPER_GUIDANCE


def test_other_samplers_become_ddim_without_clipping(folder):
    path = folder / "scheduler" / "scheduler_config.json"
    config = {
        "_class_name": "EulerAncestralDiscreteScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
    }
    path.write_text(json.dumps(config))
    scheduler = load_editor(folder).scheduler
    assert type(scheduler).__name__ == "DDIMScheduler"
    assert scheduler.config.clip_sample is False
    assert scheduler.config.beta_end == 0.012
    assert scheduler.config.steps_offset == 1


def test_half_precision_variants_load(folder):
    path = weights_of(folder, "unet")
    path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    load_editor(folder)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="there is no editor folder"):
        load_editor(tmp_path / "nowhere")


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileFormatError, match="diffusers' layout: vae/config.json"):
        load_editor(tmp_path)


def test_another_pipeline_is_refused(folder):
    edit_json(folder / "model_index.json", _class_name="StableDiffusionPipeline")
    with pytest.raises(FileFormatError, match="StableDiffusionPipeline, not a"):
        load_editor(folder)


def test_steps_are_the_paper_s_unless_the_folder_says_otherwise(folder, tmp_path):
    assert load_editor(folder).steps == 20
    edit_json(folder / "model_index.json", _steps=7)
    editor = load_editor(folder)
    assert editor.steps == 7
    again = save_editor(tmp_path / "again", editor, tokenizer_files=folder / "tokenizer")
    assert load_editor(again).steps == 7


@pytest.mark.parametrize("steps", [0, 2.5, "ten", True, None, 5000])
def test_steps_of_the_wrong_kind_are_refused(folder, steps):
    edit_json(folder / "model_index.json", _steps=steps)
    with pytest.raises(FileFormatError, match="model_index"):
        load_editor(folder)


@pytest.mark.parametrize("guidance", [7, [1.5], ["a", "b"], None])
def test_guidance_of_the_wrong_kind_is_refused(folder, guidance):
    edit_json(folder / "model_index.json", _guidance=guidance)
    with pytest.raises(FileFormatError, match="model_index.json cannot be read"):
        load_editor(folder)


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_truncated_weights_are_refused(folder, part, share):
    path = weights_of(folder, part)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FileFormatError, match=f"{part} cannot be read .*download it again"):
        load_editor(folder)


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
def test_weights_that_lack_a_tensor_are_refused(folder, part):
    path = weights_of(folder, part)
    state = load_file(path)
    state.pop(sorted(state)[0])
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(FileFormatError, match="lacks 1 weights"):
        load_editor(folder)


def test_pickled_weights_are_refused(folder):
    path = weights_of(folder, "unet")
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    with pytest.raises(FileFormatError, match=r"no \.safetensors weights"):
        load_editor(folder)


@pytest.mark.parametrize(
    "name",
    [
        "vae/config.json",
        "unet/config.json",
        "text_encoder/config.json",
        "tokenizer/vocab.json",
        "tokenizer/tokenizer_config.json",
        "scheduler/scheduler_config.json",
        "model_index.json",
    ],
)
def test_truncated_json_is_refused(folder, name):
    path = folder / name
    path.write_text(path.read_text()[:20])
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_editor(folder)


def test_a_text_to_image_unet_is_refused(folder):
    config = json.loads((folder / "unet" / "config.json").read_text())
    state = load_file(weights_of(folder, "unet"))
    state["conv_in.weight"] = state["conv_in.weight"][:, :4].contiguous()
    save_file(state, weights_of(folder, "unet"), metadata={"format": "pt"})
    (folder / "unet" / "config.json").write_text(json.dumps({**config, "in_channels": 4}))
    with pytest.raises(MismatchError, match="takes 8 channels .* got 4"):
        load_editor(folder)
