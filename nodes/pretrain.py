"""I2T Pretrain: teaches a new image-to-triplane network the heads of one EG3D."""

from comfy_api.latest import io

from ..freestyle_core.files.bundle import weights_hash
from ..freestyle_core.files.names import file_name
from ..freestyle_core.pretrain.run import CHECKPOINT_MINUTES, MODEL_SUFFIX, pretrain_to_file
from ..freestyle_core.pretrain.train import PretrainSettings
from . import adapt
from .rules import refusal
from .schema import ADVANCED, EG3DSocket, I2TSocket, LossSocket, schema, seed_input

_DEFAULTS = PretrainSettings()
# MiB asked free on a GPU, for a step and for each head in it: four take 2.0 GB at full size
STEP_MB, HEAD_MB = 1024, 512


class I2TPretrain(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "I2TPretrain",
            display_name="I2T Pretrain",
            description="Trains the network that I2T Finetune starts from, for an EG3D that has "
            "none yet. Takes hours on a fast graphics card. Stop it whenever you like: queued "
            "again with the same values, it goes on where it was. The result is listed in Load "
            "I2T.",
            search_aliases=["train", "image to triplane"],
            is_output_node=True,
            inputs=[
                EG3DSocket.Input(
                    "eg3d", tooltip="The generator whose heads are learned, from Load EG3D."
                ),
                io.String.Input(
                    "name",
                    default="my_i2t",
                    tooltip="Name of the new file in ComfyUI/models/i2t, without an ending. Its "
                    "checkpoint, log and preview pictures lie beside it.",
                ),
                io.Int.Input(
                    "steps",
                    default=_DEFAULTS.iterations,
                    min=1,
                    max=10_000_000,
                    tooltip="Training steps; the paper trains 100000. More is closer to the "
                    "generator; time grows in proportion.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=_DEFAULTS.batch_size,
                    min=1,
                    max=256,
                    tooltip="Heads per training step. More is steadier and slower, and needs more "
                    "memory.",
                ),
                io.Combo.Input(
                    "precision",
                    options=["float32", "bfloat16"],
                    default=_DEFAULTS.precision,
                    tooltip="bfloat16 is faster and needs less memory on graphics cards made since "
                    "2020; float32 is the most exact, and right for a CPU.",
                ),
                seed_input("Which heads are trained on, and how the network begins."),
                io.Float.Input(
                    "learning_rate",
                    default=_DEFAULTS.learning_rate,
                    min=0.00001,
                    max=0.1,
                    step=0.0001,
                    round=0.00001,
                    optional=True,
                    tooltip="Size of the training steps at the start, 0.00001 to 0.1; it falls to "
                    "zero. Lower it if the node says that the loss has diverged.",
                    extra_dict=ADVANCED,
                ),
                io.Int.Input(
                    "preview_every",
                    display_name="preview_every (0: never)",
                    default=250,
                    min=0,
                    max=1_000_000,
                    optional=True,
                    tooltip="Steps between two previews, 0 for none: input picture, what the "
                    "network makes of it from another side, and how that side truly looks.",
                    extra_dict=ADVANCED,
                ),
                io.Int.Input(
                    "validate_every",
                    display_name="validate_every (0: never)",
                    default=1000,
                    min=0,
                    max=1_000_000,
                    optional=True,
                    tooltip="Steps between two measurements on heads that are never trained on, "
                    "0 for none; the PSNR in dB is written to the log.",
                    extra_dict=ADVANCED,
                ),
                io.Float.Input(
                    "checkpoint_minutes",
                    default=CHECKPOINT_MINUTES,
                    min=0.05,
                    max=1000.0,
                    step=0.5,
                    optional=True,
                    tooltip="Minutes between two checkpoints: what a power cut can cost at most. "
                    "Stopping the node loses nothing.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                I2TSocket.Output(
                    display_name="i2t", tooltip="The trained network, for I2T Finetune."
                ),
                LossSocket.Output(
                    display_name="loss",
                    tooltip="Loss at every step, for Plot Loss Graph; the last 100 when the file "
                    "was finished before.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, name):
        return True if name is None else refusal(file_name, name)  # None: from another node

    @classmethod
    def execute(
        cls, eg3d, name, steps, batch_size, checkpoint_minutes=CHECKPOINT_MINUTES, **options
    ):
        out = adapt.model_folders("i2t")[0] / f"{file_name(name)}{MODEL_SUFFIX}"
        progress = adapt.NodeProgress(cls.hidden.unique_id, "pre-training, step")
        with adapt.on_device(eg3d, work_mb=STEP_MB + HEAD_MB * batch_size):
            made = pretrain_to_file(
                eg3d,
                out,
                settings=PretrainSettings(iterations=steps, batch_size=batch_size, **options),
                resume=True,
                checkpoint_minutes=checkpoint_minutes,
                progress=progress,
                on_report=lambda report: progress.on_loss({"total": report.loss}),
            )
        network = made.i2t.to("cpu")
        loaded = adapt.LoadedI2T(network, weights_hash(network.state_dict()))
        return io.NodeOutput(loaded, adapt.loss_map({"total": made.losses}))
