"""Official network pickles in a real server: offered, loaded, and their licence shown and kept."""

from freestyle_core.files.bundle import load_header
from freestyle_core.files.official.eg3d import LICENCE
from tests.comfy.graphs import HEAD, changed, node

LIMIT = 300  # seconds


def test_official_pickle_makes_portraits_that_carry_its_licence(server):
    prompt = changed(HEAD, eg3d={"model": "official.pkl"})
    prompt["save"] = node(
        "FreeStyleSavePortrait", portrait=["head", 0], filename_prefix="official/head"
    )
    run = server.run(prompt, LIMIT)
    assert run.end.kind == "execution_success", run.end.data
    said = [e.data.decode(errors="replace") for e in run.events if e.kind == "text"]
    assert any(f"official, licence: {LICENCE}" in line for line in said)
    (saved,) = (server.base / "output" / "official").glob("*.safetensors")
    assert load_header(saved).extra["provenance"]["licence"] == LICENCE
