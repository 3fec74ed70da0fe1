"""What a run leaves in the folder while it works: its state, a live picture and the page."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileFormatError
from .folder import BatchFolder, write_json
from .jobs import Task
from .pace import Pace
from .page import Page
from .previews import MOST, write_live
from .status import SILENT_SECONDS

if TYPE_CHECKING:
    from .run import Report

STATE_SECONDS = 3.0  # between two states
PICTURE_SECONDS = 60.0  # between two live pictures, and pages
FRONT = "front.png"
_log = logging.getLogger(__name__)


class Journal:
    """Writes what others can look at; a disk that is full costs a line in the log, not the run."""

    def __init__(self, folder: BatchFolder, pace: Pace, report: Report) -> None:
        self._folder, self._pace, self._report = folder, pace, report
        self._state = folder.root / "runs" / f"{platform.node() or 'here'}-{os.getpid()}.json"
        self._page = Page(folder)
        self._pictures: dict[str, bytes] = {}
        self._finished: deque[str] = deque(maxlen=MOST)
        self._noted, self._pictured = -STATE_SECONDS, time.monotonic() - PICTURE_SECONDS / 2
        self._begun = time.time()
        self._complained = False

    def __enter__(self) -> Journal:
        for path in self._state.parent.glob("[!.]*.json"):  # of runs that were killed
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > SILENT_SECONDS:
                    path.unlink()
        return self

    def __exit__(self, *error: object) -> None:
        self._try(self._page.write)
        self._try(self._live)
        with suppress(OSError):
            self._state.unlink(missing_ok=True)

    def picture(self, key: str, picture: bytes | None) -> None:
        """Take a picture of a job that is being made."""
        if picture is not None:
            self._pictures[key] = picture

    def finished(self, key: str) -> None:
        """Take note of a new result."""
        self._pictures.pop(key, None)
        self._finished.appendleft(key)

    def note(self, working: Sequence[Task]) -> None:
        """Write what is due."""
        now = time.monotonic()
        if now - self._noted >= STATE_SECONDS:
            self._noted = now
            self._pictures = {
                task.job.key: self._pictures[task.job.key]
                for task in working
                if task.job.key in self._pictures
            }
            state = {
                "machine": platform.node(),
                "process": os.getpid(),
                "begun": self._begun,
                "time": time.time(),
                "working": [task.job.name for task in working],
                **self._pace.said(self._report),
            }
            self._try(lambda: write_json(self._state, state))
        if now - self._pictured >= PICTURE_SECONDS:
            self._pictured = now
            self._try(self._live)
            self._try(self._page.write)

    def _live(self) -> None:
        fronts: list[Path] = [self._folder.job(key) / FRONT for key in self._finished]
        write_live(self._folder.root / "live.png", list(self._pictures.values()), fronts)

    def _try(self, write: object) -> None:
        try:
            write()  # type: ignore[operator]
        except (OSError, FileFormatError) as error:
            if not self._complained:
                self._complained = True
                _log.warning("what shows the state of the batch cannot be written: %s", error)
