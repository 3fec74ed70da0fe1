"""`style`: style packs are made, applied, shown and listed."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ...errors import FreeStyleError, InputError
from ...files.bundle import load_header
from ...files.editors.load import load_editor
from ...files.names import ending
from ...files.networks import embedded, load_eg3d
from ...files.perceptual import AUTO, load_distance
from ...files.staging import staged
from ...files.style_pack import (
    KIND,
    SUFFIX,
    find_style_pack,
    load_style_pack,
    save_style_pack,
    shipped_packs,
)
from ...files.survey import files_below, kind_of
from ...method.prompts import prompt_notes
from ...method.render import render_views
from ...method.stylize import StylizeSettings
from ...packs.apply import apply_style_pack, check_strength
from ...packs.learn import PackSettings, make_style_pack
from ...pipeline import PortraitSettings
from ...presets import chosen
from ...progress import Portion
from ...visualize.style_page import ShownStyle, page_cameras, style_page
from ..console import numbered_stages, say
from ..devices import chosen_device, editor_format
from ..restyle import given_psi, head_of, restyle_to_files

_log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> None:
    """Make, apply, show or list style packs."""
    {"make": _make, "apply": _apply, "show": _show, "list": _list}[args.what](args)


def _make(args: argparse.Namespace) -> None:
    names = ("heads", "seed", "views", "iterations")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    settings = PackSettings(**given)
    settings.tune()  # refuses what no training can be
    StylizeSettings().prompt(args.style)
    if ending(args.out) != SUFFIX or args.out.is_dir():
        raise InputError(f"--out must be a {SUFFIX} file, got {args.out.name!r}")
    device = chosen_device(args.device)
    is_embedded = args.editor is None
    dtype = editor_format(args.editor_precision, device, embedded=is_embedded)
    stages = numbered_stages(2)
    with staged(args.out.parent) as folder:
        with stages.stage("load the models"):
            eg3d = load_eg3d(args.eg3d or embedded("eg3d")).to(device)
            editor = load_editor(args.editor or embedded("editor"), dtype=dtype).to(device)
            size = eg3d.config.image_resolution
            distance = load_distance(args.perceptual or AUTO, image_resolution=size).to(device)
        editor.encode_text([settings.edit.prompt(args.style)])  # refuses too many words
        for note in prompt_notes(args.style, editor):
            _log.warning("%s", note)
        with stages.stage("learn the style") as progress:
            pack = make_style_pack(
                eg3d,
                editor,
                distance,
                args.style,
                settings=settings,
                licence=args.licence,
                progress=progress,
            )
        save_style_pack(folder / args.out.name, pack)
        size_kb = (folder / args.out.name).stat().st_size / 1024
    say(f"{args.out}: {size_kb:.0f} KB, learnt on {pack.heads} heads")


def _apply(args: argparse.Namespace) -> None:
    settings = chosen(frames=args.frames).settings(
        args.pack, seed=args.seed, path=args.path, **given_psi(args)
    )
    restyle_to_files(args, args.pack, settings, start=args.start, strength=args.strength)


def _show(args: argparse.Namespace) -> None:
    if ending(args.out) != ".html" or args.out.is_dir():
        raise InputError(f"--out must be a .html file, got {args.out.name!r}")
    check_strength(args.strength)
    files = [find_style_pack(name) for name in args.packs] or list(shipped_packs().values())
    device, stages = chosen_device(args.device), numbered_stages(2)
    person = PortraitSettings(("plain",), seed=args.seed, **given_psi(args))
    with staged(args.out.parent) as folder:
        with stages.stage("load the models"):
            packs = [load_style_pack(file) for file in files]
            head = head_of(args.eg3d, packs[0], person.seed, person.psi, args.start).to(device)
            cameras = page_cameras(args.views, head.renderer.config.rig())
        restyled = [head]
        for pack in packs:
            pack.network.to(device)
            restyled.append(apply_style_pack(pack, head, args.strength))
        names = ["plain", *(file.stem for file in files)]
        words = ["the head before", *(pack.prompt for pack in packs)]
        shown = []
        with stages.stage("render") as progress:
            for number, portrait in enumerate(restyled):
                part = Portion(progress, number / len(restyled), (number + 1) / len(restyled))
                views = render_views(portrait, cameras, progress=part).image.cpu()
                shown.append(ShownStyle(names[number], words[number], views))
        title = args.start.stem if args.start else f"Head {args.seed}"
        count = "1 style" if len(packs) == 1 else f"{len(packs)} styles"
        text = style_page(f"{title} in {count}", shown)
        (folder / args.out.name).write_text(text, encoding="utf-8")
    say(f"{args.out}: {count}, {len(text) / 2**20:.1f} MB; open it in a browser")


def _list(args: argparse.Namespace) -> None:
    if args.folder is None:
        files = shipped_packs()
    else:
        if not args.folder.is_dir():
            raise InputError(f"there is no folder {args.folder}")
        files = {n: p for n, p in files_below(args.folder) if kind_of(p) == KIND}
    if not files:
        say(f"no style packs in {args.folder or 'this package'}")
    for name, path in files.items():
        say(described(name, path))


def described(name: str, path: Path) -> str:
    """Return one line about a pack."""
    try:
        about = load_header(path, KIND).extra
    except FreeStyleError as error:
        return f"{name}: {error}"
    licence = about.get("licence") or "no licence named"
    size = path.stat().st_size / 1024
    return f"{name}: {about.get('prompt')!r}, for {about.get('eg3d')}, {licence}, {size:.0f} KB"
