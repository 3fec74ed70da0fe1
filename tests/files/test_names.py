"""Names of files: what may become one, and endings whatever their case."""

from pathlib import Path

import pytest

from freestyle_core.errors import InputError
from freestyle_core.files.names import ending, file_name, in_order, output_prefix, shortened


def test_an_ending_is_the_same_in_any_case():
    assert ending(Path("models/FFHQ.PKL")) == ".pkl" == ending("ffhq.pkl")
    assert ending("no_ending") == ""


@pytest.mark.parametrize("name", ["my_i2t", " made here ", "a.b-c", "\u732b", "console", "com10"])
def test_a_usual_name_is_kept_without_blanks_around_it(name):
    assert file_name(name) == name.strip()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        ".hidden",
        "..",
        "../evil",
        "/etc/evil",
        "a\\b",
        "C:evil",
        "nul",
        "COM1.x",
        "dot.",
        "a\0b",
        "a\nb",
        "half \ud800",
        "x" * 101,
        "\u732b" * 67,  # 201 bytes
    ],
)
def test_what_no_file_can_be_called_is_refused(name):
    with pytest.raises(InputError, match="cannot be a file name: "):
        file_name(name)


@pytest.mark.parametrize("prefix", ["portrait", "mesh/portrait", "a/b\\c", "%year%/x", "a..b"])
def test_a_prefix_may_name_folders(prefix):
    assert output_prefix(prefix) == prefix


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "a/",
        "a/..",
        "../evil",
        "a/../../evil",
        "..\\evil",
        "/evil",
        "\\\\server\\evil",
        "C:/evil",
        "c:evil",
        "a\0b",
        "a/\x1bb",
        "x" * 101,
        "x/" * 600 + "y",
    ],
)
def test_a_prefix_stays_inside_the_output_folder(prefix):
    with pytest.raises(InputError, match="^the prefix .* does not work: "):
        output_prefix(prefix)


def test_what_is_shown_of_a_value_fits_into_a_sentence():
    assert shortened("short") == "'short'"
    assert len(shortened("x" * 10**7)) == 60 and len(shortened(10**400)) == 60


def test_names_sort_as_a_person_counts():
    names = ["b 1.png", "10.png", "a10.png", "2.png", "a2.png", "a02.png", "view 3.png"]
    ordered = sorted(names, key=in_order)
    assert ordered == ["2.png", "10.png", "a02.png", "a2.png", "a10.png", "b 1.png", "view 3.png"]
