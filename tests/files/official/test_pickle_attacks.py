"""Hostile and broken network pickles: all refused, cheaply, and nothing in them is ever run."""

import json
import pickletools
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freestyle_core.errors import FileFormatError, FreeStyleError
from freestyle_core.files.networks import load_eg3d
from tests.broken_pickles import BROKEN
from tests.hostile_pickles import RUNNING
from tests.pickle_parts import CANARY, PYTHON, honest, network
from tests.pickle_tools import SAMPLE

ROOT = Path(__file__).resolve().parents[3]
SECONDS, MEGABYTES = 5, 500


@cache
def truncations():
    """Return the sample cut before, inside and after the first of every kind of instruction.

    Without its frames, whose lengths would give every cut away.
    """
    data, cuts = SAMPLE.read_bytes(), {}
    frames = [at for op, _, at in pickletools.genops(data) if op.name == "FRAME"]
    for at in reversed(frames):
        data = data[:at] + data[at + 9 :]
    cuts["frame"] = SAMPLE.read_bytes()[: frames[1] + 5]
    operations = [(op.name, at) for op, _, at in pickletools.genops(data)]
    for (name, at), (_, after) in zip(operations, operations[1:], strict=False):
        for where, cut in (("before", at), ("inside", (at + after) // 2), ("after", after)):
            cuts.setdefault(f"{where} {name}", data[:cut])
    return cuts


def safe_name(name):
    return "".join(c if c.isalnum() else "_" for c in name)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What loading each file did, in one process of its own."""
    folder = tmp_path_factory.mktemp("attacks")
    files = {name: make() for name, make in {**RUNNING, **BROKEN}.items()} | truncations()
    files["honest"] = honest()
    for name, data in files.items():
        (folder / f"{safe_name(name)}.pkl").write_bytes(data)
    CANARY.unlink(missing_ok=True)
    run = subprocess.run(
        [sys.executable, "-m", "tests.pickle_tools", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) == len(files)
    return {outcome["name"]: outcome for outcome in found}


def check_refused(outcome):
    assert outcome["outcome"] == "refused", outcome
    assert outcome["seconds"] < SECONDS and outcome["peak_mb"] < MEGABYTES
    assert outcome["events"] == []
    message = outcome["message"]
    assert f"{outcome['name']}.pkl" in message and "\n" not in message and len(message) < 400


def test_the_guard_lets_an_honest_file_pass(outcomes):
    assert outcomes["honest"]["outcome"] == "loaded"
    assert len(RUNNING) >= 30 and len({make() for make in RUNNING.values()}) == len(RUNNING)


@pytest.mark.parametrize("name", RUNNING)
def test_nothing_is_ever_run(outcomes, name):
    check_refused(outcomes[safe_name(name)])
    assert not CANARY.exists()


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_refused_cheaply(outcomes, name):
    check_refused(outcomes[safe_name(name)])


def test_file_cut_at_any_instruction_is_refused(outcomes):
    assert len(truncations()) > 90
    for name in truncations():
        check_refused(outcomes[safe_name(name)])


def test_source_text_in_the_file_is_never_run(tmp_path):
    """An official file carries its classes' source; it loads as if that were not there."""
    CANARY.unlink(missing_ok=True)
    path = tmp_path / "n.pkl"
    path.write_bytes(network(source=PYTHON))
    assert PYTHON.encode() in path.read_bytes()
    load_eg3d(path)
    assert not CANARY.exists()


def test_folder_and_missing_file_are_refused(tmp_path):
    (tmp_path / "folder.pkl").mkdir()
    for name in ("folder.pkl", "none.pkl"):
        with pytest.raises(FileFormatError, match="cannot be read"):
            load_eg3d(tmp_path / name)


def test_messages_name_what_was_asked_for(outcomes):
    assert "asks for os system" in outcomes["os_system"]["message"]
    assert "is a web page" in outcomes["web_page"]["message"]
    assert (
        "G_ema or G, or the state dict of one; it has a tensor"
        in (outcomes["file_of_torch_save"]["message"])
    )
    assert "1099511627776 bytes were announced" in outcomes["terabyte_of_bytes"]["message"]


# Mutations ----------------------------------------------------------------------------------------


@cache
def sample_and_its_instructions():
    """Return the sample's bytes and where its instructions are, those inside storages too."""
    data = SAMPLE.read_bytes()
    at = []
    for operation, argument, start in pickletools.genops(data):
        at.append(start)
        if operation.name == "BINBYTES":
            at.extend(range(start + 5, start + 5 + min(len(argument), 330), 11))
    return data, at


@st.composite
def mutated(draw):
    data, instructions = sample_and_its_instructions()
    data = bytearray(data)
    anywhere = st.integers(0, len(data) - 1)
    # the beginning decides the rest, so it is hit more often
    early = st.sampled_from(instructions[:600])
    place = st.one_of(st.sampled_from(instructions), early, anywhere)
    for _ in range(draw(st.integers(1, 4))):
        start, kind = draw(place), draw(st.sampled_from("set flip insert delete repeat".split()))
        if kind == "set":
            data[start : start + 1] = draw(st.binary(min_size=1, max_size=9))
        elif kind == "flip":
            data[min(start, len(data) - 1)] ^= 1 << draw(st.integers(0, 7))
        elif kind == "insert":
            data[start:start] = draw(
                st.sampled_from(
                    [bytes([code.code.encode("latin-1")[0]]) for code in pickletools.opcodes]
                )
            )
        elif kind == "delete":
            del data[start : start + draw(st.integers(1, 40))]
        else:
            data[start:start] = data[start : start + draw(st.integers(1, 40))]
    return bytes(data)


@settings(max_examples=60, deadline=None)
@given(data=mutated())
def test_mutated_sample_loads_or_is_refused(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.pkl"
        path.write_bytes(data)
        try:
            load_eg3d(path)
        except FreeStyleError as error:
            assert "m.pkl" in str(error) and "\n" not in str(error)
