"""Load EG3D, Load Ip2p Editor, Load I2T: a model on disk becomes a value on a wire."""

from comfy_api.latest import io

from ..freestyle_core.files.bundle import weights_hash
from ..freestyle_core.files.networks import load_eg3d, load_i2t
from . import adapt, editors
from .folders import EMBEDDED_CHOICE
from .schema import ADVANCED, EditorSocket, EG3DSocket, I2TSocket, schema


class LoadEG3D(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "LoadEG3D",
            display_name="Load EG3D",
            description="Loads the generator that invents heads and renders them from any side.",
            search_aliases=["3d head generator", "triplane", "model"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=adapt.model_choices("eg3d"),
                    default=EMBEDDED_CHOICE,
                    tooltip="The generator. The embedded one comes with this pack and runs on a "
                    "CPU; others are files in ComfyUI/models/eg3d: official network pickles such "
                    "as ffhq512-128.pkl, of which nothing is run, or safetensors files.",
                )
            ],
            outputs=[
                EG3DSocket.Output(
                    display_name="eg3d",
                    tooltip="The generator, for EG3D Sampler and Load Portrait.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model):
        eg3d = load_eg3d(adapt.model_path("eg3d", model))
        about = adapt.tr("{}, licence: {}", eg3d.config.name, eg3d.config.licence)
        adapt.say(cls.hidden.unique_id, about)
        return io.NodeOutput(eg3d)


class LoadIp2pEditor(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "LoadIp2pEditor",
            display_name="Load Ip2p Editor",
            description="Loads an InstructPix2Pix model: it edits a picture as a sentence says.",
            search_aliases=["instruct pix2pix", "image editor", "style", "model"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=editors.editor_choices(),
                    default=EMBEDDED_CHOICE,
                    tooltip="The editor. The embedded one knows the heads of the embedded EG3D and "
                    "runs on a CPU; others are folders in ComfyUI/models/diffusers, or "
                    "InstructPix2Pix checkpoints in models/checkpoints. The last entry fetches the "
                    "original, 2 to 5 GB, once.",
                ),
                io.Combo.Input(
                    "precision",
                    options=[editors.AUTO, *editors.PRECISIONS],
                    default=editors.AUTO,
                    optional=True,
                    tooltip="Number format it runs in. auto: half precision on a GPU, but for the "
                    "embedded editor; float32 needs twice the memory and is exact.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                EditorSocket.Output(
                    display_name="editor", tooltip="The editor, for Ip2p SDEdit Stylize."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, precision=editors.AUTO):
        return io.NodeOutput(editors.load_choice(model, precision, cls.hidden.unique_id))


class LoadI2T(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "LoadI2T",
            display_name="Load I2T",
            description="Loads the pre-trained network that turns a front picture into a triplane; "
            "I2T Finetune starts from it.",
            search_aliases=["image to triplane", "model"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=adapt.model_choices("i2t"),
                    default=EMBEDDED_CHOICE,
                    tooltip="The network. It fits only the EG3D it was trained on, so choose the "
                    "same name as in Load EG3D; files are in ComfyUI/models/i2t.",
                ),
                EG3DSocket.Input(
                    "eg3d",
                    tooltip="The generator of the portraits; loading stops if the network was not "
                    "trained on it.",
                ),
            ],
            outputs=[
                I2TSocket.Output(
                    display_name="i2t", tooltip="The pre-trained network, for I2T Finetune."
                )
            ],
        )

    @classmethod
    def execute(cls, model, eg3d):
        network = load_i2t(adapt.model_path("i2t", model), eg3d=eg3d)
        return io.NodeOutput(adapt.LoadedI2T(network, weights_hash(network.state_dict())))
