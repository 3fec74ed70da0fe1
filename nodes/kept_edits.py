"""What Ip2p SDEdit Stylize finds on disk and keeps there, view by view. Read `KeptEdits`."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ..freestyle_core.errors import FileFormatError
from ..freestyle_core.files.edit_cache import edit_keys, load_view, save_view
from ..freestyle_core.files.finetune_cache import open_store
from ..freestyle_core.method.stylize import StylizeSettings
from ..freestyle_core.models.editor import ImageEditor
from ..freestyle_core.progress import Progress, enter_phase
from . import adapt

_log = logging.getLogger(__name__)


class KeptEdits:
    """The edits of some views: those on disk, and those that are made now and then kept there."""

    def __init__(
        self, editor: ImageEditor, views: Tensor, style: str, settings: StylizeSettings
    ) -> None:
        decides = settings.suited(editor).decides(editor.guidance)
        texts = [settings.prompt(style), settings.negative]
        self._keys = edit_keys(editor, views, texts, decides)
        self._store = open_store(adapt.store_folder())
        self._views: list[Tensor | None] = [None] * len(views)
        if self._keys is not None:
            pairs = zip(self._keys, views, strict=True)
            self._views = [load_view(self._store, key, view) for key, view in pairs]
        self.missing = [index for index, view in enumerate(self._views) if view is None]
        self.count = len(views) - len(self.missing)

    def watched(self, progress: Progress) -> Progress:
        """Return a progress that takes every finished view, in the order of `missing`."""
        return _Watched(progress, self._take, iter(self.missing))

    def all(self) -> Tensor:
        """Return the edits of all views [V,3,H,W], on the CPU."""
        return torch.stack(cast(list[Tensor], self._views))

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
