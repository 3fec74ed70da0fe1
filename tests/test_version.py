"""The version is told twice, for the registry and for the library: they agree."""

import re
from pathlib import Path

from freestyle_core import __version__


def test_pyproject_and_library_have_one_version():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    project = text.split("[project]", 1)[1].split("\n[", 1)[0]
    assert re.findall(r'^version = "(.+)"$', project, re.MULTILINE) == [__version__]
