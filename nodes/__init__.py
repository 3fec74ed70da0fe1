"""The ComfyUI nodes. Each adapts its inputs, calls one function of the library, adapts the result.

`adapt.py`, with `folders.py`, `memory.py` and `running.py`, is where ComfyUI's types, folders,
memory and progress meet the library; `schema.py` holds the sockets, `rules.py` what every input is
checked for; the other files hold the nodes by topic.
"""

from comfy_api.latest import ComfyExtension, io

from . import adapt, running
from .cameras import MultiViewCameraGrid, TurntableCameras
from .comfy_editor import Ip2pEditorFromModel
from .confidence import MeshConfidence
from .evaluate import EvaluatePortrait
from .generate import EG3DSampler, TriplaneRender
from .loaders import LoadEG3D, LoadI2T, LoadIp2pEditor
from .mix import StyleMix, StyleMixMany
from .output import LoadPortrait, PortraitMesh, SavePortrait
from .packs import ApplyStyle, SaveStyle
from .photo import AlignPhoto, PhotoToPortrait
from .pretrain import I2TPretrain
from .reedit import ReeditViews
from .rules import hold
from .splat import PortraitToSplat
from .store import FinetuneCache
from .stylize import Ip2pSDEditStylize
from .sweep import StyleSweep
from .train import I2TFinetune
from .viewer import PortraitViewer

_NODES: tuple[type[io.ComfyNode], ...] = (
    LoadEG3D,
    LoadIp2pEditor,
    Ip2pEditorFromModel,
    LoadI2T,
    EG3DSampler,
    AlignPhoto,
    PhotoToPortrait,
    MultiViewCameraGrid,
    TurntableCameras,
    TriplaneRender,
    Ip2pSDEditStylize,
    ReeditViews,
    I2TPretrain,
    I2TFinetune,
    StyleMix,
    StyleMixMany,
    StyleSweep,
    ApplyStyle,
    SaveStyle,
    SavePortrait,
    LoadPortrait,
    PortraitMesh,
    MeshConfidence,
    PortraitToSplat,
    FinetuneCache,
    PortraitViewer,
    EvaluatePortrait,
)
NODES = tuple(running.told(hold(node)) for node in _NODES)


class FreeStyleExtension(ComfyExtension):
    """The pack, as ComfyUI sees it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        adapt.register_model_folders()  # not in on_load, which ComfyUI 0.8 never calls
        return list(NODES)
