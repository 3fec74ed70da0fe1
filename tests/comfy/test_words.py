"""What becomes of the words of a style on their way through the nodes."""

import pytest

from tests.comfy.graphs import EDITED, changed, node
from tests.comfy.test_behaviour import succeed, texts

START, END = 49406, 49407  # of a text, in CLIP's vocabulary


def read(server, *lines):
    """Return how an editor of ComfyUI's own CLIP reads texts: pieces, and (token, weight) pairs."""
    prompt = {
        "parts": node("ProbeModel"),
        "editor": node(
            "FreeStyleIp2pEditorFromModel", model=["parts", 0], clip=["parts", 1], vae=["parts", 2]
        ),
        "words": node("ProbeWords", editor=["editor", 0], texts="\n".join(lines)),
    }
    shown = server.outputs(succeed(server, prompt))["words"]
    return shown["pieces"], shown["tokens"]


def test_brackets_are_words_for_comfyuis_clip_however_they_are_written(server):
    brackets = ["a</w>", "(</w>", "shiny</w>", ")</w>", "elf</w>"]
    weight = ["(</w>", "shiny</w>", ":</w>", "1</w>", ".</w>", "4</w>", ")</w>"]
    pieces, tokens = read(
        server, "a (shiny) elf", "a \\(shiny\\) elf", "(shiny:1.4)", "\\(shiny:1.4\\)", "((shiny"
    )
    assert pieces == [brackets, brackets, weight, weight, ["((</w>", "shiny</w>"]]
    for line, words in zip(tokens, pieces, strict=True):
        assert len(line) == 77 and {weight for _, weight in line} == {1}
        ids = [token for token, _ in line]
        assert ids[0] == START and ids.index(END) == 1 + len(words)


def test_words_that_comfyuis_clip_does_not_know_come_in_letters(server):
    ((chinese,), _) = read(server, "\u9752")  # three bytes, a letter each
    assert len(chinese) == 3 and chinese[-1].endswith("</w>")
    assert not any(piece.removesuffix("</w>").isascii() for piece in chinese)


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ("a (bronze:1.3) statue", "weights are not supported: (bronze:1.3) is read as plain words"),
        ("\u9752\u94dc", "the text encoder knows no word of"),
    ],
)
def test_what_an_editor_will_not_understand_is_said_in_the_node_and_in_the_log(server, style, said):
    prompt = {
        **changed(EDITED, edit={"style": style, "seed": 70}),
        "show": node("PreviewImage", images=["edit", 0]),
    }
    before = len(server.log())
    told = texts(succeed(server, prompt).during("edit"))
    assert said in told[-1] and "decoding, view 5/5" in told[-1]  # beside the usual line, and stays
    assert server.log()[before:].count(said) == 1


def test_of_words_that_it_understands_nothing_is_said(server):
    prompt = {
        **changed(EDITED, edit={"style": "a bronze statue (old)", "seed": 71}),
        "show": node("PreviewImage", images=["edit", 0]),
    }
    told = texts(succeed(server, prompt).during("edit"))
    assert told and not any("support" in line or "knows no" in line for line in told)
