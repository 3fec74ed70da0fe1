"""What jobs share: a head's views, edited views and the codes of texts, each made once.

Views and edits lie in a `Store` of the batch's folder, so that processes and machines share them,
and a later batch too; whoever comes second while they are being made waits. Only what another job
of the batch can use is kept. Read `SharedSteps`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import FileFormatError
from ..files.bundle import load_bundle
from ..files.claims import awaited
from ..files.finetune_cache import Store, open_store
from ..kept_edits import KeptEdits
from ..method.render import RenderSettings, render_views
from ..method.stylize import StylizeSettings, stylize_views
from ..models.editor import Editor, ImageEditor
from ..progress import Progress, no_progress
from ..types import CameraBatch, Portrait
from .jobs import Task

KIND = "rendered-views"
TEXTS_KEPT = 256
_log = logging.getLogger(__name__)


class SharedSteps:
    """The steps of one job that take from a folder what other jobs have made, or keep it there.

    `render` and `edit` stand in for those of `pipeline.make_portrait`. `taken` counts the views
    that were not made anew.
    """

    def __init__(self, task: Task, folder: Path, lock: Callable[[str], Path]) -> None:
        self._task, self._folder, self._lock = task, folder, lock
        self.taken = {"views": 0, "edits": 0}

    def render(
        self,
        portrait: Portrait,
        cameras: CameraBatch,
        *,
        settings: RenderSettings,
        progress: Progress = no_progress,
    ) -> Tensor:
        """Return the images of `render_views` [V,3,H,W]."""
        if not self._task.keep_views:
            return render_views(portrait, cameras, settings=settings, progress=progress).image
        key, store = f"head-{self._task.job.head}", self._store()
        with awaited(self._lock(key), lambda: progress(0, 1)):
            found = store.find(key, lambda path: _read(path, key, portrait, len(cameras)))
            if found is not None:
                self.taken["views"] = len(cameras)
                return found.to(portrait.triplane.planes.device)
            images = render_views(portrait, cameras, settings=settings, progress=progress).image
            try:
                store.keep(key, KIND, {}, {"images": images}, {"key": key})
            except FileFormatError as error:  # a full disk must not cost the job
                _log.warning("views could not be kept for other jobs: %s", error)
        return images

    def edit(
        self,
        editor: ImageEditor,
        images: Tensor,  # [V,3,H,W]
        style: str,
        *,
        settings: StylizeSettings,
        progress: Progress = no_progress,
    ) -> Tensor:
        """Return the edited views [V,3,H,W], as `stylize_views` does."""
        if not self._task.keep_edits:
            return stylize_views(editor, images, style, settings=settings, progress=progress)
        with awaited(self._lock(f"edits-{self._task.job.edits}"), lambda: progress(0, 1)):
            kept = KeptEdits(self._store(), editor, images, style, settings)
            self.taken["edits"] += kept.count
            kept.make(editor, images, style, settings, progress)
        return kept.all().to(images)

    def _store(self) -> Store:
        self._folder.mkdir(parents=True, exist_ok=True)
        return open_store(self._folder)


@dataclass(frozen=True)
class RememberingEditor(Editor):
    """An editor that encodes the same texts once."""

    known: dict[tuple[str, ...], Tensor] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, editor: Editor) -> RememberingEditor:
        """Return an editor with the networks of another one."""
        return cls(**{part.name: getattr(editor, part.name) for part in fields(editor)})

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return the text encoder's last hidden states [N,T,D]."""
        words = tuple(texts)
        if words not in self.known:
            while len(self.known) >= TEXTS_KEPT:
                del self.known[next(iter(self.known))]
            self.known[words] = super().encode_text(texts)
        return self.known[words]


def _read(path: Path, key: str, portrait: Portrait, count: int) -> Tensor:
    bundle: Any = load_bundle(path, KIND)
    images, size = bundle.state.get("images"), portrait.renderer.config.image_resolution
    if bundle.extra.get("key") != key or images is None or images.shape != (count, 3, size, size):
        raise FileFormatError(f"{path} does not hold what was saved under its name")
    return images
