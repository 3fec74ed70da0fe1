"""Many quick jobs under random kills, a disk without room, a read-only folder, a changing job file.

    python benchmarks/batch_soak.py --jobs 200 --seed 0

Real processes of the real command on tiny models. After every run it looks at each finished job:
nothing that was finished may be gone or changed. At the end all jobs are there, no hidden folder is
left, and the memory of workers has not grown. Needs Linux; as root the read-only folder is a mount
of a namespace of its own, else it is a folder without write permission.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.batch.small import SMALL, save_models

ROOM = 60_000  # bytes that a process may write into one file: too few for a mesh
READ_ONLY = "mount --bind {0} {0} && mount -o remount,ro,bind {0} && exec "


@dataclass
class Soak:
    """One soak: its folder, what was seen finished, and what it counts."""

    work: Path
    workers: int
    chance: random.Random
    seen: dict[str, str] = field(default_factory=dict)  # key to the hash of all files
    counts: dict[str, int] = field(default_factory=dict)
    memory: dict[int, list[float]] = field(default_factory=dict)  # process to MB, in time

    @property
    def out(self) -> Path:
        """Return the folder of the batch."""
        return self.work / "out"

    def write_jobs(self, prompts: int, seeds: int) -> int:
        """Write the job file and return how many jobs it asks for."""
        names = ["prompt", "seed", *SMALL]
        rows = [
            [f"style {number}", f"1-{seeds}", *map(str, SMALL.values())]
            for number in range(prompts)
        ]
        self.chance.shuffle(rows)
        lines = [",".join(row) for row in [names, *rows]]
        (self.work / "jobs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return prompts * seeds

    def start(self, *, before: str = "", limit: int | None = None) -> subprocess.Popen[bytes]:
        """Start the command in a session of its own."""
        models = self.work / "models"
        parts = [f"--{part}={models / part}.safetensors" for part in ("eg3d", "i2t", "perceptual")]
        words = [sys.executable, "-m", "freestyle_core", "batch", str(self.work / "jobs.csv")]
        words += ["--out", str(self.out), "--workers", str(self.workers), "--device", "cpu"]
        words += [*parts, f"--editor={models / 'editor'}", "--json"]
        if before:
            words = ["unshare", "-m", "sh", "-c", before + " ".join(words)]
        self.count("runs")

        def limited() -> None:
            if limit is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        # the log is not under the limit: it goes through a pipe
        return subprocess.Popen(
            words,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=limited,
        )

    def count(self, what: str, by: int = 1) -> None:
        """Count something."""
        self.counts[what] = self.counts.get(what, 0) + by

    def finished(self) -> list[str]:
        """Return the keys of finished jobs."""
        return [path.parent.name for path in self.out.glob("jobs/[!.]*/done.json")]

    def look(self) -> None:
        """Raise unless everything that was ever finished is there, as it was."""
        found = set(self.finished())
        for key in found | self.seen.keys():
            if key not in found:
                raise SystemExit(f"job {key} was finished and is gone")
            hashed = folder_hash(self.out / "jobs" / key)
            if self.seen.setdefault(key, hashed) != hashed:
                raise SystemExit(f"job {key} has changed after it was finished")

    def sample(self, main: int) -> list[int]:
        """Note the memory of the workers of a main process and return them."""
        workers = []
        for pid in children(main):
            status = Path(f"/proc/{pid}/status")
            try:
                lines = dict(
                    line.split(":", 1) for line in status.read_text().splitlines() if ":" in line
                )
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"spawn_main" in command and "VmRSS" in lines:
                workers.append(pid)
                megabytes = int(lines["VmRSS"].split()[0]) / 1024
                self.memory.setdefault(pid, []).append(megabytes)
        return workers


def folder_hash(folder: Path) -> str:
    """Return the hash of all files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def until(soak: Soak, run: subprocess.Popen[bytes], more: int | None, goal: int) -> bool:
    """Wait until so many more jobs are finished; return whether the run has ended before."""
    start = len(soak.finished())
    while run.poll() is None:
        soak.sample(run.pid)
        done = len(soak.finished())
        if more is not None and done - start >= more and done < goal:
            return False
        time.sleep(0.25)
    return True


def killed_runs(soak: Soak, goal: int, kills: int) -> None:
    """Run and kill: now a worker, now the main process, at any moment of a job."""
    run = soak.start()
    for _ in range(kills):
        if until(soak, run, soak.chance.randint(1, max(2, goal // (2 * kills))), goal):
            break
        time.sleep(soak.chance.random())
        workers = soak.sample(run.pid)
        if workers and soak.chance.random() < 0.6:
            os.kill(soak.chance.choice(workers), signal.SIGKILL)
            soak.count("killed workers")
        else:
            os.kill(run.pid, signal.SIGKILL)
            run.communicate()
            soak.count("killed main processes")
            soak.look()
            run = soak.start()
    if run.poll() is None:
        os.kill(run.pid, signal.SIGTERM)
        soak.count("stopped by SIGTERM")
    run.communicate()
    soak.look()


def refused(soak: Soak, run: subprocess.Popen[bytes], what: str) -> None:
    """Wait for a run that can finish nothing, and check that it says so in few words."""
    _, said = run.communicate()
    lines = said.decode().splitlines()
    if run.returncode not in (1, 2) or not lines or "Traceback" in said.decode():
        raise SystemExit(f"{what}: exit status {run.returncode}, said {said.decode()[-500:]}")
    soak.count(what)
    print(f"{what}: exit status {run.returncode}: {lines[-1]}", flush=True)
    soak.look()


def main() -> None:
    """Soak, and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    begun = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="soak-"))
    soak = Soak(work, args.workers, random.Random(args.seed))
    save_models(work / "models")
    soak.write_jobs(prompts=5, seeds=args.jobs // 10)
    killed_runs(soak, args.jobs // 2, args.kills // 2)
    print(f"after the first kills: {len(soak.finished())} finished", flush=True)
    refused(soak, soak.start(limit=ROOM), "disk full")
    read_only(soak)
    # the job file changes while a run works on it, and grows
    run = soak.start()
    until(soak, run, 2, args.jobs)
    goal = soak.write_jobs(prompts=10, seeds=args.jobs // 10)
    if run.poll() is None:
        os.kill(run.pid, signal.SIGTERM)
    run.communicate()
    soak.look()
    killed_runs(soak, goal, args.kills - args.kills // 2)
    soak.memory.clear()  # from here on nobody is killed
    last = soak.start()
    until(soak, last, None, goal)
    soak.look()
    left = [str(path) for path in soak.out.rglob(".freestyle-*")]
    if last.returncode != 0 or len(soak.finished()) != goal or left:
        raise SystemExit(f"{len(soak.finished())} of {goal}, left: {left}, {last.communicate()}")
    growth = []
    for samples in soak.memory.values():
        third = len(samples) // 3
        if third >= 10:
            growth.append(mean(samples[-third:]) - mean(samples[third:-third]))
    numbers = {
        **soak.counts,
        "jobs": goal,
        "hidden folders left": len(left),
        "locks left": len(list(soak.out.glob("locks/*"))),
        "MB that workers grew by, last third over the middle": [round(x, 1) for x in growth],
        "minutes": round((time.monotonic() - begun) / 60, 1),
    }
    print(json.dumps(numbers, indent=1))
    shutil.rmtree(work)


def read_only(soak: Soak) -> None:
    """Run on a folder that cannot be written."""
    if os.geteuid() == 0:
        run = soak.start(before=READ_ONLY.format(soak.out))
        refused(soak, run, "read-only folder")
        return
    modes = {path: path.stat().st_mode for path in (soak.out, soak.out / "jobs")}
    try:
        for path in modes:
            path.chmod(0o555)
        refused(soak, soak.start(), "read-only folder")
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


if __name__ == "__main__":
    main()
