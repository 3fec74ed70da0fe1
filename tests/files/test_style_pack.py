from dataclasses import replace

import pytest
import torch

from freestyle_core.errors import FileFormatError, InputError
from freestyle_core.files import style_pack as packs
from freestyle_core.files.bundle import load_bundle, save_bundle
from freestyle_core.files.style_pack import (
    find_style_pack,
    load_style_pack,
    prompt_of,
    save_style_pack,
    shipped_packs,
)
from freestyle_core.models.style_pack import StylePackConfig, StylePackNet
from freestyle_core.types import StylePack
from tests.tiny import tiny_eg3d


def make_pack(prompt="a bronze statue"):
    torch.manual_seed(3)
    network = StylePackNet(StylePackConfig.of(tiny_eg3d().config, hidden=3, mean_reduction=2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    preview = torch.rand(3, 6, 5)
    return StylePack(network.eval(), prompt, "ab12", "tiny", 4, "CC0-1.0", preview)


def test_a_pack_comes_back_in_half_precision(tmp_path):
    pack = make_pack()
    save_style_pack(tmp_path / "p.safetensors", pack)
    again = load_style_pack(tmp_path / "p.safetensors")
    assert again.network.config == pack.network.config
    for name, value in pack.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value.half().float()), name
    for name in ("prompt", "renderer", "eg3d", "heads", "licence"):
        assert getattr(again, name) == getattr(pack, name)
    assert float((again.preview - pack.preview).abs().max()) <= 0.5 / 255 + 1e-6
    assert not any(p.requires_grad for p in again.network.parameters())
    save_style_pack(tmp_path / "q.safetensors", again)
    assert (tmp_path / "p.safetensors").read_bytes() == (tmp_path / "q.safetensors").read_bytes()


def test_a_pack_needs_no_preview(tmp_path):
    save_style_pack(tmp_path / "p.safetensors", replace(make_pack(), preview=None))
    assert load_style_pack(tmp_path / "p.safetensors").preview is None


def rewrite(path, *, config=None, extra=None, state=None, drop=()):
    bundle = load_bundle(path, "style_pack")
    kept = {k: v for k, v in bundle.state.items() if k not in drop}
    save_bundle(
        path,
        "style_pack",
        {**bundle.config, **(config or {})},
        {**kept, **(state or {})},
        {**bundle.extra, **(extra or {})},
    )


DAMAGED = {
    "no words": ({"extra": {"prompt": ""}}, "has no prompt"),
    "words that are none": ({"extra": {"prompt": 3}}, "has no prompt"),
    "no generator": ({"extra": {"renderer": None}}, "has no renderer"),
    "licence": ({"extra": {"licence": 1}}, "has no licence"),
    "heads": ({"extra": {"heads": 0}}, "learnt on 0 heads"),
    "heads true": ({"extra": {"heads": True}}, "learnt on True heads"),
    "sizes": ({"config": {"hidden": 4}}, "misshapen tensor"),
    "giant": ({"config": {"hidden": 10**9}}, "impossible network"),
    "unknown": ({"config": {"more": 1}}, "impossible network"),
    "axes": ({"config": {"plane_axes": ["xy"]}}, "impossible network"),
    "missing": ({"drop": ("network.scale",)}, "lacks tensor scale"),
    "foreign": ({"state": {"more": torch.zeros(1)}}, "unknown tensor more"),
    "nan": ({"state": {"network.scale": torch.full((3, 4), float("nan"))}}, "scale"),
    "flat preview": ({"state": {"preview": torch.zeros(3, 4).byte()}}, "no picture"),
    "grey preview": ({"state": {"preview": torch.zeros(1, 4, 4).byte()}}, "no picture"),
    "bright preview": ({"state": {"preview": torch.zeros(3, 4, 4)}}, "no picture"),
    "empty preview": ({"state": {"preview": torch.zeros(3, 0, 4).byte()}}, "no picture"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_pack_is_refused_in_a_sentence(tmp_path, case):
    path = tmp_path / "p.safetensors"
    save_style_pack(path, make_pack())
    change, message = DAMAGED[case]
    rewrite(path, **change)
    with pytest.raises(FileFormatError, match=message):
        load_style_pack(path)


def test_another_kind_of_file_is_refused(tmp_path):
    save_bundle(tmp_path / "p.safetensors", "eg3d", {}, {"a": torch.zeros(1)})
    with pytest.raises(FileFormatError, match="eg3d"):
        load_style_pack(tmp_path / "p.safetensors")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Two shipped packs."""
    monkeypatch.setattr(packs, "PACKS", tmp_path)
    save_style_pack(tmp_path / "bronze statue.safetensors", make_pack())
    save_style_pack(tmp_path / "blue one.safetensors", make_pack("a Na'vi"))
    return tmp_path


@pytest.mark.parametrize(
    "words", ["bronze statue", "a bronze statue", "A Bronze  Statue", "the bronze_statue"]
)
def test_shipped_packs_are_found_by_name_and_words(shelf, words):
    assert find_style_pack(words) == shelf / "bronze statue.safetensors"


def test_words_that_are_not_the_name_find_a_pack(shelf):
    assert find_style_pack("a na'vi") == find_style_pack("blue one")
    assert list(shipped_packs()) == ["blue one", "bronze statue"]
    assert prompt_of(shelf / "blue one.safetensors") == "a Na'vi"


def test_what_is_not_there_is_said(shelf, tmp_path):
    with pytest.raises(InputError, match="come with this package: blue one, bronze statue"):
        find_style_pack("a teapot")
    for name in ("none.safetensors", "folder/elf"):
        with pytest.raises(FileFormatError, match="no style pack"):
            find_style_pack(name)
    own = tmp_path / "mine"
    save_style_pack(own, make_pack("a mug"))
    assert find_style_pack(own) == own  # a file goes before all names
