"""The pack in the real frontend: what an artist sees. Skipped without ComfyUI or a browser.

Pictures of every step lie in pytest's temporary folder, or in BROWSER_SHOTS where it names one.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from freestyle_core.files.media.image import save_image
from freestyle_core.files.media.video import save_video
from tests.comfy.browser import HAN, RENDERERS
from tests.comfy.flows import (
    FRAMES,
    GROWN,
    NAMES,
    SMALL,
    TIME_LIMIT,
    TINY,
    TITLE_HEIGHT,
    TITLES,
    after_a_run,
    apart,
    covers,
    groups,
    load,
    overlaps,
)
from tests.comfy.locales import read

HELP = Path(__file__).parents[2] / "nodes" / "web" / "docs"
THUMBNAIL = """(title) => {
  const titles = [...document.querySelectorAll('[data-testid="template-workflows-content"] h3')];
  let part = titles.find((h) => h.innerText === title);
  while (part && !part.querySelector("img")) part = part.parentElement;  // up to its card
  const picture = part?.querySelector("img");
  return picture?.src.startsWith("blob:") && picture.naturalWidth > 0
    && part.querySelectorAll("h3").length === 1;
}"""  # pictures of cards that are not to be seen are not loaded
LOADERS = {"FreeStyleLoadEG3D", "FreeStyleLoadI2T", "FreeStyleLoadIp2pEditor"}
SAYING = {"FreeStyleLoadEG3D", "FreeStylePortraitMesh", "FreeStyleSavePortrait"}  # a line of text
LIVE = {
    "FreeStyleTriplaneRender",
    "FreeStyleIp2pSDEditStylize",
    "FreeStyleI2TFinetune",
    "FreeStyleStyleSweep",
}  # show a line of text and a picture while they run
PICTURE_NODES = LIVE | {
    "LossGraphNode",
    "PreviewImage",
    "SaveAnimatedWEBP",
    "SaveImage",
    "SaveVideo",
}
PICTURED = """(types) => app.graph._nodes.filter((n) => types.includes(n.type)).every((n) => {
  if (!LiteGraph.vueNodesMode)
    return n.imgs?.length || n.videoContainer?.querySelector("video")?.readyState;
  const parts = document.querySelectorAll(
    `[data-node-id="${n.id}"] img, [data-node-id="${n.id}"] video`);
  return [...parts].some((part) => part.naturalWidth || part.readyState);
})"""


@pytest.fixture(scope="module")
def results(server):
    """Return what nodes say and show after a run, by type, of files as large as real ones."""
    frames = torch.rand(FRAMES, 3, 128, 128)
    folder = server.base / "temp"
    folder.mkdir(exist_ok=True)
    for number, frame in enumerate(frames[:5]):
        save_image(folder / f"replay_{number}.png", frame)
    save_image(folder / "replay_sheet.png", torch.rand(3, 256, 384))
    save_video(folder / "replay.mp4", frames, fps=24)
    views = [f"replay_{number}.png" for number in range(5)]

    def shown(*names):
        return [{"filename": name, "subfolder": "", "type": "temp"} for name in names]

    line = "training, step 450/450, loss 0.123, took 12:34"
    return {
        "sheet": "replay_sheet.png",
        "live": sorted(LIVE),
        "lines": dict.fromkeys(LIVE | SAYING, line),
        "shown": {
            "LossGraphNode": {"images": shown(views[0])},
            "PreviewImage": {"images": shown(*views)},
            "SaveAnimatedWEBP": {"images": shown(views[0]), "animated": [True]},
            "SaveImage": {"images": shown("replay_sheet.png")},
            "SaveVideo": {"images": shown("replay.mp4"), "animated": [True]},
        },
    }


REPLAY = """async ({ sheet, shown, live, lines }) => {
  const { api } = app;
  const blob = await (await fetch(api.apiURL(`/view?filename=${sheet}&type=temp`))).blob();
  for (const { id, type } of app.graph._nodes) {
    const node = String(id);
    if (lines[type]) api.dispatchCustomEvent("progress_text", { nodeId: node, text: lines[type] });
    if (live.includes(type))
      api.dispatchCustomEvent("b_preview_with_metadata", {
        blob, nodeId: node, displayNodeId: node, realNodeId: node, jobId: "replay" });
    if (shown[type])
      api.dispatchCustomEvent("executed", {
        node, display_node: node, output: shown[type], prompt_id: "replay" });
  }
}"""  # the events of a run, as the frontend passes them on


def check_room(browser, workflow):
    """Check that live pictures and lines of text are there, and that there was room for them."""
    nodes = {f"{node['type']} {node['id']}": node for node in workflow["nodes"]}
    pictured = PICTURE_NODES & {node["type"] for node in nodes.values()}
    browser.page.wait_for_function(PICTURED, arg=sorted(pictured))
    browser.stand_still()  # what follows the pictures in height
    boxes = browser.boxes()
    assert overlaps(boxes) == []
    for name, drawn in boxes.items():
        assert all(apart(drawn, group) or covers(group, drawn) for group in groups(workflow)), (
            f"{name} hangs out of its group"
        )
        if name.split()[0] in GROWN:
            room = max(after_a_run(nodes[name]), nodes[name]["size"][1])
            assert drawn[3] - drawn[1] <= TITLE_HEIGHT + room, name


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("name", NAMES)
def test_workflow_opens_clean_and_has_room_for_what_a_run_shows(browser, results, name, renderer):
    workflow = load(name)
    browser.use(renderer)
    browser.load(workflow, name)
    browser.shot(f"{name} in {renderer}")
    missing, red = browser.run("""() => {
      const graphs = [app.graph, ...(app.graph.subgraphs?.values() ?? [])];
      const nodes = graphs.flatMap((g) => g._nodes);
      const known = (n) => n.isSubgraphNode?.() || LiteGraph.registered_node_types[n.type];
      return [nodes.filter((n) => !known(n)), nodes.filter((n) => n.has_errors)].map(
        (some) => some.map((n) => n.type));
    }""")
    assert missing == []
    if name == "full_size_models":  # red on purpose: the models are still to be got
        assert set(red) <= LOADERS
    else:
        assert red == []
        assert browser.page.get_by_test_id("error-overlay").count() == 0
    assert overlaps(browser.boxes()) == []
    if name == "portrait_form":  # which opens as a form, and has the graph of the first
        return
    assert browser.run("() => app.canvas.low_quality") is False  # its text can be read
    assert browser.stray_wires() == []
    browser.run(REPLAY, results)
    check_room(browser, workflow)
    browser.shot(f"{name} in {renderer}, after a run")


def make_small(browser, **more):
    """Put the smallest settings and the tiny models into the open workflow, and `more` by type."""
    settings = {key: {**SMALL.get(key, {}), **TINY.get(key, {})} for key in {*SMALL, *TINY}}
    settings["FreeStyleI2TFinetune"]["iterations"] = 10  # with one live picture
    browser.run(
        """(settings) => {
      for (const node of app.graph._nodes)
        for (const [name, value] of Object.entries(settings[node.type] ?? {}))
          node.widgets.find((w) => w.name === name).value = value;
    }""",
        {**settings, **more},
    )


def test_a_new_prompt_and_run_change_the_result(browser):
    browser.use("Nodes 2.0")
    workflow = load("text_to_turntable")
    browser.load(workflow, "prompt")
    make_small(browser)
    stylize = next(n for n in workflow["nodes"] if n["type"] == "FreeStyleIp2pSDEditStylize")
    preview = next(n for n in workflow["nodes"] if n.get("title", "").startswith("Restyled"))
    field = browser.page.locator(f'[data-node-id="{stylize["id"]}"]').get_by_label(
        "style", exact=True
    )
    pictures = []
    for words in ("a bronze statue", "an elf with green hair"):
        field.fill(words)
        shown = browser.press_run(TIME_LIMIT)
        images = shown[str(preview["id"])]["images"]
        pictures.append([np.asarray(Image.open(browser.server.file(i))) for i in images])
    browser.shot("after a new prompt")
    assert len(pictures[0]) == len(pictures[1]) == 5  # front and 2 x 2
    for before, after in zip(*pictures, strict=True):
        assert before.shape == after.shape and not np.array_equal(before, after)
    check_room(browser, workflow)


def test_every_help_page_opens_with_its_picture(browser):
    page = browser.page
    browser.use("classic")
    titles = browser.run("""() => {
      const types = Object.keys(LiteGraph.registered_node_types);
      app.graph.clear();
      for (const type of types.filter((t) => t.startsWith("FreeStyle"))) {
        const node = LiteGraph.createNode(type);
        node.pos = [0, 900 * app.graph._nodes.length];
        app.graph.add(node);
      }
      return Object.fromEntries(app.graph._nodes.map((n) => [n.type, n.title]));
    }""")
    browser.fit()
    assert sorted(titles) == sorted(path.stem for path in HELP.glob("Free*.md"))
    for number, (kind, title) in enumerate(titles.items()):
        browser.run(
            """(type) => {
          app.canvas.deselectAll();
          app.canvas.selectNode(app.graph._nodes.find((n) => n.type === type));
        }""",
            kind,
        )
        if number == 0:  # the page then follows the selected node
            button = page.get_by_test_id("info-button")
            button.wait_for()
            button.dispatch_event("click")  # it moves with the node, a real click may never hit it
        page.get_by_role("heading", name=title, exact=True).first.wait_for()
        page.wait_for_function(
            """(type) => [...document.querySelectorAll("img")].some((i) =>
          i.src.endsWith(`/extensions/FreeStyle3D/docs/${type}.jpg`) && i.naturalWidth > 0)""",
            arg=kind,
        )
    browser.shot("help page")


def test_help_pages_are_chinese_where_comfyui_is(browser):
    page = browser.page
    node = "FreeStyleI2TFinetune"
    asked = f"/extensions/FreeStyle3D/docs/{node}/zh.md"
    text = browser.run("(url) => fetch(url).then((reply) => reply.text())", asked)
    assert text.startswith(f"# {read('zh')[node]['display_name']}") and HAN.search(text)
    choose = "(locale) => app.extensionManager.setting.set('Comfy.Locale', locale)"
    try:
        browser.run(choose, "zh")
        browser.open()
        browser.use("classic")
        browser.run(
            """(type) => {
          app.graph.clear();
          const node = LiteGraph.createNode(type);
          app.graph.add(node);
          app.canvas.selectNode(node);
        }""",
            node,
        )
        browser.fit()
        button = page.get_by_test_id("info-button")
        button.wait_for()
        button.dispatch_event("click")
        page.get_by_text(text.splitlines()[2]).first.wait_for()
        browser.shot("help page in Chinese")
    finally:
        browser.run(choose, "en")
        browser.open()


def test_templates_dialog_lists_our_workflows_by_number_with_thumbnails(browser):
    page = browser.page
    browser.use("classic")  # nodes then have no text in the page that could be taken for the list
    browser.run("() => app.extensionManager.setting.set('Comfy.Templates.SortBy', 'alphabetical')")
    browser.run("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    cards = page.get_by_test_id("template-workflows-content")
    cards.wait_for()
    entry = page.get_by_text("FreeStyle 3D", exact=True).first  # not the folder's name
    entry.click()
    assert entry.evaluate("(e) => e.scrollWidth <= e.clientWidth")  # all of it can be read
    for title in TITLES.values():
        cards.get_by_text(title, exact=True).first.scroll_into_view_if_needed()
        page.wait_for_function(THUMBNAIL, arg=title)
    browser.shot("templates, ours")
    assert cards.locator("h3").all_inner_texts() == list(TITLES.values())
    page.get_by_role("button", name="App", exact=True).click()
    cards.get_by_text(TITLES["any_editor"]).wait_for(state="detached")
    browser.shot("templates, apps")
    ours = [t for t in TITLES.values() if cards.get_by_text(t, exact=True).count()]
    assert ours == [TITLES["portrait_form"]]
    page.keyboard.press("Escape")


WIRES = """() => Object.keys(app.canvas.default_connection_color_byType)
  .filter((type) => type.startsWith("FREESTYLE_"))
  .map((type) => [type, app.canvas.default_connection_color_byType[type],
    app.canvas.constructor.link_type_colors[type],
    document.documentElement.style.getPropertyValue(`--color-datatype-${type}`)])"""


def test_every_type_has_a_colour_of_its_own_in_every_palette(browser):
    info = browser.server.get("/object_info").values()
    types = {t for node in info for t in node["output"] if str(t).startswith("FREESTYLE_")}
    choose = "(name) => app.extensionManager.setting.set('Comfy.ColorPalette', name)"
    for palette in ("light", "dark"):
        browser.run(choose, palette)
        browser.page.wait_for_timeout(500)  # a palette empties what it does not know
        painted = browser.run(WIRES)
        assert {type for type, *_ in painted} == types
        assert all(len(set(colours)) == 1 for _, *colours in painted)  # the same in both renderers
        assert len({socket for _, socket, *_ in painted} - {""}) == len(types)


LISTED = """() => [...document.querySelectorAll('[data-testid="result-item"]')].map(
  (item) => item.innerText.split("\\n")[0])"""


def test_an_artists_words_find_our_nodes(browser):
    # ComfyUI sorts by id and display name alone: of "video" it has a page of nodes named so itself
    ours = {words["display_name"] for words in read("en").values()}
    browser.use("classic")
    browser.run("() => app.graph.clear()")
    for word in ("style", "3d", "face", "head", "prompt", "mesh"):
        browser.run("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
        field = browser.page.locator("[role=dialog] input").last
        field.fill(word)
        browser.page.wait_for_function(
            f"(ours) => ({LISTED})().some((t) => ours.includes(t))", arg=sorted(ours)
        )
        browser.page.wait_for_timeout(1000)
        listed = browser.run(LISTED)
        browser.page.keyboard.press("Escape")
        field.wait_for(state="detached")
        assert ours & set(listed[:20]), (word, listed)
