"""A second node pack beside ours in the test server: it shows what no message of ComfyUI says.

It is copied into custom_nodes under a name of its own and knows nothing of the pack under test.
"""

import ctypes
import dataclasses
import gc
import hashlib
import os
import types

import comfy.model_management
import comfy.model_sampling
import comfy.sd1_clip
import torch
from comfy_api.latest import io

import nodes


class Anything(str):
    """A socket type that takes and gives everything."""

    def __ne__(self, other):
        return False


ANY = Anything("*")


def feed(digest, value):
    """Put every number and word inside `value` into a hash."""
    if isinstance(value, torch.Tensor):
        digest.update(f"{tuple(value.shape)}{value.dtype}".encode())
        numbers = value.detach().cpu().reshape(-1).contiguous()
        digest.update(numbers.view(torch.uint8).numpy().tobytes())
    elif isinstance(value, torch.nn.Module):
        feed(digest, dict(value.state_dict()))
    elif dataclasses.is_dataclass(value):
        feed(digest, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(str(key).encode())
            feed(digest, value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            feed(digest, item)
    elif isinstance(value, (str, int, float, bool, type(None))):
        digest.update(repr(value).encode())


class ProbeHash:
    """Pass a value on and show the hash of its contents."""

    CATEGORY, FUNCTION, OUTPUT_NODE = "probe", "run", True
    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY,)}, "optional": {"after": (ANY,)}}

    def run(self, value, after=None):
        digest = hashlib.sha256()
        feed(digest, value)
        return {"ui": {"hash": [digest.hexdigest()]}, "result": (value,)}


class ProbeModels:
    """Show the class of every model that ComfyUI has loaded, and the bytes they take."""

    CATEGORY, FUNCTION, OUTPUT_NODE = "probe", "run", True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"after": (ANY,)}}

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    def run(self, after=None):
        loaded = [m for m in comfy.model_management.current_loaded_models if m.model is not None]
        names = [type(m.model.model).__name__ for m in loaded]
        return {"ui": {"names": names, "bytes": [sum(m.model_memory() for m in loaded)]}}


class ProbeTrim:
    """Unload all models and give glibc's free memory back, as the pack under test does on /free."""

    CATEGORY, FUNCTION, OUTPUT_NODE = "probe", "run", True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    def run(self):
        comfy.model_management.unload_all_models()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        return {"ui": {}}


class AllInputs(dict):
    """The inputs of a node that takes whatever is connected."""

    def __contains__(self, key):
        return True

    def __getitem__(self, key):
        return (ANY, {})


TEXTS = {
    "climb": "../../evil",
    "climb with backslashes": "..\\..\\evil",
    "absolute": os.path.abspath("evil"),
    "drive": "C:\\evil",
    "NUL": "ev\0il",
    "half a character": "evil \ud800",
    "empty": "",
    "blank": "  ",
    "dots": "..",
    "enormous": "evil" * 10**6,
}
NUMBERS = {
    "above": 10**30,
    "below": -(10**30),
    "far above": 10**400,
    "NaN": float("nan"),
    "infinite": float("inf"),
}
OBJECTS = {
    "nothing": None,
    "list": [1],
    "dict": {"a": 1},
    "bytes": b"evil",
    "one picture": torch.zeros(4, 4, 3),
    "grey pictures": torch.zeros(1, 4, 4, 1),
    "no pictures": torch.zeros(0, 4, 4, 3),
    "five axes": torch.zeros(1, 1, 4, 4, 3),
}


class ProbeLinks:
    """Run another node once for each hostile value on each of its inputs; show what came of it.

    The node gets its values as from links: no check of ComfyUI lies before it.
    """

    CATEGORY, FUNCTION, OUTPUT_NODE = "probe", "run", True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"target": ("STRING", {})}, "optional": AllInputs()}

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    def run(self, target, **values):
        node = nodes.NODE_CLASS_MAPPINGS[target]
        calls = []
        for one in node.define_schema().inputs:
            for kind, value in {**TEXTS, **NUMBERS, **OBJECTS}.items():
                calls.append([one.id, kind, *self.call(node, {**values, one.id: value})])
        return {"ui": {"calls": calls}}

    @staticmethod
    def call(node, values):
        clone = node.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: "probe"}})
        try:
            node.EXECUTE_NORMALIZED.__func__(clone, **values)
        except Exception as error:
            return [type(error).__name__, str(error)]
        return ["done", ""]


class ProbeText:
    """A text on a wire."""

    CATEGORY, FUNCTION = "probe", "run"
    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {})}}

    def run(self, text):
        return (text,)


class Clip:
    """ComfyUI's own tokenizer of Stable Diffusion 1; in place of embeddings the tokens come out."""

    def __init__(self):
        self.tokenizer = comfy.sd1_clip.SD1Tokenizer()

    def tokenize(self, text):
        return self.tokenizer.tokenize_with_weights(text)

    def encode_from_tokens_scheduled(self, tokens):
        (pieces,) = tokens.values()
        return [[torch.tensor([[pair for piece in pieces for pair in piece]]), {}]]


class ProbeModel:
    """A MODEL that has no weights but is known as InstructPix2Pix, a CLIP as above, and a VAE."""

    CATEGORY, FUNCTION = "probe", "run"
    RETURN_TYPES = (ANY, ANY, ANY)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        model = types.SimpleNamespace(
            process_ip2p_image_in=None,
            model_config=types.SimpleNamespace(unet_config={"in_channels": 8}),
            model_sampling=comfy.model_sampling.ModelSamplingDiscrete(),
        )
        patcher = types.SimpleNamespace(model=model, model_options={})
        return patcher, Clip(), types.SimpleNamespace(encode=None)


class ProbeWords:
    """Show how an editor made of those reads texts: pieces of words, token numbers, weights."""

    CATEGORY, FUNCTION, OUTPUT_NODE = "probe", "run", True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"editor": (ANY,), "texts": ("STRING", {})}}

    def run(self, editor, texts):
        lines = texts.splitlines()
        tokens = [pairs[0][0][0].tolist() for pairs in editor.encode_text(lines)]
        return {"ui": {"pieces": [editor.pieces(line) for line in lines], "tokens": tokens}}


NODE_CLASS_MAPPINGS = {
    "ProbeHash": ProbeHash,
    "ProbeLinks": ProbeLinks,
    "ProbeModel": ProbeModel,
    "ProbeModels": ProbeModels,
    "ProbeText": ProbeText,
    "ProbeTrim": ProbeTrim,
    "ProbeWords": ProbeWords,
}
