"""The two towers of a CLIP from files: its config and weights, read safely and checked.

A folder holds config.json and model.safetensors (or pytorch_model.bin, read by torch's weights-only
reader, which runs nothing of the file). A single .safetensors file, as ComfyUI keeps them, has no
config: the sizes are read off its tensors. Either way the network is first built without memory and
must have exactly the tensors of the file. Read `load_model` first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..errors import FileFormatError, FreeStyleError
from .editors.config_limits import check_layers, read_config
from .editors.load import guarded
from .names import ending
from .networks import build
from .tensors import load_tensors
from .values import check_values

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.fp16.safetensors", "pytorch_model.bin")  # the first at hand
SAVED = WEIGHTS[0]
TOWERS = {"image tower": "visual_projection.weight", "text tower": "text_projection.weight"}
COUNTED = "position_ids"  # of older versions: 0, 1, 2, ..., which the network makes itself
LETTERS = {768: "B", 1024: "L", 1280: "H"}  # of image towers, by width
HEAD = 64  # numbers of an attention head in the towers of OpenAI's CLIPs
LAION = "laion"  # in the name of a file: trained by LAION, with another activation


def load_model(
    place: Path,  # a folder, or a .safetensors file
    weights: Path | None = None,  # where they lie elsewhere than in the folder
) -> Any:
    """Return transformers' CLIPModel on the CPU, float32, in eval mode, without gradients."""
    from transformers import CLIPConfig, CLIPModel

    if place.is_dir():
        weights = weights or weights_in(place)
        config = guarded(place / CONFIG, lambda: _read_config(place / CONFIG))
    else:
        weights = place
        config = guarded(place, lambda: config_of(shapes_of(place), place))
    state = guarded(weights, lambda: _read_state(weights))
    _check_towers(weights, state)
    check_layers(place, config, len(state))
    model = guarded(
        place,
        lambda: build(weights, config, state, lambda v: CLIPConfig.from_dict(dict(v)), CLIPModel),
    )
    _try(place, CLIPModel, model.config)
    return model.requires_grad_(False)


def save_model(
    folder: Path,
    model: Any,  # transformers CLIPModel
    name: str,  # what `Clip.name` will be
) -> Path:
    """Write config and weights, half precision, as any version of transformers reads them."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    config = {**model.config.to_diff_dict(), "architectures": ["CLIPModel"], "name": name}
    config.pop("_name_or_path", None)
    config.pop("dtype", None)
    (folder / SAVED).write_bytes(save(state, metadata={"format": "pt"}))
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def weights_in(folder: Path) -> Path:
    """Return the file with the weights of a folder."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise FileFormatError(
            f"{folder} holds no weights of a CLIP; it needs one of {', '.join(WEIGHTS)}"
        )
    return found


def name_of(place: Path, model: Any) -> str:
    """Return what to call a CLIP: its own word, or such as "ViT-B/32", with the file it is from."""
    own = getattr(model.config, "name", None)
    if isinstance(own, str) and own.isprintable() and 0 < len(own) <= 40:
        return own
    vision = model.config.vision_config
    kind = f"ViT-{LETTERS.get(vision.hidden_size, '?')}/{vision.patch_size}"
    return kind if place.is_dir() else f"{kind} ({place.name})"


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a .safetensors file; reads its header only."""
    with safe_open(path, framework="pt", device="cpu") as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}


def missing_towers(names: Mapping[str, Any]) -> list[str]:
    """Return which towers of a CLIP are not among these tensors."""
    return [tower for tower, key in TOWERS.items() if key not in names]


def config_of(shapes: Mapping[str, tuple[int, ...]], path: Path) -> dict[str, Any]:
    """Return the config of a CLIP of OpenAI's or LAION's design, from the shapes of its tensors."""
    _check_towers(path, shapes)
    text, vision = "text_model", "vision_model"
    words, words_width = shapes[f"{text}.embeddings.token_embedding.weight"]
    width, _, patch, _ = shapes[f"{vision}.embeddings.patch_embedding.weight"]
    places = shapes[f"{vision}.embeddings.position_embedding.weight"][0] - 1
    act = "gelu" if LAION in path.name.lower() else "quick_gelu"

    def tower(start: str, hidden: int) -> dict[str, Any]:
        layer = f"{start}.encoder.layers."
        count = len({key.split(".")[3] for key in shapes if key.startswith(layer)})
        inner = shapes[f"{layer}0.mlp.fc1.weight"][0]
        return {
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": count,
            "num_attention_heads": 16 if hidden == 1280 else max(1, hidden // HEAD),
            "hidden_act": act,
        }

    return {
        "projection_dim": shapes[TOWERS["image tower"]][0],
        "text_config": {
            **tower(text, words_width),
            "vocab_size": words,
            "max_position_embeddings": shapes[f"{text}.embeddings.position_embedding.weight"][0],
            "eos_token_id": words - 1,
            "bos_token_id": words - 2,
        },
        "vision_config": {
            **tower(vision, width),
            "patch_size": patch,
            "image_size": patch * round(places**0.5),
        },
    }


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileFormatError(f"{path.parent} is no CLIP folder: it has no {CONFIG}")
    config = read_config(path)
    kind = config.get("model_type", "clip")
    if kind != "clip":
        raise FileFormatError(
            f"{path} describes a {str(kind)[:40]}, expected a clip with both towers, such as "
            "openai/clip-vit-base-patch32"
        )
    return config


def _read_state(path: Path) -> dict[str, Tensor]:
    state = load_tensors(path) if ending(path) == ".bin" else load_file(path)
    tensors = {key: value for key, value in state.items() if not key.endswith(COUNTED)}
    if not all(isinstance(value, Tensor) for value in tensors.values()):
        raise FileFormatError(f"{path} holds more than tensors; download it again")
    check_values(path, tensors)
    return {key: value.float() for key, value in tensors.items()}


def _check_towers(path: Path, names: Mapping[str, Any]) -> None:
    missing = missing_towers(names)
    if not missing:
        return
    held = [tower for tower in TOWERS if tower not in missing]
    what = f"only the {held[0]}" if held else "no CLIP, or only the inner part of a tower"
    raise FileFormatError(
        f"{path} holds {what}; a text similarity needs both towers of one training: take the whole "
        "model, such as the folder openai/clip-vit-large-patch14, or let it be downloaded"
    )


def _try(place: Path, kind: Any, config: Any) -> None:
    """Raise unless both towers run, without memory or arithmetic, and meet in one space."""
    try:
        with torch.device("meta"):
            model = kind(config).eval()
        side = config.vision_config.image_size
        image = torch.empty(1, 3, side, side, device="meta")
        ids = torch.zeros((1, 4), dtype=torch.int64, device="meta")
        vision = model.vision_model(image)[1]
        text = model.text_model.embeddings(ids)
        sizes = model.visual_projection(vision).shape, model.text_projection(text[:, 0]).shape
    except FreeStyleError:
        raise
    except Exception as error:  # settings that contradict each other make the library raise any
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise FileFormatError(
            f"{place} describes a CLIP that cannot run ({reason}); download it again"
        ) from error
    if sizes[0] != sizes[1]:
        raise FileFormatError(f"{place} has towers of unlike spaces, {sizes[0]} and {sizes[1]}")
