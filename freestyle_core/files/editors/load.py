"""Image editors: folders in diffusers' layout, or single checkpoint files of Stable Diffusion 1.

A folder holds vae, unet, text_encoder, tokenizer and scheduler, its weights as safetensors, never
as pickles. A single file holds no tokenizer: `find_tokenizer` says where that may come from.
Nothing is looked up online. Loading gives an editor on the CPU, with a DDIM scheduler whatever
sampler a folder names, and never a safety checker, which would blacken pictures without a word.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import FileFormatError, FreeStyleError, InputError
from ...models.editor import PAPER_GUIDANCE, PAPER_STEPS, Editor
from ...models.text_to_image import Suits
from ..names import ending
from ..networks import is_shipped
from ..values import check_values
from . import checkpoint as single_file
from .config_limits import check_scheduler, check_sizes, read_config

CONFIGS = {
    "vae": "config.json",
    "unet": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
}
NETWORKS = ("vae", "unet", "text_encoder")
MOST_STEPS = 1000  # the noise schedule has no more
GUIDANCE_KEY, STEPS_KEY = (
    "_guidance",
    "_steps",
)  # in model_index.json; diffusers passes over keys with an underscore
SUITS_KEY = "_text_to_image"  # there as well: a record of `models.text_to_image.Suits`
MODEL_INDEX = "model_index.json"
PIPELINE = "StableDiffusionInstructPix2PixPipeline"
INDEX = {
    "_class_name": PIPELINE,
    "_diffusers_version": "0.30.0",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


TOKENIZER_REPOSITORY = "openai/clip-vit-large-patch14"  # the tokenizer of Stable Diffusion 1
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")


def load_editor(
    path: Path | str,  # a folder in diffusers' layout, or a .safetensors or .ckpt file
    *,
    dtype: torch.dtype = torch.float32,
    tokenizer: Path | str | None = None,  # a folder, for a single file; None: looked for
) -> Editor:
    """Return an InstructPix2Pix editor in number format `dtype`, on the CPU, for inference."""
    path = Path(path)
    # networks made in inference mode could never be trained or moved between number formats
    with torch.inference_mode(False):
        if ending(path) in single_file.SUFFIXES and not path.is_dir():
            return _load_file(path, dtype, find_tokenizer(path, tokenizer))
        return _load_folder(path, dtype)


def find_tokenizer(path: Path, given: Path | str | None = None) -> Path:
    """Return the folder with the CLIP tokenizer for a checkpoint file.

    That is `given`, a folder "tokenizer" beside the file, the one that ComfyUI brings along when
    this pack lies in it, or the hub's cache on this machine.
    """
    beside = path.parent / "tokenizer"
    in_comfyui = Path(__file__).parents[5] / "comfy" / "sd1_tokenizer"
    for folder in (given, beside, in_comfyui, _cached_tokenizer()):
        if folder is not None and all((Path(folder) / name).is_file() for name in TOKENIZER_FILES):
            return Path(folder)
    raise FileFormatError(
        f"{path.name} holds no tokenizer and none is on this machine; download "
        f"{', '.join(TOKENIZER_FILES)} from https://huggingface.co/{TOKENIZER_REPOSITORY} into "
        f"{beside}"
    )


def _cached_tokenizer() -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(TOKENIZER_REPOSITORY, name) for name in TOKENIZER_FILES]
    return Path(found[0]).parent if isinstance(found[0], str) else None


def _load_file(path: Path, dtype: torch.dtype, tokenizer: Path) -> Editor:
    if not path.is_file():
        raise FileFormatError(f"there is no checkpoint {path}; check the name and the folder")
    parts = guarded(path, lambda: single_file.load_parts(path, dtype=dtype))
    words = guarded(tokenizer, lambda: load_tokenizer(tokenizer))
    return Editor(**parts, tokenizer=words, scheduler=single_file.scheduler_of())


def load_tokenizer(folder: Path) -> Any:
    """Return the CLIP tokenizer in `folder`, whose length of a text is a believable number."""
    from transformers import CLIPTokenizer

    words = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    limit = words.model_max_length
    if type(limit) is not int or limit <= 2:  # start and end are tokens, too
        raise FileFormatError(
            f"{folder} has model_max_length = {ascii(limit)[:40]}, expected a number of tokens "
            "above 2; download it again"
        )
    return words


def _load_folder(folder: Path, dtype: torch.dtype) -> Editor:
    suits = _check_layout(folder)
    return Editor(**folder_parts(folder, dtype), **suits)


def folder_parts(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Return the networks, the tokenizer and a DDIM scheduler of a folder in diffusers' layout."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

    def network(part: str, kind: Any) -> nn.Module:
        return _network(folder / part, kind, dtype, in_diffusers=kind is not CLIPTextModel)

    def scheduler() -> Any:
        read_config(folder / "scheduler" / CONFIGS["scheduler"])
        config = dict(DDIMScheduler.load_config(folder / "scheduler", local_files_only=True))
        config.setdefault("clip_sample", False)  # DDIM's own default is for pictures, not latents
        made = DDIMScheduler.from_config(config)
        check_scheduler(folder / "scheduler" / CONFIGS["scheduler"], made)
        return made

    parts: dict[str, Callable[[], Any]] = {
        "tokenizer": lambda: load_tokenizer(folder / "tokenizer"),
        "scheduler": scheduler,
        "text_encoder": lambda: network("text_encoder", CLIPTextModel),
        "vae": lambda: network("vae", AutoencoderKL),
        "unet": lambda: network("unet", UNet2DConditionModel),
    }
    return {name: guarded(folder / name, load) for name, load in parts.items()}


def save_editor(
    folder: Path | str,
    editor: Editor,
    *,
    tokenizer_files: Path,  # the folder with vocab.json, merges.txt and tokenizer_config.json
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write an editor so that any diffusers and transformers version loads it; return the folder.

    The networks of `editor` stay as they are.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for part, network in (
        ("vae", editor.vae),
        ("unet", editor.unet),
        ("text_encoder", editor.text_encoder),
    ):
        _save_network(folder / part, network, dtype)
    editor.scheduler.save_pretrained(folder / "scheduler")
    shutil.copytree(tokenizer_files, folder / "tokenizer", dirs_exist_ok=True)
    suits = {GUIDANCE_KEY: list(editor.guidance), STEPS_KEY: editor.steps}
    alone = {} if editor.alone is None else {SUITS_KEY: editor.alone}
    index = {**INDEX, **suits, **alone}
    (folder / MODEL_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return folder


def _check_layout(folder: Path) -> dict[str, Any]:
    """Raise unless `folder` holds an editor; return the guidance and the steps that suit it."""
    if not folder.is_dir():
        raise FileFormatError(
            f"there is no editor folder {folder}; give a folder in diffusers' layout that holds "
            f"{', '.join(CONFIGS)}, or a .safetensors or .ckpt file"
        )
    check_complete(folder, "an editor", "timbrooks/instruct-pix2pix")
    index = folder / MODEL_INDEX
    if not index.exists():
        return {}
    pipeline = read_index(folder)
    name = pipeline.get("_class_name")
    if name != PIPELINE:
        raise FileFormatError(
            f"{folder.name} holds a {name}, not a {PIPELINE}; choose an InstructPix2Pix model"
        )
    return {
        "guidance": guarded(
            index, lambda: _two_numbers(pipeline.get(GUIDANCE_KEY, PAPER_GUIDANCE))
        ),
        "steps": guarded(index, lambda: _steps(pipeline.get(STEPS_KEY, PAPER_STEPS))),
        "alone": guarded(index, lambda: _alone(pipeline.get(SUITS_KEY))),
    }


def check_complete(folder: Path, kind: str, example: str) -> None:
    """Raise unless a folder in diffusers' layout has all parts; `example` is where to get one."""
    missing = [f"{part}/{name}" for part, name in CONFIGS.items() if not _has(folder, part, name)]
    if missing:
        raise FileFormatError(
            f"{folder.name} is not {kind} in diffusers' layout: {', '.join(missing)} missing; "
            f"download the whole model folder, such as {example}"
        )


def read_index(folder: Path) -> dict[str, Any]:
    """Return what model_index.json says; nothing where it is no record, or where there is none."""
    index = folder / MODEL_INDEX
    if not index.exists():
        return {}
    said = guarded(index, lambda: json.loads(index.read_text(encoding="utf-8")))
    return said if isinstance(said, dict) else {}


def is_editor_folder(folder: Path) -> bool:
    """Return whether a folder holds an InstructPix2Pix editor; its configs are read, no weights."""
    try:
        _check_layout(folder)
        unet, vae = (read_config(folder / part / CONFIGS[part]) for part in ("unet", "vae"))
    except (FreeStyleError, OSError, ValueError, RecursionError):
        return False
    usual = {"in_channels": 4, "latent_channels": 4}  # diffusers' own defaults
    unet, vae = {**usual, **unet}, {**usual, **vae}
    weights = (next((folder / part).glob("*.safetensors*"), None) for part in NETWORKS)
    return unet["in_channels"] == 2 * vae["latent_channels"] and all(weights)


def _two_numbers(value: Any) -> tuple[float, float]:
    image, text = value
    return float(image), float(text)


def _alone(said: Any) -> dict[str, Any] | None:
    if said is not None:
        try:
            Suits.from_record(said)
        except InputError as error:  # of a file, where it would speak of a setting
            raise ValueError(f"{SUITS_KEY}: {error}") from error
    return said


def _steps(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_STEPS:
        raise ValueError(f"{STEPS_KEY} is {value!r}, expected a whole number from 1")
    return value


def _has(folder: Path, part: str, name: str) -> bool:
    if part == "tokenizer" and (folder / part / "tokenizer.json").exists():
        return True
    return (folder / part / name).exists()


def _network(folder: Path, kind: Any, dtype: torch.dtype, *, in_diffusers: bool) -> nn.Module:
    files = [path.name for path in folder.glob("*.safetensors*")]
    if not files:
        raise FileFormatError(
            f"{folder} holds no .safetensors weights; take the safetensors version of the model "
            "(.bin files can run code and are not read)"
        )
    if not is_shipped(folder):  # the trial takes a second
        check_sizes(folder, kind)
    options: dict[str, Any] = {"low_cpu_mem_usage": False} if in_diffusers else {}
    if all(".fp16." in name for name in files):
        options["variant"] = "fp16"
    network, report = kind.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
    )
    missing = [name for name in report["missing_keys"] if "position_ids" not in name]
    if missing:
        raise FileFormatError(
            f"{folder} lacks {len(missing)} weights, the first {missing[0]}; download it again"
        )
    check_values(folder, network.state_dict(), dtype=dtype)
    return nn.Module.to(network, dtype).eval().requires_grad_(False)


def guarded(path: Path, load: Callable[[], Any]) -> Any:
    """Return `load()`, turning whatever a damaged file makes the libraries raise into our error."""
    try:
        return load()
    except FreeStyleError:
        raise
    except Exception as error:  # the libraries raise OSError, ValueError, KeyError, SafetensorError
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FileFormatError(
            f"{path} cannot be read ({reason[0][:200]}); the file is damaged or of another kind, "
            "download it again"
        ) from error


def _save_network(folder: Path, network: Any, dtype: torch.dtype) -> None:
    from safetensors.torch import save

    network.save_pretrained(folder, safe_serialization=True)
    weights = next(folder.glob("*.safetensors"))
    state = {name: value.to("cpu", dtype) for name, value in network.state_dict().items()}
    if folder.name == "text_encoder" and not any(name.startswith("text_model.") for name in state):
        # transformers 5 dropped the prefix from the module but reads it; transformers 4 needs it
        state = {f"text_model.{name}": value for name, value in state.items()}
    state = {name: value.contiguous() for name, value in state.items()}
    weights.unlink()  # readable by its owner alone; a new one gets the usual rights
    weights.write_bytes(save(state, metadata={"format": "pt"}))
    config_path = folder / "config.json"
    config = json.loads(config_path.read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)  # a path of the machine that trained it
    config_path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
