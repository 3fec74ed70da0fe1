"""An image editor in diffusers' layout with a few thousand random weights."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from freestyle_core.clay.data.tokenizer import build_tokenizer
from freestyle_core.files.editors.load import save_editor
from freestyle_core.models.editor import Editor


def save_tiny_editor(folder, *, seed=0):
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=16,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=4,
        block_out_channels=(4, 8),
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    words = build_tokenizer(folder / "words", ["turn the head into an elf", "a zombie"])
    tokenizer = CLIPTokenizer.from_pretrained(words)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    editor = Editor(vae, unet, text, tokenizer, DDIMScheduler(clip_sample=False))
    return save_editor(folder, editor, tokenizer_files=words)
