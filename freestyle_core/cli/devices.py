"""Which device a command runs on."""

from __future__ import annotations

import torch

from ..errors import InputError


def chosen_device(name: str) -> torch.device:
    """Return the device, after trying it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(name)
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
