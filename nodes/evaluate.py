"""Evaluate Portrait: how good a portrait is, in numbers and in one picture."""

import json
import logging

from comfy_api.latest import io

from ..freestyle_core.errors import FileFormatError, InputError
from ..freestyle_core.evaluation.evaluate import evaluate_portrait, renderer_of
from ..freestyle_core.evaluation.report import report
from ..freestyle_core.files.clip import AUTO, CLAY, KNOWN, load_clip
from ..freestyle_core.files.dino import load_dino
from ..freestyle_core.method.fewshot import few_shot_set
from ..freestyle_core.method.render import RenderSettings
from . import adapt
from .schema import ADVANCED, CamerasSocket, PortraitSocket, schema

OFF = "off"
CLIP_CHOICES = [AUTO, *KNOWN, CLAY, OFF]
CLIP_FOLDERS = ("clip_vision", "text_encoders")
_NO_CAMERAS = "images have no cameras: connect the cameras that they were rendered with"
_NO_IMAGES = "cameras have no images: connect the restyled pictures too, or disconnect cameras"
_UNCONNECTED = object()  # validate_inputs gets None for what is connected
_MEMORY_MB = RenderSettings().memory_mb
_log = logging.getLogger(__name__)


class EvaluatePortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "EvaluatePortrait",
            display_name="Evaluate Portrait",
            description="Says how good a portrait is: how near to the words, how well its views "
            "agree and how much better than the restyled pictures, how near to them and to the "
            "original head. Numbers, and one picture that shows them.",
            search_aliases=["score", "quality", "metric", "clip score", "consistency", "compare"],
            inputs=[
                PortraitSocket.Input("portrait", tooltip="The portrait to measure."),
                PortraitSocket.Input(
                    "original",
                    optional=True,
                    tooltip="The head before it was restyled, from EG3D Sampler. Without it the "
                    "changes that the style made, and the restyled pictures, cannot be judged.",
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="The restyled pictures that the portrait was learnt from, one per "
                    "camera.",
                ),
                CamerasSocket.Input(
                    "cameras", optional=True, tooltip="Where images were taken from, in order."
                ),
                io.String.Input(
                    "style",
                    default="",
                    optional=True,
                    tooltip="The style's words. Empty: those that the portrait was made with.",
                ),
                io.Combo.Input(
                    "clip",
                    options=CLIP_CHOICES,
                    default=AUTO,
                    optional=True,
                    tooltip="The CLIP that compares pictures and words. auto: ViT-B/32 or L/14 if "
                    "one lies in ComfyUI's model folders or in the cache of the Hugging Face hub, "
                    "else the small embedded one, which knows the clay styles only. off: no CLIP.",
                    extra_dict=ADVANCED,
                ),
                io.Combo.Input(
                    "perceptual",
                    options=[x for x in adapt.PERCEPTUAL_CHOICES if x != adapt.PERCEPTUAL_OFF],
                    default=adapt.PERCEPTUAL_AUTO,
                    optional=True,
                    tooltip="The features by which pictures are compared, besides their colours: "
                    "VGG (LPIPS) or the embedded ones; auto as in I2T Finetune.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="picture",
                    tooltip="The views, one view moved to another's place, and in red where they "
                    "disagree.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="The scores as a table, which way is better, and the protocol.",
                ),
                io.String.Output(
                    display_name="json", tooltip="The same as JSON, to keep or to compare."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, images=_UNCONNECTED, cameras=_UNCONNECTED):
        if images is not _UNCONNECTED and cameras is _UNCONNECTED:
            return _NO_CAMERAS
        if cameras is not _UNCONNECTED and images is _UNCONNECTED:
            return _NO_IMAGES
        return True

    @classmethod
    def execute(
        cls,
        portrait,
        original=None,
        images=None,
        cameras=None,
        style="",
        clip=AUTO,
        perceptual=adapt.PERCEPTUAL_AUTO,
    ):
        if (images is None) != (cameras is None):
            raise InputError(_NO_CAMERAS if cameras is None else _NO_IMAGES)
        node_id = cls.hidden.unique_id
        words = style.strip() or str(portrait.provenance.get("prompt", ""))
        edited = None
        if images is not None:
            pictures = adapt.images_in(images)
            edited = few_shot_set(portrait, pictures, cameras, words or "restyled")
        distance = adapt.perceptual_distance(perceptual, portrait.renderer.config.image_resolution)
        encoder, why = _clip(clip)
        dino = _dino()
        progress = adapt.NodeProgress(node_id, "view")
        with adapt.on_device(portrait, original, distance, encoder, dino) as device:
            settings = RenderSettings(memory_mb=adapt.memory_mb(_MEMORY_MB, device))
            before = None
            if original is not None:
                before = renderer_of(original.to(device, networks=False), settings)
            found = evaluate_portrait(
                renderer_of(portrait.to(device, networks=False), settings),
                rig=portrait.renderer.config.rig(),
                distance=distance,
                clip=encoder,
                dino=dino,
                prompt=words,
                original=before,
                edited=edited,
                progress=progress,
            )
        if why:
            found.missing["clip"] = why
            adapt.note(node_id, why)
        text = json.dumps(found.record(), indent=1)
        return io.NodeOutput(adapt.images_out(found.picture[None]), report(found), text)


def _clip(choice):
    """Return the CLIP of a choice, or why there is none; one that is named must load."""
    if choice == OFF:
        return None, ""
    folders = [folder for name in CLIP_FOLDERS for folder in adapt.model_folders(name)]
    try:
        return load_clip(choice, folders=folders), ""
    except FileFormatError as error:
        if choice != AUTO:
            raise
        return None, str(error)


def _dino():
    """Return the DINO that lies in the hub's cache; it adds one score, and hardly anyone has it."""
    try:
        return load_dino()
    except FileFormatError as error:
        _log.info("%s", error)
        return None
