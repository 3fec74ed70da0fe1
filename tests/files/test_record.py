import json

import pytest

from freestyle_core.errors import FileFormatError, InputError
from freestyle_core.files.record import differences, read_record, sha256, write_record

# sha256("abc"), from FIPS 180-2
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_record_holds_the_sha256_of_every_file_but_itself(tmp_path):
    (tmp_path / "front.png").write_text("abc")
    write_record(tmp_path / "run.json", {"seed": 3}, ["run.json", "front.png"])
    record = read_record(tmp_path / "run.json")
    assert record == {"seed": 3, "sha256": {"front.png": ABC}}
    assert differences(tmp_path) == ([tmp_path / "run.json"], [])


def test_another_and_a_missing_file_are_named(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_text(name)
    write_record(tmp_path / "mix.json", {}, ["a.png", "b.png", "c.png"])
    (tmp_path / "a.png").write_text("of another run")
    (tmp_path / "c.png").unlink()
    assert differences(tmp_path)[1] == [
        "a.png is not the one of mix.json: of another run, or changed",
        "c.png of mix.json is missing",
    ]


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run has finished there"):
        differences(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "3", '{"seed": 1}', '{"sha256": 3}', '{"sha256": {"a": 1}}', "[" * 100_000]
    + [json.dumps({"sha256": {name: ABC}}) for name in ("../up", "/root", "a/b", "a\0", "..", "")],
)
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(FileFormatError, match="run.json is not a record of a run"):
        differences(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileFormatError, match="cannot read .*none: No such file"):
        sha256(tmp_path / "none")
