"""Programs ended at random moments, begun again until they are done: the end is always the same.

Every kind that can be trained, and the collection of labelled latents, by one process and by two:
signals to all processes or to one, a disk that is full, a cache that is deleted while it is used.
"""

import contextlib
import faulthandler
import functools
import json
import os
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tinydata import idx, put
from trainer import CONTEXT, every_kind, serve

from lsd_nb.cli import _wanted
from lsd_nb.core import LSDError, load_tensors
from lsd_nb.fetching import IDX_FILES, data_dir
from lsd_nb.latents import MeansConfig

MEANS = {"per_set": 600, "n_sets": 2, "parts": 4}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PATIENCE = 400  # seconds that a program may take
ALONE = 90  # seconds that a process may take to see that another one has gone
DATA = str(data_dir())
ROOM = 20_000  # bytes that a file may have on the full disk
DONE = Counter()  # what was done to programs, by its name
HOW = ("alone", "two processes")
NAMES = [f"{kind}, {how}" for kind in ("means", *every_kind()) for how in HOW]


def _program(line: list[str], log: str, place: dict) -> None:
    "The program `lsd-nb` in this process, as from a shell; what it says goes into a file."
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(place)
    out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1)
    torch.set_num_threads(1)
    faulthandler.register(signal.SIGUSR1)
    from lsd_nb.__main__ import main

    sys.argv = ["lsd-nb", *line]
    Path(log).with_suffix(".begun").touch()
    main()


class Program:
    "One start of `lsd-nb` as one or more processes, in a cache of its own."

    def __init__(self, line: list[str], cache: Path, world: int):
        self.folder = Path(tempfile.mkdtemp(dir=cache.parent))
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        place = dict(LSD_NB_CACHE=str(cache), LSD_NB_DATA=DATA, OMP_NUM_THREADS="1")
        place |= dict(ACCELERATE_USE_CPU="true")
        if world > 1:
            place |= dict(WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        self.logs = [self.folder / f"{rank}.log" for rank in range(world)]
        self.processes = []
        serve()
        for rank, log in enumerate(self.logs):
            own = dict(RANK=str(rank), LOCAL_RANK=str(rank)) if world > 1 else {}
            given = (line, str(log), {**place, **own})
            self.processes.append(CONTEXT.Process(target=_program, args=given, daemon=True))
            self.processes[-1].start()
        for log, p in zip(self.logs, self.processes, strict=True):
            while not log.with_suffix(".begun").exists() and p.is_alive():
                time.sleep(0.002)

    @property
    def runs(self) -> bool:
        return any(p.is_alive() for p in self.processes)

    def send(self, signum: int, ranks: list[int]) -> None:
        "A signal to some of the processes that are still there."
        for p in (self.processes[r] for r in ranks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(p.pid, signum)

    def fill_disk(self) -> None:
        "From now on no file can have more than `ROOM` bytes."
        for p in self.processes:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (ROOM, ROOM))

    def wait(self, patience: float = PATIENCE) -> list[int | None]:
        "Exit codes; None for a process that did not end, which then says where it was."
        end = time.monotonic() + patience
        while self.runs and time.monotonic() < end:
            time.sleep(0.01)
        for p in self.processes:
            if p.is_alive():
                os.kill(p.pid, signal.SIGUSR1)
                time.sleep(0.5)
        codes = [p.exitcode for p in self.processes]
        for p in self.processes:
            p.kill()
            p.join()
        return codes

    def said(self, rank: int) -> str:
        "What a process has put out, without the paths of this machine."
        log = self.logs[rank]
        text = log.read_text(errors="replace") if log.exists() else ""
        return text.replace(f"{Path(__file__).parents[2]}/", "").replace(f"{Path.home()}/", "~/")

    def last_line(self, rank: int) -> str:
        return next(iter(self.said(rank).strip().splitlines()[::-1]), "")


# ---- what ends well


def complaint(program: Program, codes: list[int | None]) -> str | None:
    "What is wrong with the way in which a disturbed program has ended, if anything is."
    for rank, code in enumerate(codes):
        last, said = program.last_line(rank), program.said(rank)
        clear = {
            0: True,
            1: last.startswith("error: ") and len(last) < 1500,
            130: last.startswith("interrupted: "),
            -signal.SIGKILL: True,
            -signal.SIGTERM: True,
        }.get(code, False)
        if code is None or not clear or "Traceback" in said:
            how = "did not end" if code is None else f"ended with status {code}"
            where = said.rfind("(most recent call first)") if code is None else -1500
            return f"process {rank} {how}: {said[where:][:1500]!r}"
    return None


@functools.cache
def _store() -> Path:
    "A folder for undisturbed ends, until this process ends."
    import atexit

    path = Path(tempfile.mkdtemp(prefix="lsd_nb-kills-"))
    atexit.register(shutil.rmtree, path, True)
    return path


@functools.cache
def pictures() -> Path:
    "A dataset that is read at once: noise, with a bright row for each label."
    rng, contents = np.random.default_rng(0), []
    for n in (4000, 200):
        labels = np.arange(n) % 10
        images = rng.integers(0, 60, (n, 28, 28))
        images[np.arange(n), 2 * labels + 4] += 180
        contents += [idx(images), idx(labels)]
    return put(_store() / "pictures", dict(zip(IDX_FILES, contents, strict=True)))


def wanted(name: str) -> tuple:
    "The configuration behind a name, what to type, and how many processes."
    kind, how = name.split(", ")
    world = 1 if how == "alone" else 2
    if kind == "means":
        line = ["means", "--device", "cpu", "--every", "0"]
        for k, v in MEANS.items():
            line += [f"--{k.replace('_', '-')}", str(v)]
        return MeansConfig.preset("small", **MEANS).settled("cpu"), line, world
    own = hasattr(every_kind()[kind].preset("tiny"), "dataset")
    data = str(pictures()) if own else "mnist"
    line = ["train", kind, "--preset", "tiny", "--device", "cpu", "--checkpoint-every", "0.1"]
    return _wanted(kind, data, "tiny", 0, {})[kind], [*line, "--dataset", data], world


def stored(config, cache: Path) -> tuple[dict, dict]:
    "Weights and record that a program has left."
    path = cache / "artifacts" / f"{config.filename}.safetensors"
    return load_tensors(path)[0], json.loads(path.with_suffix(".json").read_bytes())


def difference(config, cache: Path, expected: tuple[dict, dict]) -> str | None:
    "Where what was stored is not what it should be: bits, history, draws."
    try:
        tensors, record = stored(config, cache)
    except (LSDError, OSError, ValueError) as e:
        return f"nothing whole was stored: {e}"
    same = tensors.keys() == expected[0].keys()
    bad = [k for k, v in expected[0].items() if not same or not torch.equal(tensors[k], v)]
    for what in ("history", "draws", "label_names", "config"):
        ours, theirs = (
            [{**h, "seconds": 0} for h in r[what]] if what == "history" else r[what]
            for r in (
                {"history": [], "draws": 0, "label_names": [], **r} for r in (record, expected[1])
            )
        )
        bad += [what] if ours != theirs else []
    return f"not the same: {', '.join(bad[:5])}" if bad else None


def furnished(config, cache: Path) -> Path:
    "A cache with the networks that a configuration stands on."
    (cache / "artifacts").mkdir(parents=True, exist_ok=True)
    for parent in config.parents() if config.step != "means" else []:
        undisturbed(f"{parent.step}, alone")
        for f in (_store() / f"{parent.step}, alone/cache/artifacts").glob(f"{parent.filename}.*"):
            shutil.copy(f, cache / "artifacts")
    return cache


@functools.cache
def undisturbed(name: str) -> tuple[dict, dict]:
    "Weights and record of a program that nobody disturbs."
    config, line, world = wanted(name)
    cache, started = furnished(config, _store() / name / "cache"), time.monotonic()
    program = Program(line, cache, world)
    codes = program.wait()
    if codes != [0] * world:
        raise AssertionError(f"{name} undisturbed: {codes} {program.said(0)[-1500:]}")
    shortest[name] = time.monotonic() - started
    return stored(config, cache)


shortest: dict[str, float] = {}  # seconds that a program took, by name


# ---- what is done to them


def delete(cache: Path) -> None:
    "The whole cache goes, while others write into it."
    while cache.exists():
        shutil.rmtree(cache, ignore_errors=True)


def disturb(program: Program, cache: Path, kind: str, one: bool, rng: random.Random) -> str:
    "Do one thing to a program that runs, and give it its name."
    if kind == "full disk":
        program.fill_disk()
    elif kind == "deleted cache":
        delete(cache)
    else:
        signum, ranks = rng.choice(SIGNALS), list(range(len(program.processes)))
        program.send(signum, [rng.choice(ranks)] if one else ranks)
        return f"{signum.name}, {'one of two' if one else 'all'}"
    return kind


def more() -> dict:
    "What was done to the programs, and how often."
    return {"disturbances": DONE.total(), "done": dict(sorted(DONE.items()))}


def draw(name: str, folder: Path, rng: random.Random) -> tuple[str, str]:
    "One program, disturbed some times and begun again each time, then left alone to its end."
    config, line, world = wanted(name)
    expected = undisturbed(name)
    cache, texts = folder / "cache", []
    for _ in range(rng.randrange(3, 7)):
        furnished(config, cache)
        kind = rng.choices(("signal", "full disk", "deleted cache"), (8, 1, 1))[0]
        one = kind == "signal" and world > 1 and rng.random() < 0.5
        moment = rng.uniform(0.2 * one, 0.8) * shortest[name]  # mostly after two have met
        program, started = Program(line, cache, world), time.monotonic()
        while program.runs and time.monotonic() < started + moment:
            time.sleep(0.002)
        what = disturb(program, cache, kind, one, rng) if program.runs else "nothing"
        codes = program.wait(PATIENCE if what == "deleted cache" else ALONE)
        texts.append(f"{what} after {moment:.2f} s: {codes}")
        if None in codes and any("rendezvous" in program.said(r) for r in range(world)):
            what += ", before they had met: left to the launcher"
        elif wrong := complaint(program, codes):
            return "unclear", f"{name}: {'; '.join(texts)}; {wrong}"
        if what != "nothing":
            DONE[what] += 1
        if codes == [0] * world and what not in ("deleted cache", "full disk"):
            if wrong := difference(config, cache, expected):
                return "different", f"{name}: {'; '.join(texts)}; {wrong}"
            delete(cache)  # it was over too early: from the beginning
    furnished(config, cache)
    program = Program(line, cache, world)
    codes = program.wait()
    if codes != [0] * world:
        return "stuck", f"{name}: {'; '.join(texts)}; then {codes}: {program.said(0)[-1500:]!r}"
    wrong = difference(config, cache, expected)
    return ("different" if wrong else "right"), f"{name}: {'; '.join(texts)}; {wrong}"
