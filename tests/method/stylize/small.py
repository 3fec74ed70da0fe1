"""What the tests of the editing loop share."""

import copy
from dataclasses import replace

from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline

from freestyle_core.method.stylize import Denoising, StylizeSettings, stylize_views

SETTINGS = StylizeSettings(steps=4, text_guidance=3.0, image_guidance=1.4, batch_size=2)


SD = DDIMScheduler(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
)


ZERO_SNR = DDIMScheduler(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample_range=4.5,
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    timestep_spacing="trailing",
)


def by_diffusers(editor, images, prompt, negative, noise, settings):
    """The same edit by the reference pipeline."""
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=editor.vae,
        text_encoder=editor.text_encoder,
        tokenizer=editor.tokenizer,
        unet=editor.unet,
        scheduler=copy.deepcopy(editor.scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    count = len(images)
    return pipeline(
        prompt=[prompt] * count,
        negative_prompt=[negative] * count,
        image=images,
        num_inference_steps=settings.steps,
        guidance_scale=settings.text_guidance,
        image_guidance_scale=settings.image_guidance,
        latents=noise.expand(count, -1, -1, -1),
        output_type="pt",
    ).images


def denoising(editor, condition, noise, **changes):
    text = editor.encode_text(["an elf", ""])
    return Denoising(editor, condition, text, noise, replace(SETTINGS, **changes))


def unet_calls(editor, images, **changes):
    """Return how many rows each call of the whole U-Net has, and each one of its last layer."""
    whole, last = [], []
    layer = editor.unet.up_blocks[-1].resnets[-1]
    hooks = [
        editor.unet.register_forward_hook(lambda _, args, __: whole.append(len(args[0]))),
        layer.register_forward_hook(lambda _, args, __: last.append(len(args[0]))),
    ]
    settings = replace(SETTINGS, tau=1.0, steps=6, **changes)
    result = stylize_views(editor, images[:1], "an elf", settings=settings)
    for hook in hooks:
        hook.remove()
    return result, whole, last
