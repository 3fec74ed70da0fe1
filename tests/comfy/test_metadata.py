"""Under --disable-metadata nothing that was asked for is written into a portrait."""

import pytest

from freestyle_core.files.bundle import load_header
from tests.comfy.client import start_server
from tests.comfy.conftest import add_models, comfy_folder, comfy_python, install_pack
from tests.comfy.graphs import FULL, node


@pytest.mark.slow
def test_a_portrait_saved_without_metadata_holds_no_words_and_no_seed(tmp_path):
    folder = comfy_folder()
    install_pack(tmp_path)
    add_models(tmp_path)
    server = start_server(folder, comfy_python(folder), tmp_path, "--disable-metadata")
    kept = {name: part for name, part in FULL.items() if name not in ("turn", "frames", "show")}
    kept["save"] = node("FreeStyleSavePortrait", portrait=["train", 0], filename_prefix="p")
    kept["load"] = node("FreeStyleLoadPortrait", portrait="p_00001_ [output]")
    loaded = {"load": kept.pop("load"), "show": node("PreviewAny", source=["load", 0])}
    try:
        run = server.run(kept, 600)
        assert run.end.kind == "execution_success", run.end.data
        assert server.run(loaded, 600).end.kind == "execution_success"
    finally:
        server.stop()
    path = tmp_path / "output" / "p_00001_.safetensors"
    assert set(load_header(path).extra["provenance"]) == {"eg3d", "licence"}
    assert b"an elf" not in path.read_bytes() and b'"seed"' not in path.read_bytes()
