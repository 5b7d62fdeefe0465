"""Trainings in other processes, quickly: a fork server that has imported everything already."""

import dataclasses
import json
import multiprocessing as mp
import os
import shutil
import socket
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

from lsd_nb.core import LSDError, load_tensors
from lsd_nb.training import Config, train

CONTEXT = mp.get_context("forkserver")
CONTEXT.set_forkserver_preload(["trainer_all"])


def serve() -> None:
    "Start the fork server, where it finds `trainer_all`: it knows no path but PYTHONPATH."
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, [Path(__file__).parent, *sys.path]))
    forkserver.ensure_running()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


def every_kind() -> dict[str, type[Config]]:
    "All kinds that can be trained, by name: their modules are imported, and the registry is asked."
    import importlib
    import pkgutil

    import lsd_nb.studies

    for folder, prefix in (
        (lsd_nb.__path__, "lsd_nb."),
        (lsd_nb.studies.__path__, "lsd_nb.studies."),
    ):
        for found in pkgutil.iter_modules(folder, prefix):
            if not found.name.startswith("lsd_nb._"):
                importlib.import_module(found.name)
    ours = {k: c for k, c in Config.kinds.items() if c.__module__.startswith("lsd_nb.")}
    return {k: c for k, c in ours.items() if c.task is not Config.task}


# kinds whose preset `tiny` trains until the network is of use: less is enough for a kill
SHORT = {"gan": {"epochs": 2, "train_images": 1280}}


def short(step: str, **changes) -> Config:
    "A kind's preset `tiny`, or less of it, on parents of the same sort."
    config = every_kind()[step].preset("tiny", **{**SHORT.get(step, {}), **changes})
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    parents = {k: short(v.step) for k, v in values.items() if isinstance(v, Config)}
    return dataclasses.replace(config, **parents)


def _work(step, changes, folder, every, log, place):
    "Train a kind's tiny preset in this process; the exit status is that of the command line."
    os.environ.update(place)
    os.setpgrp()
    sys.stdout = sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115
    import torch

    torch.set_num_threads(1)
    try:
        config = short(step, **changes)
        train(config, "cpu", folder=folder, every=every)
    except LSDError as e:
        print(f"error: {e}", flush=True)
        os._exit(1)
    os._exit(0)


class Job:
    "One training by one or more processes."

    def __init__(self, step, folder, world=1, every=60.0, parents=None, **changes):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.config = short(step, **changes)
        self.folder, self.log = Path(folder), Path(folder) / "log.txt"
        self.cache = self.folder / "cache"
        (self.cache / "artifacts").mkdir(parents=True, exist_ok=True)
        for parent in self.config.parents():
            for f in Path(parents or os.environ["LSD_NB_CACHE"], "artifacts").glob(
                f"{parent.filename}.*"
            ):
                shutil.copy(f, self.cache / "artifacts")
        cache = dict(LSD_NB_DATA=os.environ["LSD_NB_DATA"], LSD_NB_CACHE=str(self.cache))
        self.processes = []
        serve()
        for rank in range(world):
            several = dict(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(world),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
                ACCELERATE_USE_CPU="true",
            )
            place = {**cache, "OMP_NUM_THREADS": "1", **(several if world > 1 else {})}
            args = (step, changes, str(folder), every, str(self.log), place)
            self.processes.append(CONTEXT.Process(target=_work, args=args, daemon=True))
            self.processes[-1].start()

    @property
    def checkpoint(self):
        return self.folder / "checkpoint.safetensors"

    def wait(self, timeout=300):
        "Exit codes, once all have ended."
        end = time.monotonic() + timeout
        for p in self.processes:
            p.join(max(0.1, end - time.monotonic()))
        codes = [p.exitcode for p in self.processes]
        for p in self.processes:
            if p.exitcode is None:
                p.kill()
        assert None not in codes, f"still running after {timeout} s: {self.said()}"
        return codes

    def kill(self, ranks=None):
        "SIGKILL, once there is a checkpoint."
        while not self.checkpoint.exists() and any(p.is_alive() for p in self.processes):
            time.sleep(0.002)
        for rank in range(len(self.processes)) if ranks is None else ranks:
            self.processes[rank].kill()

    def said(self):
        return self.log.read_text() if self.log.exists() else ""

    def stored(self):
        "Weights and record of the network."
        path = self.cache / "artifacts" / f"{self.config.filename}.safetensors"
        return load_tensors(path)[0], json.loads(path.with_suffix(".json").read_text())
