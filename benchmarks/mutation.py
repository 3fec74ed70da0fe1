"""Would the tests notice a fault? Puts small faults into the library, runs the tests that could see
each, and counts those that fail.

    pip install -r tests/requirements.txt pytest-cov mutmut==3.8.1
    OMP_NUM_THREADS=1 python benchmarks/mutation.py --sample 300 --seed 0

First the fast tests run once with coverage, to learn which tests run which lines and how long they
take (about ten minutes; kept in out/mutation while the sources and tests stay as they are). Then
every mutant runs in a fork of a process that has the large packages loaded already, in a copy of
the project, until the first test fails. A mutant counts as killed when a test fails, when it cannot
be imported, or when it takes far longer than the tests should. Linux and macOS only.

The tests of one mutant: those that run its line, then those that run anything else of its file;
those of its own room first, then the short ones, each as far as --budget reaches. So "survived" is
never too small a number; --again runs the survivors of a result with more tests or a larger budget.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from mutants import Mutant, again, sample

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out" / "mutation"
PACKAGE = "freestyle_core"
# what the tests load beside the library; loaded once, then forked
LARGE = (
    "torch.utils.data",
    "PIL.Image",
    "einops",
    "safetensors.torch",
    "av",
    "trimesh",
    "scipy",
    "hypothesis",
    "pytest",
    "transformers.models.clip",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix",
    "diffusers.models.autoencoders.autoencoder_tiny",
    "lpips",
)
ANYWHERE = 0  # in place of a line, where only the file is known
NEVER = "tests/comfy"  # starts servers
EARLIER = 1_500_000_000  # seconds: the time stamp of mutant files, so no cached bytecode fits them


@dataclass
class Tests:
    """What the fast tests run: seconds by test, tests by (file, line), and tests by file."""

    seconds: dict[str, float] = field(default_factory=dict)
    by_line: dict[str, dict[int, list[str]]] = field(default_factory=dict)

    def of(self, mutant: Mutant, budget: float) -> list[str]:
        """Return the tests that may see the mutant, in the order in which they are run."""
        lines = self.by_line.get(mutant.path, {})
        first, last = mutant.lines
        at = (ANYWHERE, *range(first, last + 1))
        direct = {test for line in at for test in lines.get(line, ())}
        near = {test for tests in lines.values() for test in tests}
        # what is made when a file is loaded, such as a table, may be read without running a line
        near |= {test for test in self.seconds if Path(_file(test)).parent == _room(mutant.path)}
        near -= direct
        chosen: list[str] = []
        for tests in (direct, near):
            total = 0.0
            for test in self._own_first(tests, mutant.path):
                if total and total + self.seconds[test] > budget:
                    break
                total += self.seconds[test]
                chosen.append(test)
        return chosen

    def _own_first(self, tests: set[str], path: str) -> list[str]:
        own = _room(path)
        # tests of one file stay together, or their fixtures would be made again and again
        files: dict[str, float] = defaultdict(float)
        for test in tests:
            files[_file(test)] += self.seconds[test]

        def rank(test: str) -> tuple:
            file = _file(test)
            return Path(file).parent != own, files[file], file, self.seconds[test], test

        return sorted(tests, key=rank)


def learn(folder: Path, *, reuse: bool = False) -> Tests:
    """Return what the tests of `folder` run; runs those that are not known already.

    With `reuse` only files of tests that are new run: of sources that have changed it is known
    which tests run them, not where, and new tests in files that are known are left out.
    """
    sources, files = _hashes(folder)
    cached = OUT / "tests.json"
    stored = json.loads(cached.read_text()) if cached.exists() else {"sources": None}
    if stored["sources"] != sources and not reuse:
        stored = {"sources": sources, "files": {}, "seconds": {}, "by_line": {}}
    known_files = stored["files"]
    changed = [name for name in files if known_files.get(name) != files[name]]
    if reuse:
        changed = [name for name in files if name not in known_files]
    kept = files.keys() - set(changed)
    tests = Tests({t: s for t, s in stored["seconds"].items() if _file(t) in kept})
    for path, at in stored["by_line"].items():
        known = {int(line): [t for t in on if t in tests.seconds] for line, on in at.items()}
        if stored["sources"].get(path) != sources.get(path):
            known = {ANYWHERE: sorted({test for on in known.values() for test in on})}
        tests.by_line[path] = known
    if changed:
        print(f"running {len(changed)} files of tests with coverage ...", flush=True)
        _add_run(tests, folder, sorted(changed))
    OUT.mkdir(parents=True, exist_ok=True)
    if reuse:  # the others are known from before only
        files = {name: known_files.get(name, digest) for name, digest in files.items()}
        sources = {name: stored["sources"].get(name, digest) for name, digest in sources.items()}
    known = {"seconds": tests.seconds, "by_line": tests.by_line}
    cached.write_text(json.dumps({"sources": sources, "files": files, **known}))
    return tests


def _add_run(tests: Tests, folder: Path, files: list[str]) -> None:
    shutil.copy(Path(__file__).parent / "mutation_plugin.py", folder)
    options = ["-q", "-n0", "-p", "mutation_plugin", "-p", "no:cacheprovider"]
    options += ["--hypothesis-seed=0"]
    options += [f"--cov={PACKAGE}", "--cov-context=test", "--cov-report="]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *files, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    if done.returncode not in (0, 1):  # 1: some fail; they are left out
        sys.exit("the tests could not be run")
    from coverage import CoverageData

    data = CoverageData(str(folder / ".coverage"))
    data.read()
    seconds = json.loads((folder / "seconds.json").read_text())
    tests.seconds.update(seconds)
    by_file: dict[str, list[str]] = defaultdict(list)
    for test in seconds:
        by_file[_file(test)].append(test)
    for path in data.measured_files():
        at = tests.by_line.setdefault(str(Path(path).relative_to(folder)), {})
        for line, contexts in data.contexts_by_lineno(path).items():
            found: set[str] = set()
            for context in contexts:
                test, _, phase = context.rpartition("|")
                # what a shared fixture runs is seen by all tests of the file
                found.update(by_file[_file(test)] if phase == "setup" else [test])
            at[line] = sorted({*at.get(line, ()), *(found & seconds.keys())})


class Runner:
    """Runs mutants in forks of this process, one per copy of the project."""

    def __init__(
        self,
        copies: list[Path],
        tests: Tests,
        originals: dict[str, str],  # sources by file
        budget: float,  # seconds
    ) -> None:
        self.free = list(copies)
        self.tests, self.originals, self.budget = tests, originals, budget
        self.running: dict[int, tuple[Mutant, Path, list[str], float, float]] = {}
        self.results: list[dict] = []
        self.started = 0

    def run(self, mutants: list[Mutant]) -> list[dict]:
        """Return one record per mutant, in the order in which they ended."""
        waiting = list(mutants)
        while waiting or self.running:
            while waiting and self.free:
                self._start(waiting.pop(0), self.free.pop())
            time.sleep(0.05)
            self._collect()
        return self.results

    def _start(self, mutant: Mutant, copy: Path) -> None:
        tests = self.tests.of(mutant, self.budget)
        if not tests:
            self.free.append(copy)
            self._note(mutant, "survived", [], 0.0, "no test runs anything of this file")
            return
        self.started += 1
        target = copy / mutant.path
        target.write_text(mutant.source, encoding="utf-8")
        os.utime(target, (EARLIER + self.started,) * 2)
        child = os.fork()
        if child == 0:
            _test(copy, tests)
        expected = sum(self.tests.seconds[test] for test in tests)
        now = time.monotonic()
        self.running[child] = (mutant, copy, tests, now, now + 60 + 6 * expected)

    def _collect(self) -> None:
        for child, (mutant, copy, tests, start, deadline) in list(self.running.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            late = not ended and time.monotonic() > deadline
            if not ended and not late:
                continue
            try:
                os.killpg(child, signal.SIGKILL)  # what the tests started, too
            except ProcessLookupError:
                pass
            if late:
                os.waitpid(child, 0)
            del self.running[child]
            (copy / mutant.path).write_text(self.originals[mutant.path], encoding="utf-8")
            told = (copy.parent / f"{copy.name}.txt").read_text(errors="replace").splitlines()
            failures = [row for row in told if row.startswith(("FAILED", "ERROR"))]
            reason = failures[-1] if failures else ""
            code = os.waitstatus_to_exitcode(status) if not late else None
            outcome = {None: "timeout", 0: "survived"}.get(code, "killed")
            self._note(mutant, outcome, tests, time.monotonic() - start, reason)
            self.free.append(copy)

    def _note(self, mutant: Mutant, outcome: str, tests: list[str], seconds: float, why: str):
        self.results.append(
            {
                "outcome": outcome,
                "path": mutant.path,
                "line": mutant.line,
                "before": mutant.before,
                "after": mutant.after,
                "tests": len(tests),
                "seconds": round(seconds, 1),
                "reason": why,
            }
        )
        print(
            f"{len(self.results):4d} {outcome:8s} {seconds:6.1f} s  {mutant.path}:{mutant.line}  "
            f"{mutant.before[:70]}  =>  {mutant.after[:70]}",
            flush=True,
        )


def _test(copy: Path, tests: list[str], *, at_first_failure: bool = True) -> None:
    """Run the tests in this process, a fork, and end it with pytest's status."""
    status = 3
    try:
        os.setsid()
        os.chdir(copy)
        output = os.open(f"{copy}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ["PYTHONPATH"] = str(copy)
        sys.path[:] = [str(copy), *(p for p in sys.path if p not in (str(ROOT), ""))]
        sys.dont_write_bytecode = False
        sys.argv = ["pytest"]
        import pytest

        files = list(dict.fromkeys(_file(test) for test in tests))
        options = ["-x"] if at_first_failure else []
        options += ["-q", "-n", "0", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
        options += [f"--rootdir={copy}", f"--basetemp={copy}.temporary", "--hypothesis-seed=0"]
        status = pytest.main([*options, *files], plugins=[_Chosen(tests)])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(status))


class _Chosen:
    """A pytest plugin: only these tests, in this order."""

    def __init__(self, tests: list[str]) -> None:
        self.order = {test: index for index, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = [item for item in items if item.nodeid in self.order]
        items.sort(key=lambda item: self.order[item.nodeid])


def _room(path: str) -> Path:
    """Return the folder of the tests of a source file."""
    return Path("tests", *Path(path).parts[1:-1])


def _file(test: str) -> str:
    return test.partition("::")[0]


def _hashes(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the hash of every source, with what tests share, and of every file of tests."""
    sources, files = {}, {}
    for top in (PACKAGE, "tests", "nodes"):
        for path in sorted((folder / top).rglob("*.py")):
            name = str(path.relative_to(folder))
            kind = files if top == "tests" and path.name.startswith("test_") else sources
            if not name.startswith(NEVER):
                kind[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return sources, files


def _copied(folder: Path) -> Path:
    """Return a copy of the project's files, as they are in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _check_kills(results: list[dict], copy: Path) -> None:
    """Turn kills by tests that also fail without a fault into survivors."""
    named = {r["reason"].removeprefix("FAILED ").partition(" - ")[0] for r in results}
    tests = sorted(name for name in named if name.startswith("tests/") and "::" in name)
    child = os.fork()
    if child == 0:
        _test(copy, tests, at_first_failure=False)
    os.waitpid(child, 0)
    told = Path(f"{copy}.txt").read_text(errors="replace").splitlines()
    wrong = {row.removeprefix("FAILED ").partition(" - ")[0] for row in told if "FAILED" in row}
    for record in results:
        if record["reason"].removeprefix("FAILED ").partition(" - ")[0] in wrong:
            record |= {"outcome": "survived", "reason": "a test that fails anyway"}


def _preload() -> None:
    for name in LARGE:
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"without {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sample", type=int, default=300, help="how many mutants (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which mutants (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="mutants at a time (%(default)s)")
    parser.add_argument("--budget", type=float, default=20.0, help="CPU seconds (%(default)s)")
    parser.add_argument("--package", default=PACKAGE, help="folder to change (%(default)s)")
    parser.add_argument("--reuse", action="store_true", help="measure new files of tests only")
    parser.add_argument("--again", type=Path, help="a result: run its survivors only")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
    with tempfile.TemporaryDirectory() as temporary:
        copies = [_copied(Path(temporary) / str(n)) for n in range(args.workers)]
        tests = learn(copies[0], reuse=args.reuse)
        if args.again:
            records = json.loads(args.again.read_text())
            mutants = again(copies[0], [r for r in records if r["outcome"] == "survived"])
        else:
            mutants = sample(copies[0], args.package, args.sample, args.seed)
        _preload()
        originals = {m.path: (copies[0] / m.path).read_text("utf-8") for m in mutants}
        start = time.monotonic()
        results = Runner(copies, tests, originals, args.budget).run(mutants)
        _check_kills(results, copies[0])
    _report(results, OUT / f"seed{args.seed}{'-again' if args.again else ''}.json")
    print(f"{time.monotonic() - start:.0f} s")


def _report(results: list[dict], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1))
    for name, group in (("all", ""), ("clay", f"{PACKAGE}/clay/")):
        counts = Counter(r["outcome"] for r in results if r["path"].startswith(group))
        total = sum(counts.values())
        killed = total - counts["survived"]
        print(f"{name}: {dict(counts)}; {killed} of {total} noticed, {killed / max(total, 1):.1%}")


if __name__ == "__main__":
    main()
