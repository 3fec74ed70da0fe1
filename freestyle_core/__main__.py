"""The command line: `python -m freestyle_core portrait "a bronze statue"`.

This file reads the arguments and turns every failure into one line and an exit code; the work is in
`cli/commands.py`, imported only when it starts, so that help and mistakes answer at once.
Exit codes: 0 done, 1 failed, 2 wrong input, 128 + number when stopped by a signal: 130 by Ctrl-C,
143 by SIGTERM. A second signal stops at once, without waiting for a step to end.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import __version__, interrupts
from .cli.streams import take_any_text
from .errors import Cancelled, FreeStyleError, WriteError

ABOUT = """\
Make a 3D portrait in a style that you describe: a head that can be turned, mixed with another
style, and exported as a mesh. Everything works offline with the embedded "clay" models; a style is
any short description.

  python -m freestyle_core portrait "a bronze statue"
  python -m freestyle_core portrait "an elf" --style2 "a zombie" --mix 7 --out elf_zombie
  python -m freestyle_core portrait "sand" --seed 12 --quick
"""
MORE = 'Add --help to a command for its options, such as "portrait --help".'


class OneLineParser(argparse.ArgumentParser):
    """Reports a mistake in one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = OneLineParser(
        prog="python -m freestyle_core",
        description=ABOUT,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"freestyle {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=OneLineParser
    )
    for add in (
        _add_portrait,
        _add_render,
        _add_mix,
        _add_mesh,
        _add_pretrain,
        _add_convert,
        _add_info,
    ):
        add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; messages go to stderr."""
    take_any_text()
    args = make_parser().parse_args(argv)
    with interrupts.listen():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        with interrupts.held():  # some of what is imported here would swallow a Ctrl-C
            from .cli import commands
        interrupts.check()
        commands.run(args)
    except (KeyboardInterrupt, Cancelled) as stop:
        return _stopped(str(stop))
    except WriteError as error:
        return _fail(f"error: {error}", 1)
    except FreeStyleError as error:
        # a plain FreeStyleError is a run that failed, its subclasses are wrong input
        return _fail(f"error: {error}", 1 if type(error) is FreeStyleError else 2)
    except BrokenPipeError:
        # the reader of our output has gone: leave without a second error at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return _fail("error: out of memory; try fewer views, or --quick", 1)
    except Exception as error:
        if interrupts.received() is not None:  # some library has made another error of it
            return _stopped()
        if getattr(args, "debug", False):
            raise
        return _fail(f"error: {_unexpected(error)}; add --debug to see where", 1)
    return 0


def _stopped(message: str = "") -> int:
    return _fail(message or "stopped; no unfinished file was left", interrupts.exit_code())


def _fail(message: str, code: int) -> int:
    sys.stderr.write(" ".join(message.split()) + "\n")
    return code


def _unexpected(error: Exception) -> str:
    if "out of memory" in str(error).lower():
        return "out of memory; try fewer views, --quick or --device cpu"
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _add_portrait(commands: argparse._SubParsersAction) -> None:
    p = commands.add_parser(
        "portrait",
        help="make a stylised 3D portrait from a description",
        description="Make a stylised 3D portrait: turntable.mp4, front.png, views.png, mesh.glb, "
        "portrait.safetensors and run.json. Ctrl-C stops at any time and leaves no half-made file.",
    )
    p.add_argument("style", help='the style, such as "a bronze statue" or "a zombie"')
    p.add_argument("--style2", metavar="STYLE", help="a second style to make and to mix with")
    p.add_argument(
        "--mix",
        type=int,
        metavar="N",
        help="columns of the mixing sheet, with --style2 (default 5)",
    )
    p.add_argument("--seed", type=int, default=0, help="which person, 0 to 2^64 - 1 (default 0)")
    p.add_argument(
        "--views",
        type=int,
        metavar="N",
        help="N x N views are edited, 2 to 32; more is steadier and slower (default 10)",
    )
    p.add_argument(
        "--tau", type=float, help="how much the edit may change, above 0 to 1 (default 0.9)"
    )
    p.add_argument("--steps", type=int, help="denoising steps of the edit (default 20)")
    p.add_argument("--iterations", type=int, help="fine-tuning steps for each style")
    p.add_argument(
        "--quick",
        action="store_true",
        help="a rougher portrait in about a minute: fewer views, steps and iterations",
    )
    p.add_argument("--frames", type=int, help="frames of the turntable (default 72)")
    p.add_argument(
        "--path",
        choices=("ellipse", "sweep", "orbit"),
        default="ellipse",
        help="camera path of the turntable (default ellipse)",
    )
    _add_out(p, "freestyle_out", "folder for the results (default freestyle_out)")
    _add_device(p)
    for part in ("eg3d", "i2t", "editor", "perceptual"):
        _add_model(p, part)
    p.add_argument(
        "--editor-precision",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
        help="number format of the editor; the halves are for a GPU (default float32)",
    )


def _add_render(commands: argparse._SubParsersAction) -> None:
    p = commands.add_parser(
        "render",
        help="render a saved portrait along a camera path, or from one side",
        description="Render a saved portrait as a video (.mp4), or one view of it (.png).",
    )
    p.add_argument("file", type=Path, help="a portrait.safetensors")
    p.add_argument(
        "--path",
        choices=("ellipse", "sweep", "orbit"),
        default="ellipse",
        help="ellipse and sweep stay in front, orbit goes all round (default ellipse)",
    )
    p.add_argument("--frames", type=int, default=72, help="frames of the video (default 72)")
    p.add_argument("--fps", type=float, default=24.0, help="frames per second (default 24)")
    p.add_argument(
        "--yaw",
        type=float,
        metavar="DEG",
        help="video: largest angle to the side (default 30); picture: the angle (0)",
    )
    p.add_argument(
        "--pitch",
        type=float,
        metavar="DEG",
        help="video: largest angle up and down (default 10); picture: the angle (0)",
    )
    _add_out(p, "render.mp4", "file to write, .mp4 or .png (default render.mp4)")
    _add_device(p)
    _add_model(p, "eg3d")


def _add_mix(commands: argparse._SubParsersAction) -> None:
    p = commands.add_parser(
        "mix",
        help="mix the styles of two saved portraits",
        description="Mix two saved portraits: mix.png, mix.mp4, and with --amount the mixed "
        "portrait itself.",
    )
    p.add_argument("a", type=Path, help="the first portrait.safetensors")
    p.add_argument("b", type=Path, help="the second portrait.safetensors")
    p.add_argument(
        "--mix",
        type=int,
        default=5,
        metavar="N",
        help="columns of the mixing sheet, both ends included (default 5)",
    )
    p.add_argument(
        "--amount",
        type=float,
        help="also save the portrait at this amount, 0 the first to 1 the second",
    )
    _add_out(p, "freestyle_mix", "folder for the results (default freestyle_mix)")
    _add_device(p)
    _add_model(p, "eg3d")


def _add_mesh(commands: argparse._SubParsersAction) -> None:
    p = commands.add_parser(
        "mesh",
        help="export a saved portrait as a coloured mesh",
        description="Export a saved portrait as a mesh: .glb, .ply or .obj with vertex colours in "
        "metres, or .stl for printing in millimetres.",
    )
    p.add_argument("file", type=Path, help="a portrait.safetensors")
    p.add_argument(
        "--resolution",
        type=int,
        default=192,
        help="grid points along each side, 8 to 1024; more is finer (default 192)",
    )
    p.add_argument(
        "--level",
        type=float,
        default=10.0,
        help="density at the surface; lower is fuller (default 10)",
    )
    p.add_argument(
        "--cut-back",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the depth to cut off the back, 0 to 0.9 (default 0)",
    )
    p.add_argument(
        "--max-faces",
        type=int,
        default=0,
        metavar="N",
        help="simplify to about N triangles (default: keep all)",
    )
    p.add_argument(
        "--watertight", action="store_true", help="for printing: fill hollows, one closed surface"
    )
    p.add_argument(
        "--head-height",
        type=float,
        default=0.25,
        metavar="METRES",
        help="from chin to crown, 0 for the model's units (default 0.25)",
    )
    p.add_argument(
        "--keep-base",
        action="store_true",
        help="do not end the bust below the shoulders in a flat face",
    )
    p.add_argument("--all-parts", action="store_true", help="keep loose parts too")
    _add_out(p, "mesh.glb", "file to write: .glb, .ply, .obj or .stl (default mesh.glb)")
    _add_device(p)
    _add_model(p, "eg3d")


def _add_pretrain(commands: argparse._SubParsersAction) -> None:
    p = commands.add_parser(
        "pretrain",
        help="train an I2T network for another EG3D",
        description="Train the Image-to-Triplane network that portraits of your own EG3D need. "
        "Beside --out lie a checkpoint, a log (.jsonl) and previews; after any stop, the same "
        "command with --resume goes on. Several graphics cards: torchrun --nproc_per_node N -m "
        "freestyle_core pretrain ...",
    )
    _add_model(p, "eg3d")
    p.add_argument(
        "--steps",
        "--iterations",
        type=int,
        metavar="N",
        help="training steps (default 100000, the paper's)",
    )
    p.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="heads per step, of all processes together (default 4)",
    )
    p.add_argument("--rate", type=float, help="learning rate (default 0.002)")
    p.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        help="bfloat16 is about twice as fast on a recent card (default float32)",
    )
    p.add_argument("--seed", type=int, default=0, help="of the training heads (default 0)")
    p.add_argument(
        "--checkpoint",
        type=float,
        default=3.0,
        metavar="MINUTES",
        help="time between two checkpoints (default 3)",
    )
    p.add_argument(
        "--preview",
        type=int,
        default=1000,
        metavar="N",
        help="a preview sheet every N steps, 0 for none (default 1000)",
    )
    p.add_argument(
        "--validate",
        type=int,
        default=1000,
        metavar="N",
        help="PSNR on held-out heads every N steps, 0 for never (default 1000)",
    )
    p.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint beside --out, if there is one",
    )
    _add_out(p, "i2t.safetensors", "file to write (default i2t.safetensors)")
    _add_device(p)


def _add_convert(commands: argparse._SubParsersAction) -> None:
    p = commands.add_parser(
        "convert",
        help="turn an official EG3D pickle into a safetensors file",
        description="Write the generator of an official EG3D network pickle, such as "
        "ffhq512-128.pkl, as a safetensors file. Nothing inside the pickle is run.",
    )
    p.add_argument("file", type=Path, help="an official .pkl")
    p.add_argument("out", type=Path, help="file to write, .safetensors")
    p.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)


def _add_info(commands: argparse._SubParsersAction) -> None:
    p = commands.add_parser(
        "info",
        help="show versions, devices and models, or what a file or a folder of results holds",
        description="Show versions, devices and the embedded models, what a file holds, or whether "
        "the files in a folder of results are all of the run that its record names.",
    )
    p.add_argument(
        "file",
        type=Path,
        nargs="?",
        help="a .safetensors file of this program, an official EG3D .pkl, or a folder of results",
    )
    p.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)


def _add_out(parser: argparse.ArgumentParser, default: str, text: str) -> None:
    parser.add_argument("--out", type=Path, default=Path(default), metavar="PATH", help=text)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:1, mps or auto (default auto: cuda if there is one)",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error happened")


def _add_model(parser: argparse.ArgumentParser, part: str) -> None:
    kinds = {
        "editor": "folder in diffusers layout, or a .safetensors or .ckpt checkpoint",
        "eg3d": ".safetensors or official .pkl file",
    }
    what = kinds.get(part, ".safetensors file")
    default = "the embedded one"
    if part == "perceptual":
        what += ', or "vgg" for VGG-LPIPS'
        default = "vgg for large pictures if its weights are here, else the embedded one"
    parser.add_argument(
        f"--{part}", type=Path, metavar="PATH", help=f"{part} model, a {what} (default: {default})"
    )


if __name__ == "__main__":
    sys.exit(main())
