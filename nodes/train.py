"""I2T Finetune: restyled pictures become a portrait."""

import logging
from dataclasses import asdict, replace
from functools import partial

from comfy_api.latest import io

from ..freestyle_core.errors import FileFormatError, InputError, MismatchError
from ..freestyle_core.files.finetune_cache import finetune_key, open_store
from ..freestyle_core.method.fewshot import few_shot_set
from ..freestyle_core.method.finetune import FinetuneSettings, FinetuneState, finetune_portraits
from ..freestyle_core.presets import PRESETS
from . import adapt
from .schema import (
    ADVANCED,
    DEFAULT_PRESET,
    CamerasSocket,
    I2TSocket,
    LossSocket,
    PortraitSocket,
    preset_input,
    schema,
    seed_input,
)

_FINETUNE = FinetuneSettings()
CHECKPOINT_STEPS = 100  # between two checkpoints; stopping the node writes one, too
_LONE_STYLE = "style_2 has no pictures: connect images_2 too, or empty style_2"
AUTO_TRAIN = "auto"
_NO_NETWORK = "train is set to {}, which needs a network: connect i2t, or set train to planes"
_UNCONNECTED = object()  # validate_inputs gets None for what is connected
_log = logging.getLogger(__name__)


class I2TFinetune(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "I2TFinetune",
            display_name="I2T Finetune",
            description="Learns the restyled pictures as one 3D head that looks the same from "
            "every side. A second style may be learnt together with the first. The result is kept "
            "on disk: the same inputs are not trained again.",
            search_aliases=["train", "few-shot", "image to triplane", "style", "learn"],
            inputs=[
                I2TSocket.Input(
                    "i2t",
                    optional=True,
                    tooltip="A network to train as in the paper, from Load I2T. Left open, the "
                    "head's planes themselves learn the pictures, which is faster and needs none.",
                ),
                PortraitSocket.Input("portrait", tooltip="The head that the pictures show."),
                CamerasSocket.Input(
                    "cameras",
                    tooltip="Where the pictures were taken from, front view first: the same "
                    "cameras as for Triplane Render.",
                ),
                io.Image.Input("images", tooltip="The restyled pictures, one per camera."),
                io.String.Input(
                    "style",
                    default="",
                    tooltip="The style's words, from Ip2p SDEdit Stylize or written here. They are "
                    "kept with the portrait and change nothing in the training.",
                ),
                io.Int.Input(
                    "iterations",
                    display_name="iterations (0: auto)",
                    default=0,
                    min=0,
                    max=20000,
                    tooltip="Training steps. More follows the pictures closer; time grows in "
                    "proportion. 0: what the preset says, for each style.",
                ),
                io.Int.Input(
                    "batch_size",
                    display_name="batch_size (0: auto)",
                    default=0,
                    min=0,
                    max=32,
                    tooltip="Views per training step. More is steadier and slower, and needs more "
                    "memory. 0: what the preset says.",
                ),
                seed_input("Which views are trained in which order."),
                io.Image.Input(
                    "images_2",
                    optional=True,
                    tooltip="A second style of the same head, or of portrait_2, one picture per "
                    "camera; trained together with the first.",
                ),
                io.String.Input(
                    "style_2", default="", optional=True, tooltip="The words of the second style."
                ),
                PortraitSocket.Input(
                    "portrait_2",
                    optional=True,
                    tooltip="The head that the second pictures show; left open, it is the first.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=_FINETUNE.learning_rate,
                    min=0.00001,
                    max=0.1,
                    step=0.0001,
                    round=0.00001,
                    optional=True,
                    tooltip="Size of each training step, 0.00001 to 0.1. Higher is faster and less "
                    "stable.",
                    extra_dict=ADVANCED,
                ),
                io.Float.Input(
                    "lambda_rec",
                    default=_FINETUNE.lambda_rec,
                    min=0.0,
                    max=1000.0,
                    step=0.1,
                    optional=True,
                    tooltip="Weight of looking like the pictures, against lambda_dr.",
                    extra_dict=ADVANCED,
                ),
                io.Float.Input(
                    "lambda_dr",
                    default=_FINETUNE.lambda_dr,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    optional=True,
                    tooltip="Weight of a smooth density. Higher gives a cleaner surface with less "
                    "detail.",
                    extra_dict=ADVANCED,
                ),
                io.Float.Input(
                    "delta_std",
                    default=_FINETUNE.delta_std,
                    min=0.0,
                    max=0.1,
                    step=0.0005,
                    round=0.0001,
                    optional=True,
                    tooltip="How far apart, as a share of the distance from the centre, density "
                    "is compared for smoothness.",
                    extra_dict=ADVANCED,
                ),
                io.Combo.Input(
                    "perceptual",
                    options=adapt.PERCEPTUAL_CHOICES,
                    default=adapt.PERCEPTUAL_AUTO,
                    optional=True,
                    tooltip="The features by which pictures are compared, besides their colours. "
                    "VGG (the paper's LPIPS) needs vgg16-397923af.pth in "
                    "ComfyUI/models/lpips; auto takes it for pictures of 256 pixels and more if it "
                    "is there, else the embedded features. off compares colours only: faster, "
                    "softer.",
                    extra_dict=ADVANCED,
                ),
                preset_input(),
                io.Combo.Input(
                    "train",
                    # "modulation" needs a whole generator, which no PORTRAIT carries
                    options=[AUTO_TRAIN, "i2t", "planes", "both"],
                    default=AUTO_TRAIN,
                    optional=True,
                    tooltip="What learns. planes: the head's own planes, best and fastest. i2t: "
                    "the network, as in the paper. both: its planes and more on top, so that its "
                    "codes still mix. auto: i2t where one is connected, planes where none is.",
                    extra_dict=ADVANCED,
                ),
                io.Float.Input(
                    "time_budget_s",
                    display_name="time_budget_s (0: off)",
                    default=0.0,
                    min=0.0,
                    max=36000.0,
                    step=5.0,
                    optional=True,
                    tooltip="Seconds for the training: only as many of the steps are made as fit. "
                    "0: all of them.",
                    extra_dict=ADVANCED,
                ),
                io.Boolean.Input(
                    "robust",
                    default=_FINETUNE.robust,
                    optional=True,
                    tooltip="Pictures that do not fit those around them count less: for an editor "
                    "that now and then makes somebody else of a view. Needs a grid of 6 x 6 or "
                    "more.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                PortraitSocket.Output(
                    display_name="portrait", tooltip="The restyled head, ready to render."
                ),
                PortraitSocket.Output(
                    display_name="portrait_2",
                    tooltip="The head in the second style; the first again if there is none.",
                ),
                LossSocket.Output(
                    display_name="loss", tooltip="Loss at every step, for Plot Loss Graph."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls,
        style,
        style_2="",
        images_2=_UNCONNECTED,
        portrait_2=_UNCONNECTED,
        i2t=_UNCONNECTED,
        train=AUTO_TRAIN,
    ):
        if i2t is _UNCONNECTED and train in ("i2t", "both"):
            return _NO_NETWORK.format(train)
        if style is not None and not style.strip():  # None: it comes from another node
            return "style is empty: write it, or connect the style of Ip2p SDEdit Stylize"
        if images_2 is _UNCONNECTED and portrait_2 is not _UNCONNECTED:
            return "portrait_2 has no pictures: connect images_2 too, or disconnect portrait_2"
        if images_2 is _UNCONNECTED and style_2 is not None and style_2.strip():
            return _LONE_STYLE
        if images_2 is not _UNCONNECTED and style_2 is not None and not style_2.strip():
            return "style_2 is empty: say in a few words what images_2 show"
        return True

    @classmethod
    def execute(
        cls,
        portrait,
        cameras,
        images,
        style,
        i2t=None,
        images_2=None,
        style_2="",
        portrait_2=None,
        perceptual=adapt.PERCEPTUAL_AUTO,
        **options,
    ):
        if images_2 is None and style_2.strip():
            raise InputError(_LONE_STYLE)
        pairs = [(portrait, images, style)]
        if images_2 is not None:
            pairs.append((portrait_2 or portrait, images_2, style_2))
        settings = _settings(i2t, len(pairs), **options)
        portraits = [head for head, _, _ in pairs]
        sets = [
            few_shot_set(head, adapt.images_in(pictures), cameras, words)
            for head, pictures, words in pairs
        ]
        for remark in _remarks(portraits, sets, [p for _, p, _ in pairs], i2t, settings):
            adapt.note(cls.hidden.unique_id, remark)
        stylised, losses = _finetuned(
            i2t if settings.train != "planes" else None,
            portraits,
            sets,
            perceptual,
            settings,
            node_id=cls.hidden.unique_id,
        )
        return io.NodeOutput(stylised[0], stylised[-1], adapt.loss_map(losses))


def _settings(
    i2t,
    styles,
    *,
    preset=DEFAULT_PRESET,
    train=AUTO_TRAIN,
    iterations=0,
    batch_size=0,
    time_budget_s=0.0,
    **others,
):
    """Return the settings of a training: what is set by hand, else what the preset says."""
    chosen = PRESETS[preset]
    if train == AUTO_TRAIN:
        train = "planes" if i2t is None else "i2t"
    if train != "planes" and i2t is None:
        raise InputError(_NO_NETWORK.format(train))
    given = {"iterations": iterations, "batch_size": batch_size}
    given = {name: value for name, value in given.items() if value}
    return chosen.training(train).tune(styles, **given, budget_s=time_budget_s, **others)


def _finetuned(i2t, portraits, sets, perceptual, settings, *, node_id):
    """Return the stylised portraits and the losses: those kept on disk, else trained and kept."""
    size = portraits[0].renderer.config.image_resolution
    distance = adapt.perceptual_distance(perceptual, size)
    network, parent = (None, "") if i2t is None else (i2t.network, i2t.parent)
    key = finetune_key(
        parent,
        portraits,
        sets,
        perceptual=adapt.distance_id(perceptual, distance),
        settings=asdict(replace(settings, preview_every=0)),  # previews change nothing
    )
    store = open_store(adapt.store_folder())
    kept = store.load(key, portraits, [few_shot.prompt for few_shot in sets])
    if kept is not None:
        adapt.say(node_id, adapt.tr("trained before: result taken from disk"))
        return kept
    progress = adapt.NodeProgress(node_id, "training, step")
    with adapt.on_device(i2t, distance, *portraits, work_mb=_work_mb(settings)) as device:
        train = partial(
            finetune_portraits,
            network,
            parent,
            [portrait.to(device, networks=False) for portrait in portraits],
            sets,
            distance,
            settings=settings,
            progress=progress,
            on_loss=progress.on_loss,
            on_checkpoint=partial(_keep_checkpoint, store, key),
            checkpoint_every=CHECKPOINT_STEPS,
        )
        begun = store.load_checkpoint(key)
        try:
            result = train(resume=None if begun is None else FinetuneState(*begun))
        except MismatchError:
            if begun is None:
                raise
            store.remove_checkpoint(key)  # of another version: train anew
            result = train()
    stylised = [adapt.portrait_home(portrait) for portrait in result.portraits]
    try:
        store.save(key, stylised, result.losses)
    except FileFormatError as error:  # a full disk must not cost the training
        _log.warning("the fine-tuning could not be kept on disk: %s", error)
    store.remove_checkpoint(key)
    return stylised, result.losses


def _keep_checkpoint(store, key, state):
    try:
        store.save_checkpoint(key, state.step, state.tensors, state.task)
    except FileFormatError as error:  # a full disk must not end the training
        _log.warning("a checkpoint of the fine-tuning could not be kept: %s", error)


def _work_mb(settings):
    """Return what training takes besides the networks, MiB; with room to spare."""
    return adapt.TRAIN_MB + adapt.TRAIN_VIEW_MB * settings.batch_size


def _remarks(portraits, sets, images, i2t, settings):
    """Return what a person should know of inputs that are taken all the same."""
    said = []
    if any(portrait.is_stylized for portrait in portraits):
        said.append(
            "the portrait is already restyled: training goes on from how it looks now"
            if settings.train == "planes"
            else "the portrait is already restyled: training starts from the I2T again, so only "
            "what the pictures show of that style will remain"
        )
    if i2t is not None and settings.train == "planes":
        said.append("the connected i2t is not used: train is set to planes")
    for few_shot, pictures in zip(sets, images, strict=True):
        size, came = few_shot.images.shape[-1], pictures.shape[1]
        if came != size:
            said.append(f"the pictures are {came} pixels wide: resized to {size}, as the portrait")
    return list(dict.fromkeys(said))
