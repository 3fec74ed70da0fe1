"""Train the clay CLIP: a small image tower and a small text tower that meet in one space.

As CLIP, but for the truth of a batch: several captions are true of a picture and several pictures
of a caption, so each side learns to spread its softmax equally over all that is true.
"""

import logging
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...files.clip_weights import save_model
from ...files.tensors import CheckpointFile
from ...models.clip import MEAN, STD, Clip
from ...seeds import step_generator
from ...training.loop import Trainer, TrainSettings
from ..data.clip_batches import ClipBatch, ClipPool
from ..data.clip_views import CLIP_PIXELS
from ..data.tokenizer import build_tokenizer
from ..styles.captions import HELD_OUT, canonical
from ..styles.catalogue import STYLES
from .editor import caption_corpus

log = logging.getLogger(__name__)

NAME = "clay CLIP"
WIDTH = 128  # of the common space
IMAGE = dict(hidden_size=96, intermediate_size=384, num_hidden_layers=4, num_attention_heads=3)
PATCH = 16
TEXT = dict(hidden_size=96, intermediate_size=384, num_hidden_layers=2, num_attention_heads=3)
SHARPEST = 40.0  # the most that cosines are multiplied by before the softmax
SETTINGS = TrainSettings(
    steps=1250, batch_size=112, learning_rate=1.5e-3, warmup_steps=50, clip_norm=1.0
)


def build_clip(tokenizer: Any) -> Any:
    """Return the untrained towers, transformers' CLIPModel."""
    from transformers import CLIPConfig, CLIPModel

    marks = {
        f"{mark}_token_id": getattr(tokenizer, f"{mark}_token_id") for mark in ("bos", "eos", "pad")
    }
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
    return CLIPModel(
        CLIPConfig(
            text_config={**TEXT, **words, **marks, "projection_dim": WIDTH},
            vision_config={
                **IMAGE,
                "image_size": CLIP_PIXELS,
                "patch_size": PATCH,
                "projection_dim": WIDTH,
            },
            projection_dim=WIDTH,
        )
    )


def contrastive_losses(
    images: Tensor,  # [N,D], of length one
    texts: Tensor,  # [M,D], of length one
    truth: Tensor,  # [N,M], bool; every picture has a true text
    scale: Tensor,  # what cosines are multiplied by
) -> dict[str, Tensor]:
    """Return the cross-entropies from picture to text and back, against all that is true.

    A text that no picture of the batch fits asks nothing of the pictures, but they must avoid it.
    """
    logits = scale * images @ texts.T
    return {
        "to text": _cross_entropy(logits, truth),
        "to image": _cross_entropy(logits.T, truth.T),
    }


def _cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the mean over rows of -sum_j p_j log q_j, p uniform over the true columns."""
    known = truth.any(1)
    target = truth[known].float()
    target = target / target.sum(1, keepdim=True)
    return -(target * logits[known].log_softmax(1)).sum(1).mean()


def batch_losses(model: Any, tokenizer: Any, batch: ClipBatch, device: str) -> dict[str, Tensor]:
    """Return the losses of one batch."""
    mean, std = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
    pixels = ((batch.images - mean) / std).to(device)
    ids = tokenizer(batch.captions, padding=True, truncation=True, return_tensors="pt").input_ids
    images = model.visual_projection(model.vision_model(pixels)[1])
    texts = model.text_projection(model.text_model(ids.to(device))[1])
    scale = model.logit_scale.clamp(max=math.log(SHARPEST)).exp()
    truth = batch.truth.to(device)
    return contrastive_losses(F.normalize(images, dim=1), F.normalize(texts, dim=1), truth, scale)


@torch.no_grad()
def held_out_scores(clip: Clip, pool: ClipPool) -> dict[str, float]:
    """Return how often the style nearest to a held-out picture is its own, by two wordings."""
    rows = pool.held_out
    styled = rows["style"] >= 0
    images = clip.encode_images(rows["image"][styled].float() / 127.5 - 1)
    scores = {}
    for name, texts in (
        ("trained words", [canonical(style) for style in STYLES]),
        ("held-out words", [HELD_OUT[style][0] for style in STYLES]),
    ):
        features = clip.encode_texts([f"a photo of {text}" for text in texts])
        nearest = (images @ features.T).argmax(1)
        scores[name] = float((nearest == rows["style"][styled]).float().mean())
    return scores


def train_clip(
    data_dir: Path,
    out_dir: Path,  # becomes a folder in transformers' layout; the checkpoint lies beside it
    *,
    settings: TrainSettings = SETTINGS,
    threads: int | None = None,
    device: str = "cpu",
    resume: bool = True,
) -> Clip:
    """Return the trained CLIP after writing it to `out_dir`, half precision."""
    from transformers import CLIPTokenizer

    if threads is not None:
        torch.set_num_threads(threads)
    out_dir.mkdir(parents=True, exist_ok=True)
    if not (resume and (out_dir / "vocab.json").exists()):
        build_tokenizer(out_dir, caption_corpus(settings.seed))
    tokenizer = CLIPTokenizer.from_pretrained(out_dir)
    pool = ClipPool(data_dir)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = build_clip(tokenizer).to(device)
    trainer: Trainer[nn.Module] = Trainer(
        model, CheckpointFile(out_dir.with_suffix(".checkpoint.pt")), settings
    )
    if resume:
        trainer.resume()

    def losses_at(step: int) -> dict[str, Tensor]:
        batch = pool.batch(settings.batch_size, step_generator(settings.seed, step))
        return batch_losses(model, tokenizer, batch, device)

    def report() -> None:
        clip = Clip(trainer.average, tokenizer, NAME)
        log.info("held-out %s", held_out_scores(clip, pool))

    trainer.fit(losses_at, report)
    save_model(out_dir, trainer.average.to("cpu"), NAME)
    return Clip(trainer.average, tokenizer, NAME)
