"""What the tests of official pickles share: the records of a file, and loading under guard.

`python -m tests.pickle_tools FOLDER` loads every file of a folder as an EG3D and writes one JSON
line per file: what came of it, its processor seconds, how far the files so far have pushed the
memory above that of the libraries (a CUDA build of torch alone takes 500 MB), and every event of
the kind that running something from a file would cause.
"""

import io
import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from freestyle_core.errors import FreeStyleError
from freestyle_core.files.networks import load_eg3d
from freestyle_core.files.official import eg3d as official
from freestyle_core.files.official.byte_reader import Budget, Source
from freestyle_core.files.official.pickles import read_pickle
from tests.pickle_writer import Writer

SAMPLE = Path(__file__).parent / "golden" / "eg3d_tiny_official_nosrc.pkl"
CANARY_NAME = "freestyle_pickle_canary"
WATCHED = (
    "import",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.remove",
    "os.putenv",
    "os.mkdir",
    "pickle.find_class",
    "subprocess.Popen",
    "ctypes.dlopen",
    "socket.connect",
    "shutil.rmtree",
    "webbrowser.open",
    "urllib.Request",
)


@contextmanager
def records_of(path):
    """Yield everything in a network pickle as records; its tensors can be read meanwhile."""
    path = Path(path)
    with open(path, "rb") as file:
        source = Source(file, str(path), 0, path.stat().st_size)
        yield read_pickle(source, official.NAMES, Budget())


def pickled(value, protocol=4):
    """Return one value as the bytes of a pickle."""
    file = io.BytesIO()
    Writer(file, protocol=protocol).dump(value)
    return file.getvalue()


def load_all(folder):
    """Load every file of `folder` and write what happened."""
    events, armed = [], False

    def watch(event, arguments):
        if not armed:
            return
        if event in WATCHED or (event == "open" and "w" in str(arguments[1])):
            events.append(event)
        # torch compiles code of its own; what comes from a file mentions the canary
        if event == "compile" and CANARY_NAME in str(arguments[0]):
            events.append(event)
        if event == "exec" and CANARY_NAME in str(arguments[0].co_consts):
            events.append(event)

    load_eg3d(SAMPLE)  # everything that loading imports is imported now
    b"x".decode("cp437")  # of the names in a zip
    before = peak_mb()
    sys.addaudithook(watch)
    for path in sorted(Path(folder).iterdir()):
        events.clear()
        armed, start, message = True, time.process_time(), ""
        try:
            load_eg3d(path)
            outcome = "loaded"
        except FreeStyleError as error:
            outcome, message = "refused", str(error)
        except BaseException as error:
            outcome, message = type(error).__name__, str(error)[:200]
        seconds, armed = time.process_time() - start, False
        sys.stdout.write(
            json.dumps(
                {
                    "name": path.stem,
                    "outcome": outcome,
                    "message": message,
                    "seconds": seconds,
                    "peak_mb": peak_mb() - before,
                    "events": list(events),
                }
            )
            + "\n"
        )


def peak_mb():
    """Return the most memory this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss counts what the parent had when it forked, too
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    load_all(sys.argv[1])
