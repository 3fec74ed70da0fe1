"""FreeStyle 3D portraits: from a line of text to a stylised, 3D-consistent head.

The public names are these, each loaded when it is first used; all else may move. Read `pipeline.py`
first: it joins the steps of `method/` (sample, render, stylize, finetune, mix, mesh), plain
functions over the records in `types.py`.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "errors": (
        "Cancelled",
        "DownloadError",
        "FileFormatError",
        "FreeStyleError",
        "InputError",
        "MismatchError",
        "ShapeError",
        "WriteError",
    ),
    "types": (
        "CameraBatch",
        "CameraRig",
        "FewShotSet",
        "Mesh",
        "Portrait",
        "Region",
        "Rendering",
        "Splats",
        "StyleCode",
        "StylePack",
        "Triplane",
    ),
    "geometry.cameras": ("front_camera", "grid_cameras", "orbit_cameras", "turntable_cameras"),
    "files.networks": (
        "framing_for",
        "load_detector",
        "load_face_mesh",
        "load_eg3d",
        "load_i2t",
        "load_perceptual",
    ),
    "files.editors.load": ("load_editor",),
    "files.perceptual": ("load_distance",),
    "files.portrait": ("load_portrait", "save_portrait"),
    "files.style_pack": ("load_style_pack", "save_style_pack"),
    "files.media.image": ("load_image", "save_image"),
    "files.media.photo": ("load_photo",),
    "files.media.video": ("load_video", "save_video"),
    "files.media.mesh": ("load_mesh", "save_mesh"),
    "files.media.splat": ("load_splats", "save_splats"),
    "method.sample": ("sample_portrait",),
    "baselines.from_photo": ("portrait_of_photo",),
    "baselines.inversion": ("invert", "invert_settings"),
    "photo.align": ("align_photo",),
    "packs.apply": ("apply_style_pack",),
    "packs.learn": ("PackSettings", "learn_style_pack", "make_style_pack"),
    "method.render": ("RenderSettings", "render_views"),
    "method.stylize": ("StylizeSettings", "stylize_views"),
    "method.audit": ("audit",),
    "method.reedit": ("reedit_views",),
    "method.fewshot": ("few_shot_set",),
    "method.finetune": ("FinetuneSettings", "finetune_portraits"),
    "method.mix": ("mix_many", "mix_portraits", "mix_sweep"),
    "method.areas": ("Area", "LiftSettings", "masked_area", "named_area"),
    "method.mesh": ("MeshSettings", "extract_mesh"),
    "method.confidence": ("with_confidence",),
    "method.splat": ("SplatSettings", "extract_splats"),
    "geometry.splats": ("render_splats",),
    "visualize.depth_normals": ("depth_pictures", "normal_pictures"),
    "visualize.mix_video": ("render_sweep",),
    "visualize.orbit_views": ("OrbitGrid", "render_orbit"),
    "pipeline": (
        "ModelPaths",
        "Models",
        "PortraitSettings",
        "load_models",
        "make_portrait",
        "style_views",
    ),
    "presets": ("Preset",),
    "evaluation.settings": ("EvaluateSettings",),
    "evaluation.evaluate": ("evaluate_portrait", "renderer_of"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(["__version__", *_HOME_OF])  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return __all__
