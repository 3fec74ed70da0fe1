"""CLIP as the scores use it: pictures and texts as directions in one space.

`Clip` wraps transformers' CLIPModel and its tokenizer. Pictures are prepared as CLIP's authors do
it: the shorter side resized (bicubic, antialiased) to the model's own size, the middle cut out,
normalised by CLIP's mean and standard deviation. Features are float32 of length one, so that a dot
product is a cosine; nothing here keeps a graph for gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, MismatchError, ShapeError
from .editor import check_length

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures, RGB in [0,1]
STD = (0.26862954, 0.26130258, 0.27577711)
AT_ONCE = 32  # pictures or texts in one pass
ARGMAX_END = 2  # as the end token, it says: the largest token of a text is its end


class Clip(nn.Module):
    """Both towers of a CLIP, in one space of D numbers."""

    def __init__(
        self,
        model: Any,  # transformers CLIPModel
        tokenizer: Any,  # transformers CLIPTokenizer
        name: str,  # what records and tables call it, such as "ViT-B/32"
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.name = model, tokenizer, name
        _check_fit(tokenizer, model.config.text_config, name)

    @property
    def pixels(self) -> int:
        """Side of the pictures that the image tower sees."""
        return self.model.config.vision_config.image_size

    @property
    def width(self) -> int:
        """D, the numbers of a feature."""
        return self.model.config.projection_dim

    @property
    def max_tokens(self) -> int:
        """Tokens the text tower reads, with the start and the end token."""
        positions = self.model.config.text_config.max_position_embeddings
        return min(self.tokenizer.model_max_length, positions)

    @torch.no_grad()
    def encode_images(
        self,
        images: Tensor,  # [N,3,H,W], in -1..1
    ) -> Tensor:
        """Return the features [N,D] of pictures, float32, of length one."""
        if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
            raise ShapeError(
                f"{self.name} needs images [N,3,H,W] in -1..1, got {tuple(images.shape)}"
            )
        parts = [self._image_features(part) for part in images.split(AT_ONCE)]
        return _unit(torch.cat(parts), "pictures")

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the features [M,D] of texts, float32, of length one; refuse one that is cut."""
        if isinstance(texts, str) or not texts:
            raise InputError(f"encode_texts takes a list of at least one text, got {texts!r}")
        ids = self._tokens(list(texts))
        features = [
            _features(self.model.get_text_features(part), self.width) for part in ids.split(AT_ONCE)
        ]
        return _unit(torch.cat(features), "texts")

    def _image_features(self, images: Tensor) -> Tensor:
        weight = self.model.visual_projection.weight
        pixels = preprocess(images.to(weight.device, torch.float32), self.pixels)
        return _features(self.model.get_image_features(pixels.to(weight.dtype)), self.width)

    def _tokens(self, texts: list[str]) -> Tensor:
        limit = self.max_tokens
        for text in texts:
            check_length(text, len(self.tokenizer(text, verbose=False).input_ids), limit)
        tokens = self.tokenizer(texts, padding="max_length", max_length=limit, return_tensors="pt")
        return tokens.input_ids.to(self.model.text_projection.weight.device)


def preprocess(
    images: Tensor,  # [N,3,H,W], in -1..1
    pixels: int,  # side of the result
) -> Tensor:
    """Return pictures [N,3,pixels,pixels] as CLIP's image tower takes them."""
    height, width = images.shape[-2:]
    scale = pixels / min(height, width)
    size = (max(pixels, round(height * scale)), max(pixels, round(width * scale)))
    shown = (images / 2 + 0.5).clamp(0, 1)
    if size != (height, width):
        shown = F.interpolate(
            shown, size, mode="bicubic", antialias=True, align_corners=False
        ).clamp(0, 1)  # bicubic overshoots at edges; a picture file cannot
    top, left = (size[0] - pixels) // 2, (size[1] - pixels) // 2
    shown = shown[..., top : top + pixels, left : left + pixels]
    mean, std = (shown.new_tensor(v)[:, None, None] for v in (MEAN, STD))
    return (shown - mean) / std


def _features(output: Any, width: int) -> Tensor:
    """Return features [N,D]: what transformers 4 gives, or transformers 5 inside its output."""
    features = output if isinstance(output, Tensor) else output.pooler_output
    if features.shape[-1] != width:
        raise MismatchError(
            f"the CLIP gives {features.shape[-1]} numbers a feature, its config says {width}; "
            "load both from the same model"
        )
    return features.float()


def _unit(features: Tensor, what: str) -> Tensor:
    if not torch.isfinite(features).all():
        raise ShapeError(f"the features of the {what} are not finite; check what was given")
    return F.normalize(features, dim=1)


def _check_fit(tokenizer: Any, config: Any, name: str) -> None:
    """Raise unless the text tower knows every token and finds the end of a text."""
    end, rows = tokenizer.eos_token_id, config.vocab_size
    marks = (tokenizer.bos_token_id, end, tokenizer.pad_token_id)
    if len(tokenizer) > rows or any(mark is None or not 0 <= mark < rows for mark in marks):
        raise MismatchError(
            f"the tokenizer has {len(tokenizer)} tokens, the text tower of {name} knows {rows}; "
            "take both from the same model"
        )
    ends = config.eos_token_id
    if ends != end and not (ends == ARGMAX_END and end == len(tokenizer) - 1):
        raise MismatchError(
            f"the text tower of {name} looks for the end token {ends}, the tokenizer writes {end}; "
            "take both from the same model"
        )
