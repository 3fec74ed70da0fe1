"""The Portrait Viewer in the real frontend: hands, keys, reloads, languages. As test_browser.py."""

import io

import numpy as np
import pytest
from PIL import Image

from freestyle_core.files.networks import embedded
from tests.comfy.browser import HAN, RENDERERS, VIEWER
from tests.comfy.flows import TIME_LIMIT
from tests.comfy.graphs import node

MODEL = "clay (embedded)" if embedded("eg3d").is_file() else "tiny.safetensors"
VIEWED = {
    "1": node("FreeStyleLoadEG3D", model=MODEL),
    "2": node("FreeStyleEG3DSampler", eg3d=["1", 0], seed=3, truncation=0.7),
    "3": node("FreeStyleEG3DSampler", eg3d=["1", 0], seed=4, truncation=0.7),
    "4": node(
        "FreeStylePortraitViewer",
        portrait=["2", 0],
        compare=["3", 0],
        columns=3,
        rows=3,
        yaw_range_deg=30.0,
        pitch_range_deg=20.0,
    ),
}


SETTLED = f"""() => {{
  const viewer = {VIEWER};
  const canvas = viewer?.stage?.canvas;
  return canvas?.classList.contains("shown") && !viewer.motion.moving
    && viewer.zoom.scale === viewer.zoom.goal
    && !viewer.root.getAnimations({{ subtree: true }}).length;
}}"""  # nothing moves, grows or fades


def viewer_pixels(browser):
    """Return what the viewer shows, as floats in [0,255], and its place on the page."""
    browser.stand_still()
    box = browser.run(
        f"() => {{ const r = {VIEWER}.element.getBoundingClientRect();"
        "return { x: r.x, y: r.y, width: r.width, height: r.height }; }"
    )
    picture = browser.page.screenshot(clip=box)
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(float), box


def settle(browser):
    """Wait until the viewer shows something, and stands still."""
    browser.page.wait_for_function(SETTLED)


def change(a, b):
    """Return by how much two pictures differ, 0 to 255; the viewer has not moved between them."""
    assert a[1] == b[1], "the viewer has another place or size"
    return np.abs(a[0] - b[0]).mean()


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_viewer_turns_under_the_hand(browser, renderer):
    browser.use(renderer)
    browser.run("(p) => app.loadApiJson(p, 'viewer')", VIEWED)
    browser.fit()
    browser.press_run(TIME_LIMIT)
    page, mouse = browser.page, browser.page.mouse
    mouse.move(5, 450)  # the buttons fade out
    settle(browser)
    browser.fit()  # the run may have changed the sizes of nodes
    front = viewer_pixels(browser)
    browser.shot(f"viewer, front, {renderer}")
    box = front[1]
    x, y = box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"]

    mouse.move(x, y)
    mouse.down()
    mouse.move(x + 0.15 * box["width"], y + 0.1 * box["height"], steps=4)
    mouse.up()
    browser.shot(f"viewer, dragged, {renderer}")
    mouse.move(5, 450)
    settle(browser)
    pose = browser.run(f"() => {VIEWER}.pose")
    assert pose["yaw"] < -5 and pose["pitch"] > 3  # the face follows the hand: right and down
    turned = viewer_pixels(browser)
    assert change(front, turned) > 1

    scale = browser.run("() => app.canvas.ds.scale")
    mouse.move(x, y)
    mouse.wheel(0, -300)  # it has the focus: the picture grows, not the graph
    page.wait_for_function(f"() => {VIEWER}.zoom.goal > 1.3")
    settle(browser)
    assert browser.run("() => app.canvas.ds.scale") == scale

    page.keyboard.press("ArrowRight")
    settle(browser)
    assert browser.run(f"() => {VIEWER}.pose.yaw") == pytest.approx(pose["yaw"] - 4, abs=0.1)
    page.keyboard.press("0")
    page.wait_for_function(f"() => {VIEWER}.zoom.goal === 1")
    settle(browser)
    assert browser.run(f"() => [{VIEWER}.pose.yaw, {VIEWER}.pose.pitch]") == [0, 0]

    mouse.click(5, 450)
    mouse.move(x, y)
    mouse.wheel(0, -100)  # without the focus the wheel is the graph's
    page.wait_for_function("(scale) => app.canvas.ds.scale > scale", arg=scale)
    browser.stand_still()
    assert browser.run(f"() => {VIEWER}.zoom.goal") == 1


def test_the_slider_compares_two_portraits(browser):
    settle(browser)
    browser.fit()
    page = browser.page
    slider = page.get_by_role("slider", name="Compare the two portraits")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuenow") == "70"
    settle(browser)
    mostly_second = viewer_pixels(browser)
    page.keyboard.press("c")
    settle(browser)
    alone = viewer_pixels(browser)
    assert not slider.is_visible() and change(mostly_second, alone) > 0.5
    page.keyboard.press("c")  # the keys still go to the viewer
    assert slider.is_visible()


def pose_of(browser):
    return browser.run(f"() => {VIEWER}.pose")


def after_a_reload(browser):
    """Reload the page at once, and return the pose that the viewer then has."""
    browser.page.reload(wait_until="domcontentloaded")
    browser.page.wait_for_function(f"() => window.app?.graph && {VIEWER}?.stage")
    settle(browser)
    return pose_of(browser)


def test_the_view_survives_a_reload_and_the_node_lets_go(browser):
    settle(browser)
    browser.fit()
    page, mouse = browser.page, browser.page.mouse
    page.wait_for_timeout(2500)  # the frontend keeps a draft of the workflow now and then
    _, box = viewer_pixels(browser)
    x, y = box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"]
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + 0.2 * box["width"], y, steps=4)
    mouse.up()
    page.wait_for_function(f"() => !{VIEWER}.motion.moving")  # it slid on, and then stands
    stood = pose_of(browser)
    assert stood["yaw"] < -5
    assert after_a_reload(browser) == pytest.approx(stood, abs=1e-6)

    browser.fit()
    _, box = viewer_pixels(browser)
    x, y = box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"]
    mouse.dblclick(x, y)  # back to the front
    handle = page.get_by_role("slider", name="Compare the two portraits").bounding_box()
    grip = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    mouse.move(*grip)
    mouse.down()
    mouse.move(box["x"] + 0.8 * box["width"], grip[1], steps=4)
    mouse.up()
    again = after_a_reload(browser)
    browser.shot("viewer, after a reload")
    assert [again["yaw"], again["pitch"], again["comparing"]] == [0, 0, True]
    assert again["split"] == pytest.approx(0.8, abs=0.02)

    browser.run(f"() => {VIEWER}.part('split').focus()")
    page.keyboard.press("ArrowLeft")
    assert after_a_reload(browser)["split"] == pytest.approx(again["split"] - 0.04, abs=1e-6)

    gone = browser.run(f"""async () => {{
      const viewer = {VIEWER};
      const gl = viewer.stage.gl;
      app.graph.remove(app.graph._nodes.find((n) => n.freestyleViewer === viewer));
      await new Promise((done) => setTimeout(done, 100));
      return [viewer.stage, viewer.views, gl?.isContextLost() ?? true, viewer.element.isConnected];
    }}""")
    assert gone == [None, None, True, False]


def test_views_that_are_gone_leave_a_friendly_line(browser):
    browser.run("(p) => app.loadApiJson(p, 'empty')", VIEWED)
    browser.fit()
    record = {"file": {"filename": "freestyle_orbit_0.jpg", "subfolder": "", "type": "temp"}}
    said = browser.run(
        f"""async (record) => {{
      const viewer = {VIEWER};
      const line = () => viewer.root.querySelector(".empty p").textContent;
      const before = line();
      await viewer.show(record, app.api.apiURL("/view?" + new URLSearchParams(record.file)));
      return [before, line()];
    }}""",
        record,
    )
    browser.shot("viewer, empty")
    assert said[0].startswith("Press Run") and said[1].startswith("The views of the last run are")
    assert [c for c in browser.complaints if "404" not in c] == []
    browser.complaints.clear()  # the browser itself reports the missing file


def test_the_viewer_speaks_the_language_of_comfyui(browser):
    parts = f"""{VIEWER}?.root.querySelectorAll("p, .name, [aria-label], [title]")"""
    said = f"""() => [...({parts} ?? [])].flatMap(
      (part) => [part.textContent, part.ariaLabel, part.title].filter((s) => s?.trim()))"""
    same = f"(words) => JSON.stringify(({said})()) === JSON.stringify(words)"
    choose = "(locale) => app.extensionManager.setting.set('Comfy.Locale', locale)"
    browser.run("(p) => app.loadApiJson(p, 'words')", VIEWED)
    english = browser.run(said)
    assert "Turn by itself (space)" in english and not HAN.search(" ".join(english))
    try:
        browser.run(choose, "zh")
        browser.page.wait_for_function(f"() => {VIEWER}?.element.lang === 'zh'")
        chinese = browser.run(said)  # the same viewer, at once
        browser.run("(p) => app.loadApiJson(p, 'words')", VIEWED)
        browser.fit()
        browser.shot("viewer, in Chinese")
        browser.page.wait_for_function(same, arg=chinese)  # a new one
        browser.run(choose, "en")
        browser.page.wait_for_function(same, arg=english)
    finally:
        browser.run(choose, "en")
        browser.open()  # the frontend may have named its nodes in the language before
    assert len(chinese) == len(english) and all(map(HAN.search, chinese))


def test_every_language_of_the_viewer_has_all_words(browser):
    words, found = browser.run("""async () => {
      const { LANGUAGES, wordsFor } = await import("/extensions/FreeStyle3D/js/orbit/words.js");
      const asked = ["zh-TW", "fr", undefined].map(wordsFor);
      return [Object.fromEntries(LANGUAGES.map((l) => [l, Object.keys(wordsFor(l))])),
              asked.map((words) => LANGUAGES.find((l) => wordsFor(l) === words))];
    }""")
    assert {"en", "zh"} <= set(words)
    assert all(keys == words["en"] for keys in words.values())
    assert found == ["zh", "en", "en"]


def test_motion_slides_springs_back_and_sweeps(browser):
    ends = browser.run("""async () => {
      const { Motion } = await import("/extensions/FreeStyle3D/js/orbit/motion.js");
      const rest = (m) => { let n = 0; while (m.moving && n++ < 3000) m.step(1 / 60); return m; };
      const flick = (m, yaw) => {
        m.grab(0); m.drag(yaw / 2, 0, 0.02); m.drag(yaw, 0, 0.04); m.release(0.045); return m;
      };
      const calm = new Motion();
      calm.calm = true;
      const slow = new Motion();
      slow.grab(0); slow.drag(6, 0, 0.04); slow.release(0.5);
      const far = new Motion();
      far.grab(0); far.drag(60, 0, 1);
      const beyond = far.shown.yaw;
      far.release(2);
      const sweep = new Motion();
      sweep.play(true);
      let most = 0;
      for (let i = 0; i < 900; i++) { sweep.step(1 / 60); most = Math.max(most, sweep.yaw); }
      return [rest(flick(new Motion(), 1)).yaw, rest(flick(calm, 1)).yaw, rest(slow).yaw, beyond,
              rest(far).yaw, most];
    }""")
    slid, calm, slow, beyond, back, most = ends
    assert 4 < slid < 12  # 1 degree in 0.045 s is 22 degrees per second, over about 1/3.4 s
    assert calm == 1 and slow == 6  # no slide: less motion wanted; the hand had stopped
    assert 30 < beyond < 35 and back == pytest.approx(30, abs=0.05)  # gives way, and comes back
    assert 22 < most <= 27.6  # 0.92 of 30 degrees
