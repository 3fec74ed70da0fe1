"""Several styles in one graph by core's own Create List: what is before them is made once."""

import pytest

from tests.comfy.graphs import EDITED, changed, node
from tests.comfy.test_behaviour import pictures, succeed


def listed(*styles):
    """Return the graph of edited views with a list of styles in place of one."""
    texts = {f"text{n}": node("PrimitiveString", value=style) for n, style in enumerate(styles)}
    wires = {f"inputs.input{n}": [f"text{n}", 0] for n in range(len(styles))}
    graph = changed(EDITED, edit={"style": ["styles", 0]})
    shown = node("PreviewImage", images=["edit", 0])
    return {**graph, **texts, "styles": node("CreateList", **wires), "shown": shown}


def test_a_list_of_styles_edits_one_head_in_each(server):
    if "CreateList" not in server.get("/object_info"):
        pytest.skip("this ComfyUI has no Create List")
    first = succeed(server, listed("a list of an elf", "a list of a zombie"))
    two = pictures(server, first, "shown")
    assert len(two) == 10 and len(set(two)) == 10
    # a third style: the head and its views stay, and so do the edits of the first two
    again = succeed(server, listed("a list of an elf", "a list of a zombie", "a list of sand"))
    assert not again.ran() & {"eg3d", "head", "views", "editor"} and "edit" in again.ran()
    three = pictures(server, again, "shown")
    assert len(three) == 15 and three[:10] == two
