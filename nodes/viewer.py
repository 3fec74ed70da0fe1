"""Portrait Viewer: a portrait that turns under the hand, inside the node."""

from comfy_api.latest import io

from ..freestyle_core.files.media.atlas import save_atlas
from ..freestyle_core.method.render import RenderSettings
from ..freestyle_core.progress import Progress
from ..freestyle_core.visualize.orbit_views import OrbitGrid, describe, render_orbit
from . import adapt
from .schema import PortraitSocket, schema

_GRID = OrbitGrid()
_MEMORY_MB = RenderSettings().memory_mb
RECORD = "freestyle_orbit"  # the key under which nodes/web/js/portrait_viewer.js finds its views


class PortraitViewer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "PortraitViewer",
            display_name="Portrait Viewer",
            description="Shows a portrait that turns as you drag it. Give it a second portrait to "
            "compare the two at the same angle.",
            search_aliases=["orbit", "preview", "turn", "compare", "rotate", "show"],
            is_output_node=True,
            inputs=[
                PortraitSocket.Input("portrait", tooltip="The portrait to turn."),
                PortraitSocket.Input(
                    "compare",
                    optional=True,
                    tooltip="A second portrait, shown left of a slider at the same angle: the head "
                    "before it was restyled, or another style.",
                ),
                io.Int.Input(
                    "columns",
                    default=_GRID.columns,
                    min=3,
                    max=61,
                    step=2,
                    tooltip="Views from left to right, an odd number so that one is the exact "
                    "front. The viewer fills the angles between them; more is more exact, slower.",
                ),
                io.Int.Input(
                    "rows",
                    default=_GRID.rows,
                    min=1,
                    max=31,
                    step=2,
                    tooltip="Views from top to bottom, an odd number; 1 turns sideways only. "
                    "columns x rows pictures are rendered.",
                ),
                io.Float.Input(
                    "yaw_range_deg",
                    default=_GRID.yaw_range_deg,
                    min=5.0,
                    max=90.0,
                    step=1.0,
                    tooltip="How far the head turns to each side, in degrees. Most models know "
                    "faces up to about 30.",
                ),
                io.Float.Input(
                    "pitch_range_deg",
                    default=_GRID.pitch_range_deg,
                    min=0.0,
                    max=60.0,
                    step=1.0,
                    tooltip="How far the head tilts up and down, in degrees.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, portrait, columns, rows, yaw_range_deg, pitch_range_deg, compare=None):
        grid = OrbitGrid(columns, rows, yaw_range_deg, pitch_range_deg)
        shown = [part for part in (portrait, compare) if part is not None]
        progress = adapt.NodeProgress(cls.hidden.unique_id, "view", text=False)
        views = []
        for number, part in enumerate(shown):
            with adapt.on_device(part) as device:
                settings = RenderSettings(memory_mb=adapt.memory_mb(_MEMORY_MB, device))
                views.append(
                    render_orbit(
                        part.to(device, networks=False),
                        grid,
                        settings=settings,
                        progress=_share(progress, number, len(shown)),
                    )
                )
        path, file = adapt.new_temp_file("freestyle_orbit", ".jpg")
        rig = portrait.renderer.config.rig()
        record = {"file": file, **describe(grid, rig), **save_atlas(path, views, columns)}
        return io.NodeOutput(ui={RECORD: [record]})


def _share(progress: Progress, number: int, parts: int) -> Progress:
    """Return the progress of one of several equal parts; without previews, the viewer is one."""
    return lambda done, total, preview=None: progress(number * total + done, parts * total)
