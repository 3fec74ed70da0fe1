"""Which device a command runs on, and in which number format its editor computes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

import torch

from ..errors import InputError

AUTO = "auto"
# cards without tensor cores, on which half precision is slow or wrong; ComfyUI's list
POOR_AT_HALF = tuple(
    "1660 1650 1630 T500 T550 T600 MX550 MX450 CMP T2000 T1000 T1200".split(),
)
_log = logging.getLogger(__name__)


def chosen_device(name: str, environment: Mapping[str, str] = os.environ) -> torch.device:
    """Return the device, after trying it. "auto" takes the CPU where the card does not work.

    Of several processes, as torchrun starts them, each tries its own card only: touching the first
    one would take memory there for every process.
    """
    if name == AUTO:
        return _card_or_cpu(environment)
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(name)
        device = _own_card(device, environment)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(
            f"there is no device {name!r} here; choose one of {', '.join(available_devices())}"
        ) from None
    return device


def available_devices() -> list[str]:
    """Return the devices of this machine."""
    found = ["cpu"] + [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def editor_format(
    choice: str,  # "auto", or the name of a number format of torch
    device: torch.device,
    *,
    embedded: bool,  # the editor is the embedded one
) -> torch.dtype:
    """Return the number format to load the editor in; auto: half on a card that is good at it.

    The embedded editor is so small that halving it would save nothing worth a rounding error.
    """
    if choice != AUTO:
        return getattr(torch, choice)
    if embedded or device.type != "cuda":
        return torch.float32
    name, (major, _) = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    is_poor = major < 7 or (major == 7 and any(part in name for part in POOR_AT_HALF))
    return torch.float32 if is_poor else torch.float16


def _card_or_cpu(environment: Mapping[str, str]) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = _own_card(torch.device("cuda"), environment)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        _log.warning("the graphics card does not work (%s); going on with the CPU", reason)
        return torch.device("cpu")
    return device


def _own_card(device: torch.device, environment: Mapping[str, str]) -> torch.device:
    if device.type != "cuda" or int(environment.get("WORLD_SIZE", "1")) == 1:
        return device
    return torch.device("cuda", int(environment.get("LOCAL_RANK", "0")))
