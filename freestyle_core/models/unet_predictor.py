"""The U-Net of an `Editor` on one batch of views, the same in all steps: `UNetPredictor`.

Features deep inside a U-Net hardly change from one step to the next (DeepCache, arXiv 2312.00858).
A shallow call takes them from the call before and runs only the first convolution and the last
layer: the first and the last of the U-Net's skip connections, where most detail passes.

Views of one head can also see what one of them, the reference, makes of the same step: in every
self-attention each has the keys and values of that one beside its own (docs/editing.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# what a shallow call would pass over, as diffusers' U-Net names it in its config
_UNUSED = (
    "class_embed_type",
    "encoder_hid_dim_type",
    "time_embedding_act_fn",
    "time_cond_proj_dim",
)


def can_be_shallow(unet: Any) -> bool:
    """Return whether a U-Net is of the plain kind that `UNetPredictor` can run in part."""
    config = unet.config
    plain = not any(config.get(name) for name in _UNUSED)
    known = config.get("addition_embed_type") in (None, "text")
    return plain and known and config.get("num_class_embeds") is None


@dataclass(frozen=True)
class SharedKeys:
    """An attention processor under which all views also see the keys and values of one of them.

    A view that sees itself twice attends as it does alone.
    """

    inner: Any  # the processor that computes attention
    views: int  # N, of each branch
    reference: int  # which of them

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,  # [branches * N,T,C]
        encoder_hidden_states: Tensor
        | None = None,  # None: attention of the pictures to themselves
        **more: Any,
    ) -> Tensor:
        branches = hidden_states.unflatten(0, (-1, self.views))
        shown = branches[:, self.reference, None].expand_as(branches)
        context = torch.cat([branches, shown], dim=2).flatten(0, 1)
        return self.inner(attn, hidden_states, encoder_hidden_states=context, **more)


@contextmanager
def sharing_keys(unet: Any, views: int, reference: int) -> Iterator[None]:
    """Let all views of each branch see one of them in every self-attention of a U-Net."""
    own = dict(unet.attn_processors)
    shared = {
        name: SharedKeys(inner, views, reference) if ".attn1." in name else inner
        for name, inner in own.items()
    }
    unet.set_attn_processor(shared)
    try:
        yield
    finally:
        unet.set_attn_processor(own)


class UNetPredictor:
    """A `Predictor` of a diffusers UNet2DConditionModel.

    Whatever all steps share is made here, once: the texts and conditions of the three branches in
    the U-Net's number format, and the timesteps on its device, so that no step copies or waits.
    """

    def __init__(
        self,
        unet: Any,  # diffusers UNet2DConditionModel
        condition: Tensor,  # [N,C,h,w], E(I)
        text: Tensor,  # [3N,T,D], of every view: positive, then twice negative
        timesteps: Tensor,  # [S]
        keep_features: bool = False,  # of whole calls, for shallow ones
        reference: int | None = None,  # the view that all of them see; None: each sees itself alone
    ) -> None:
        first = next(unet.parameters())
        self._unet, self._dtype = unet, first.dtype
        images = torch.cat([condition, condition, torch.zeros_like(condition)])
        self._condition = images.to(first.device, first.dtype)
        self._text = text.to(first.device, first.dtype)
        self._timesteps = timesteps.to(first.device)
        self._keep = keep_features
        self._views, self._reference = len(condition), reference
        self._deep: Tensor | None = None  # [rows,c,h,w], what the last layer gets from below

    def __call__(
        self,
        latents: Tensor,  # [N,C,h,w]
        step: int,
        branches: int = 3,
        shallow: bool = False,
    ) -> tuple[Tensor, ...]:
        """Return the first of e(I, positive), e(I, negative), e(no image, negative), [N,C,h,w]."""
        rows = branches * len(latents)
        many = torch.cat([latents.to(self._dtype)] * branches)
        noisy = torch.cat([many, self._condition[:rows]], dim=1)
        with self._shown():
            if shallow and self._deep is not None and len(self._deep) >= rows:
                guesses = self._shallow(noisy, step, self._deep)
            else:
                guesses = self._whole(noisy, step)
        return guesses.float().chunk(branches)

    def _shown(self) -> AbstractContextManager[Any]:
        if self._reference is None:
            return nullcontext()
        return sharing_keys(self._unet, self._views, self._reference)

    def _whole(self, noisy: Tensor, step: int) -> Tensor:
        text = self._text[: len(noisy)]
        with self._keeping():
            return self._unet(noisy, self._timesteps[step], encoder_hidden_states=text).sample

    def _keeping(self) -> AbstractContextManager[Any]:
        if not self._keep:
            return nullcontext()
        return self._unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(self._entering)

    def _entering(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        # the last layer gets what comes from below, and behind it what conv_in made
        self._deep = given[0][:, : -self._unet.conv_in.out_channels]

    def _shallow(self, noisy: Tensor, step: int, deep: Tensor) -> Tensor:
        unet, text = self._unet, self._text[: len(noisy)]
        time = unet.get_time_embed(sample=noisy, timestep=self._timesteps[step])
        time = unet.time_embedding(time)
        added = unet.get_aug_embed(emb=time, encoder_hidden_states=text, added_cond_kwargs={})
        time = time if added is None else time + added
        block = unet.up_blocks[-1]
        hidden = torch.cat([deep[: len(noisy)], unet.conv_in(noisy)], dim=1)
        hidden = block.resnets[-1](hidden, time)
        if getattr(block, "attentions", None):
            hidden = block.attentions[-1](hidden, encoder_hidden_states=text).sample
        if unet.conv_norm_out:
            hidden = unet.conv_act(unet.conv_norm_out(hidden))
        return unet.conv_out(hidden)
