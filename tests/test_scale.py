"""Many workers, shards and kills: the statistics are the same to the last bit."""

import itertools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from house import NBS, ROOT, notebook

from lsd_nb.core import LSDError
from lsd_nb.latents import (
    LabelledMeans,
    MeansConfig,
    collect_means,
    merge_statistics,
    pack_parts,
)

L, M = 3, 5
CONFIG = MeansConfig.preset("small", per_set=300, n_sets=3, parts=4, labelling="no")


class Generator(torch.nn.Module):
    "Latents are images; each call takes a while."

    def __init__(self, seconds=0.0):
        super().__init__()
        self.seconds, self.scale = seconds, torch.nn.Parameter(torch.ones(()))

    def forward(self, z):
        time.sleep(self.seconds)
        return z * self.scale


def rare(x):
    "Label 0 has a share of one in ten."
    return torch.stack([x[:, 0] - 1.28, 0 * x[:, 0], x[:, 1] * (x[:, 0] < 1.28)], 1)


def encoder(x):
    return x, torch.full_like(x, -1.0)


IMAGES = torch.randn(2000, M, generator=torch.Generator().manual_seed(0))


def collect(folder, seconds=0.0, config=CONFIG, **options):
    networks = (Generator(seconds), rare, encoder)
    options = {"device": "cpu", "progress": False, "images": IMAGES, **options}
    return collect_means(config, folder, networks=networks, latent_shape=M, **options)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    "All parts, done by one process without a stop."
    return merge_statistics(collect(tmp_path_factory.mktemp("straight")))


def same(a, b):
    for k in ("counts", "sums", "moments"):
        assert torch.equal(getattr(a, k), getattr(b, k)), k
    assert (a.draws, a.per_set) == (b.draws, b.per_set)


def fork(*args, **options):
    worker = multiprocessing.get_context("fork").Process(target=collect, args=args, kwargs=options)
    worker.start()
    return worker


def test_what_is_collected(straight):
    assert straight.sums.shape == (3, L, M) and straight.moments.shape == (3, L, M, M)
    assert (straight.counts[1:] == 300).all() and straight.per_set == 300
    assert (straight.counts[0] <= 300).all() and straight.counts[0, 0] > 150
    assert straight.means.shape == (9, M)


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_any_sharding_gives_the_same(straight, tmp_path, n):
    packed = []
    for k in range(1, n + 1):
        paths = collect(tmp_path / f"shard{k}", shard=f"{k}/{n}")
        packed.append(pack_parts(paths, tmp_path / f"part-{k}.safetensors"))
    same(merge_statistics(reversed(packed)), straight)
    with pytest.raises(LSDError, match="parts are missing"):
        merge_statistics(packed[1:])


@pytest.mark.parametrize("n", [2, 4])
def test_any_number_of_processes_gives_the_same(straight, tmp_path, n):
    workers = [fork(tmp_path, 0.002) for _ in range(n)]
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    same(merge_statistics(tmp_path.glob("*.safetensors")), straight)


def test_killed_at_any_time(straight, tmp_path):
    "SIGKILL again and again; parts and pieces of parts that were done stay done."
    kills = 0
    for pause in itertools.cycle([0.15, 0.3, 0.45, 0.1]):
        worker = fork(tmp_path, 0.04, every=0.0)
        worker.join(pause)
        if not worker.is_alive():
            assert worker.exitcode == 0
            break
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        kills += 1
        assert kills < 300
    assert kills >= 2
    same(merge_statistics(tmp_path.glob("*.safetensors")), straight)
    assert not list(tmp_path.glob("*.begun"))


def test_others_take_over_the_part_of_a_killed_worker(straight, tmp_path):
    first = fork(tmp_path, 0.05, every=0.0)
    time.sleep(0.3)
    others = [fork(tmp_path, 0.002) for _ in range(2)]
    os.kill(first.pid, signal.SIGKILL)
    for worker in others:
        worker.join(60)
        assert worker.exitcode == 0
    same(merge_statistics(tmp_path.glob("*.safetensors")), straight)


def test_parts_of_another_configuration_are_refused(tmp_path):
    mine = collect(tmp_path / "mine", shard=(1, 2))
    other = CONFIG.preset("small", per_set=300, n_sets=3, parts=4, labelling="no", seed=1)
    rest = collect(tmp_path / "rest", config=other, shard=(2, 2))
    with pytest.raises(LSDError, match=r"config\.seed is 1, not 0") as e:
        merge_statistics(mine + rest)
    assert "\n" not in str(e.value)
    with pytest.raises(LSDError, match="holds parts of another configuration"):
        collect(tmp_path / "mine", config=other)


def test_parts_of_other_networks_are_refused(tmp_path):
    collect(tmp_path, shard=(1, 12))
    changed = Generator()
    changed.scale.data += 1
    with pytest.raises(LSDError, match="networks is"):
        collect_means(
            CONFIG,
            tmp_path,
            networks=(changed, rare, encoder),
            images=IMAGES,
            latent_shape=M,
            device="cpu",
            progress=False,
        )


def test_a_part_that_was_begun_for_something_else(tmp_path):
    worker = fork(tmp_path, 0.05, every=0.0, shard=(12, 12))
    while not (begun := list(tmp_path.glob("*.begun"))):
        time.sleep(0.02)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    other = CONFIG.preset("small", per_set=300, n_sets=3, parts=4, labelling="no", seed=1)
    with pytest.raises(LSDError, match="another configuration"):
        collect(tmp_path, config=other, shard=(12, 12))
    begun[0].write_bytes(b"nonsense")
    with pytest.raises(LSDError, match=re.escape(str(begun[0]))):
        collect(tmp_path, shard=(12, 12))


@pytest.mark.parametrize("shard", ["0/3", "4/3", "a/b", "3", (1, 0), "1/2/3"])
def test_bad_shards(tmp_path, shard):
    with pytest.raises(LSDError, match="expected i/n"):
        collect(tmp_path, shard=shard)


def test_more_shards_than_parts(tmp_path):
    paths = collect(tmp_path, shard="1/100")
    assert paths == [] or len(paths) == 1
    with pytest.raises(LSDError, match="more shards than parts"):
        pack_parts(collect(tmp_path, shard="100/100"), tmp_path / "x.safetensors")


TORCHRUN = """
import sys
sys.path.insert(0, {tests!r})
import test_scale
from lsd_nb.latents import merge_statistics
paths = test_scale.collect({folder!r}, 0.002)
import os
merge_statistics(paths).save({folder!r} + "/whole" + os.environ["RANK"] + ".out")
"""


def test_torchrun(straight, tmp_path):
    script = tmp_path / "work.py"
    script.write_text(TORCHRUN.format(tests=str(ROOT / "tests"), folder=str(tmp_path / "parts")))
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            script,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    for rank in (0, 1):
        same(LabelledMeans.load(tmp_path / f"parts/whole{rank}.out"), straight)


COMMAND = """#!{python}
import argparse
from lsd_nb.latents import MeansConfig, collect_means, merge_statistics, pack_parts
p = argparse.ArgumentParser()
p.add_argument("what")
p.add_argument("files", nargs="*")
p.add_argument("--per-set", type=int)
p.add_argument("--n-sets", type=int)
p.add_argument("--parts", type=int)
p.add_argument("--shard")
p.add_argument("--out")
a = p.parse_args()
if a.what == "merge":
    merge_statistics(a.files).save(a.out)
else:
    config = MeansConfig.preset("small", per_set=a.per_set, n_sets=a.n_sets, parts=a.parts)
    pack_parts(collect_means(config, a.out + ".d", a.shard, device="cpu"), a.out)
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    "A folder with `lsd-nb`: the installed one, or one with the two commands the chapter uses."
    folder = tmp_path_factory.mktemp("bin")
    installed = subprocess.run(
        [sys.executable, "-m", "lsd_nb", "means", "--help"], capture_output=True, text=True
    )
    program = folder / "lsd-nb"
    if "--shard" in installed.stdout:
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lsd_nb "$@"\n')
    else:
        program.write_text(COMMAND.format(python=sys.executable))
    program.chmod(0o755)
    return folder


def scripts():
    "The shell scripts of the chapter."
    cells = notebook(NBS / "05_labelled_latents.ipynb")["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.findall(r"```sh\n(.+?)```", text, re.S)


def test_the_scripts_of_the_chapter(command, tmp_path):
    "The plain loop, and the array with the variables that SLURM sets for each task."
    loop = next(s for s in scripts() if "for k in" in s)
    array = next(s for s in scripts() if "#SBATCH --array" in s)
    env = {**os.environ, "PATH": f"{command}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    whole = []
    for way in ("loop", "array"):
        place = tmp_path / way
        place.mkdir()
        first, last = map(int, re.search(r"--array=(\d+)-(\d+)", array).groups())
        if way == "loop":
            subprocess.run(["bash", "-e", "-c", loop], cwd=place, env=env, check=True, timeout=400)
        else:
            for k in range(first, last + 1):
                task = {"SLURM_ARRAY_TASK_ID": str(k), "SLURM_ARRAY_TASK_COUNT": str(last)}
                subprocess.run(
                    ["bash", "-e", "-c", array], cwd=place, env={**env, **task}, check=True
                )
            merge = next(line for line in loop.splitlines() if "lsd-nb merge" in line)
            subprocess.run(["bash", "-e", "-c", merge], cwd=place, env=env, check=True)
        whole.append(LabelledMeans.load(place / "whole.safetensors"))
    same(*whole)
    assert whole[0].counts.shape == (2, 10) and (whole[0].counts[1] == 60).all()


def test_an_iterable_of_images_goes_on_where_it_stopped(tmp_path):
    "Batches that were looked at before the stop are not looked at again."
    options = {"config": CONFIG.preset("small", per_set=3000, n_sets=1, parts=1, labelling="no")}
    whole = merge_statistics(collect(tmp_path / "a", images=IMAGES.split(50), **options))
    worker = fork(tmp_path / "b", 0.02, every=0.0, images=IMAGES.split(50), **options)
    while not list((tmp_path / "b").glob("*.begun")):
        time.sleep(0.02)
    time.sleep(0.2)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert not list((tmp_path / "b").glob("*.safetensors"))
    same(merge_statistics(collect(tmp_path / "b", images=IMAGES.split(50), **options)), whole)
    assert whole.draws == 2000


def test_the_description_is_readable(tmp_path):
    "A file says what it is part of."
    from safetensors import safe_open

    with safe_open(collect(tmp_path, shard=(1, 12))[0], "pt") as f:
        meta = json.loads(f.metadata()["meta"])
    assert meta["description"]["config"]["per_set"] == 300
    assert len(meta["description"]["places"]) == 12 and meta["description"]["device"] == "cpu"
