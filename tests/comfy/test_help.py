"""The help pages: one per node, in English for all and in Chinese, saying the same things."""

import re

import pytest

from tests.comfy.browser import HAN
from tests.comfy.conftest import PACK
from tests.comfy.locales import read

DOCS = PACK / "nodes" / "web" / "docs"
NODES = sorted(read("en"))


def page(node, language="en"):
    """Return a help page; ComfyUI asks for NODE/zh.md, and then for NODE.md."""
    path = DOCS / f"{node}.md" if language == "en" else DOCS / node / f"{language}.md"
    return path.read_text(encoding="utf-8")


def marks(text):
    """Return what a page has in every language: headings, pictures, rows, inputs, code, links."""
    return {
        "headings": [len(mark) for mark in re.findall("^(#+) ", text, re.MULTILINE)],
        "pictures": re.findall(r"!\[.+?\]\((.+?)\)", text),
        "links": re.findall(r"\]\((https?:.+?)\)", text),
        "rows": len(re.findall(r"^\|", text, re.MULTILINE)),
        "items": len(re.findall(r"^- ", text, re.MULTILINE)),
        "inputs": sorted(re.findall(r"\*\*([a-z0-9_]+)\*\*", text)),
        "first cells": re.findall(r"^\| (?!setting|choice)([a-z_]+) \|", text, re.MULTILINE),
        "code": sorted(re.findall(r"`([^`]+)`", text)),
    }


def test_every_node_has_its_pages_and_no_page_is_left_over():
    assert sorted(path.stem for path in DOCS.glob("*.md")) == NODES
    assert sorted(path.parent.name for path in DOCS.glob("*/zh.md")) == NODES


@pytest.mark.parametrize("node", NODES)
def test_chinese_says_what_english_says(node):
    english, chinese = page(node), page(node, "zh")
    assert chinese.startswith(f"# {read('zh')[node]['display_name']}\n")
    assert english.startswith(f"# {read('en')[node]['display_name']}\n")
    prose = [line for line in chinese.splitlines() if line and not line.startswith("|--")]
    assert all(HAN.search(line) for line in prose)
    assert marks(chinese) == marks(english)


@pytest.mark.parametrize("node", NODES)
def test_the_inputs_a_page_names_are_the_nodes(node):
    words = read("en")[node]
    known = {*words["inputs"], *(value["name"] for value in words["outputs"].values())}
    named = re.findall(r"^- ((?:\*\*[a-z0-9_]+\*\*(?:, )?)+)", page(node), re.MULTILINE)
    for name in re.findall(r"\*\*([a-z0-9_]+)\*\*", " ".join(named)):
        assert name in known or name in ("sweep", "ellipse", "orbit", "smooth", "even"), name
