"""The one training loop, for every kind there is: killed and resumed, with one process and two."""

import math
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from trainer import Job, every_kind, short

from lsd_nb.cli import trainable
from lsd_nb.core import LSDError, load_tensors, save_tensors
from lsd_nb.training import Config, Run, train

KINDS = every_kind()
each_kind = pytest.mark.parametrize("step", sorted(KINDS))
PRETRAINED = Path(__file__).resolve().parents[1] / "lsd_nb" / "pretrained"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "Trains a kind's tiny preset without a break, once per number of processes."
    made = {}

    def job(step, world=1):
        if (step, world) not in made:
            parents = [job(p.step).cache for p in short(step).parents()]
            cache = tmp_path_factory.mktemp("parents")
            (cache / "artifacts").mkdir()
            for folder in parents:
                for f in (folder / "artifacts").iterdir():
                    os.link(f, cache / "artifacts" / f.name)
            made[step, world] = done = Job(
                step, tmp_path_factory.mktemp(f"{step}-{world}"), world, parents=cache
            )
            done.parents = cache
            assert done.wait() == [0] * world, done.said()
        return made[step, world]

    return job


def same(a, b):
    "The same weights to the bit, and the same history but for the clock."
    (ours, record), (theirs, other) = a.stored(), b.stored()
    assert ours.keys() == theirs.keys()
    different = [k for k in ours if not torch.equal(ours[k], theirs[k])]
    assert not different, f"not the same bits: {different[:5]}"
    drop = [[{**h, "seconds": 0} for h in r["history"]] for r in (record, other)]
    assert drop[0] == drop[1]


# ---- the registry


def test_the_command_line_knows_every_kind():
    assert set(trainable()) == set(KINDS)
    assert len(KINDS) >= 15


@each_kind
def test_every_kind_has_presets_and_checks_its_values(step):
    kind = KINDS[step]
    tiny = kind.preset("tiny")
    assert tiny.filename.startswith(f"{step}-") and len(tiny.key) == 12
    for bad in (dict(epochs=-1), dict(epochs=0), dict(lr="x"), dict(batch_size=0), dict(seed=-1)):
        if next(iter(bad)) in vars(tiny):
            with pytest.raises(LSDError, match=next(iter(bad))):
                kind.preset("tiny", **bad)


def test_equal_configurations_have_equal_keys():
    vae, gan = KINDS["vae"], KINDS["gan"]
    assert vae(beta=1) == vae() and vae(beta=1).key == vae().key
    assert vae(latent_dim="20").key == vae().key
    assert gan(dataset="./x").key == gan(dataset="x").key
    assert gan(lr=2e-4) != gan(lr=3e-4)


@pytest.mark.parametrize("path", sorted(PRETRAINED.glob("*.json")), ids=lambda p: p.stem)
def test_a_record_rebuilds_its_configuration(path):
    config = Config.from_json(path)
    assert config.filename == path.stem


def test_an_encoder_of_other_parents_is_refused():
    with pytest.raises(LSDError, match=r"use EncoderConfig\.for_dataset"):
        KINDS["encoder"].preset("tiny", dataset="kmnist")


# ---- killed and resumed


@each_kind
@pytest.mark.parametrize("world", [1, 2])
def test_killed_and_resumed_to_the_same_bits(whole, tmp_path, step, world):
    expected = whole(step, world)
    killed = Job(step, tmp_path, world, every=0.1, parents=expected.parents)
    killed.kill()
    assert set(killed.wait()) <= {-signal.SIGKILL, 1}, killed.said()
    artifact = killed.cache / "artifacts" / f"{killed.config.filename}.safetensors"
    assert not artifact.exists(), "it was over before it was killed"
    resumed = Job(step, tmp_path, world, parents=expected.parents)
    assert resumed.wait() == [0] * world, resumed.said()
    assert "going on from" in resumed.said()
    same(expected, resumed)


@each_kind
def test_two_processes_repeat_themselves_and_agree_with_one(whole, tmp_path, step):
    one, two = whole(step, 1), whole(step, 2)
    again = Job(step, tmp_path, 2, parents=two.parents)
    assert again.wait() == [0, 0], again.said()
    same(two, again)
    (_, alone), (_, both) = one.stored(), two.stored()
    assert (alone["processes"], both["processes"]) == (1, 2)
    assert len(alone["history"]) == len(both["history"])
    for a, b in list(zip(alone["history"], both["history"], strict=True))[:2]:  # then chaos
        for name in set(a) - {"epoch", "seconds"}:
            assert math.isclose(a[name], b[name], rel_tol=0.35, abs_tol=0.35), (name, a, b)


# ---- what goes wrong


def test_a_process_that_dies_ends_the_job(whole, tmp_path):
    parents = whole("classifier").parents
    job = Job("classifier", tmp_path, 2, every=0, parents=parents, epochs=200)
    job.kill(ranks=[1])
    started = time.monotonic()
    assert job.wait(60)[0] == 1 and time.monotonic() - started < 30
    errors = [line for line in job.said().splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "another process" in errors[0]
    assert "Traceback" not in job.said()


def test_another_number_of_processes_is_refused(whole, tmp_path):
    job = Job("classifier", tmp_path, 2, every=0, parents=whole("classifier").parents)
    job.kill()
    job.wait()
    alone = Job("classifier", tmp_path, 1, parents=whole("classifier").parents)
    assert alone.wait() == [1] and "with 2 processes, this one has 1" in alone.said()


@pytest.mark.parametrize("world", [1, 2])
def test_a_loss_that_is_not_finite_ends_all(whole, tmp_path, world):
    job = Job("classifier", tmp_path, world, parents=whole("classifier").parents, noise=1e39)
    assert job.wait(60) == [1] * world
    assert "is not finite" in job.said() and "lower the learning rate" in job.said()
    assert not list((job.cache / "artifacts").glob("classifier-*.safetensors"))


def test_two_runs_in_one_folder(tmp_path):
    config = KINDS["classifier"].preset("tiny")
    says = f"in use by process {os.getpid()}"
    with Run(config, "cpu", tmp_path, progress=False), pytest.raises(LSDError, match=says):
        train(config, "cpu", False, folder=tmp_path)


def nonsense(meta, tensors):
    "Ways in which a checkpoint with a right checksum can be wrong."
    yield {**meta, "epoch": 10**6}, tensors
    yield {**meta, "epoch": "one"}, tensors
    yield {**meta, "history": 3}, tensors
    yield {k: v for k, v in meta.items() if k != "key"}, tensors
    yield {k: v for k, v in meta.items() if k != "objects"}, tensors
    yield {**meta, "objects": {"classifier": {"list": []}}}, tensors
    yield meta, {k: v for k, v in tensors.items() if k != "rng"}
    yield meta, {**tensors, "rng": tensors["rng"][:, :10]}
    yield meta, {k: v[..., :1] if v.ndim > 1 else v for k, v in tensors.items()}
    yield meta, {k: v * float("nan") if v.is_floating_point() else v for k, v in tensors.items()}
    yield meta, {k: v.to(torch.int8) if v.is_floating_point() else v for k, v in tensors.items()}


def test_checkpoints_with_wrong_content_are_refused(whole, tmp_path):
    job = Job("classifier", tmp_path, every=0, parents=whole("classifier").parents)
    job.kill()
    job.wait()
    tensors, meta = load_tensors(job.checkpoint)
    for wrong_meta, wrong_tensors in nonsense(meta, tensors):
        save_tensors(job.checkpoint, wrong_tensors, wrong_meta)
        with pytest.raises(LSDError) as e:
            train(job.config, "cpu", False, folder=tmp_path)
        assert "\n" not in str(e.value)


def test_a_users_own_accelerator_is_left_alone(tmp_path):
    from accelerate import Accelerator

    mine = Accelerator(cpu=True, mixed_precision="bf16")
    with Run(KINDS["gan"].preset("tiny"), "cpu", tmp_path, progress=False, precision="no") as run:
        assert run.accelerator.mixed_precision == "no"
    assert mine.mixed_precision == "bf16" and Accelerator(cpu=True).mixed_precision == "bf16"
    assert "ACCELERATE_TORCH_DEVICE" not in os.environ
    mine.state._reset_state(reset_partial_state=True)


def test_whether_a_checkpoint_is_due_is_asked_rarely(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.distributed, "broadcast", lambda *_: asked.append(1))
    with Run(KINDS["gan"].preset("tiny"), "cpu", tmp_path, every=1e-9, progress=False) as run:
        assert run._due() and not asked  # one process has its own clock
        run.shard = (0, 2)
        for run.iteration in range(1, 61):
            run._due()
    assert len(asked) == 3
