"""The nodes in other languages: complete, in step with the nodes, served by ComfyUI."""

import json
import re

import pytest

from tests.comfy.graphs import HEAD, changed, node
from tests.comfy.locales import LOCALES, english, keys, read

HAN = re.compile("[\u4e00-\u9fff]")
OLDER = (0, 33)  # earlier versions lack some sockets, such as 3D files


def texts(words):
    if isinstance(words, dict):
        for value in words.values():
            yield from texts(value)
    else:
        yield words


def test_english_is_what_the_nodes_say(server):
    words = english(server.get("/object_info"))
    if server.version() < OLDER:
        assert keys(words) <= keys(read("en"))
    else:
        assert words == read("en"), "write it again: python -m tests.comfy.locales"


def test_chinese_has_the_same_places_as_english_and_is_chinese():
    english_words, chinese_words = read("en"), read("zh")
    assert keys(chinese_words) == keys(english_words)
    for name, words in chinese_words.items():
        tips = [v["tooltip"] for v in {**words["inputs"], **words["outputs"]}.values()]
        for text in [words["display_name"], words["description"], *tips]:
            assert HAN.search(text), (name, text)
    assert not [text for text in texts(english_words) if HAN.search(text)]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_comfyui_serves_the_words(server, language):
    served = server.get("/i18n")[language]["nodeDefs"]
    assert served.items() >= read(language).items()


def test_status_lines_speak_the_language_that_was_chosen(server):
    words = json.loads((LOCALES / "zh" / "status.json").read_text(encoding="utf-8"))
    for english_line, line in words.items():
        assert HAN.search(line) and line.count("{}") == english_line.count("{}"), english_line
    prompt = {**HEAD, "show": node("PreviewImage", images=["views", 0])}
    said = {}
    try:
        for seed, language in enumerate(("zh", "en")):
            server.post("/settings", {"Comfy.Locale": language})
            run = server.run(changed(prompt, head={"seed": 900 + seed}), 300)
            lines = [e.data.decode() for e in run.during("views") if e.kind == "text"]
            said[language] = lines[-1]
    finally:
        server.post("/settings", {"Comfy.Locale": "en"})
    assert re.search("\u6cd5\u7ebf\uff0c\u89c6\u56fe 5/5, \u7528\u65f6 0:\\d\\d$", said["zh"])
    assert re.search(r"normals, view 5/5, took 0:\d\d$", said["en"])
