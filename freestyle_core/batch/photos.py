"""The heads of jobs that begin with a photograph: aligned and made once for those that follow."""

from __future__ import annotations

from pathlib import Path

from ..baselines.from_photo import own_i2t, portrait_of_photo
from ..errors import MismatchError
from ..files.media.photo import load_photo
from ..files.networks import framing_for, load_detector, load_face_mesh
from ..files.record import sha256
from ..photo.align import align_photo
from ..pipeline import Models
from ..progress import Progress
from ..types import Portrait
from .jobs import PhotoOf

Front = tuple[float, ...]  # see `PortraitSettings.front`


class PhotoHeads:
    """Portraits of photographs, by the way that suits the generator; the last one is kept."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._last: tuple[tuple[str, int, int], tuple[Portrait, Front]] | None = None

    def head(self, photo: PhotoOf, seed: int, progress: Progress) -> tuple[Portrait, Front]:
        """Return the portrait of a photograph, and the camera that it was taken with."""
        key = (photo.sha256, photo.face, seed)
        if self._last is None or self._last[0] != key:
            self._last = (key, self._made(photo, seed, progress))
        return self._last[1]

    def _made(self, photo: PhotoOf, seed: int, progress: Progress) -> tuple[Portrait, Front]:
        if sha256(Path(photo.file)) != photo.sha256:
            raise MismatchError(
                f"the photograph {photo.file} is another one than when the batch began; start the "
                "batch again"
            )
        eg3d = self._models.eg3d
        device = next(eg3d.parameters()).device
        aligned = align_photo(
            load_photo(photo.file),
            eg3d.config,
            detector=load_detector(),
            mesh=load_face_mesh(),
            framing=framing_for(eg3d.config),
            index=photo.face,
        )
        portrait = portrait_of_photo(
            aligned.image.to(device),
            aligned.camera.to(device),
            eg3d=eg3d,
            i2t=self._models.i2t or own_i2t(eg3d),
            perceptual=self._models.perceptual,
            seed=seed,
            progress=progress,
        )
        return portrait, tuple(aligned.camera.cam_to_world[0].flatten().tolist())
