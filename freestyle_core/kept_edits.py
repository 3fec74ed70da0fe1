"""Edited views that are taken from disk where they were made before, and kept there when made now.

View by view, in a `Store` of `files/`. Read `kept_views`; a host that shows more of its work, such
as the node Ip2p SDEdit Stylize, uses `KeptEdits` itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from .errors import FileFormatError
from .files.edit_cache import edit_keys, load_view, save_view
from .files.finetune_cache import Store
from .method.stylize import StylizeSettings, stylize_views
from .models.editor import ImageEditor
from .progress import Progress, enter_phase, no_progress
from .types import Rendering

_log = logging.getLogger(__name__)


def kept_views(
    store: Store,
    editor: ImageEditor,
    images: Tensor,  # [V,3,H,W], in [0,1], of one head, the front view first
    style: str,
    *,
    settings: StylizeSettings | None = None,
    progress: Progress = no_progress,
    seen: Rendering | None = None,  # V, see `stylize_views`
) -> Tensor:
    """Return what `stylize_views` would, making only the views that the store does not hold."""
    settings = settings or StylizeSettings()
    kept = KeptEdits(store, editor, images, style, settings)
    kept.make(editor, images, style, settings, progress, seen)
    return kept.all().to(images)


class KeptEdits:
    """The edits of some views: those on disk, and those that are made now and then kept there."""

    def __init__(
        self,
        store: Store,
        editor: ImageEditor,
        views: Tensor,  # [V,3,H,W], in [0,1]
        style: str,
        settings: StylizeSettings,
    ) -> None:
        suited = settings.suited(editor)
        texts = [settings.prompt(style), settings.negative]
        shared = suited.shares_front(len(views))
        front = views[:1] if shared else None
        self._keys = edit_keys(editor, views, texts, suited.decides(editor.guidance), front)
        self._store = store
        self._views: list[Tensor | None] = [None] * len(views)
        if self._keys is not None:
            pairs = zip(self._keys, views, strict=True)
            self._views = [load_view(self._store, key, view) for key, view in pairs]
        self.missing = [index for index, view in enumerate(self._views) if view is None]
        self.count = len(views) - len(self.missing)
        if shared and self.missing and self.missing[0]:
            self.missing.insert(0, 0)  # the others have to see it

    def make(
        self,
        editor: ImageEditor,
        views: Tensor,
        style: str,
        settings: StylizeSettings,
        progress: Progress = no_progress,
        seen: Rendering | None = None,
    ) -> None:
        """Edit those of the same views that are missing, and keep them."""
        if self.missing:
            missing, watched = views[self.missing], self.watched(progress)
            left = None if seen is None else seen.part(self.missing)
            stylize_views(editor, missing, style, settings=settings, progress=watched, seen=left)

    def watched(self, progress: Progress) -> Progress:
        """Return a progress that takes every finished view, in the order of `missing`."""
        return _Watched(progress, self._take, iter(self.missing))

    def all(self) -> Tensor:
        """Return the edits of all views [V,3,H,W], on the CPU."""
        return torch.stack([view.cpu() for view in cast(list[Tensor], self._views)])

    def _take(self, index: int, image: Tensor) -> None:
        edited = image.cpu()
        self._views[index] = edited
        if self._keys is None:
            return
        try:
            save_view(self._store, self._keys[index], edited)
        except FileFormatError as error:  # a full disk must not cost the edit
            self._keys = None
            _log.warning("edited pictures could not be kept on disk: %s", error)


@dataclass(frozen=True)
class _Watched:
    """Hands every preview on as the result it is, before whoever watches may stop the run."""

    progress: Progress
    take: Callable[[int, Tensor], None]
    order: Iterator[int]

    def __call__(self, done: float, total: int, preview: Tensor | None = None) -> None:
        if preview is not None:
            self.take(next(self.order), preview)
        self.progress(done, total, preview)

    def phase(self, name: str, done: int, total: int) -> None:
        enter_phase(self.progress, name, done, total)
