"""Train the clay EG3D on procedural heads: first on points in space, then on rendered images.

Stage 1 marches no rays. For pixels of the stored views the true depth says where along the ray
space is empty, where the surface and its colour are and where the inside begins; for points of the
box the true distance says the same from every side. A step costs one pass through the backbone and
one through the decoder, and eyes and mouths appear in minutes where image supervision shows blobs.
Stage 2 renders whole views through the same renderer that users run, super-resolution included.
Stage 3 trains super-resolution alone on features rendered once, ten times faster a step.
"""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from ...files.tensors import CheckpointFile
from ...geometry.rays import pixel_rays
from ...method.render import RenderSettings, march, render, sample_rays
from ...metrics.image import psnr
from ...models.config import EG3DConfig
from ...models.eg3d import EG3D
from ...models.layers import SynthesisLayer
from ...seeds import step_generator
from ...training.loop import Trainer, TrainSettings
from ...training.losses import edge_loss
from ...types import Triplane
from ..data.shards import RESOLUTION, RIG, VIEWS, cameras_at, load_shards

log = logging.getLogger(__name__)

Tensors = dict[str, Tensor]
Losses = Callable[[EG3D, Tensors], Tensors]
MakeBatch = Callable[[Tensors, int, torch.Generator], Tensors]

RAY_START, RAY_END = 2.25, 3.15  # scene units along the ray
CONFIG = EG3DConfig(
    name="clay",
    licence="Apache-2.0",
    z_dim=64,
    w_dim=64,
    mapping_layers=2,
    plane_resolution=128,
    plane_channels=16,
    plane_axes=("xy", "xz", "yz"),
    channel_base=2048,
    channel_max=128,
    image_resolution=RESOLUTION,
    neural_resolution=64,
    decoder_hidden=32,
    feature_channels=16,
    superresolution="2X",
    sr_channels=(32, 16),
    sr_input_resolution=64,
    box_size=1.0,
    ray_start=RAY_START,
    ray_end=RAY_END,
    depth_samples=24,
    importance_samples=24,
    white_background=True,
    empty_outside_box=True,
    c_zero=True,
    truncation_psi=1.0,
    camera_radius=RIG.radius,
    camera_pivot=RIG.pivot,
    focal=RIG.focal,
)
STEP_LENGTH = 0.03  # scene units: the ray step at which "inside" has to be opaque
HELD_OUT = 50  # heads at the end of the set that are never trained on


POINT_STAGE = TrainSettings(steps=4300, batch_size=8, learning_rate=3e-3, clip_norm=5.0)
IMAGE_STAGE = TrainSettings(steps=520, batch_size=4, learning_rate=8e-4, clip_norm=5.0, seed=1)
SHARP_STAGE = TrainSettings(steps=900, batch_size=8, learning_rate=2e-3, clip_norm=5.0, seed=2)
STAGES = POINT_STAGE, IMAGE_STAGE, SHARP_STAGE
SHARP_VIEWS = 1000  # at most so many views' features are kept in stage 3
PIXELS, BOX_SAMPLES = 1024, 512  # training points per head: rays, each with 4 points, and box


class _DensityGain(nn.Module):
    """Lets the density row of the decoder learn ten times as fast as the colours.

    A surface needs raw densities above 100; without the gain the backbone reaches them by blowing
    the planes up, and fine detail drowns. The gain sits on the weights only: on the bias it kills
    training within 20 steps. It is folded into the weights when training ends.
    """

    def forward(self, weight: Tensor) -> Tensor:
        return torch.cat([weight[:1] * 10, weight[1:]])

    def right_inverse(self, weight: Tensor) -> Tensor:
        return torch.cat([weight[:1] / 10, weight[1:]])


def new_generator(seed: int) -> EG3D:
    """Return an untrained clay EG3D prepared for training.

    The noise maps become trainable parameters: they are what lets a position-blind 4x4 start make
    sharp eyes. Convolution weights are stored at He scale; demodulation makes that the same
    function but lets Adam move it at the right speed.
    """
    torch.manual_seed(seed)
    eg3d = EG3D(CONFIG)
    for module in eg3d.backbone.synthesis.modules():
        if isinstance(module, SynthesisLayer):
            noise = module.noise_const
            del module._buffers["noise_const"]
            module.noise_const = nn.Parameter(noise * 0.5)
            nn.init.ones_(module.noise_strength)
    with torch.no_grad():
        for name, p in eg3d.named_parameters():
            if name.endswith("weight") and p.dim() == 4 and p.shape[-1] == 3:
                p.mul_(1 / math.sqrt(p[0].numel()))
            if name.startswith("superresolution") and name.endswith("torgb.weight"):
                p.mul_(0.02)  # start as plain upsampling of the raw image
        eg3d.decoder.get_parameter("net.2.weight")[0].mul_(0.1)
    parametrize.register_parametrization(eg3d.decoder.net[2], "weight", _DensityGain())
    return eg3d


def parameter_groups(eg3d: EG3D, superresolution: float = 1.0) -> list[dict]:
    """Return Adam groups whose rates undo EG3D's equalised learning rates.

    `superresolution` multiplies the rates of that part, which stage 2 trains from nothing.

    A weight that the layer multiplies by 1/sqrt(fan_in) needs a rate sqrt(fan_in) higher to move as
    a He-scaled one would; the mapping layers multiply by another 0.01.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, p in eg3d.named_parameters():
        fan_in = p.shape[1] if p.dim() > 1 else 1
        if name.endswith("noise_const"):
            scale = 4.0
        elif name.endswith("noise_strength"):
            scale = 0.3
        elif ".mapping.fc" in name:
            scale = 0.4 * 100 * math.sqrt(fan_in)
        elif "torgb.weight" in name:
            scale = 0.4 * math.sqrt(fan_in)
        elif name.endswith("torgb.bias"):
            scale = 0.4
        elif p.dim() == 2:  # affine, embedding and decoder layers
            scale = math.sqrt(fan_in)
        else:
            scale = 1.0
        if name.startswith("superresolution"):
            scale *= superresolution
        groups.setdefault(scale, []).append(p)
    return [{"params": params, "scale": scale} for scale, params in groups.items()]


def _pick_heads(
    data: dict[str, Tensor], batch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return head and view indices [B]; the one orbit view is drawn half as often."""
    head = torch.randint(len(data["z"]) - HELD_OUT, (batch,), generator=generator)
    odds = torch.ones(VIEWS)
    odds[-1] = 0.5
    return head, torch.multinomial(odds, batch, replacement=True, generator=generator)


def _along_rays(depth: Tensor, generator: torch.Generator) -> Tensor:
    """Return distances [B,4,P] at, behind, just before and anywhere before depth [B,P]."""

    def rand() -> Tensor:
        return torch.rand(depth.shape, generator=generator)

    near = depth - 0.006 - 0.03 * rand()
    at = depth + 0.004 * torch.randn(depth.shape, generator=generator)
    behind = depth + 0.004 + 0.03 * rand()
    return torch.stack([at, behind, near, RAY_START + (near - RAY_START) * rand()], dim=1)


def point_batch(
    data: dict[str, Tensor], batch: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return random points of `batch` stored heads with what is true there.

    points [B,4*PIXELS + BOX_SAMPLES,3], solid [B,PIXELS] (1: the ray meets the head), color
    [B,PIXELS,3] and distance [B,BOX_SAMPLES] to the surface. Edges of the picture (eyes, brows,
    mouths) are drawn more often than flat skin, and skin more often than background.
    """
    head, view = _pick_heads(data, batch, generator)
    image = data["image"][head, view].float() / 255
    alpha = data["alpha"][head, view].float().flatten(1) / 255
    depth = data["depth"][head, view].float().flatten(1)
    edges = (image - F.avg_pool2d(image, 3, 1, 1)).abs().mean(1).flatten(1)
    odds = 0.5 + (3.0 + 60 * edges) * (alpha > 0.5)
    pick = torch.multinomial(odds, PIXELS, generator=generator)
    solid = alpha.gather(1, pick) > 0.5
    depth = torch.where(solid, depth.gather(1, pick), torch.full((), RAY_END))
    pick = pick[..., None].expand(-1, -1, 3)
    rays = pixel_rays(cameras_at(data["view"][head, view]), RESOLUTION)
    origins, directions = rays.origins.gather(1, pick), rays.directions.gather(1, pick)
    along = _along_rays(depth, generator)
    points = origins[:, None] + along[..., None] * directions[:, None]  # [B,4,PIXELS,3]
    distance = data["distance"][head].float()
    odds = 1.0 + 8.0 * (distance.abs() < 0.05)
    box = torch.multinomial(odds, BOX_SAMPLES, generator=generator)
    box_points = data["points"][head].float().gather(1, box[..., None].expand(-1, -1, 3))
    return {
        "z": data["z"][head],
        "points": torch.cat([points.flatten(1, 2), box_points], dim=1),
        "solid": solid.float(),
        "color": image.flatten(2).transpose(1, 2).gather(1, pick),
        "distance": distance.gather(1, box),
    }


def image_batch(data: dict[str, Tensor], batch: int, generator: torch.Generator) -> dict:
    """Return whole views of `batch` stored heads."""
    head, view = _pick_heads(data, batch, generator)
    return {
        "z": data["z"][head],
        "cameras": cameras_at(data["view"][head, view]),
        "image": data["image"][head, view].float() / 255,
        "alpha": data["alpha"][head, view].float() / 255,
    }


def _cross_entropy(alpha: Tensor, target: float, weight: Tensor) -> Tensor:
    log_p = alpha.log() if target else (1 - alpha).log()
    return -(log_p * weight).sum() / weight.sum().clamp_min(1)


def point_losses(eg3d: EG3D, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weighted stage 1 losses: colour, opaque inside, empty outside."""
    planes = eg3d.planes(eg3d.map(batch["z"], batch["z"].new_zeros(len(batch["z"]), 25)))
    raw, features = eg3d.renderer().decode(planes, batch["points"])
    solid, pixels = batch["solid"], batch["solid"].shape[1]
    alpha = 1 - torch.exp(-F.softplus(raw[..., 0] - 1) * STEP_LENGTH)
    alpha = alpha.clamp(1e-4, 1 - 1e-4)
    _, behind, near, front = alpha[:, : 4 * pixels].unflatten(1, (4, pixels)).unbind(1)
    rgb = features[:, : 2 * pixels, :3].unflatten(1, (2, pixels))
    error = (rgb - batch["color"][:, None]).abs().mean(-1)
    color = ((error[:, 0] + 0.5 * error[:, 1]) * solid).sum() / solid.sum()
    box, distance = alpha[:, 4 * pixels :], batch["distance"]
    return {
        "color": 10 * color,
        "inside": 0.5 * _cross_entropy(behind, 1, solid),
        "near": 0.5 * _cross_entropy(near, 0, solid),
        "front": 0.5 * _cross_entropy(front, 0, torch.ones_like(front)),
        "box_in": 0.3 * _cross_entropy(box, 1, (distance < -0.004).float()),
        "box_out": 0.3 * _cross_entropy(box, 0, (distance > 0.006).float()),
    }


def image_losses(eg3d: EG3D, batch: dict) -> dict[str, Tensor]:
    """Return the weighted stage 2 losses: L1 of pictures, of their gradients and of alpha."""
    ws = eg3d.map(batch["z"], batch["z"].new_zeros(len(batch["z"]), 25))
    triplane = Triplane(eg3d.planes(ws), CONFIG.box_size)
    out = render(eg3d.renderer(), triplane, ws, batch["cameras"], settings=RenderSettings())
    small = F.avg_pool2d(batch["image"], RESOLUTION // CONFIG.neural_resolution)
    alpha = F.avg_pool2d(batch["alpha"], RESOLUTION // CONFIG.neural_resolution)
    return {
        "image": 10 * (out.image - batch["image"]).abs().mean(),
        "edges": 10 * edge_loss(out.image, batch["image"]),
        "raw": 10 * (out.raw - small).abs().mean(),
        "raw_edges": 10 * edge_loss(out.raw, small),
        "alpha": 2 * (out.alpha - alpha).abs().mean(),
    }


@torch.no_grad()
def feature_views(eg3d: EG3D, data: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Return what super-resolution sees of `count` stored front views, and the true images."""
    generator = torch.Generator().manual_seed(0)
    kept: dict[str, list[Tensor]] = {"features": [], "w": [], "image": []}
    for _ in range(count):
        head, view = _pick_heads(data, 1, generator)
        ws = eg3d.map(data["z"][head], data["z"].new_zeros(1, 25))
        sampled = sample_rays(CONFIG, cameras_at(data["view"][head, view]))
        planes = eg3d.planes(ws)
        features, _, _ = march(eg3d.renderer(), planes, sampled, CONFIG.importance_samples)
        size = CONFIG.neural_resolution
        kept["features"].append(features[0].T.reshape(-1, size, size).half())
        kept["w"].append(ws[0])
        kept["image"].append(data["image"][head, view][0])
    return {name: torch.stack(values) for name, values in kept.items()}


def sharpen(eg3d: EG3D, data: dict[str, Tensor], checkpoint: Path, settings: TrainSettings) -> None:
    """Train only the super-resolution of `eg3d`, in place (stage 3)."""
    part = eg3d.superresolution
    groups = [
        {**group, "params": own}
        for group in parameter_groups(eg3d)
        if (own := [p for p in group["params"] if any(p is q for q in part.parameters())])
    ]
    trainer = Trainer(part, CheckpointFile(checkpoint), settings, groups)
    trainer.resume()
    count = min(SHARP_VIEWS, settings.steps * settings.batch_size)  # a rehearsal draws fewer
    views = feature_views(eg3d, data, count) if trainer.step < settings.steps else {}

    def losses_at(step: int) -> dict[str, Tensor]:
        generator = step_generator(settings.seed, step)
        pick = torch.randint(count, (settings.batch_size,), generator=generator)
        image = part(views["features"][pick].float(), views["w"][pick]) / 2 + 0.5
        truth = views["image"][pick].float() / 255
        return {
            "image": 10 * (image - truth).abs().mean(),
            "edges": 10 * edge_loss(image, truth),
        }

    trainer.fit(losses_at)
    part.load_state_dict(trainer.average.state_dict())


@torch.no_grad()
def finished(average: EG3D, seed: int) -> EG3D:
    """Return the trained generator in its public form: gain folded in, maps as buffers."""
    state = average.state_dict()
    state["decoder.net.2.weight"] = average.decoder.net[2].weight
    del state["decoder.net.2.parametrizations.weight.original"]
    eg3d = EG3D(CONFIG)
    eg3d.load_state_dict(state)
    z = torch.randn(4096, CONFIG.z_dim, generator=torch.Generator().manual_seed(seed))
    eg3d.backbone.mapping.w_avg.copy_(eg3d.map(z, z.new_zeros(len(z), 25))[:, 0].mean(0))
    return eg3d.eval().requires_grad_(False)


@torch.no_grad()
def held_out_psnr(average: EG3D, data: dict[str, Tensor], count: int = 12) -> float:
    """Return the mean PSNR (dB) of rendered front views of heads that were never trained on."""
    total = 0.0
    for i in range(len(data["z"]) - count, len(data["z"])):
        z = data["z"][i : i + 1]
        ws = average.map(z, z.new_zeros(1, 25))
        out = render(
            average.renderer(),
            Triplane(average.planes(ws), CONFIG.box_size),
            ws,
            cameras_at(data["view"][i, :1]),
        )
        truth = data["image"][i, :1].float() / 255
        total += float(psnr(out.image.clamp(0, 1), truth))
    return total / count


def train_eg3d(
    data_folder: Path,
    folder: Path,  # of the checkpoints, one per stage
    *,
    points: TrainSettings = POINT_STAGE,
    images: TrainSettings = IMAGE_STAGE,
    sharp: TrainSettings = SHARP_STAGE,
    threads: int = 2,
) -> EG3D:
    """Return a trained clay EG3D, going on from the checkpoints in `folder` where they exist."""
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    data = load_shards(data_folder, "heads")
    eg3d = new_generator(points.seed)
    stages: tuple[tuple[str, TrainSettings, float, Losses, MakeBatch], ...] = (
        ("points", points, 1.0, point_losses, point_batch),
        ("images", images, 3.0, image_losses, image_batch),
    )
    for name, settings, rate, losses, batch in stages:
        groups = parameter_groups(eg3d, superresolution=rate)
        trainer = Trainer(eg3d, CheckpointFile(folder / f"eg3d_{name}.pt"), settings, groups)
        trainer.resume()

        def losses_at(
            step: int,
            losses: Losses = losses,
            batch: MakeBatch = batch,
            settings: TrainSettings = settings,
        ) -> Tensors:
            generator = step_generator(settings.seed, step)
            return losses(eg3d, batch(data, settings.batch_size, generator))

        def report(trainer: Trainer[EG3D] = trainer) -> None:
            log.info("held-out %.2f dB", held_out_psnr(trainer.average, data))

        trainer.fit(losses_at, report)
        eg3d.load_state_dict(trainer.average.state_dict())
    sharpen(eg3d, data, folder / "eg3d_sharp.pt", sharp)
    log.info("held-out %.2f dB", held_out_psnr(eg3d, data))
    return finished(eg3d, points.seed)
