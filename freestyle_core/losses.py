"""The paper's losses, equations 4 to 7, and the perceptual distances that fit into them.

Images are [B,3,H,W] in [0,1]. A perceptual distance is any callable of two image batches that
returns one number per image, [B]: `models.perceptual.PerceptualDistance`, or `vgg_perceptual()`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from .errors import FileFormatError, FreeStyleError
from .geometry.volume import density_at
from .types import Triplane

Perceptual = Callable[[Tensor, Tensor], Tensor]


def plane_loss(
    planes: Tensor,  # [B,3,C,R,R], H(I_f)
    target: Tensor,  # [B,3,C,R,R], p
) -> Tensor:
    """Return eq. 4, the mean |H(I_f) - p|."""
    return nn.functional.l1_loss(planes, target)


def reconstruction_loss(image: Tensor, target: Tensor, perceptual: Perceptual) -> Tensor:
    """Return eq. 5: the mean |G*(I_f, v) - I_v| + lpips(G*(I_f, v), I_v)."""
    return nn.functional.l1_loss(image, target) + perceptual(image, target).mean()


def density_loss(
    renderer: nn.Module,  # an EG3DRenderer
    triplane: Triplane,
    points: Tensor,  # [B,N,3], scene units: sample points of the current rendering
    delta: Tensor,  # [B,N,3], small Gaussian noise
) -> Tensor:
    """Return eq. 6, the mean |sigma(x) - sigma(x + delta * x)|."""
    both = torch.cat([points, points + delta * points], dim=1)
    here, there = density_at(renderer, triplane, both).chunk(2, dim=1)
    return (here - there).abs().mean()


def total_loss(
    reconstruction: Tensor, density: Tensor, *, lambda_rec: float = 10.0, lambda_dr: float = 0.2
) -> Tensor:
    """Return eq. 7: lambda_rec * L_rec + lambda_dr * L_dr."""
    return lambda_rec * reconstruction + lambda_dr * density


def vgg_perceptual(device: torch.device | str = "cpu") -> Perceptual:
    """Return the paper's LPIPS, from the `lpips` package and VGG weights already on this machine.

    Nothing is downloaded: without the package or the weights this is an error.
    """
    try:
        lpips = import_module("lpips")
    except ImportError:
        raise FreeStyleError(
            "VGG-LPIPS needs the `lpips` package: pip install lpips, or use the embedded "
            "perceptual features"
        ) from None
    weights = _vgg_weights()
    net = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)  # LPIPS weights, VGG still random
    _fill_vgg(net.net, torch.load(weights, map_location="cpu", weights_only=True))
    net = net.eval().requires_grad_(False).to(device)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return net(a, b, normalize=True).flatten()

    return distance


def _vgg_weights() -> Path:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    found = sorted(folder.glob("vgg16-*.pth"))
    if not found:
        raise FileFormatError(
            f"VGG-LPIPS needs torchvision's VGG16 weights, but {folder} has no vgg16-*.pth; put "
            "the file there, or use the embedded perceptual features"
        )
    return found[0]


def _fill_vgg(net: nn.Module, state: dict[str, Tensor]) -> None:
    """Copy torchvision's `features.N.*` into the slices of the lpips network, which keep N."""
    own = net.state_dict()
    for name in own:
        number, kind = name.split(".")[-2:]  # "slice2.7.weight" -> features.7.weight
        source = state.get(f"features.{number}.{kind}")
        if source is None or source.shape != own[name].shape:
            raise FileFormatError(
                f"the VGG16 file has no fitting features.{number}.{kind}; it must be torchvision's "
                "vgg16 checkpoint"
            )
        own[name] = source
    net.load_state_dict(own)
