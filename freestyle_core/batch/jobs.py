"""Jobs: one portrait each, named by the hash of everything that decides its files.

`make_jobs` turns entries of a job file into jobs, refusing every mistake before any work is done.
Jobs of one head stand together, so that its views are shared while they are fresh. Read `Job`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import FreeStyleError, InputError
from ..files.edit_cache import VERSION as EDIT_VERSION
from ..files.finetune_cache import NEUTRAL
from ..files.finetune_cache import VERSION as FINETUNE_VERSION
from ..files.names import shortened
from ..files.record import sha256
from ..files.style_pack import find_style_pack, prompt_of
from ..method.finetune_settings import NEED_I2T
from ..method.reedit import ROUNDS
from ..packs.apply import check_strength
from ..pipeline import PortraitSettings
from ..presets import PRESETS, chosen
from .job_file import Entry, seeds_of, texts_of

VERSION = 1  # raise it whenever the same inputs give other files
KEY_LENGTH = 20  # hexadecimal digits: among a billion jobs two alike by chance once in 10^6 batches
NUMBERS = ("views", "steps", "iterations", "batch_size", "frames", "resolution")  # of a preset
OTHERS = {"tau": float, "psi": float, "mix_steps": int, "path": str}  # of the settings
LEVEL = "level"  # density at which the mesh is cut
SWITCHES = ("robust", "reedit")
_PACK_FIELDS = ("pack", "packs")
_PHOTO_FIELDS = ("photo", "face")
FIELDS = (
    *("prompt", "prompts", "seed", "seeds", "preset", "presets", "style2", "train"),
    *SWITCHES,
    *_PACK_FIELDS,
    "strength",
    *_PHOTO_FIELDS,
)
_NOT_WITH_PACK = (
    *("prompt", "prompts", "style2", "train", "views", "steps", "iterations", "batch_size"),
    *("tau", "mix_steps"),
    *SWITCHES,
)


@dataclass(frozen=True)
class PackOf:
    """A style pack that a job takes its style from."""

    file: str  # absolute, so that it is found from any process
    strength: float
    sha256: str  # of the file, as it was when the jobs were made


@dataclass(frozen=True)
class PhotoOf:
    """A photograph that a job begins with, in place of the head of its seed."""

    file: str  # absolute
    face: int  # 0 for the largest
    sha256: str  # of the file, as it was when the jobs were made


@dataclass(frozen=True)
class Job:
    """One portrait to make."""

    key: str  # names its folder
    settings: PortraitSettings  # resolved: with the seeds that are used
    preset: str
    entry: str  # where it stands in the job file
    head: str  # hash of what decides the views of the unstyled head
    edits: str  # hash of what decides the edited views
    pack: PackOf | None = None  # a style pack instead of editing and training
    photo: PhotoOf | None = None

    @property
    def prompt(self) -> str:
        """Return the style in words; both where two are mixed."""
        return " + ".join(self.settings.prompts)

    @property
    def name(self) -> str:
        """Return what tables and messages call it."""
        how = self.preset if self.pack is None else "by a pack"
        who = f"seed {self.settings.seed}" if self.photo is None else Path(self.photo.file).name
        return f"{self.prompt}, {who}, {how}"


@dataclass(frozen=True)
class Task:
    """A job, and which of its parts other jobs of the batch can use."""

    job: Job
    keep_views: bool
    keep_edits: bool


def make_jobs(
    entries: Iterable[Entry],
    models: Mapping[str, str],  # the hash of each part's files: eg3d, i2t, editor, perceptual
) -> list[Job]:
    """Return the jobs of all entries, each once, those of one head one after another.

    Raises InputError that names the entry. Entries that mean the same job make it once.
    """
    jobs: dict[str, Job] = {}
    for entry in entries:
        for job in _jobs_of(entry, models):
            jobs.setdefault(job.key, job)
    heads = {head: n for n, head in enumerate(dict.fromkeys(job.head for job in jobs.values()))}
    return sorted(jobs.values(), key=lambda job: heads[job.head])


def tasks_of(jobs: Sequence[Job], *, share: bool = True) -> list[Task]:
    """Return the jobs with what each shares with another one; nothing without `share`."""
    if not share:
        return [Task(job, False, False) for job in jobs]
    made = [job for job in jobs if job.pack is None]  # a pack needs neither views nor edits
    heads, edits = Counter(job.head for job in made), Counter(job.edits for job in made)
    return [Task(job, heads[job.head] > 1, edits[job.edits] > 1) for job in jobs]


def _jobs_of(entry: Entry, models: Mapping[str, str]) -> Iterable[Job]:
    values, where = dict(entry.values), entry.where
    known = (*FIELDS, *NUMBERS, *OTHERS, LEVEL)
    for name in values:
        if name not in known:
            raise InputError(f"{where}: unknown {name!r}; known are {', '.join(known)}")
    packs = _packs(values, where)
    if packs:
        values = {k: v for k, v in values.items() if k not in (*_PACK_FIELDS, "strength")}
        values["prompts"] = list(packs)
    photo = _photo(values, where)
    values = {k: v for k, v in values.items() if k not in _PHOTO_FIELDS}
    prompts = texts_of(_either(values, "prompt", where), "a prompt", where)
    seeds = seeds_of(_either(values, "seed", where, 0), where)
    presets = texts_of(_either(values, "preset", where, "balanced"), "a preset", where)
    for name, found in (("prompt", prompts), ("seed", seeds), ("preset", presets)):
        if not found:
            raise InputError(f"{where}: the list of {name}s is empty")
    for seed in seeds:
        for preset in presets:
            for prompt in prompts:
                try:
                    settings = _settings(values, prompt, seed, preset)
                except FreeStyleError as error:
                    raise InputError(f"{where}: {error}") from None
                pack = packs.get(prompt)
                yield _job(settings, preset, where, models, pack=pack, photo=photo)


def _packs(values: Mapping[str, Any], where: str) -> dict[str, PackOf]:
    """Return the words of each style pack that an entry names, and the pack."""
    if not any(name in values for name in _PACK_FIELDS):
        if "strength" in values:
            raise InputError(f"{where}: strength is how much of a pack; add pack")
        return {}
    useless = [name for name in values if name in _NOT_WITH_PACK]
    if useless:
        raise InputError(
            f"{where}: a pack brings its own words, and neither edits nor trains, so "
            f"{useless[0]} means nothing; leave out one of them"
        )
    strength = values.get("strength", 1.0)
    found: dict[str, PackOf] = {}
    try:
        if not _is(strength, float):
            raise InputError(f"strength must be a number, got {shortened(strength)}")
        check_strength(strength)
        for given in texts_of(_either(values, "pack", where), "a pack", where):
            file = find_style_pack(given)
            words = prompt_of(file)
            if words in found:
                raise InputError(f"two packs have the words {words!r}; give them an entry each")
            found[words] = PackOf(str(file.resolve()), float(strength), sha256(file))
    except FreeStyleError as error:
        raise InputError(f"{where}: {error}") from None
    if not found:
        raise InputError(f"{where}: the list of packs is empty")
    return found


def _photo(values: Mapping[str, Any], where: str) -> PhotoOf | None:
    """Return the photograph that an entry names."""
    if "photo" not in values:
        if "face" in values:
            raise InputError(f"{where}: face is one of a photograph's; add photo")
        return None
    given, face = values["photo"], values.get("face", 0)
    if not isinstance(given, str) or not _is(face, int):
        raise InputError(f"{where}: photo must be a file's name in quotes, and face a number")
    if values.get("train") == "modulation":
        raise InputError(
            f'{where}: train = "modulation" starts from a head as its generator makes it, not from '
            'a photograph; use "planes"'
        )
    if not Path(given).is_file():
        raise InputError(f"{where}: there is no photograph {given}")
    return PhotoOf(str(Path(given).resolve()), face, sha256(Path(given)))


def _either(values: Mapping[str, Any], name: str, where: str, default: Any = None) -> Any:
    """Return a value that may be written in the singular or in the plural, but not in both."""
    given = [key for key in (name, f"{name}s") if key in values]
    if len(given) == 2:
        raise InputError(f"{where}: give {name} or {name}s, not both")
    if not given and default is None:
        raise InputError(f"{where}: a {name} is missing")
    return values[given[0]] if given else default


def _settings(values: Mapping[str, Any], prompt: str, seed: int, preset: str) -> PortraitSettings:
    if preset not in PRESETS:
        raise InputError(f"preset must be one of {', '.join(PRESETS)}, got {shortened(preset)}")
    kinds: dict[str, type] = {**dict.fromkeys(NUMBERS, int), **OTHERS, LEVEL: float}
    for name, kind in kinds.items():
        if name in values and not _is(values[name], kind):
            word = {int: "a whole number", float: "a number", str: "text"}[kind]
            raise InputError(f"{name} must be {word}, got {shortened(values[name])}")
    robust, reedit = (values.get(name, False) for name in SWITCHES)
    style2 = values.get("style2")
    if not (isinstance(robust, bool) and isinstance(reedit, bool)):
        raise InputError("robust and reedit must be true or false")
    if not isinstance(style2, str | None):
        raise InputError(f"style2 must be text in quotes, got {shortened(style2)}")
    numbers = {name: values.get(name) for name in NUMBERS}
    others = {name: values[name] for name in OTHERS if name in values}
    prompts = (prompt,) if style2 is None else (prompt, style2)
    picked = chosen(preset, train=values.get("train"), **numbers)
    settings = picked.settings(*prompts, seed=seed, **others)
    tune = replace(settings.tune, preview_every=0, robust=robust)
    mesh = replace(settings.mesh, level=values.get(LEVEL, settings.mesh.level))
    return replace(settings, reedit=ROUNDS if reedit else 0, tune=tune, mesh=mesh).resolved()


def _is(value: Any, kind: type) -> bool:
    kinds = (int, float) if kind is float else (kind,)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _job(
    settings: PortraitSettings,
    preset: str,
    where: str,
    models: Mapping[str, str],
    *,
    pack: PackOf | None = None,
    photo: PhotoOf | None = None,
) -> Job:
    if pack is not None:
        return _pack_job(settings, preset, where, models, pack, photo)
    if settings.tune.train not in NEED_I2T:
        models = {part: digest for part, digest in models.items() if part != "i2t"}
    elif "i2t" not in models:
        raise InputError(
            f"{where}: train = {settings.tune.train!r} needs an I2T that belongs to this EG3D; "
            'give it with --i2t, or set train = "planes"'
        )
    plain = asdict(settings)
    if not plain["front"]:  # came later: jobs without a photograph keep their names
        del plain["front"]
    tune = {k: v for k, v in plain["tune"].items() if NEUTRAL.get(k, ...) != v}
    head_of = ("seed", "psi", "views", "yaw_range_deg", "pitch_range_deg", "render")
    own = _of_photo(photo)
    head = _hash({"eg3d": models["eg3d"], **{name: plain[name] for name in head_of}, **own})
    edits = _hash([EDIT_VERSION, head, models["editor"], plain["prompts"], plain["edit"]])
    versions = [VERSION, EDIT_VERSION, FINETUNE_VERSION]
    used = {**plain, "tune": tune}
    inputs = {"versions": versions, "models": dict(models), "settings": used, **own}
    return Job(_hash(inputs), settings, preset, where, head, edits, photo=photo)


def _pack_job(
    settings: PortraitSettings,
    preset: str,
    where: str,
    models: Mapping[str, str],
    pack: PackOf,
    photo: PhotoOf | None,
) -> Job:
    plain, own = asdict(settings), {"eg3d": models["eg3d"], "pack": pack.sha256}
    used = {name: plain[name] for name in ("seed", "psi", "turntable", "mesh", "render")}
    inputs = {"version": VERSION, "models": own, "strength": pack.strength, "settings": used}
    key = _hash({**inputs, **_of_photo(photo)})
    return Job(key, settings, preset, where, head=key, edits=key, pack=pack, photo=photo)


def _of_photo(photo: PhotoOf | None) -> dict[str, Any]:
    """Return what a photograph adds to the inputs of a job; nothing where there is none."""
    return {} if photo is None else {"photo": [photo.sha256, photo.face]}


def _hash(inputs: Any) -> str:
    text = json.dumps(inputs, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
