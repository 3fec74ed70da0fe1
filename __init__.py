"""FreeStyle 3D Portraits for ComfyUI. Importing this file loads nothing else."""

WEB_DIRECTORY = "./nodes/web"


async def comfy_entrypoint():
    """Return the extension; the nodes are imported only here, when ComfyUI asks for them."""
    from .nodes import FreeStyleExtension

    return FreeStyleExtension()
