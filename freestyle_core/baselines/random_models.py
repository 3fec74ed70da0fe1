"""Networks of the official sizes with random weights: as fast as the real ones, for measuring.

EG3D ffhq512-128, the paper's I2T for it, and InstructPix2Pix (Stable Diffusion 1's networks with a
U-Net of eight input channels). Nothing is downloaded; pictures of them show nothing.
"""

from __future__ import annotations

from typing import Any

import torch

from ..files.networks import embedded
from ..models.config import EG3DConfig
from ..models.editor import Editor
from ..models.eg3d import EG3D
from ..models.i2t import I2T, i2t_config_for


def full_size_eg3d(device: torch.device | str = "cpu", seed: int = 0) -> EG3D:
    """Return a ffhq512-128 generator whose heads are part empty, part opaque."""
    torch.manual_seed(seed)
    eg3d = EG3D(EG3DConfig()).eval().requires_grad_(False)
    output: Any = eg3d.decoder.net[2]
    output.weight[0] *= 30  # else every ray is thin fog
    return eg3d.to(device)


def full_size_i2t(device: torch.device | str = "cpu", seed: int = 0) -> I2T:
    """Return the paper's I2T for that generator."""
    torch.manual_seed(seed)
    return I2T(i2t_config_for(EG3DConfig())).eval().requires_grad_(False).to(device)


def full_size_editor(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> Editor:
    """Return InstructPix2Pix; it reads the words that the embedded editor knows."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(seed)
    with torch.device(device):
        unet = UNet2DConditionModel(
            sample_size=64, in_channels=8, cross_attention_dim=768, attention_head_dim=8
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
        )
        text = CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
        )
    parts: tuple[Any, ...] = (vae, unet, text)
    vae, unet, text = (m.eval().requires_grad_(False).to(dtype) for m in parts)
    # the embedded words: their ids are among the larger vocabulary's
    tokenizer = CLIPTokenizer.from_pretrained(embedded("editor") / "tokenizer")
    return Editor(vae, unet, text, tokenizer, DDIMScheduler(clip_sample=False))
