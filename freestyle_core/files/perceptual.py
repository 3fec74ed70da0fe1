"""The perceptual distance of a run: LPIPS with VGG where its weights are, else small features.

The paper's loss (eq. 5) uses LPIPS with VGG16. The `lpips` package brings its own small weights;
the large ones, torchvision's of VGG16, are half a gigabyte that is never downloaded from here: the
file is looked for in PyTorch's cache and in the folders given, and when it is missing, the message
says what to put where. Read `load_distance`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import FileFormatError, FreeStyleError
from ..models.perceptual import PerceptualDistance
from .bundle import weights_hash
from .names import ending
from .networks import embedded, load_perceptual
from .survey import files_below

AUTO, VGG = "auto", "vgg"  # choices of `load_distance` besides a file
VGG_START, VGG_ENDING = "vgg16-", ".pth"
VGG_FILE = "vgg16-397923af.pth"
VGG_ADDRESS = f"https://download.pytorch.org/models/{VGG_FILE}"
VGG_PIXELS = 256  # smaller pictures are those of small generators, whose own features fit better

_log = logging.getLogger(__name__)


class VGGDistance(nn.Module):
    """LPIPS with VGG16: one distance [B] for two image batches [B,3,H,W] in [0,1]."""

    def __init__(self, lpips: nn.Module, name: str) -> None:
        super().__init__()
        self.lpips, self.name = lpips, name

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.lpips(a, b, normalize=True).flatten()

    def features_of(self, images: Tensor) -> list[Tensor]:
        """Return VGG's maps as LPIPS compares them, [B,c,h,w] of unit length over channels."""
        lpips: Any = self.lpips
        maps = lpips.net(lpips.scaling_layer(images * 2 - 1))
        return [F.normalize(x, dim=1, eps=1e-10) for x in maps]

    def between(self, features: list[Tensor], others: list[Tensor]) -> Tensor:
        """Return the distances [B] of images with these features."""
        lpips: Any = self.lpips
        terms = [
            layer((x - y).square()).mean((2, 3)).flatten()
            for layer, x, y in zip(lpips.lins, features, others, strict=True)
        ]
        return torch.stack(terms).sum(0)


Distance: TypeAlias = VGGDistance | PerceptualDistance


def load_distance(
    choice: Path | str = AUTO,  # AUTO, VGG, or a perceptual file
    *,
    image_resolution: int,  # pixels, of the pictures to compare
    folders: Sequence[Path] = (),  # searched for VGG weights before PyTorch's cache
) -> Distance:
    """Return a frozen distance on the CPU; its `name` says which one it is, and of what weights.

    AUTO is VGG for pictures of 256 pixels and more if its weights are there, and the embedded
    features otherwise.
    """
    distance: Distance
    if str(choice) == VGG:
        distance = load_vgg(folders)
    elif str(choice) != AUTO:
        distance = load_features(choice)
    elif image_resolution < VGG_PIXELS:
        distance = load_features(embedded("perceptual"))
    else:
        distance = _vgg_or_features(folders)
    _log.info("perceptual distance: %s", distance.name)
    return distance


def load_features(path: Path | str) -> PerceptualDistance:
    """Return the distance in the features of the network at `path`."""
    net = load_perceptual(path)
    name = f"{net.config.name} features {weights_hash(net.state_dict())[:12]}"
    with torch.inference_mode(False):
        return PerceptualDistance(net, name)


def load_vgg(folders: Sequence[Path] = ()) -> VGGDistance:
    """Return LPIPS with the VGG16 weights of this machine, or say what is missing."""
    lpips = _lpips_package()
    path = find_vgg(folders)
    if path is None:
        raise FileFormatError(f"VGG-LPIPS needs weights that are not here: {_offer(folders)}")
    # a network made in inference mode could pass no gradient on
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        # pnet_rand: the package's own small weights, but VGG still random, or it would download
        with warnings.catch_warnings():  # lpips still says `pretrained=` to torchvision
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            net = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
        _fill_vgg(path, net.net)
    net = net.eval().requires_grad_(False)
    return VGGDistance(net, f"VGG-LPIPS {weights_hash(net.state_dict())[:12]}")


def find_vgg(folders: Sequence[Path] = ()) -> Path | None:
    """Return torchvision's VGG16 weights in one of `folders` or in PyTorch's cache."""
    for folder in (*folders, _hub_folder()):
        named = (path for _, path in files_below(folder) if _is_vgg(path))
        found = next(named, None)
        if found is not None:
            return found
    return None


def _is_vgg(path: Path) -> bool:
    return path.name.lower().startswith(VGG_START) and ending(path) == VGG_ENDING


def _lpips_package() -> ModuleType:
    try:
        return import_module("lpips")
    except (ImportError, OSError, RuntimeError) as error:  # a torchvision of another torch: any
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FreeStyleError(
            f"VGG-LPIPS needs the packages `lpips` and torchvision, which do not load ({reason}): "
            "run `pip install -r requirements.txt`, with a torchvision made for the installed "
            "torch, or use the embedded perceptual features"
        ) from None


def _vgg_or_features(folders: Sequence[Path]) -> Distance:
    try:
        return load_vgg(folders)
    except FreeStyleError as error:
        distance = load_features(embedded("perceptual"))
        _log.warning("%s; until then, %s stand in", error, distance.name)
        return distance


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _offer(folders: Sequence[Path]) -> str:
    target = Path(folders[0]) if folders else _hub_folder()
    return f"download {VGG_ADDRESS} (528 MB) into {target}"


def _fill_vgg(path: Path, net: nn.Module) -> None:
    """Copy torchvision's `features.N.*` into the slices of the lpips network, which keep N."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
    except Exception as error:  # a damaged file can make torch.load raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FileFormatError(
            f"{path} cannot be read as VGG16 weights ({reason}); download {VGG_ADDRESS} again"
        ) from None
    own = net.state_dict()
    for name in own:
        number, kind = name.split(".")[-2:]  # "slice2.7.weight" -> features.7.weight
        source = state.get(f"features.{number}.{kind}")
        if not isinstance(source, Tensor) or source.shape != own[name].shape:
            raise FileFormatError(
                f"{path} has no fitting features.{number}.{kind}; it must be torchvision's VGG16, "
                f"{VGG_ADDRESS}"
            )
        own[name] = source
    net.load_state_dict(own)
