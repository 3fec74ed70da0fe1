"""What is said about words that do nothing."""

import pytest
from transformers import CLIPTokenizer

from freestyle_core.files.networks import embedded
from freestyle_core.method.prompts import prompt_notes


class Reader:
    """The embedded editor's reading of words, without its networks."""

    def __init__(self):
        folder = embedded("editor") / "tokenizer"
        self.pieces = CLIPTokenizer.from_pretrained(folder, local_files_only=True).tokenize


@pytest.fixture(scope="module")
def reader():
    return Reader()


@pytest.mark.parametrize(
    "style",
    [
        "a bronze statue",
        "Bronze",
        "an elf (old)",
        "16:9",
        "\\(old\\:1.2\\)",
        "b\u00fcste, gold",
        "2",
        "!",
    ],
)
def test_nothing_is_said_of_words_that_are_read(reader, style):
    assert prompt_notes(style, reader) == []


@pytest.mark.parametrize("style", ["a (bronze:1.3) statue", "(gold: .8)", "((elf):2)", "(old:-1)"])
def test_weights_are_named(reader, style):
    (note,) = prompt_notes(style, reader)
    assert note.startswith("weights are not supported: (")


@pytest.mark.parametrize(
    "style", ["\u9752\u94dc\u96d5\u50cf", "\u0431\u0440\u043e\u043d\u0437\u0430", "zxqv"]
)
def test_a_style_without_a_known_word_is_named(reader, style):
    (note,) = prompt_notes(style, reader)
    assert "knows no word" in note and "in English" in note


def test_an_editor_that_reads_otherwise_is_asked_nothing():
    assert prompt_notes("\u9752\u94dc", object()) == []
