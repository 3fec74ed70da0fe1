"""An InstructPix2Pix model in one checkpoint file, as Stable Diffusion 1 was first published.

Weights come from safetensors, or from a .ckpt through torch's weights-only reader, which runs
nothing of the file. The sizes of the networks are read off the tensors and diffusers' own
single-file loader renames the weights; nothing is looked up online. Read `load_parts` first.
"""

from __future__ import annotations

import json
import pickletools
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ...errors import FileFormatError
from ..names import ending
from ..values import check_values

SUFFIXES = (".safetensors", ".ckpt")
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
FIRST_WEIGHT = f"{UNET}input_blocks.0.0.weight"  # [channels, input channels, 3, 3]
EDITOR_CHANNELS = 8  # 4 of the noisy latents, 4 of the picture to edit
VAE_PARTS = tuple(VAE + part for part in ("encoder.", "decoder.", "quant_conv", "post_quant_conv"))
SCHEDULE = {  # of Stable Diffusion 1
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}
LARGEST_HEADER = 2**27  # bytes
OTHER_TEXT = ("cond_stage_model.model.", "conditioner.embedders.")  # of Stable Diffusion 2 and XL
SCALES = (".scale_weight", ".weight_scale", "scaled_fp8")  # of fp8 weights
IN_COMFYUI = (
    "load the parts with ComfyUI's own loaders and join them with the node Ip2p Editor from Model"
)
# what training programs leave in a .ckpt beside the weights; read as empty objects
LEFTOVERS = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
)

Shapes = Mapping[str, tuple[int, ...]]


def input_channels(path: Path) -> int | None:
    """Return how many channels a checkpoint's U-Net takes; None: no Stable Diffusion checkpoint.

    Reads only the header, so that whole model folders can be searched for editors.
    """
    try:
        shape = _shape_in_zip(path) if ending(path) == ".ckpt" else _shape_in_header(path)
        return int(shape[1]) if len(shape) == 4 else None
    except Exception:  # of whatever a file that is something else makes the readers raise
        return None


def load_parts(path: Path, *, dtype: torch.dtype = torch.float32) -> dict[str, nn.Module]:
    """Return the vae, unet and text_encoder of a checkpoint file, on the CPU, for inference."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with _opened(path) as file:
        shapes = file.shapes()
        check_editor(path, shapes)
        parts = {}
        for name, kind, prefixes, config in (
            ("unet", UNet2DConditionModel, UNET, unet_config(shapes)),
            ("vae", AutoencoderKL, VAE_PARTS, vae_config(shapes)),
        ):
            state = {key: file.tensor(key) for key in shapes if key.startswith(prefixes)}
            check_values(path, state, dtype=dtype)
            network = _converted(kind, name, config, state)
            _check_complete(path, name, network, len(state))
            parts[name] = nn.Module.to(network, dtype).eval().requires_grad_(False)
        parts["text_encoder"] = _text_encoder(path, file, shapes, dtype).to(dtype)
    return parts


def check_editor(path: Path, shapes: Shapes) -> None:
    """Raise unless these are the tensors of an InstructPix2Pix model on Stable Diffusion 1.

    The message says what the file holds, what it lacks and which way remains.
    """
    advice = "choose an InstructPix2Pix checkpoint such as instruct-pix2pix-00-22000.safetensors"
    first = shapes.get(FIRST_WEIGHT, ())
    if len(first) != 4:
        raise FileFormatError(
            f"{path.name} is no Stable Diffusion checkpoint: it holds {_held(shapes)}; {advice}"
        )
    if first[1] != EDITOR_CHANNELS:
        raise FileFormatError(
            f"{path.name} is not an image editor: its U-Net takes {first[1]} channels, not "
            f"{EDITOR_CHANNELS}; {advice}"
        )
    if any(key.endswith(SCALES) for key in shapes):
        raise FileFormatError(
            f"{path.name} holds its weights as scaled fp8, whose scales only ComfyUI applies; "
            f"take the fp16 version, or {IN_COMFYUI}"
        )
    if f"{UNET}label_emb.0.0.weight" in shapes or any(k.startswith(OTHER_TEXT) for k in shapes):
        raise FileFormatError(
            f"{path.name} is not built on Stable Diffusion 1 but on a later one, whose text "
            f"encoders are others; {advice}"
        )
    parts = {"text encoder": TEXT, "VAE": VAE}
    missing = [
        what for what, start in parts.items() if not any(k.startswith(start) for k in shapes)
    ]
    if missing:
        raise FileFormatError(
            f"{path.name} holds {_held(shapes)} but has no {' and no '.join(missing)}; take the "
            f"full version of the checkpoint, or {IN_COMFYUI}"
        )


def _held(shapes: Shapes) -> str:
    """Return which parts of Stable Diffusion a file holds, or how its tensors are called."""
    parts = {"a U-Net": UNET, "a VAE": VAE, "a text encoder": TEXT}
    found = [part for part, start in parts.items() if _has(shapes, start)]
    if found:
        return " and ".join(found)
    names = ", ".join(ascii(name)[1:-1][:40] for name in sorted(shapes)[:2])
    return f"{len(shapes)} tensors, such as {names}" if shapes else "no tensors"


def _has(shapes: Shapes, start: str) -> bool:
    return any(name.startswith(start) for name in shapes)


def scheduler_of(
    sigmas: Tensor | None = None,  # [T], rising: sqrt((1 - a_t) / a_t); None: SD 1's own
) -> Any:
    """Return the DDIM scheduler with these noise levels."""
    from diffusers import DDIMScheduler

    usual: Any = DDIMScheduler(**SCHEDULE)
    if sigmas is None:
        return usual
    signal = 1 / (sigmas.double().cpu() ** 2 + 1)  # a_t
    own = usual.alphas_cumprod.double()
    if len(signal) == len(own) and torch.allclose(signal, own, rtol=1e-4, atol=0):
        return usual
    # a_t = prod_{s<=t} (1 - beta_s)
    before = torch.cat([torch.ones(1, dtype=torch.float64), signal[:-1]])
    betas = (1 - signal / before).tolist()
    return DDIMScheduler(**{**SCHEDULE, "num_train_timesteps": len(betas), "trained_betas": betas})


# Sizes -----------------------------------------------------------------------------------------


def unet_config(shapes: Shapes) -> dict[str, Any]:
    """Return the diffusers config of the U-Net with these tensors; heads are always 8 in SD 1."""
    widths, attention, layers = [shapes[FIRST_WEIGHT][0]], [False], [0]
    context = 0
    for index in range(1, _count(shapes, f"{UNET}input_blocks.")):
        block = f"{UNET}input_blocks.{index}"
        if f"{block}.0.op.weight" in shapes:
            widths, attention, layers = widths + [0], attention + [False], layers + [0]
            continue
        widths[-1] = shapes[f"{block}.0.out_layers.3.weight"][0]
        layers[-1] += 1
        keys = shapes.get(f"{block}.1.transformer_blocks.0.attn2.to_k.weight")
        if keys is not None:
            attention[-1], context = True, keys[1]
    down = ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attention]
    up = ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attention)]
    return {
        "in_channels": shapes[FIRST_WEIGHT][1],
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": layers[0],
        "down_block_types": down,
        "up_block_types": up,
        "cross_attention_dim": context,
        "attention_head_dim": 8,  # diffusers' old name for the number of heads
        "sample_size": 64,
    }


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """Return the diffusers config of the VAE with these tensors."""
    levels = _count(shapes, f"{VAE}encoder.down.")
    level = [f"{VAE}encoder.down.{index}.block." for index in range(levels)]
    return {
        "block_out_channels": [shapes[f"{name}0.conv2.weight"][0] for name in level],
        "layers_per_block": _count(shapes, level[0]),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "latent_channels": shapes[f"{VAE}post_quant_conv.weight"][0],
        "scaling_factor": 0.18215,
        "sample_size": 512,
    }


def text_config(shapes: Shapes) -> dict[str, Any]:
    """Return the transformers config of a CLIP text encoder; `shapes` without any prefix."""
    vocabulary, width = shapes["embeddings.token_embedding.weight"]
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": _count(shapes, "encoder.layers."),
        "num_attention_heads": width // 64,
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "hidden_act": "quick_gelu",
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }


def _count(shapes: Shapes, prefix: str) -> int:
    """Return how many numbers follow `prefix` in the names: 0, 1, ..."""
    found = {name[len(prefix) :].split(".")[0] for name in shapes if name.startswith(prefix)}
    return len(found)


# Networks --------------------------------------------------------------------------------------


def _converted(kind: Any, name: str, config: dict[str, Any], state: dict[str, Tensor]) -> nn.Module:
    """Return the network, renamed by diffusers, which wants the config as a file."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / name
        part.mkdir()
        (part / "config.json").write_text(json.dumps({"_class_name": kind.__name__, **config}))
        return kind.from_single_file(
            state, config=folder, subfolder=name, local_files_only=True, low_cpu_mem_usage=False
        )


def _text_encoder(path: Path, file: _Opened, shapes: Shapes, dtype: torch.dtype) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    names = {}  # without prefixes -> as in the file
    for key in shapes:
        bare = key.removeprefix(TEXT).removeprefix("text_model.")
        if key.startswith(TEXT) and bare.split(".")[0] in (
            "embeddings",
            "encoder",
            "final_layer_norm",
        ):
            names[bare] = key
    names.pop("embeddings.position_ids", None)  # counts 0, 1, ...: no weight
    network = CLIPTextModel(CLIPTextConfig(**text_config({k: shapes[names[k]] for k in names})))
    own = {key for key in network.state_dict() if not key.endswith("position_ids")}
    _check_complete(path, "text_encoder", own, len(names))
    prefix = "text_model." if any(key.startswith("text_model.") for key in own) else ""
    tensors = {key: file.tensor(key) for key in names.values()}
    check_values(path, tensors, dtype=dtype)
    state = {prefix + bare: tensors[key] for bare, key in names.items()}
    network.load_state_dict(state, strict=False)
    return network.eval().requires_grad_(False)


def _check_complete(path: Path, part: str, network: Any, found: int) -> None:
    needed = len(network if isinstance(network, set) else network.state_dict())
    if found != needed:
        raise FileFormatError(
            f"{path.name} has {found} tensors for its {part}, which needs {needed}: some are "
            "missing, or it is of a kind not known here; download it again, or take the model as a "
            "folder in diffusers' layout"
        )


# Files -----------------------------------------------------------------------------------------


class _Opened:
    """The tensors of an open file: `shapes` of all, `tensor` of one."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if isinstance(self._file, dict):
            return {k: tuple(v.shape) for k, v in self._file.items() if isinstance(v, Tensor)}
        return {k: tuple(self._file.get_slice(k).get_shape()) for k in self._file.keys()}

    def tensor(self, name: str) -> Tensor:
        return self._file[name] if isinstance(self._file, dict) else self._file.get_tensor(name)


@contextmanager
def _opened(path: Path) -> Iterator[_Opened]:
    if ending(path) != ".ckpt":
        with safe_open(path, framework="pt", device="cpu") as file:
            yield _Opened(file)
        return
    archive = zipfile.is_zipfile(path)
    if archive:
        _check_archive(path)
    with _leftovers_read_as_nothing():
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=archive or None)
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    yield _Opened(state)


def _check_archive(path: Path) -> None:
    """Raise if the archive would be larger in memory than on the disk; torch packs nothing."""
    with zipfile.ZipFile(path) as archive:
        packed = [entry.filename for entry in archive.infolist() if entry.compress_type]
    if packed:
        raise FileFormatError(
            f"{path.name} was not written by torch: {packed[0]} in it is compressed; download it "
            "again, or take the .safetensors version"
        )


def _leftovers_read_as_nothing() -> Any:
    allow = getattr(torch.serialization, "safe_globals", None)
    if allow is None:  # torch before 2.5 refuses such files
        return nullcontext()

    def nothing(name: str) -> type:
        module, _, short = name.rpartition(".")
        ignore = {"__init__": lambda self, *_: None, "__setstate__": lambda self, _: None}
        return type(short, (), {"__module__": module, **ignore})

    return allow([nothing(name) for name in LEFTOVERS])


def _shape_in_header(path: Path) -> list[int]:
    with path.open("rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        if size > LARGEST_HEADER:
            raise FileFormatError(f"{path} is not a safetensors file")
        return json.loads(file.read(size))[FIRST_WEIGHT]["shape"]


def _shape_in_zip(path: Path) -> list[int]:
    """Return the shape of FIRST_WEIGHT, read off the steps that would build the tensor."""
    with zipfile.ZipFile(path) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("/data.pkl"))
        if entry.file_size > LARGEST_HEADER:
            raise FileFormatError(f"{path} is not a checkpoint")
        steps = pickletools.genops(archive.read(entry))
        next(None for _, value, _ in steps if value == FIRST_WEIGHT)
        next(None for step, _, _ in steps if step.name == "BINPERSID")
        numbers = (value for step, value, _ in steps if "INT" in step.name)
        _, *shape = (next(numbers) for _ in range(5))  # the offset comes first
        return [int(size) for size in shape if size is not None]
