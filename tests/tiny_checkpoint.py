"""An editor as one checkpoint file in the naming of the original Stable Diffusion 1 code.

The names are written out here by hand, so that reading them back tests the loader.
"""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from freestyle_core.clay.data.tokenizer import build_tokenizer
from freestyle_core.files.editors.checkpoint import SCHEDULE
from freestyle_core.models.editor import Editor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def make_unet(widths, context, attention, layers=1):
    """Return a U-Net of SD 1's kind: 8 heads, 8 channels in, 32 groups."""
    down = ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attention]
    up = ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attention)]
    return UNet2DConditionModel(
        sample_size=64,
        in_channels=8,
        out_channels=4,
        block_out_channels=widths,
        down_block_types=down,
        up_block_types=up,
        layers_per_block=layers,
        cross_attention_dim=context,
        attention_head_dim=8,
    )


def make_vae(widths, layers=1):
    """Return a VAE of SD 1's kind."""
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        latent_channels=4,
        layers_per_block=layers,
        sample_size=512,
    )


def make_text(vocabulary, width, layers, positions=77):
    """Return a text encoder of SD 1's kind: 64 numbers per head."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            hidden_act="quick_gelu",
            max_position_embeddings=positions,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def tiny_editor(folder, *, seed=0):
    """Return an editor of a few hundred thousand weights, and its tokenizer's folder."""
    words = build_tokenizer(folder / "tokenizer", ["turn the head into an elf", "a zombie"])
    tokenizer = CLIPTokenizer.from_pretrained(words)
    torch.manual_seed(seed)
    unet = make_unet((32, 64), 64, (True, False), layers=2)
    text = make_text(len(tokenizer), 64, 2, tokenizer.model_max_length)
    editor = Editor(make_vae((32, 64, 32)), unet, text, tokenizer, DDIMScheduler(**SCHEDULE))
    for network in (editor.vae, editor.unet, editor.text_encoder):
        network.eval().requires_grad_(False)
    return editor, words


def checkpoint_state(editor):
    """Return the weights of all three networks under their original names."""
    unet = {
        f"model.diffusion_model.{unet_name(editor.unet.config, name)}": value
        for name, value in editor.unet.state_dict().items()
    }
    vae = {}
    for name, value in editor.vae.state_dict().items():
        name = vae_name(len(editor.vae.config.block_out_channels), name)
        if ".attn_1." in name and value.ndim == 2:
            value = value[:, :, None, None]  # there a 1x1 convolution
        vae[f"first_stage_model.{name}"] = value
    text = {
        f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}": value
        for name, value in editor.text_encoder.state_dict().items()
    }
    positions = torch.arange(editor.text_encoder.config.max_position_embeddings)[None]
    extra = {
        "cond_stage_model.transformer.text_model.embeddings.position_ids": positions,
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.diffusion_modelinput_blocks00weight": torch.zeros(1),
        "first_stage_model.loss.logvar": torch.zeros(1),
    }
    return {**unet, **vae, **text, **extra}


def cheap_weights(state, *, seed=0):
    """Return half-precision weights of these shapes; one block of noise, cut and scaled, for all.

    Initialising hundreds of millions of weights properly would take most of a test's time.
    """
    noise = torch.randn(2**20, generator=torch.Generator().manual_seed(seed))
    weights = {}
    for number, (name, meta) in enumerate(state.items()):
        count = meta.numel()
        values = noise.roll(977 * number).repeat(count // len(noise) + 1)[:count].view(meta.shape)
        if meta.ndim < 2:
            values = 0.02 * values + (1 if name.endswith("weight") else 0)
        elif "embedding." in name:
            values = 0.02 * values
        else:
            values = values / meta[0].numel() ** 0.5
        weights[name] = values.half().contiguous()
    return weights


def save_checkpoint(path, editor, *, dtype=torch.float16):
    """Write the editor as a .safetensors or .ckpt file."""
    state = {
        name: value.to(dtype).contiguous() if value.is_floating_point() else value
        for name, value in checkpoint_state(editor).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "global_step": 22000}, path)
    return path


def unet_name(config, name):
    """Return a diffusers U-Net weight's original name."""
    stride = config.layers_per_block + 1  # numbers of one level
    head, _, rest = name.partition(".")
    fixed = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    if head in fixed:
        return f"{fixed[head]}.{rest}"
    if head == "time_embedding":
        return "time_embed." + rest.replace("linear_1", "0").replace("linear_2", "2")
    if head == "mid_block":
        kind, index, rest = rest.split(".", 2)
        place = 1 if kind == "attentions" else 2 * int(index)
        return f"middle_block.{place}.{resnet_name(kind, rest)}"
    level, kind, index, rest = rest.split(".", 3)
    number = int(level) * stride + int(index)
    place = {"resnets": 0, "attentions": 1}.get(kind)
    if head == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{(int(level) + 1) * stride}.0.op.{rest.removeprefix('conv.')}"
        return f"input_blocks.{number + 1}.{place}.{resnet_name(kind, rest)}"
    if kind == "upsamplers":
        place = 2 if config.up_block_types[int(level)].startswith("CrossAttn") else 1
        return f"output_blocks.{int(level) * stride + stride - 1}.{place}.{rest}"
    return f"output_blocks.{number}.{place}.{resnet_name(kind, rest)}"


def resnet_name(kind, rest):
    part, _, last = rest.partition(".")
    return f"{RESNET[part]}.{last}" if kind == "resnets" else rest


def vae_name(levels, name):
    """Return a diffusers VAE weight's original name."""
    half, _, rest = name.partition(".")
    if half not in ("encoder", "decoder"):
        return name
    rest = rest.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    if rest.startswith("mid_block.attentions.0."):
        part, _, last = rest.removeprefix("mid_block.attentions.0.").rpartition(".")
        return f"{half}.mid.attn_1.{VAE_ATTENTION[part]}.{last}"
    if rest.startswith("mid_block.resnets."):
        index, rest = rest.removeprefix("mid_block.resnets.").split(".", 1)
        return f"{half}.mid.block_{int(index) + 1}.{rest}"
    if "_blocks." not in rest:
        return f"{half}.{rest}"
    side, level, kind, index, rest = rest.split(".", 4)
    if side == "up_blocks":
        level = levels - 1 - int(level)
    place = f"{half}.{side.removesuffix('_blocks')}.{level}"
    if kind == "resnets":
        return f"{place}.block.{index}.{rest}"
    return f"{place}.{kind.removesuffix('rs').removesuffix('e')}e.{rest}"
