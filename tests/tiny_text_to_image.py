"""A text-to-image Stable Diffusion with a few thousand random weights."""

import json
import shutil

import torch
from diffusers import UNet2DConditionModel

from freestyle_core.files.editors.load import load_editor
from freestyle_core.files.editors.text_to_image import load_text_to_image
from tests.tiny_editor import save_tiny_editor


def save_tiny_text_to_image(folder, *, seed=0):
    """Write one in the layout of Stable Diffusion: 16 x 16 pixels, latents 4 x 8 x 8."""
    editor_folder = save_tiny_editor(folder, seed=seed)
    editor = load_editor(editor_folder)
    unet = UNet2DConditionModel.from_config({**editor.unet.config, "in_channels": 4})
    torch.manual_seed(seed)
    for name, weight in unet.named_parameters():
        # untrained, it would hardly listen to the words
        torch.nn.init.normal_(weight, std=1.0 if "attn2" in name else 0.2)
    shutil.rmtree(editor_folder / "unet")
    unet.save_pretrained(editor_folder / "unet")
    index = json.loads((editor_folder / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionPipeline"
    (editor_folder / "model_index.json").write_text(json.dumps(index))
    return editor_folder


def tiny_text_to_image(folder, **changes):
    return load_text_to_image(save_tiny_text_to_image(folder, **changes))
