"""DINO features against transformers' own vision transformer, and against its formulas by hand."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import ViTConfig, ViTModel

from freestyle_core.errors import FileFormatError, ShapeError
from freestyle_core.files.dino import load_dino
from freestyle_core.models.dino import MEAN, STD

HEADS, WIDTH, PATCH = 3, 24, 32  # 8 x 8 patches of a picture of 256 pixels


def saved(folder, *, layers=2, image_size=256, seed=0, dtype=torch.float32):
    """Return a random network, saved in transformers' layout."""
    config = ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        intermediate_size=40,
        image_size=image_size,
        patch_size=PATCH,
    )
    model = ViTModel(config, add_pooling_layer=False).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(0.3 * torch.randn(value.shape, generator=generator))
            if "norm" in name and name.endswith("weight"):
                value.add_(1)
    model.to(dtype).save_pretrained(folder)
    return model


def pictures(count=2, size=256, seed=1):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def by_hand(state, pixels):
    """Return the last hidden state [N,1+P,C] of a vision transformer, written out."""

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        x = centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    # a patch at a time, row by row: every number of it times its weight
    kernel = state["embeddings.patch_embeddings.projection.weight"].flatten(1)
    rows = [
        pixels[:, :, y : y + PATCH, x : x + PATCH].flatten(1) @ kernel.T
        for y in range(0, 256, PATCH)
        for x in range(0, 256, PATCH)
    ]
    x = torch.stack(rows, 1) + state["embeddings.patch_embeddings.projection.bias"]
    first = state["embeddings.cls_token"].expand(len(x), -1, -1)
    x = torch.cat([first, x], 1) + state["embeddings.position_embeddings"]
    for layer in range(2):
        at = f"encoder.layer.{layer}"
        y = norm(x, f"{at}.layernorm_before")
        query, key, value = (
            linear(y, f"{at}.attention.attention.{part}").unflatten(2, (HEADS, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        weights = (query @ key.transpose(2, 3) / (WIDTH / HEADS) ** 0.5).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        x = x + linear(mixed, f"{at}.attention.output.dense")
        y = linear(norm(x, f"{at}.layernorm_after"), f"{at}.intermediate.dense")
        y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
        x = x + linear(y, f"{at}.output.dense")
    return norm(x, "layernorm")


def test_features_are_the_formulas_of_a_vision_transformer(tmp_path):
    saved(tmp_path)
    state = load_file(tmp_path / "model.safetensors")  # with the names of the public weights
    images = pictures()
    mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, STD))
    expected = by_hand(state, (images - mean) / std)[:, 1:]  # without the token of the whole
    expected = expected / expected.norm(dim=2, keepdim=True)
    found = load_dino(tmp_path).features(images)
    assert found.shape == (2, WIDTH, 8, 8)
    for y, x in ((0, 0), (0, 7), (3, 5), (7, 0)):
        torch.testing.assert_close(found[:, :, y, x], expected[:, 8 * y + x], atol=2e-5, rtol=0)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2, 8, 8))


def test_positions_of_another_size_are_stretched_as_transformers_does(tmp_path):
    model = saved(tmp_path, image_size=128)  # 4 x 4 places, for 8 x 8 patches
    images = pictures(9)  # more than go in one pass
    mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, STD))
    with torch.no_grad():
        out = model((images - mean) / std, interpolate_pos_encoding=True).last_hidden_state
    expected = F.normalize(out[:, 1:].transpose(1, 2).unflatten(2, (8, 8)), dim=1)
    torch.testing.assert_close(load_dino(tmp_path).features(images), expected, atol=1e-5, rtol=0)


def test_a_place_of_the_map_is_that_place_of_the_picture(tmp_path):
    saved(tmp_path, layers=0)  # nothing looks at another place
    one = pictures(1)
    two = one.clone()
    two[:, :, 2 * PATCH : 3 * PATCH, 5 * PATCH : 6 * PATCH] = 0.5
    dino = load_dino(tmp_path)
    changed = (dino.features(one) - dino.features(two)).abs().amax(1)[0] > 1e-6
    assert changed.nonzero().tolist() == [[2, 5]]


def test_pictures_of_any_size_are_brought_to_256(tmp_path):
    saved(tmp_path)
    dino = load_dino(tmp_path)
    flat = torch.full((1, 3, 40, 40), 0.3)
    torch.testing.assert_close(
        dino.features(flat), dino.features(torch.full((1, 3, 256, 256), 0.3)), atol=1e-4, rtol=0
    )
    with pytest.raises(ShapeError, match=r"needs images \[N,3,H,H\], got \(1, 3, 40, 20\)"):
        dino.features(flat[..., :20])


def test_weights_of_a_folder_are_loaded_as_they_are_frozen_and_in_single_precision(tmp_path):
    model = saved(tmp_path, dtype=torch.float16)
    dino = load_dino(tmp_path)
    loaded = dino.model.state_dict()
    assert set(loaded) == set(model.state_dict())
    for name, value in model.state_dict().items():
        assert loaded[name].dtype == torch.float32 and torch.equal(loaded[name], value.float())
    assert not any(p.requires_grad for p in dino.parameters()) and not dino.model.training
    assert dino.name == f"ViT of {tmp_path.name}"


def test_what_is_no_vision_transformer_is_named(tmp_path):
    saved(tmp_path / "vit")
    file = tmp_path / "vit" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(FileFormatError, match="cannot be read as a vision transformer"):
        load_dino(tmp_path / "vit")
    (tmp_path / "vit" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(FileFormatError, match="vision transformer"):
        load_dino(tmp_path / "vit")
    with pytest.raises(FileFormatError, match="it has no config.json"):
        load_dino(tmp_path)
