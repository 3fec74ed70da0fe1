"""Finetune Cache: how much disk the kept fine-tunings may take, and a way to forget them."""

from comfy_api.latest import io

from ..freestyle_core.files.finetune_cache import DEFAULT_LIMIT_GB, GB, open_store, set_limit
from . import adapt
from .schema import schema


class FinetuneCache(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "FinetuneCache",
            display_name="Finetune Cache",
            description="I2T Finetune keeps its results on disk, and Ip2p SDEdit Stylize its "
            "pictures, so that the same is never made twice, not even after a restart. This node "
            "sets how much room they may take, and deletes them if asked. It needs no other node: "
            "queue it alone.",
            search_aliases=["clear", "delete", "disk", "cache"],
            is_output_node=True,
            inputs=[
                io.Float.Input(
                    "limit_gb",
                    display_name="limit_gb (0: keep none)",
                    default=DEFAULT_LIMIT_GB,
                    min=0.0,
                    max=1000.0,
                    step=0.5,
                    tooltip="Room for kept results in GB, from now on. When it is full, the result "
                    "used longest ago is deleted; 0 keeps none.",
                ),
                io.Boolean.Input(
                    "clear",
                    default=False,
                    tooltip="On: delete every kept result now. Making the same again will take "
                    "its full time.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="status",
                    tooltip="How many results are kept, and how much room they take.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **_):
        """Run again whenever something was kept or deleted since."""
        return [path.name for path, _ in open_store(adapt.store_folder()).entries()]

    @classmethod
    def execute(cls, limit_gb, clear):
        store = set_limit(adapt.store_folder(), limit_gb)
        deleted = f"{store.clear()} deleted, " if clear else ""
        size, count = store.size() / GB, len(store.entries())
        status = f"{deleted}{count} kept, {size:.2f} of {limit_gb:g} GB"
        adapt.say(cls.hidden.unique_id, status)
        return io.NodeOutput(status)
