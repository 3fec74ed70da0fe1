"""A page of styles: what it holds, in a file and in a browser."""

import os
import shutil

import pytest
import torch

from freestyle_core.errors import InputError, ShapeError
from freestyle_core.visualize.style_page import YAW_DEG, ShownStyle, page_cameras, style_page
from tests.pages import page_data, strip
from tests.spheres import RIG

SIDE = 16


def flat(*levels):
    """Return grey pictures [N,3,16,16]."""
    return torch.tensor(levels)[:, None, None, None].expand(-1, 3, SIDE, SIDE)


def colours(*rgb):
    """Return pictures [N,3,16,16], each of one colour."""
    return torch.tensor(rgb)[:, :, None, None].expand(-1, -1, SIDE, SIDE)


def test_pictures_stand_side_by_side_from_left_to_right():
    styles = [
        ShownStyle("plain", "", flat(0.0, 0.5, 1.0)),
        ShownStyle("b", "b", flat(1.0, 0.0, 0.0)),
    ]
    shown = page_data(style_page("a head", styles))
    assert shown["views"] == 3 and [s["name"] for s in shown["styles"]] == ["plain", "b"]
    for style, wanted in zip(shown["styles"], ((0.0, 0.5, 1.0), (1.0, 0.0, 0.0)), strict=True):
        found = strip(style).unfold(2, SIDE, SIDE).mean((0, 1, 3))
        torch.testing.assert_close(found, torch.tensor(wanted), atol=0.01, rtol=0)


def test_no_text_of_a_pack_becomes_part_of_the_page():
    evil = "</script><script>alert(1)</script> $title & <b>"
    text = style_page(evil, [ShownStyle(evil, evil, flat(0.0, 0.5, 1.0))])
    assert text.count("<script") == 2 and "<b>" not in text and "$title" in text
    (style,) = page_data(text)["styles"]
    assert style["name"] == style["words"] == evil


def test_styles_of_unlike_sizes_and_none_are_refused():
    one, other = flat(0.0, 0.5, 1.0), flat(0.0, 0.5)
    with pytest.raises(ShapeError, match="views of one size"):
        style_page("a", [ShownStyle("a", "a", one), ShownStyle("b", "b", other)])
    with pytest.raises(ShapeError, match="views of one size"):
        style_page("a", [])


def test_the_middle_camera_is_the_front():
    cameras = page_cameras(5, RIG)
    front = page_cameras(3, RIG)[1]
    torch.testing.assert_close(cameras[2].cam_to_world, front.cam_to_world)
    x = cameras.cam_to_world[:, 0, 3]  # the head is seen from these sides
    torch.testing.assert_close(x, -x.flip(0), atol=1e-5, rtol=0)
    assert x.abs().max() == pytest.approx(
        RIG.radius * torch.sin(torch.tensor(YAW_DEG).deg2rad()).item(), rel=1e-4
    )
    for wrong in (1, 4, 63):
        with pytest.raises(InputError, match="odd number from 3 to 61"):
            page_cameras(wrong, RIG)


@pytest.fixture
def page(tmp_path):
    """A page of a grey head and a red one, in a browser that asks for nothing to move by itself."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser: none of {names} is installed; set CHROMIUM to one")
    plain = ShownStyle("plain", "the head before", flat(0.0, 0.5, 1.0))
    red = ShownStyle("red", "a red one", colours((0.6, 0.0, 0.0), (0.8, 0.0, 0.0), (1.0, 0.0, 0.0)))
    file = tmp_path / "styles.html"
    file.write_text(style_page("Head 1", [plain, red]), encoding="utf-8")
    with api.sync_playwright() as play:
        chrome = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        opened = chrome.new_page(viewport={"width": 800, "height": 700}, reduced_motion="reduce")
        faults = []
        opened.on("pageerror", lambda fault: faults.append(fault))
        opened.goto(file.as_uri())
        opened.wait_for_function("strips.every((s) => s.naturalWidth)")
        yield opened
        chrome.close()
        assert faults == []


PIXEL = "[...pen.getImageData(384, 384, 1, 1).data].slice(0, 3)"


def near(found, wanted):
    return all(abs(a - b) <= 4 for a, b in zip(found, wanted, strict=True))


def test_a_head_turns_under_the_hand_and_changes_its_style(page):
    assert near(page.evaluate(PIXEL), (128, 128, 128))  # the front
    page.keyboard.press("ArrowLeft")
    assert near(page.evaluate(PIXEL), (0, 0, 0))
    page.keyboard.press("ArrowLeft")  # no farther than there are views
    assert near(page.evaluate(PIXEL), (0, 0, 0))
    page.evaluate("face(1.5)")  # between two views: half of each
    assert near(page.evaluate(PIXEL), (191, 191, 191))
    box = page.locator("#head").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - box["width"], middle[1])
    page.mouse.up()
    assert near(page.evaluate(PIXEL), (255, 255, 255))
    page.get_by_role("button", name="red").click()
    assert near(page.evaluate(PIXEL), (255, 0, 0))
    assert page.locator("#name").inner_text().split("\n") == ["red", "a red one"]
    page.keyboard.press("ArrowDown")  # after the last comes the first
    assert near(page.evaluate(PIXEL), (255, 255, 255))
    assert page.locator("button[aria-pressed=true]").get_attribute("aria-label") == "plain"


@pytest.mark.parametrize("size", [(1280, 900), (390, 800), (800, 420)])
def test_nothing_is_stretched_or_cut_off(page, size):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    box = page.locator("#head").bounding_box()
    assert box["width"] == pytest.approx(box["height"]) and box["width"] >= 190
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
