"""A CLIP in transformers' layout with a few thousand random weights."""

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from freestyle_core.clay.data.tokenizer import build_tokenizer
from freestyle_core.files.clip_weights import save_model
from freestyle_core.models.clip import Clip

PIXELS, PATCH, SPACE = 32, 8, 24


def tiny_clip(folder, *, seed=0, width=64):
    """Return a random Clip whose tokenizer lies in `folder`."""
    words = build_tokenizer(folder, ["a photo of an elf", "a zombie", "a photo of a person"])
    tokenizer = CLIPTokenizer.from_pretrained(words)
    tower = {"hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": width // 64}  # as those of OpenAI's
    config = CLIPConfig(
        text_config={
            **tower,
            **heads,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 16,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**tower, **heads, "image_size": PIXELS, "patch_size": PATCH},
        projection_dim=SPACE,
    )
    torch.manual_seed(seed)
    model = CLIPModel(config).eval()
    with torch.no_grad():  # as it starts, the towers give nearly the same for everything
        for value in model.parameters():
            if value.ndim > 1:
                value.mul_(6)
    return Clip(model, tokenizer, "tiny")


def save_tiny_clip(folder, *, seed=0):
    """Write a tiny CLIP as a folder in transformers' layout and return the folder."""
    return save_model(folder, tiny_clip(folder, seed=seed).model, "tiny")
