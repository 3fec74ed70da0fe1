"""Fetching an editor from a hub that runs here: complete and verified, or one line that says why.

The hub is an http.server; `huggingface_hub` itself talks to it.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from freestyle_core.errors import Cancelled, DownloadError
from freestyle_core.files.editors import download
from freestyle_core.files.editors.download import (
    REPOSITORY,
    RemoteFile,
    download_editor,
    needed_files,
)
from freestyle_core.files.editors.load import load_editor
from tests.hub import CHUNK, Hub, serving
from tests.tiny_editor import save_tiny_editor

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The files of a repository: a tiny editor, and what the real one has besides."""
    folder = save_tiny_editor(tmp_path_factory.mktemp("repository"))
    paths = [path for path in folder.rglob("*") if path.is_file() and "words" not in path.parts]
    inside = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    inside["safety_checker/model.safetensors"] = b"never"
    inside["safety_checker/config.json"] = b"{}"
    inside["unet/diffusion_pytorch_model.bin"] = b"pickled"
    inside["instruct-pix2pix-00-22000.ckpt"] = b"pickled"
    inside["README.md"] = b"# readme"
    return inside


@pytest.fixture
def hub(content, monkeypatch):
    with serving(Hub(content, REPOSITORY), monkeypatch) as hub:
        yield hub


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "diffusers" / "instruct-pix2pix"


def stop_after(hub, count):
    """Return a progress that cancels once so many bytes of the U-Net have arrived."""
    folder_parts = []

    def progress(done, total, preview=None):
        parts = list(folder_parts[0].glob("unet/*.part")) if folder_parts else []
        if parts and parts[0].stat().st_size >= count:
            raise Cancelled("stopped")

    return progress, folder_parts


def test_only_what_an_editor_needs_is_fetched_and_it_loads(hub, folder):
    reports = []
    assert download_editor(folder, progress=lambda *report: reports.append(report)) == folder
    assert load_editor(folder).unet.config.in_channels == 8
    fetched = hub.fetched()
    assert len(set(fetched)) == len(fetched) == 12
    assert fetched[-1] == "model_index.json"
    assert not [n for n in fetched if n.startswith(("safety", "instruct", "README")) or ".bin" in n]
    on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert on_disk == set(fetched)
    assert all(done <= total for done, total in reports) and reports[-1][0] == reports[-1][1]


def test_a_complete_folder_needs_no_network(hub, folder):
    download_editor(folder)
    hub.requests.clear()
    hub.status = 500
    assert download_editor(folder) == folder
    assert not hub.requests


def test_half_precision_is_preferred_where_it_is_offered(content):
    listed = [RemoteFile(name, len(data), None, "") for name, data in content.items()]
    half = RemoteFile("unet/diffusion_pytorch_model.fp16.safetensors", 1, None, "")
    names = [file.name for file in needed_files([*listed, half])]
    assert half.name in names and UNET not in names
    assert "vae/diffusion_pytorch_model.safetensors" in names


def test_a_stopped_download_goes_on_where_it_stopped(hub, folder, content):
    progress, folders = stop_after(hub, 3 * CHUNK)
    folders.append(folder)
    with pytest.raises(Cancelled):
        download_editor(folder, progress=progress)
    assert not (folder / "model_index.json").exists() and not (folder / UNET).exists()
    have = next(folder.glob("unet/*.part")).stat().st_size
    assert 3 * CHUNK <= have < len(content[UNET])
    done = set(hub.fetched()) - {UNET}
    hub.requests.clear()
    download_editor(folder)
    assert (UNET, f"bytes={have}-") in hub.requests
    assert not done & set(hub.fetched())  # complete files are not fetched again
    assert (folder / UNET).read_bytes() == content[UNET]
    assert not list(folder.rglob("*.part"))


def test_a_broken_line_is_taken_up_again(hub, folder, content):
    hub.breaks[UNET] = 2 * CHUNK + 100
    download_editor(folder)
    asked = [range_ for name, range_ in hub.requests if name == UNET]
    assert asked[0] is None and len(asked) == 2 and asked[1].startswith("bytes=")
    assert (folder / UNET).read_bytes() == content[UNET]


def test_a_server_without_ranges_sends_all_of_it_again(hub, folder, content):
    hub.ranges = False
    file = RemoteFile(UNET, len(content[UNET]), hashlib.sha256(content[UNET]).hexdigest(), None)
    part = folder / f"{UNET}.{file.sha256[:12]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content[UNET][:1000])
    reports = []
    download_editor(folder, progress=lambda *report: reports.append(report))
    assert (folder / UNET).read_bytes() == content[UNET]
    assert all(done <= total for done, total in reports)


def test_a_part_of_another_version_is_not_continued(hub, folder, content):
    old = folder / f"{UNET}.0123456789ab.part"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old" * 1000)
    download_editor(folder)
    assert [range_ for name, range_ in hub.requests if name == UNET] == [None]
    assert (folder / UNET).read_bytes() == content[UNET] and not old.exists()


@pytest.mark.parametrize("name", [UNET, "vae/config.json"])
def test_changed_bytes_are_noticed_and_fetched_again(hub, folder, content, name):
    damaged = bytes([content[name][0] ^ 1]) + content[name][1:]
    hub.files[name] = damaged
    with pytest.raises(DownloadError, match=f"{name} arrived damaged.*run again"):
        download_editor(folder)
    assert not (folder / name).exists() and not list((folder / name).parent.glob("*.part"))
    assert not (folder / "model_index.json").exists()
    hub.files[name] = content[name]
    download_editor(folder)
    assert (folder / name).read_bytes() == content[name]


def test_a_finished_file_that_was_damaged_later_is_fetched_again(hub, folder, content):
    path = folder / UNET
    path.parent.mkdir(parents=True)
    path.write_bytes(content[UNET][:-1] + b"?")
    download_editor(folder)
    assert path.read_bytes() == content[UNET]


def test_a_size_other_than_stated_is_refused(hub, folder, content):
    hub.files[UNET] = content[UNET] + b"more"
    with pytest.raises(DownloadError, match="was not downloaded: "):
        download_editor(folder)
    assert not (folder / UNET).exists()


def one_line(error, folder):
    message = str(error.value)
    assert "\n" not in message and str(folder) in message and f"/{REPOSITORY}" in message
    return message


@pytest.mark.parametrize("status", [401, 404, 500, 503])
def test_a_refusing_hub_gives_one_line_with_address_and_folder(hub, folder, status):
    hub.status = status
    with pytest.raises(DownloadError) as error:
        download_editor(folder)
    assert hub.address in one_line(error, folder)


def test_no_network_gives_one_line_with_address_and_folder(folder, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(DownloadError) as error:
        download_editor(folder)
    one_line(error, folder)
    assert not folder.exists()


def test_a_repository_without_an_editor_is_refused(hub, folder):
    del hub.described["tokenizer/vocab.json"]
    with pytest.raises(DownloadError, match="the repository lacks tokenizer/vocab.json"):
        download_editor(folder)
    assert not hub.requests


def test_too_little_space_is_said_before_anything_is_fetched(hub, folder, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match="MB are needed there and 0 are free"):
        download_editor(folder)
    assert not hub.requests


def test_environment_variables_of_the_hub_are_respected(hub, folder):
    """HF_ENDPOINT says where, HF_HUB_OFFLINE that nothing may be asked; both are read at start."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from freestyle_core.errors import DownloadError\n"
        "from freestyle_core.files.editors.download import download_editor\n"
        "try:\n    download_editor(Path(sys.argv[1]))\n"
        "except DownloadError as error:\n    sys.stdout.write(str(error))\n"
    )

    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "1"}
    message = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        cwd=Path(__file__).parents[3],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "HF_HUB_OFFLINE is set" in message and hub.address in message and str(folder) in message
    assert not hub.requests and not folder.exists()
