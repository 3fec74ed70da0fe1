"""What the tests of official pickles share: the inert records of a whole file."""

from contextlib import contextmanager
from pathlib import Path

from freestyle_core.files import official
from freestyle_core.files.pickles import read_pickle
from freestyle_core.files.stretch import Budget, Source


@contextmanager
def records_of(path):
    """Yield everything in a network pickle as records; its tensors can be read meanwhile."""
    path = Path(path)
    with open(path, "rb") as file:
        source = Source(file, str(path), 0, path.stat().st_size)
        yield read_pickle(source, official.NAMES, Budget())
