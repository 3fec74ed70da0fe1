"""Edit Views Again: restyled pictures that do not fit the others, made once more."""

import logging
from dataclasses import replace
from functools import partial

from comfy_api.latest import io

from ..freestyle_core.files.finetune_cache import open_store
from ..freestyle_core.kept_edits import kept_views
from ..freestyle_core.method.audit import dense_enough
from ..freestyle_core.method.fewshot import few_shot_set
from ..freestyle_core.method.reedit import MOST_ROUNDS, ROUNDS, reedit_views
from ..freestyle_core.method.render import RenderSettings, render_views
from ..freestyle_core.method.stylize import StylizeSettings, bytes_per_view
from ..freestyle_core.progress import Portion
from . import adapt
from .schema import (
    ADVANCED,
    DEFAULT_PRESET,
    CamerasSocket,
    EditorSocket,
    PortraitSocket,
    schema,
)
from .stylize import SHEET, check_words, edit_settings, editing_inputs

RENDERING = 0.4  # share of the time, to see where each point lies in every picture
_TOO_FAR = (
    "the pictures lie too far apart to be judged, nothing was changed: a grid of 6 x 6 or more, or "
    "of smaller angles, has them near enough"
)
_RENDER = RenderSettings()
_STYLIZE = StylizeSettings()


class ReeditViews(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "ReeditViews",
            display_name="Edit Views Again",
            description="Finds restyled pictures that do not fit those around them and restyles "
            "those again with another noise; the better of both stays. Between Ip2p SDEdit "
            "Stylize, or any other editor, and I2T Finetune.",
            search_aliases=["repair", "outlier", "consistency", "edit again", "retry", "robust"],
            inputs=[
                EditorSocket.Input("editor", tooltip="The editor, from Load Ip2p Editor."),
                PortraitSocket.Input(
                    "portrait", tooltip="The head that the pictures show, before it was restyled."
                ),
                CamerasSocket.Input(
                    "cameras", tooltip="Where the pictures were taken from, in order."
                ),
                io.Image.Input("images", tooltip="The restyled pictures, one per camera."),
                io.String.Input(
                    "style",
                    default="",
                    tooltip="The style's words, from Ip2p SDEdit Stylize or written here.",
                ),
                *editing_inputs(),
                io.Int.Input(
                    "rounds",
                    default=ROUNDS,
                    min=1,
                    max=MOST_ROUNDS,
                    optional=True,
                    tooltip="How many other noises are tried, at most, on pictures that still do "
                    "not fit.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="The same pictures in the same order, some of them replaced.",
                ),
                io.String.Output(
                    display_name="style", tooltip="The style's words, for I2T Finetune."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, style, template=_STYLIZE.template):
        return check_words(style, template)

    @classmethod
    def execute(
        cls,
        editor,
        portrait,
        cameras,
        images,
        style,
        rounds=ROUNDS,
        batch_size=_STYLIZE.batch_size,
        preset=DEFAULT_PRESET,
        **options,
    ):
        node_id = cls.hidden.unique_id
        settings = edit_settings(preset=preset, batch_size=batch_size, **options)
        few_shot = few_shot_set(portrait, adapt.images_in(images), cameras, style)
        settings.prompt(style)
        if not dense_enough(cameras):
            adapt.note(node_id, adapt.tr(_TOO_FAR))
            return io.NodeOutput(images, style)
        per_view = bytes_per_view(editor, few_shot.images)
        progress = adapt.NodeProgress(node_id, "restyling, step", sheet=SHEET)
        work_mb = max(2 * batch_size * per_view // adapt.MIB, 2 * _RENDER.memory_mb)
        with adapt.on_device(editor, portrait, work_mb=work_mb) as device:
            head = portrait.to(device, networks=False)
            memory = adapt.memory_mb(_RENDER.memory_mb, device)
            seen = render_views(
                head,
                cameras.to(device),
                settings=RenderSettings(memory_mb=memory),
                progress=Portion(progress, 0.0, RENDERING),
            )
            size = adapt.batch_size(batch_size, per_view, device)
            made = reedit_views(
                editor,
                head,
                seen.image,
                few_shot,
                seen=seen,
                settings=replace(settings, batch_size=size),
                rounds=rounds,
                edit=partial(kept_views, open_store(adapt.store_folder())),
                progress=Portion(progress, RENDERING, 1.0),
            )
        counts = len(made.doubted), len(few_shot.images), len(made.replaced)
        said = adapt.tr("{} of {} pictures did not fit, {} replaced", *counts)
        adapt.note(node_id, said, level=logging.INFO)
        return io.NodeOutput(adapt.images_out(made.few_shot.images), style)
