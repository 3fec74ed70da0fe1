"""Writes files in the format of official EG3D network pickles, opcode by opcode.

`write_official` needs neither EG3D's source nor the classes that such a file names: `Writer` emits
a name where `pickle` would look an object up. Its own few types say what to emit: `Global`, `Call`
(REDUCE), `New` (NEWOBJ and BUILD) and `Raw` (bytes as they are, for hostile files).
"""

import io
import math
import struct
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from freestyle_core.models.config import SR_UPSAMPLING

FRAME = 64 * 1024  # bytes, as in Python's pickler
SOURCE = "# source text removed\n"
KINDS = {torch.float32: "FloatStorage", torch.float16: "HalfStorage"}
HOOKS = (
    "_backward_pre_hooks", "_backward_hooks", "_is_full_backward_hook", "_forward_hooks",
    "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip
OLD_HOOKS = ("_backward_hooks", "_is_full_backward_hook", "_forward_hooks", "_forward_pre_hooks",
             "_state_dict_hooks", "_load_state_dict_pre_hooks")  # torch 1.11


@dataclass(frozen=True)
class Global:
    module: str
    name: str


@dataclass(eq=False)
class Call:
    function: Global
    arguments: tuple
    state: object = None


@dataclass(eq=False)
class New:
    kind: Global
    state: dict | None = None
    items: dict | None = None  # for subclasses of dict


@dataclass(eq=False)
class Raw:
    data: bytes


@dataclass(eq=False)
class Parameter:
    data: Tensor


TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
PARAMETER = Global("torch._utils", "_rebuild_parameter")
STORAGE = Global("torch.storage", "_load_from_bytes")
ORDERED = Global("collections", "OrderedDict")
EASY_DICT = Global("dnnlib.util", "EasyDict")
PERSISTENT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")


class Writer:
    """A pickler for plain data, tensors, and objects given by name."""

    def __init__(self, file, *, protocol=4, old=False):
        self.file, self.protocol, self.old = file, protocol, old
        self.small, self.memo, self.count = bytearray(), {}, 0
        self.kept = []  # ids in the memo must stay alive
        self.float64 = None
        file.write(bytes([0x80, protocol]))

    def dump(self, value):
        self.save(value)
        self.emit(b".")
        self.flush()

    def emit(self, data):
        self.small += data
        if len(self.small) > FRAME:
            self.flush()

    def flush(self):
        if self.protocol >= 4 and self.small:
            self.file.write(b"\x95" + struct.pack("<Q", len(self.small)))
        self.file.write(self.small)
        self.small = bytearray()

    def memoize(self, key, keep=None):
        if self.protocol >= 4:
            self.emit(b"\x94")
        elif self.count < 256:
            self.emit(b"q" + bytes([self.count]))
        else:
            self.emit(b"r" + struct.pack("<I", self.count))
        if key is not None:
            self.memo[key] = self.count
            self.kept.append(keep)
        self.count += 1

    def recall(self, key):
        if key not in self.memo:
            return False
        index = self.memo[key]
        self.emit(b"h" + bytes([index]) if index < 256 else b"j" + struct.pack("<I", index))
        return True

    def save(self, value):
        kind = type(value)
        if kind is Raw:
            self.emit(value.data)
        elif kind is Parameter:
            self.save(Call(PARAMETER, (value.data, False, OrderedDict())))
        elif isinstance(value, Tensor):
            self.save(Call(TENSOR, (
                Storage(value), value.storage_offset(), tuple(value.shape), value.stride(), False,
                OrderedDict(),
            )))  # fmt: skip
        else:
            getattr(self, f"save_{kind.__name__.lower()}")(value)

    def save_nonetype(self, value):
        self.emit(b"N")

    def save_bool(self, value):
        self.emit(b"\x88" if value else b"\x89")

    def save_int(self, value):
        if 0 <= value < 256:
            self.emit(b"K" + bytes([value]))
        elif 0 <= value < 65536:
            self.emit(b"M" + struct.pack("<H", value))
        elif -(2**31) <= value < 2**31:
            self.emit(b"J" + struct.pack("<i", value))
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.emit(b"\x8a" + bytes([len(data)]) + data)

    def save_float(self, value):
        self.emit(b"G" + struct.pack(">d", value))

    def save_str(self, value):
        if self.recall(("str", value)):
            return
        data = value.encode()
        if self.protocol >= 4 and len(data) < 256:
            self.emit(b"\x8c" + bytes([len(data)]) + data)
        else:
            self.emit(b"X" + struct.pack("<I", len(data)) + data)
        self.memoize(("str", value))

    def save_bytes(self, value):
        if len(value) < 256:
            self.emit(b"C" + bytes([len(value)]) + value)
        else:
            self.flush()
            self.file.write(b"B" + struct.pack("<I", len(value)))
            self.file.write(value)
        self.memoize(None)

    def save_tuple(self, value):
        if not value:
            return self.emit(b")")
        if len(value) > 3:
            self.emit(b"(")
        for item in value:
            self.save(item)
        self.emit({1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(value), b"t"))
        self.memoize(None)

    def save_list(self, value):
        self.emit(b"]")
        self.memoize(None)
        if value:
            self.emit(b"(")
            for item in value:
                self.save(item)
            self.emit(b"e")

    def save_dict(self, value):
        if self.recall(id(value)):
            return
        self.emit(b"}")
        self.memoize(id(value), value)
        self.save_items(value)

    def save_items(self, value):
        if len(value) == 1:
            ((key, item),) = value.items()
            self.save(key)
            self.save(item)
            self.emit(b"s")
        elif value:
            self.emit(b"(")
            for key, item in value.items():
                self.save(key)
                self.save(item)
            self.emit(b"u")

    def save_ordereddict(self, value):
        self.save(Call(ORDERED, ()))
        self.save_items(value)

    def save_set(self, value):
        if self.protocol < 4:
            return self.save(Call(Global("builtins", "set"), (sorted(value),)))
        self.emit(b"\x8f")
        self.memoize(None)
        if value:
            self.emit(b"(")
            for item in sorted(value):
                self.save(item)
            self.emit(b"\x90")

    def save_float64(self, value):  # numpy's
        core = "numpy.core.multiarray" if self.old else "numpy._core.multiarray"
        if self.float64 is None:
            self.float64 = Call(Global("numpy", "dtype"), ("f8", False, True),
                                (3, "<", None, None, None, -1, -1, 0))
        self.save(Call(Global(core, "scalar"), (self.float64, value.tobytes())))

    def save_global(self, value):
        if self.recall(value):
            return
        if self.protocol >= 4:
            self.save(value.module)
            self.save(value.name)
            self.emit(b"\x93")
        else:
            self.emit(f"c{value.module}\n{value.name}\n".encode())
        self.memoize(value)

    def save_call(self, value):
        if self.recall(id(value)):
            return
        self.save(value.function)
        self.save(value.arguments)
        self.emit(b"R")
        self.memoize(None if value.state is None else id(value), value)
        if value.state is not None:
            self.save(value.state)
            self.emit(b"b")

    def save_new(self, value):
        self.save(value.kind)
        self.emit(b")\x81")
        self.memoize(None)
        self.save_items(value.items or {})
        if value.state is not None:
            self.save(value.state)
            self.emit(b"b")

    def save_storage(self, value):
        self.save(Call(STORAGE, (value.data,)))


class Storage:
    """A tensor's storage as the byte string that torch makes of it."""

    def __init__(self, tensor):
        whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        self.data = storage_bytes(
            whole.numpy().tobytes(), KINDS[tensor.dtype], whole.numel(), id(tensor)
        )


def storage_bytes(data, kind="FloatStorage", count=0, key=1, *, real_count=None, device="cpu",
                  module="torch"):
    """Return a stream of torch's older format that says it holds `count` elements in `data`."""
    key = str(key)
    sizes = {"short": 2, "int": 4, "long": 4}
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    identity = ("storage", Global(module, kind), key, device, count, None)
    stream = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, machine, (identity,), [key]):
        part = io.BytesIO()
        writer = Writer(part, protocol=2)
        if value == (identity,):
            writer.save(identity)
            writer.emit(b"Q.")
            writer.flush()
        else:
            writer.dump(value)
        stream.write(part.getvalue())
    stream.write(struct.pack("<q", count if real_count is None else real_count))
    stream.write(data)
    return stream.getvalue()


# An EG3D as such a file describes it --------------------------------------------------------------


def write_official(path, eg3d, *, copies=("G", "G_ema"), protocol=4, old=False,
                   explicit_sizes=True, rendering=None, init=None, axes=None, dtype=None,
                   snapshot=None, change=None, source=SOURCE):
    """Write `eg3d` to `path` as a network pickle; `rendering` and `init` change its arguments.

    `copies` are the networks to write it as; `old` writes as torch 1.11 and numpy 1 do; without
    `explicit_sizes` the arguments are those that the official files have, without the sizes that
    EG3D's code fixes. `snapshot` replaces entries of the top-level dict; `change` is called with
    the `Layout` before anything is written.
    """
    layout = Layout(eg3d, old=old, explicit_sizes=explicit_sizes, axes=axes, dtype=dtype,
                    rendering=rendering or {}, init=init or {}, source=source)  # fmt: skip
    if change is not None:
        change(layout)
    content = {
        "training_set_kwargs": {"class_name": "training.dataset.ImageFolderDataset",
                                "path": "/data/heads.zip", "use_labels": True},
        "G": None, "D": None, "G_ema": None, "augment_pipe": None,
    }  # fmt: skip
    content.update({name: layout.network for name in copies})
    content.update(snapshot or {})
    content = {k: v() if callable(v) else v for k, v in content.items()}
    with open(path, "wb") as file:
        Writer(file, protocol=protocol, old=old).dump(content)
    return path


def present(net, *names):
    return {name: getattr(net, name) for name in names if hasattr(net, name)}


class Layout:
    """Builds the objects of a network pickle around the tensors of an EG3D."""

    def __init__(self, eg3d, *, old, explicit_sizes, rendering, init, axes, dtype, source):
        self.eg3d, self.config, self.old = eg3d, eg3d.config, old
        self.explicit_sizes, self.axes, self.dtype = explicit_sizes, axes, dtype
        self.rendering = {**self.rendering_kwargs(), **rendering}
        self.init, self.source = init, source

    def network(self):
        """Return a whole new copy of the generator."""
        c, net = self.config, self.eg3d
        arguments = {**self.init_kwargs(), **self.init}
        modules = {
            "renderer": self.plain(
                "training.volumetric_rendering.renderer", "ImportanceRenderer",
                {"ray_marcher": self.plain(
                    "training.volumetric_rendering.ray_marcher", "MipRayMarcher2")},
                plane_axes=self.plane_axes(),
            ),
            "ray_sampler": self.plain(
                "training.volumetric_rendering.ray_sampler", "RaySampler", ray_origins_h=None,
                ray_directions=None, depths=None, image_coords=None, rendering_options=None,
            ),
            "backbone": self.backbone(net.backbone),
            "superresolution": self.superresolution(net.superresolution),
            "decoder": self.plain(
                "training.triplane", "OSGDecoder", {"net": self.plain(
                    "torch.nn.modules.container", "Sequential", {
                        "0": self.dense(net.decoder.net[0], lr=c.decoder_lr_mul),
                        "1": self.plain("torch.nn.modules.activation", "Softplus",
                                        beta=1.0, threshold=20.0),
                        "2": self.dense(net.decoder.net[2], lr=c.decoder_lr_mul),
                    })}, hidden_dim=c.decoder_hidden),
        }  # fmt: skip
        return self.persistent(
            "TriPlaneGenerator", modules, buffers={"dataset_label_std": torch.ones(c.c_dim)},
            z_dim=c.z_dim, c_dim=c.c_dim, w_dim=c.w_dim, img_resolution=c.image_resolution,
            img_channels=3, neural_rendering_resolution=c.neural_resolution,
            rendering_kwargs=self.rendering, _last_planes=None, _init_args=(),
            _init_kwargs=arguments,
        )  # fmt: skip

    def init_kwargs(self):
        c = self.config
        own = {"plane_resolution": c.plane_resolution} if self.explicit_sizes else {}
        return {
            "z_dim": c.z_dim, "w_dim": c.w_dim, "c_dim": c.c_dim,
            "img_resolution": c.image_resolution, "img_channels": 3, **own,
            "mapping_kwargs": self.easy({"num_layers": c.mapping_layers}),
            "channel_base": c.channel_base, "channel_max": c.channel_max,
            "fused_modconv_default": "inference_only", "num_fp16_res": 0, "conv_clamp": None,
            "sr_num_fp16_res": 4 if c.sr_clamp else 0, "rendering_kwargs": dict(self.rendering),
            "sr_kwargs": self.easy(self.sr_kwargs()),
        }  # fmt: skip

    def sr_kwargs(self):
        c = self.config
        own = {"w_dim": c.w_dim, "hidden_channels": list(c.sr_channels),
               "input_resolution": c.sr_input_resolution}  # fmt: skip
        return {"channel_base": c.channel_base, "channel_max": c.channel_max,
                "fused_modconv_default": "inference_only",
                **(own if self.explicit_sizes else {})}  # fmt: skip

    def rendering_kwargs(self):
        c = self.config
        pivot = [int(x) if x == int(x) else x for x in c.camera_pivot]
        white = {"white_back": True} if c.white_background else {}
        return {
            "image_resolution": c.image_resolution,
            "disparity_space_sampling": c.disparity_sampling, "clamp_mode": "softplus",
            "superresolution_module":
                f"training.superresolution.SuperresolutionHybrid{c.superresolution}",
            "c_gen_conditioning_zero": c.c_zero, "gpc_reg_prob": 0.5, "c_scale": c.c_scale,
            "superresolution_noise_mode": c.sr_noise, "density_reg": 0.25,
            "density_reg_p_dist": 0.004, "reg_type": "l1", "decoder_lr_mul": c.decoder_lr_mul,
            "sr_antialias": c.sr_antialias, "depth_resolution": c.depth_samples,
            "depth_resolution_importance": c.importance_samples, "ray_start": c.ray_start,
            "ray_end": c.ray_end, "box_warp": int(c.box_size) if c.box_size == 1 else c.box_size,
            "avg_camera_radius": c.camera_radius, "avg_camera_pivot": pivot, **white,
        }  # fmt: skip

    def plane_axes(self):
        """Return a matrix per plane: the axes along its width, its height, and the third."""
        planes = self.axes or self.config.plane_axes
        rows = [["xyz".index(a) for a in axes] for axes in planes]
        full = [[u, v, 3 - u - v] for u, v in rows]
        return torch.eye(3)[torch.tensor(full)]

    def backbone(self, net):
        c, synthesis = self.config, net.synthesis
        sizes = {"img_resolution": c.plane_resolution, "img_channels": 3 * c.plane_channels}
        blocks = {}
        for resolution in c.block_resolutions:
            blocks[f"b{resolution}"] = self.block(
                getattr(synthesis, f"b{resolution}"), resolution, 3 * c.plane_channels,
                fp16=False, clamp=None, is_last=resolution == c.plane_resolution,
            )
        shared = {
            **sizes, "channel_base": c.channel_base, "channel_max": c.channel_max,
            "fused_modconv_default": "inference_only", "num_fp16_res": 0, "conv_clamp": None,
        }
        count = 2 * len(c.block_resolutions)
        parts = {
            "synthesis": self.persistent(
                "SynthesisNetwork", blocks, w_dim=c.w_dim, img_resolution=c.plane_resolution,
                img_resolution_log2=int(math.log2(c.plane_resolution)),
                img_channels=3 * c.plane_channels, num_fp16_res=0,
                block_resolutions=list(c.block_resolutions), num_ws=count,
                _init_args=(), _init_kwargs={"w_dim": c.w_dim, **shared},
            ),
            "mapping": self.mapping(net.mapping, count),
        }
        kwargs = {**sizes, "mapping_kwargs": self.easy({"num_layers": c.mapping_layers}),
                  **{k: v for k, v in shared.items() if k not in sizes}}
        return self.persistent(
            "Generator", parts, z_dim=c.z_dim, c_dim=c.c_dim, w_dim=c.w_dim, **sizes,
            num_ws=count, _init_args=(c.z_dim, c.c_dim, c.w_dim), _init_kwargs=kwargs,
        )

    def mapping(self, net, count):
        c = self.config
        parts = {"embed": self.dense(net.embed)} if c.c_dim else {}
        for index in range(c.mapping_layers):
            parts[f"fc{index}"] = self.dense(getattr(net, f"fc{index}"), lr=0.01, lrelu=True)
        kwargs = {"z_dim": c.z_dim, "c_dim": c.c_dim, "w_dim": c.w_dim, "num_ws": count,
                  "num_layers": c.mapping_layers}
        return self.persistent(
            "MappingNetwork", parts, buffers={"w_avg": net.w_avg}, z_dim=c.z_dim, c_dim=c.c_dim,
            w_dim=c.w_dim, num_ws=count, num_layers=c.mapping_layers, w_avg_beta=0.998,
            _init_args=(), _init_kwargs=kwargs,
        )

    def superresolution(self, net):
        c = self.config
        twice = SR_UPSAMPLING[c.superresolution] == 4
        middle = c.sr_input_resolution * (2 if twice else 1)
        blocks = {
            f"block{i}": self.block(
                getattr(net, f"block{i}"), size, 3, fp16=True, clamp=c.sr_clamp, is_last=i == 1,
                in_superresolution=True, up=bool(i) or twice,
            )
            for i, size in ((0, middle), (1, 2 * middle))
        }
        own = {} if c.superresolution == "8XDC" else {"resample_filter": net.resample_filter}
        kwargs = {"channels": c.feature_channels, "img_resolution": c.image_resolution,
                  "sr_num_fp16_res": 4 if c.sr_clamp else 0, "sr_antialias": c.sr_antialias,
                  **self.sr_kwargs()}  # fmt: skip
        return self.persistent(
            f"SuperresolutionHybrid{c.superresolution}", blocks, buffers=own,
            input_resolution=c.sr_input_resolution, sr_antialias=c.sr_antialias, _init_args=(),
            _init_kwargs=kwargs,
        )

    def block(self, net, resolution, image_channels, *, fp16, clamp, is_last,
              in_superresolution=False, up=True):
        """Return a synthesis block."""
        c, first = self.config, hasattr(net, "const")
        fp16 = fp16 and clamp is not None
        clamp = None if clamp is None else int(clamp)
        out_channels = net.conv1.weight.shape[0]
        in_channels = 0 if first else net.conv0.weight.shape[1]
        parts = {}
        if not first:
            parts["conv0"] = self.conv(net.conv0, resolution, clamp, up=2 if up else 1)
        parts["conv1"] = self.conv(net.conv1, resolution, clamp, up=1)
        parts["torgb"] = self.to_rgb(net.torgb, clamp)
        kwargs = {"w_dim": c.w_dim, "resolution": resolution, "img_channels": image_channels,
                  "is_last": is_last, "use_fp16": fp16}  # fmt: skip
        if in_superresolution:
            kwargs.update(conv_clamp=clamp, fused_modconv_default="inference_only")
        else:
            kwargs.update(fused_modconv_default="inference_only", conv_clamp=clamp)
        return self.persistent(
            "SynthesisBlock" if up else "SynthesisBlockNoUp", parts,
            parameters={"const": net.const} if first else {},
            buffers={"resample_filter": net.resample_filter},
            in_channels=in_channels, w_dim=c.w_dim, resolution=resolution,
            img_channels=image_channels, is_last=is_last, architecture="skip", use_fp16=fp16,
            channels_last=False, fused_modconv_default="inference_only",
            num_conv=1 if first else 2, num_torgb=1,
            _init_args=(in_channels, out_channels), _init_kwargs=kwargs,
        )

    def conv(self, net, resolution, clamp, *, up):
        out_channels, in_channels = net.weight.shape[:2]
        more = {"up": up, "resample_filter": [1, 3, 3, 1]} if up == 2 else {}
        return self.persistent(
            "SynthesisLayer", {"affine": self.affine(net.affine)},
            parameters={"weight": net.weight, "noise_strength": net.noise_strength,
                        "bias": net.bias},
            buffers={"resample_filter": net.resample_filter, "noise_const": net.noise_const},
            in_channels=in_channels, out_channels=out_channels, w_dim=self.config.w_dim,
            resolution=resolution, up=up, use_noise=True, activation="lrelu", conv_clamp=clamp,
            padding=1, act_gain=np.sqrt(2), _init_args=(in_channels, out_channels),
            _init_kwargs={"w_dim": self.config.w_dim, "resolution": resolution, **more,
                          "conv_clamp": clamp, "channels_last": False},
        )  # fmt: skip

    def to_rgb(self, net, clamp):
        out_channels, in_channels = net.weight.shape[:2]
        return self.persistent(
            "ToRGBLayer", {"affine": self.affine(net.affine)},
            parameters={"weight": net.weight, "bias": net.bias}, in_channels=in_channels,
            out_channels=out_channels, w_dim=self.config.w_dim, conv_clamp=clamp,
            weight_gain=1 / np.sqrt(in_channels), _init_args=(in_channels, out_channels),
            _init_kwargs={"w_dim": self.config.w_dim, "conv_clamp": clamp, "channels_last": False},
        )

    def affine(self, net):
        return self.dense(net, bias_init=1)

    def dense(self, net, *, lr=1, lrelu=False, bias_init=None):
        """Return a fully connected layer."""
        out_features, in_features = net.weight.shape
        kwargs = {} if bias_init is None else {"bias_init": bias_init}
        if lrelu:
            kwargs.update(activation="lrelu", lr_multiplier=lr)
        elif isinstance(lr, float):
            kwargs.update(lr_multiplier=lr)
        return self.persistent(
            "FullyConnectedLayer", {}, parameters=present(net, "weight", "bias"),
            in_features=in_features, out_features=out_features,
            activation="lrelu" if lrelu else "linear", weight_gain=lr / np.sqrt(in_features),
            bias_gain=lr, _init_args=(in_features, out_features), _init_kwargs=kwargs,
        )

    # How a module is written ----------------------------------------------------------------

    def persistent(self, kind, modules, *, parameters=None, buffers=None, **attributes):
        """Return a module whose class travels as source text."""
        said = {"type": "class", "version": 6, "module_src": self.source, "class_name": kind,
                "state": self.state(modules, parameters, buffers, attributes)}
        return Call(PERSISTENT, (said,))

    def plain(self, module, kind, modules=None, **attributes):
        """Return a module whose class is given by name."""
        return New(Global(module, kind), self.state(modules or {}, {}, {}, attributes))

    def state(self, modules, parameters, buffers, attributes):
        ordered = OrderedDict if self.old else dict
        parameters = {k: Parameter(self.tensor(v)) for k, v in (parameters or {}).items()}
        buffers = {k: self.tensor(v) for k, v in (buffers or {}).items()}
        hooks = {
            name: None if name == "_is_full_backward_hook" else OrderedDict()
            for name in (OLD_HOOKS if self.old else HOOKS)
        }
        return {
            "training": False, "_parameters": ordered(parameters), "_buffers": ordered(buffers),
            "_non_persistent_buffers_set": set(), **hooks, "_modules": ordered(modules),
            **attributes,
        }  # fmt: skip

    def tensor(self, value):
        value = value.detach()
        return value if self.dtype is None else value.to(self.dtype)

    def easy(self, items):
        return New(EASY_DICT, items=items)
