"""Edited views that all cells of a matrix share, and what they cost whoever made them first."""

from __future__ import annotations

import json
import time
from pathlib import Path

from torch import Tensor

from ..files.bundle import write_atomically
from ..files.finetune_cache import open_store
from ..kept_edits import KeptEdits
from ..method.stylize import StylizeSettings
from ..models.editor import ImageEditor
from ..progress import Progress, no_progress
from .cells import key_of
from .fits import Cost


class SharedEdits:
    """Edits kept in a folder. `cost` is what all those took that were not made this time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cost = Cost({}, {})

    def views(
        self,
        editor: ImageEditor,
        images: Tensor,  # [V,3,H,W]
        style: str,
        *,
        settings: StylizeSettings,
        progress: Progress = no_progress,
    ) -> Tensor:
        """Return edited views [V,3,H,W] as `stylize_views` would."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = KeptEdits(open_store(self.folder), editor, images, style, settings)
        if kept.missing:
            begun = time.monotonic(), time.process_time()
            kept.make(editor, images, style, settings, progress)
            spent = time.monotonic() - begun[0], time.process_time() - begun[1]
            each = [seconds / len(kept.missing) for seconds in spent]
            self._note(editor, settings, each)
        else:
            each = self._noted(editor, settings)
        wall, processor = (seconds * kept.count for seconds in each)
        self.cost = self.cost.plus(Cost({"edit": wall}, {"edit": processor}))
        return kept.all().to(images)

    def _file(self, editor: ImageEditor, settings: StylizeSettings) -> Path:
        own = settings.suited(editor).decides(editor.guidance)
        return self.folder / f"seconds-{key_of(own)[:16]}.json"

    def _note(self, editor: ImageEditor, settings: StylizeSettings, each: list[float]) -> None:
        with write_atomically(self._file(editor, settings)) as part:
            part.write_text(json.dumps(each), encoding="utf-8")

    def _noted(self, editor: ImageEditor, settings: StylizeSettings) -> list[float]:
        try:
            wall, processor = json.loads(self._file(editor, settings).read_text(encoding="utf-8"))
            return [float(wall), float(processor)]
        except (OSError, ValueError, TypeError):  # somebody has tidied up there
            return [0.0, 0.0]
