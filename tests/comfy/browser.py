"""The real frontend in a headless Chromium, and the few things our tests do there."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.comfy.client import Server

ARGUMENTS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)  # WebGL2 without a graphics card
RENDERERS = ("classic", "Nodes 2.0")
FIRST_FRONTEND = (0, 22)  # ComfyUI's version; older frontends have other buttons
SCREEN = {"width": 1600, "height": 1000}
HAN = re.compile("[\u4e00-\u9fff]")  # Chinese characters
SLOW = 300_000  # milliseconds: on a busy machine the frontend takes minutes to load
VIEWER = 'app.graph._nodes.find((n) => n.type === "FreeStylePortraitViewer")?.freestyleViewer'
READY = (
    "() => window.app?.extensionManager?.workflow?.activeWorkflow"  # the last one is open again
    " && window.LiteGraph?.registered_node_types?.FreeStylePortraitViewer"
)
LISTEN = """() => {
  window.shown = {};
  window.over = null;
  const { api } = window.app;
  api.addEventListener("executed", ({ detail }) => (window.shown[detail.node] = detail.output));
  for (const end of ["execution_success", "execution_error", "execution_interrupted"])
    api.addEventListener(end, ({ detail }) => (window.over = [end, detail.exception_message]),
                         { once: true });
}"""


BOXES = """() => {
  const heads = app.graph._nodes.map((n) => {
    const part = LiteGraph.vueNodesMode && document.querySelector(`[data-node-id="${n.id}"]`);
    const [width, height] = part ? [part.offsetWidth, part.offsetHeight]
                                 : [n.size[0], n.size[1] + LiteGraph.NODE_TITLE_HEIGHT];
    const [x, y] = [n.pos[0], n.pos[1] - LiteGraph.NODE_TITLE_HEIGHT];
    return [`${n.type} ${n.id}`, [x, y, x + width, y + height]];
  });
  return Object.fromEntries(heads);
}"""


STAND_STILL = f"""async () => {{
  const boxes = {BOXES};
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const viewer = () => {VIEWER}?.element.getBoundingClientRect();
  const now = () => JSON.stringify([app.canvas.ds.scale, [...app.canvas.ds.offset], boxes(),
                                    viewer()]);
  for (let last = "", same = 0; same < 2; await frame()) {{
    const seen = now();
    same = seen === last ? same + 1 : 0;
    last = seen;
  }}
}}"""  # three equal frames in a row: on a busy machine a frame takes a second


STRAY = """() => {
  const { ds, ctx } = app.canvas;
  app.canvas.draw(true, true);
  const centre = (node, side, slot, place) => {
    if (!LiteGraph.vueNodesMode) return place;
    const key = `[data-slot-key="${node.id}-${side}-${slot}"]`;
    const boxes = [...document.querySelectorAll(key)].map((e) => e.getBoundingClientRect());
    const box = boxes.find((b) => b.width);
    return box ? [(box.x + box.width / 2) / ds.scale - ds.offset[0],
                  (box.y + box.height / 2) / ds.scale - ds.offset[1]] : place;
  };
  const sockets = app.graph._nodes.flatMap((n) => [
    ...(n.inputs ?? []).map((s, i) => [n, s, "in", i, n.getInputPos(i)]),
    ...(n.outputs ?? []).map((s, i) => [n, s, "out", i, n.getOutputPos(i)]),
  ]).filter(([, s]) => !s.widget || s.link != null);
  const links = app.graph.links;
  const parts = [...links.values()].map((l) => [l, [l]]).concat(
    [...app.graph.reroutes.values()].map((r) => [r, [...r.linkIds].map((id) => links.get(id))]));
  ctx.save();
  ctx.setTransform(1, 0, 0, 1, 0, 0);
  ctx.lineWidth = 16;
  const found = [];
  for (const [part, users] of parts)
    for (const [node, socket, side, slot, place] of sockets)
      if (!users.some((l) => [l.origin_id, l.target_id].some((id) => id == node.id))
          && ctx.isPointInStroke(part.path, ...centre(node, side, slot, place)))
        found.push(`${users[0].type} of ${users[0].origin_id} at ${node.type}.${socket.name}`);
  ctx.restore();
  return found;
}"""  # which wires pass within 8 pixels of a socket of a node that they do not end at


def chromium() -> str:
    """Return the path of a Chromium; skip without one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser: none of {names} is installed; set CHROMIUM to one")
    return path


class Browser:
    """One page with the frontend, and what it complained about."""

    def __init__(self, page: Any, server: Server, shots: Path) -> None:
        self.page, self.server, self.shots = page, server, shots
        self.complaints: list[str] = []
        page.set_default_timeout(SLOW)
        page.on("pageerror", lambda error: self._complain(f"{error} {error.stack}"))
        page.on("console", self._heard)

    def _heard(self, message: Any) -> None:
        where = f"{message.text} ({message.location.get('url', '')})"
        if where.endswith("/en.md)"):
            return  # the frontend asks for a translated help page before the common one
        if message.type == "error":
            self._complain(where)

    def _complain(self, text: str) -> None:
        if re.search("freestyle", text, re.IGNORECASE):  # ours: our files, our nodes
            self.complaints.append(text)

    def open(self) -> None:
        """Load the frontend."""
        self.page.goto(f"http://127.0.0.1:{self.server.port}", wait_until="domcontentloaded")
        self.page.wait_for_function(READY)

    def use(self, renderer: str) -> None:
        """Switch to the "classic" renderer or to "Nodes 2.0"."""
        self.run(
            "(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)",
            renderer == "Nodes 2.0",
        )

    def run(self, script: str, value: Any = None) -> Any:
        """Return what a script returns in the page."""
        return self.page.evaluate(script, value)

    def load(self, workflow: dict, name: str) -> None:
        """Open a workflow and show all of it."""
        self.run("([d, name]) => app.loadGraphData(d, true, true, name)", [workflow, name])
        self.fit()

    def boxes(self) -> dict[str, list[float]]:
        """Return what every node covers as drawn, with its title: "type id" -> box, in pixels."""
        return self.run(BOXES)

    def stray_wires(self) -> list[str]:
        """Return which drawn wires pass a socket of a node that they do not end at."""
        return self.run(STRAY)

    def fit(self) -> None:
        """Show all of the graph, once its nodes have their sizes, and wait until it is shown."""
        self.stand_still()
        self.run("() => app.canvas.fitViewToSelectionAnimated({ duration: 1 })")  # no glide
        self.stand_still()

    def stand_still(self) -> None:
        """Wait until view, nodes and what lies over them have their places."""
        self.run(STAND_STILL)

    def press_run(self, seconds: float) -> dict[str, dict]:
        """Press Run, wait for the end, and return what the nodes showed: id -> ui."""
        self.run(LISTEN)
        self.page.get_by_test_id("queue-button").click()
        self.page.wait_for_function("() => window.over", timeout=seconds * 1000)
        end, why = self.run("() => window.over")
        assert end == "execution_success", why
        self.stand_still()  # the nodes take in what they show
        return self.run("() => window.shown")

    def shot(self, name: str) -> bytes:
        """Return a picture of the page; it is also kept among the test's files."""
        return self.page.screenshot(path=self.shots / f"{name}.png")


@contextmanager
def open_browser(server: Server, shots: Path) -> Iterator[Browser]:
    """Open the frontend of a server; skip without playwright or a browser."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright installed")
    path = chromium()
    server.post("/api/settings", {"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": False})
    with api.sync_playwright() as play:
        chrome = play.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=SLOW)
        made = Browser(chrome.new_page(viewport=SCREEN), server, shots)
        made.open()
        yield made
        chrome.close()
