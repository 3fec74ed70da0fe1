"""Which device a command takes, and its editor's number format. No card is needed."""

import logging

import pytest
import torch

from freestyle_core.cli import devices
from freestyle_core.cli.devices import chosen_device, editor_format
from freestyle_core.errors import InputError

SECOND_OF_TWO = {"WORLD_SIZE": "2", "LOCAL_RANK": "1"}
CARD = torch.device("cuda")


@pytest.fixture
def tried(monkeypatch):
    """Return the devices that were tried, on a machine that claims to have a card."""
    found = []

    def zeros(*shape, device):
        found.append(str(device))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices.torch, "zeros", zeros)
    return found


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_the_card_is_tried(name, tried):
    assert chosen_device(name, {}) == CARD
    assert tried == ["cuda"]


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_each_of_several_processes_touches_its_own_card_only(name, tried):
    assert chosen_device(name, SECOND_OF_TWO) == torch.device("cuda:1")
    assert tried == ["cuda:1"]


def broken(*shape, device):
    raise RuntimeError("CUDA error: no kernel image is available\nfor this card")


def test_auto_goes_on_with_the_cpu_where_the_card_fails(monkeypatch, tried, caplog):
    monkeypatch.setattr(devices.torch, "zeros", broken)
    with caplog.at_level(logging.WARNING):
        assert chosen_device("auto", {}) == torch.device("cpu")
    assert caplog.messages == [
        "the graphics card does not work (CUDA error: no kernel image is available); going on with "
        "the CPU"
    ]


def test_a_card_asked_for_by_name_must_work(monkeypatch, tried):
    monkeypatch.setattr(devices.torch, "zeros", broken)
    with pytest.raises(InputError, match="no device 'cuda' here"):
        chosen_device("cuda", {})


@pytest.mark.parametrize(
    ("card", "capability", "expected"),
    [
        ("NVIDIA A100", (8, 0), torch.float16),
        ("NVIDIA GeForce RTX 2080", (7, 5), torch.float16),
        ("NVIDIA GeForce GTX 1660", (7, 5), torch.float32),
        ("NVIDIA GeForce GTX 1080", (6, 1), torch.float32),
    ],
)
def test_auto_halves_the_editor_on_cards_that_are_good_at_it(
    monkeypatch, card, capability, expected
):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: card)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert editor_format("auto", CARD, embedded=False) == expected
    assert editor_format("auto", CARD, embedded=True) == torch.float32
    assert editor_format("bfloat16", CARD, embedded=True) == torch.bfloat16


@pytest.mark.parametrize("kind", ["cpu", "mps"])
def test_auto_leaves_the_editor_as_it_is_elsewhere(kind):
    assert editor_format("auto", torch.device(kind), embedded=False) == torch.float32
