"""A batch of tiny models: jobs that take a fifth of a second each."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import torch

from freestyle_core.batch.engine import LOST, OUTCOME, READY, SHARE, Event
from freestyle_core.batch.folder import BatchFolder
from freestyle_core.batch.job_file import Entry
from freestyle_core.batch.jobs import make_jobs, tasks_of
from freestyle_core.batch.model_files import model_hashes
from freestyle_core.batch.previews import as_png
from freestyle_core.batch.worker import Plan, Worker
from freestyle_core.files.bundle import weights_hash
from freestyle_core.files.media.image import save_image
from freestyle_core.files.networks import save_eg3d, save_i2t, save_perceptual
from freestyle_core.pipeline import ModelPaths
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_perceptual
from tests.tiny_editor import save_tiny_editor

SMALL = {"views": 2, "steps": 2, "iterations": 2, "frames": 2, "resolution": 16, "level": 0.35}


def save_models(folder):
    """Write tiny models and return where they lie."""
    eg3d = tiny_eg3d()
    save_eg3d(folder / "eg3d.safetensors", eg3d)
    own = weights_hash(eg3d.state_dict())
    save_i2t(folder / "i2t.safetensors", tiny_i2t(), eg3d=own)
    save_perceptual(folder / "perceptual.safetensors", tiny_perceptual().net)
    save_tiny_editor(folder / "editor")
    return paths_in(folder)


def paths_in(folder):
    parts = {name: folder / f"{name}.safetensors" for name in ("eg3d", "i2t", "perceptual")}
    return ModelPaths(editor=folder / "editor", **parts)


def small_entry(number=1, **values):
    return Entry(f"jobs.toml, entry {number}", {**SMALL, **values})


def small_tasks(paths, *entries):
    return tasks_of(make_jobs(entries, model_hashes(paths)))


def small_plan(paths, root, *, write=None, begun=None):
    begun = time.time() if begun is None else begun
    return Plan(Path(root), paths, partial(on_cpu), write or write_front, begun)


def on_cpu():
    torch.set_num_threads(1)
    return torch.device("cpu"), torch.float32


def write_front(folder, made, models, times, device):
    """Write one picture: what a run writes else is the business of `cli`."""
    save_image(folder / "front.png", made.styles[0].front)
    return ["front.png"]


def kills_itself_once(mark, folder, made, models, times, device):
    """Write a picture; the first time, end as one does whose memory has run out."""
    if not mark.exists():
        mark.write_text(str(os.getpid()))
        (folder / "half.png").write_bytes(b"x")
        os.kill(os.getpid(), signal.SIGKILL)
    return write_front(folder, made, models, times, device)


def ready_folder(root, tasks):
    folder = BatchFolder(root)
    folder.prepare()
    folder.keep_plan([task.job for task in tasks], {"file": "jobs.toml"})
    return folder


class HereEngine:
    """One worker in this process. `before` is called with each task; what it returns goes on."""

    workers = 1

    def __init__(self, plan, before=lambda task: True, make=Worker):
        self.plan, self.before, self.make, self.events_now = plan, before, make, []

    def __enter__(self):
        self.worker = self.make(self.plan)
        self.events_now.append(Event(0, READY))
        return self

    def __exit__(self, *error):
        pass

    def give(self, worker, task):
        if not self.before(task):
            self.events_now += [Event(0, LOST, "its process ended by signal 9"), Event(0, READY)]
            return
        self.shares = []

        def progress(done, total, preview=None):
            self.shares.append(done / total)
            picture = None if preview is None else as_png(preview)
            self.events_now.append(Event(0, SHARE, (done / total, picture)))

        self.events_now.append(Event(0, OUTCOME, self.worker.work(task, progress)))

    def events(self, seconds):
        told, self.events_now = self.events_now, []
        return told
