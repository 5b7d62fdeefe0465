"""Damage and interruption: what Ctrl-C leaves, and files that are not what they should be."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from lsd_nb import cli
from lsd_nb import encoder as encoder_module
from lsd_nb.basis import LatentBasis
from lsd_nb.classifier import ClassifierConfig
from lsd_nb.core import LSDError, load_tensors, save_tensors
from lsd_nb.data import load_dataset
from lsd_nb.decomposition import (
    LatentSpectralDecomposition,
    invert_images,
    labelled_sets,
    load_pretrained,
)
from lsd_nb.encoder import EncoderConfig
from lsd_nb.gan import Discriminator, Generator
from lsd_nb.image_files import check_images, write_images
from lsd_nb.latents import encode_labelled, sample_labelled
from lsd_nb.metrics import mmd_test
from lsd_nb.models import LatentModel, image_batches
from lsd_nb.training import find_artifact
from lsd_nb.training import train as train_network

STEPS = ("gan", "classifier", "encoder")
# a shell's background jobs ignore Ctrl-C, and so would their children
PROGRAM = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from lsd_nb.__main__ import main; main()",
]
runner = CliRunner()


def train(step, *more):
    return runner.invoke(cli.app, ["train", step, "--preset", "tiny", "--device", "cpu", *more])


def config_of(step):
    return cli._configs("mnist", "tiny")[step]


def weights_of(cache, step):
    return load_tensors(cache / "artifacts" / f"{config_of(step).filename}.safetensors")[0]


def forget(cache, step):
    "Take a network out of a cache."
    for p in (cache / "artifacts").glob(f"{config_of(step).filename}.*"):
        p.unlink()


def stop_in_mid_run(cache, step, signum):
    "Train with a checkpoint after every batch; a signal after the first."
    forget(cache, step)
    checkpoint = cache / "runs" / config_of(step).filename / "checkpoint.safetensors"
    shutil.rmtree(checkpoint.parent, ignore_errors=True)
    line = [*PROGRAM, "train", step, "--preset", "tiny", "--device", "cpu"]
    env = {**os.environ, "LSD_NB_CACHE": str(cache)}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([*line, "--checkpoint-every", "0"], env=env, **pipes) as p:
        while not checkpoint.exists() and p.poll() is None:
            time.sleep(0.002)
        p.send_signal(signum)
        out, err = p.communicate(timeout=300)
    artifact = cache / "artifacts" / f"{config_of(step).filename}.safetensors"
    assert not artifact.exists(), "it was over before it was stopped"
    meta = load_tensors(checkpoint)[1]  # whole, whenever the run was stopped
    assert meta["iterations"] > 0
    return p.returncode, out, err


# ---- interruption (kills, by kind and with two processes: test_training.py)


def test_ctrl_c_says_what_to_do_and_can_go_on(tiny, own_cache):
    code, out, err = stop_in_mid_run(own_cache, "classifier", signal.SIGINT)
    assert (code, out) == (130, "") and "Traceback" not in err
    last = err.rstrip().splitlines()[-1]
    assert last.startswith("interrupted: ") and "same command" in last
    done = train("classifier")
    assert done.exit_code == 0 and "classifier: going on from epoch" in done.stderr, done.output
    ours, expected = weights_of(own_cache, "classifier"), weights_of(tiny, "classifier")
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[k], expected[k]) for k in expected)


def test_torchrun_speaks_once(own_cache):
    forget(own_cache, "classifier")
    env = {**os.environ, "LSD_NB_CACHE": str(own_cache), "ACCELERATE_USE_CPU": "true"}
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "lsd_nb"]
    args = ["train", "classifier", "--preset", "tiny", "--device", "cpu", "--json"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, *run, *args], env=env, **pipes) as p:
        try:
            out, err = p.communicate(timeout=200)
        except subprocess.TimeoutExpired:
            p.terminate()  # torchrun ends its two processes
            raise
    assert p.returncode == 0, err
    assert json.loads(out)["networks"]["classifier"]["trained_now"]
    record = find_artifact(config_of("classifier"))[1]
    assert record["processes"] == 2 and len(record["history"]) == config_of("classifier").epochs


# ---- the fixed networks stay fixed


def digest(network):
    return hashlib.sha256(
        b"".join(
            k.encode() + v.cpu().contiguous().numpy().tobytes()
            for k, v in network.state_dict().items()
        )
    ).hexdigest()


def test_encoder_training_leaves_the_others_alone(tiny, own_cache, monkeypatch):
    seen, original = [], encoder_module.load_or_train

    def watch(*args, **kwargs):
        network = original(*args, **kwargs)
        seen.append((network, digest(network)))
        return network

    monkeypatch.setattr(encoder_module, "load_or_train", watch)
    config = EncoderConfig.preset("tiny", epochs=1, train_images=256)
    stored = {p: p.read_bytes() for p in (own_cache / "artifacts").iterdir()}
    train_network(config, "cpu", progress=False)
    assert len(seen) == 2
    for network, before in seen:
        assert digest(network) == before and not network.training
        assert any("running_mean" in k for k in seen[0][0].state_dict()), (
            "the generator has batch-norm buffers to keep"
        )
    assert stored == {p: p.read_bytes() for p in stored}


# ---- damaged files


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


def other_shape(path):
    "A whole file of a network that is built differently."
    tensors, meta = load_tensors(path)
    save_tensors(path, {k: v.new_zeros([n + 1 for n in v.shape]) for k, v in tensors.items()}, meta)


def other_names(path):
    tensors, meta = load_tensors(path)
    save_tensors(path, {f"x.{k}": v for k, v in tensors.items()}, meta)


def bad_json(path):
    path.with_suffix(".json").write_text('{"step": ')


@pytest.fixture
def picture(tmp_path, tiny):
    write_images(load_dataset(progress=False).test.images[:1], tmp_path / "a.png")
    return str(tmp_path / "a.png")


def one_line(done):
    "The error of a command that failed as it should."
    assert (
        done.exit_code == 1
        and done.stdout == ""
        and "Traceback" not in done.output
        and isinstance(done.exception, SystemExit)
    )
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith("error: ")
    return last


@pytest.mark.parametrize("damage", [truncate, flip, empty, other_shape, other_names, bad_json])
@pytest.mark.parametrize("step", STEPS)
def test_damaged_networks(picture, own_cache, step, damage):
    damage(own_cache / "artifacts" / f"{config_of(step).filename}.safetensors")
    last = one_line(runner.invoke(cli.app, ["classify", picture, "--preset", "tiny"]))
    assert config_of(step).filename in last and "delete" in last


@pytest.mark.parametrize("damage", [truncate, flip, bad_json])
def test_damage_is_reported_and_repaired(own_cache, damage):
    path = own_cache / "artifacts" / f"{config_of('classifier').filename}.safetensors"
    damage(path)
    one_line(train("classifier"))
    seen = runner.invoke(cli.app, ["doctor", "--json"])
    assert seen.exit_code == 1 and any(
        "classifier" in p for p in json.loads(seen.stdout)["problems"]
    )
    assert train("classifier", "--fresh").exit_code == 0
    assert runner.invoke(cli.app, ["doctor"]).exit_code == 0


@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_damaged_means(picture, own_cache, damage):
    damage(next((own_cache / "artifacts").glob("means-*.safetensors")))
    assert "means-" in one_line(runner.invoke(cli.app, ["classify", picture, "--preset", "tiny"]))


@pytest.mark.parametrize("damage", [truncate, empty])
def test_damaged_checkpoint(own_cache, damage):
    forget(own_cache, "gan")
    checkpoint = own_cache / "runs" / config_of("gan").filename / "checkpoint.safetensors"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(checkpoint, {"x": torch.zeros(1000)}, {})
    damage(checkpoint)
    last = one_line(train("gan"))
    assert (
        "checkpoint" in last
        and "delete" in last
        and not list((own_cache / "artifacts").glob(f"{config_of('gan').filename}.*"))
    )


def test_half_an_artifact_is_no_artifact(picture, own_cache):
    (own_cache / "artifacts" / f"{config_of('encoder').filename}.json").unlink()
    last = one_line(runner.invoke(cli.app, ["classify", picture, "--preset", "tiny"]))
    assert "no trained encoder" in last and "lsd-nb train all --preset tiny" in last


@pytest.mark.parametrize(
    "line",
    [
        "train gan --preset tiny",
        "classify {} --preset tiny",
        "denoise {} --preset tiny",
        "rotate {} --preset tiny",
        "basis --preset tiny",
        "reproduce --preset tiny --n-sets 2",
    ],
)
def test_cache_that_cannot_be_written(picture, tmp_path, monkeypatch, line):
    monkeypatch.setenv("LSD_NB_CACHE", f"{picture}/below/a/file")
    monkeypatch.chdir(tmp_path)
    last = one_line(runner.invoke(cli.app, line.format(picture).split()))
    assert "LSD_NB_CACHE" in last
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png"]


def test_doctor_sees_a_cache_that_cannot_be_written(picture, monkeypatch):
    monkeypatch.setenv("LSD_NB_CACHE", f"{picture}/below")
    done = runner.invoke(cli.app, ["doctor"])
    assert done.exit_code == 1 and "LSD_NB_CACHE" in done.stdout


# ---- input that makes no sense, in Python


@pytest.mark.parametrize(
    "bad, says",
    [
        (torch.zeros(2, 1, 27, 28), "shape"),
        (torch.zeros(2, 3, 28, 28), "shape"),
        (torch.zeros(0, 1, 28, 28), "shape"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "type"),
        (torch.full((2, 1, 28, 28), 255.0), "[-1, 1]"),
        (torch.full((2, 1, 28, 28), float("nan")), "NaN"),
        (torch.full((2, 1, 28, 28), float("inf")), "infinite"),
    ],
)
@pytest.mark.parametrize(
    "method", ["transform", "predict", "predict_proba", "denoise", "rotate", "invert"]
)
def test_bad_images(tiny, bad, says, method):
    lsd = LatentSpectralDecomposition(*load_pretrained("mnist", "tiny", "cpu"), progress=False)
    lsd.basis = LatentBasis.from_means(
        torch.randn(10, 20, generator=torch.Generator().manual_seed(0)), torch.arange(10)
    )
    with pytest.raises(LSDError, match=says.replace("[", r"\[")) as e:
        getattr(lsd, method)(bad)
    assert "\n" not in str(e.value)


def test_a_label_that_never_occurs():
    def only_two(x):
        return torch.stack([x[:, 0], -x[:, 0], torch.full_like(x[:, 0], -99.0)], 1)

    with pytest.raises(LSDError, match="label 2 never appeared"):
        sample_labelled(
            lambda z: z, only_two, 4, per_set=10, patience=2000, device="cpu", progress=False
        )

    def code(x):
        return x, torch.zeros_like(x)

    with pytest.raises(LSDError, match="label 2 does not appear"):
        encode_labelled(
            code,
            lambda z: z,
            only_two,
            torch.randn(50, 4),
            per_set=10,
            device="cpu",
            progress=False,
        )


def test_more_means_than_dimensions():
    with pytest.raises(LSDError):
        LatentBasis.from_means(torch.randn(6, 4), torch.arange(6))
    lsd = LatentSpectralDecomposition(
        nn.Identity(),
        lambda x: x @ torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
        latent_shape=3,
        per_set=5,
        progress=False,
    )
    with pytest.raises(LSDError):
        lsd.fit()


def test_networks_that_give_nan():
    with pytest.raises(LSDError, match="not finite"):
        sample_labelled(
            lambda z: z * float("nan"), lambda x: x, 4, per_set=5, device="cpu", progress=False
        )


def model(**changes):
    return LatentModel(nn.Identity(), nn.Identity(), latent_shape=6, **changes)


def small_basis():
    z = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    return LatentBasis().fit(z + 3 * torch.eye(6)[torch.arange(60) % 3], torch.arange(60) % 3)


@pytest.mark.parametrize(
    "call, names",
    [
        (lambda x: Discriminator(width=torch.tensor(1 + 1j)), "Discriminator"),
        (lambda x: Generator(width=torch.zeros(0)), "Generator"),
        (lambda x: model(image_range=torch.full((2, 2), 0.5)), "image_range"),
        (lambda x: list(image_batches(torch.tensor(1.0))), "image_batches"),
        (lambda x: check_images(x, size=torch.zeros(0)), "size"),
        (lambda x: small_basis().move(torch.zeros(2, 6), 0, Path("/nowhere")), "amount"),
        (lambda x: small_basis().inverse_transform(torch.zeros(0, 3), torch.zeros(9, 6)), "c "),
        (lambda x: mmd_test(torch.rand(20, 2), torch.rand(20, 2), 10**30), "permutations"),
        (lambda x: invert_images(model(), x, torch.zeros(2, 6), steps=10**30), "steps"),
        (lambda x: labelled_sets(model(), n_sets=np.array([None])), "n_sets"),
        (lambda x: labelled_sets(model(), n_sets=0), "n_sets"),
    ],
)
def test_calls_that_the_campaign_found(call, names):
    "Constructors, methods and generators answer as functions do, in one line with the name."
    with pytest.raises(LSDError, match=names) as e:
        call(torch.zeros(2, 1, 28, 28))
    assert "\n" not in str(e.value)


def test_more_labels_than_classes():
    config = ClassifierConfig.preset("tiny", classes=5)
    with pytest.raises(LSDError, match="has 5 classes: set `classes` to 10"):
        train_network(config, "cpu", progress=False)


@pytest.mark.parametrize("where", ["__del__", "import"])
def test_ctrl_c_where_errors_are_swallowed(tmp_path, where):
    "In a destructor, and in a module that catches everything while it is imported."
    body = "import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException: pass"
    (tmp_path / "swallows.py").write_text(body)
    program = f"""
import signal, sys
from lsd_nb.__main__ import _stop
signal.signal(signal.SIGINT, _stop)
class Thing:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
if {where!r} == "__del__":
    Thing()
else:
    sys.path.insert(0, {str(tmp_path)!r})
    import swallows
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 130 and "went on" not in done.stdout
    assert done.stderr.strip().startswith("interrupted: ") and "Traceback" not in done.stderr
