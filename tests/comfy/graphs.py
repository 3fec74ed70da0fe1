"""Prompts on the tiny models, in API format, for tests that look at what a server does."""

import copy


def node(class_type: str, **inputs) -> dict:
    """Return one node of a prompt."""
    return {"class_type": class_type, "inputs": inputs}


def changed(prompt: dict, **nodes: dict) -> dict:
    """Return a copy of a prompt with some inputs of some nodes changed."""
    prompt = copy.deepcopy(prompt)
    for name, inputs in nodes.items():
        prompt[name]["inputs"].update(inputs)
    return prompt


HEAD = {
    "eg3d": node("FreeStyleLoadEG3D", model="tiny.safetensors"),
    "head": node("FreeStyleEG3DSampler", eg3d=["eg3d", 0], seed=3, truncation=0.7),
    "cameras": node(
        "FreeStyleMultiViewCameraGrid",
        portrait=["head", 0],
        views_per_side=2,
        yaw_range_deg=20.0,
        pitch_range_deg=10.0,
    ),
    "views": node("FreeStyleTriplaneRender", portrait=["head", 0], cameras=["cameras", 0]),
}

EDITED = {
    **HEAD,
    "editor": node("FreeStyleLoadIp2pEditor", model="tiny-editor"),
    "edit": node(
        "FreeStyleIp2pSDEditStylize",
        editor=["editor", 0],
        images=["views", 0],
        style="an elf",
        tau=0.9,
        steps=4,
        image_guidance=1.5,
        text_guidance=3.0,
        seed=0,
    ),
}

# the whole pipeline: 5 views, 12 training steps, 4 frames
FULL = {
    **EDITED,
    "i2t": node("FreeStyleLoadI2T", model="tiny.safetensors", eg3d=["eg3d", 0]),
    "train": node(
        "FreeStyleI2TFinetune",
        i2t=["i2t", 0],
        portrait=["head", 0],
        cameras=["cameras", 0],
        images=["edit", 0],
        style=["edit", 1],
        iterations=12,
        batch_size=1,
        seed=0,
        perceptual="off",
    ),
    "turn": node(
        "FreeStyleTurntableCameras",
        portrait=["train", 0],
        frames=4,
        path="sweep",
        yaw_range_deg=20.0,
        pitch_range_deg=10.0,
    ),
    "frames": node("FreeStyleTriplaneRender", portrait=["train", 0], cameras=["turn", 0]),
    "show": node("PreviewImage", images=["frames", 0]),
}
