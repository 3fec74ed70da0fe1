"""Writes an EG3D in the format of official network pickles.

`write_official` needs neither EG3D's source nor the classes that such a file names.
"""

import math

import numpy as np
import torch

from freestyle_core.models.config import SR_UPSAMPLING
from tests.pickle_modules import Modules
from tests.pickle_writer import New, Writer

SOURCE = "# source text removed\n"


def write_official(
    path,
    eg3d,
    *,
    copies=("G", "G_ema"),
    protocol=4,
    old=False,
    explicit_sizes=True,
    rendering=None,
    init=None,
    axes=None,
    dtype=None,
    snapshot=None,
    change=None,
    source=SOURCE,
):
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


def layout_of(eg3d, **changes):
    """Return the builder of a network's objects, as `write_official` uses it."""
    options = dict(old=False, explicit_sizes=True, axes=None, dtype=None, source=SOURCE)
    return Layout(eg3d, **{**options, "rendering": {}, "init": {}, **changes})


def arguments_of(eg3d):
    """Return what a generator was made with, as the plain values that programs keep beside it."""
    kwargs = layout_of(eg3d).init_kwargs()
    return {
        "init_kwargs": {k: v.items if type(v) is New else v for k, v in kwargs.items()},
        "neural_rendering_resolution": eg3d.config.neural_resolution,
    }


def present(net, *names):
    return {name: getattr(net, name) for name in names if hasattr(net, name)}


class Layout(Modules):
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
                getattr(synthesis, f"b{resolution}"),
                resolution,
                3 * c.plane_channels,
                fp16=False,
                clamp=None,
                is_last=resolution == c.plane_resolution,
            )
        shared = {
            **sizes,
            "channel_base": c.channel_base,
            "channel_max": c.channel_max,
            "fused_modconv_default": "inference_only",
            "num_fp16_res": 0,
            "conv_clamp": None,
        }
        count = 2 * len(c.block_resolutions)
        parts = {
            "synthesis": self.persistent(
                "SynthesisNetwork",
                blocks,
                w_dim=c.w_dim,
                img_resolution=c.plane_resolution,
                img_resolution_log2=int(math.log2(c.plane_resolution)),
                img_channels=3 * c.plane_channels,
                num_fp16_res=0,
                block_resolutions=list(c.block_resolutions),
                num_ws=count,
                _init_args=(),
                _init_kwargs={"w_dim": c.w_dim, **shared},
            ),
            "mapping": self.mapping(net.mapping, count),
        }
        kwargs = {
            **sizes,
            "mapping_kwargs": self.easy({"num_layers": c.mapping_layers}),
            **{k: v for k, v in shared.items() if k not in sizes},
        }
        return self.persistent(
            "Generator",
            parts,
            z_dim=c.z_dim,
            c_dim=c.c_dim,
            w_dim=c.w_dim,
            **sizes,
            num_ws=count,
            _init_args=(c.z_dim, c.c_dim, c.w_dim),
            _init_kwargs=kwargs,
        )

    def mapping(self, net, count):
        c = self.config
        parts = {"embed": self.dense(net.embed)} if c.c_dim else {}
        for index in range(c.mapping_layers):
            parts[f"fc{index}"] = self.dense(getattr(net, f"fc{index}"), lr=0.01, lrelu=True)
        kwargs = {
            "z_dim": c.z_dim,
            "c_dim": c.c_dim,
            "w_dim": c.w_dim,
            "num_ws": count,
            "num_layers": c.mapping_layers,
        }
        return self.persistent(
            "MappingNetwork",
            parts,
            buffers={"w_avg": net.w_avg},
            z_dim=c.z_dim,
            c_dim=c.c_dim,
            w_dim=c.w_dim,
            num_ws=count,
            num_layers=c.mapping_layers,
            w_avg_beta=0.998,
            _init_args=(),
            _init_kwargs=kwargs,
        )

    def superresolution(self, net):
        c = self.config
        twice = SR_UPSAMPLING[c.superresolution] == 4
        middle = c.sr_input_resolution * (2 if twice else 1)
        blocks = {
            f"block{i}": self.block(
                getattr(net, f"block{i}"),
                size,
                3,
                fp16=True,
                clamp=c.sr_clamp,
                is_last=i == 1,
                in_superresolution=True,
                up=bool(i) or twice,
            )
            for i, size in ((0, middle), (1, 2 * middle))
        }
        own = {} if c.superresolution == "8XDC" else {"resample_filter": net.resample_filter}
        kwargs = {"channels": c.feature_channels, "img_resolution": c.image_resolution,
                  "sr_num_fp16_res": 4 if c.sr_clamp else 0, "sr_antialias": c.sr_antialias,
                  **self.sr_kwargs()}  # fmt: skip
        return self.persistent(
            f"SuperresolutionHybrid{c.superresolution}",
            blocks,
            buffers=own,
            input_resolution=c.sr_input_resolution,
            sr_antialias=c.sr_antialias,
            _init_args=(),
            _init_kwargs=kwargs,
        )

    def block(
        self,
        net,
        resolution,
        image_channels,
        *,
        fp16,
        clamp,
        is_last,
        in_superresolution=False,
        up=True,
    ):
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
            "SynthesisBlock" if up else "SynthesisBlockNoUp",
            parts,
            parameters={"const": net.const} if first else {},
            buffers={"resample_filter": net.resample_filter},
            in_channels=in_channels,
            w_dim=c.w_dim,
            resolution=resolution,
            img_channels=image_channels,
            is_last=is_last,
            architecture="skip",
            use_fp16=fp16,
            channels_last=False,
            fused_modconv_default="inference_only",
            num_conv=1 if first else 2,
            num_torgb=1,
            _init_args=(in_channels, out_channels),
            _init_kwargs=kwargs,
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
            "ToRGBLayer",
            {"affine": self.affine(net.affine)},
            parameters={"weight": net.weight, "bias": net.bias},
            in_channels=in_channels,
            out_channels=out_channels,
            w_dim=self.config.w_dim,
            conv_clamp=clamp,
            weight_gain=1 / np.sqrt(in_channels),
            _init_args=(in_channels, out_channels),
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
            "FullyConnectedLayer",
            {},
            parameters=present(net, "weight", "bias"),
            in_features=in_features,
            out_features=out_features,
            activation="lrelu" if lrelu else "linear",
            weight_gain=lr / np.sqrt(in_features),
            bias_gain=lr,
            _init_args=(in_features, out_features),
            _init_kwargs=kwargs,
        )
