"""Job files: what an entry means, and one line for every mistake."""

import pytest

from freestyle_core.batch.job_file import read_entries, seeds_of
from freestyle_core.errors import FileFormatError, FreeStyleError, InputError


def entries(tmp_path, text, name="jobs.toml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_entries(path)


def test_defaults_go_behind_what_an_entry_says(tmp_path):
    text = """
    [defaults]
    preset = "fast"
    seeds = "1-3"
    views = 4

    [[jobs]]
    prompt = "an elf"

    [[jobs]]
    prompts = ["a zombie", "sand"]
    seed = 9
    views = 5
    """
    first, second = entries(tmp_path, text)
    assert first.where == "jobs.toml, entry 1 (line 7)"
    assert first.values == {"preset": "fast", "seeds": "1-3", "views": 4, "prompt": "an elf"}
    assert second.where == "jobs.toml, entry 2 (line 10)"
    # its one seed stands in the place of the default seeds, whatever they are called
    assert second.values == {
        "preset": "fast", "prompts": ["a zombie", "sand"], "seed": 9, "views": 5,
    }  # fmt: skip


def test_csv_has_a_line_for_each_and_empty_fields_are_not_set(tmp_path):
    text = 'prompt, seed, preset, tau, robust\n"an elf, old",1-3,fast,,yes\n\n sand | ice,7,,0.8,\n'
    first, second = entries(tmp_path, text, "jobs.CSV")
    assert (first.where, second.where) == ("jobs.CSV, line 2", "jobs.CSV, line 4")
    assert first.values == {
        "prompt": "an elf, old", "seed": "1-3", "preset": "fast", "robust": True,
    }  # fmt: skip
    assert second.values == {"prompt": ["sand", "ice"], "seed": "7", "tau": 0.8}


@pytest.mark.parametrize(
    "value, expected",
    [(3, [3]), ("3", [3]), ([1, "4-6", 2], [1, 4, 5, 6, 2]), ("1, 3 5 - 7", [1, 3, 5, 6, 7])],
)
def test_seeds(value, expected):
    assert seeds_of(value, "here") == expected


@pytest.mark.parametrize("value", ["7-5", "x", -1.5, True, "0-1000000", "-3", None])
def test_what_is_no_seed(value):
    with pytest.raises(InputError, match="^here: a seed is a whole number or a range as 1-25"):
        seeds_of(value, "here")


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("jobs.toml", "[[jobs]]\nprompt = elf\n", "jobs.toml is no TOML: .*line 2"),
        ("jobs.toml", 'prompt = "elf"', "has 'prompt' at its top"),
        ("jobs.toml", "jobs = 3", "jobs.toml: write jobs as"),
        ("jobs.toml", "[defaults]\nseed = 1", "has no jobs"),
        ("jobs.csv", "prompt,seed\nelf,1,2", "jobs.csv, line 2: 3 fields, but 2 columns"),
        ("jobs.csv", "prompt,prompt\nelf,1", "jobs.csv, line 1: every column needs a name"),
        ("jobs.csv", 'prompt,seed\n"elf,1', "jobs.csv, line 2: unexpected end"),
        ("jobs.csv", "prompt,seed", "has no jobs"),
        ("jobs.txt", "", "ends in .toml or .csv, got 'jobs.txt'"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, name, text, said):
    with pytest.raises(FreeStyleError, match=said) as caught:
        entries(tmp_path, text, name)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(FileFormatError, match="is not there"):
        read_entries(tmp_path / "jobs.toml")
    (tmp_path / "jobs.csv").write_bytes(b"prompt\n\xff\xfe")
    with pytest.raises(FileFormatError, match="UTF-8"):
        read_entries(tmp_path / "jobs.csv")
