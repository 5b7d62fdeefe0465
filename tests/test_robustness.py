"""Damage and interruption: killed runs go on to the same bits, damaged files are said to be so."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from lsd_nb import cli
from lsd_nb import encoder as encoder_module
from lsd_nb.basis import LatentBasis
from lsd_nb.classifier import ClassifierConfig
from lsd_nb.core import LSDError, load_tensors, save_tensors
from lsd_nb.data import load_dataset, write_images
from lsd_nb.decomposition import LatentSpectralDecomposition, load_pretrained
from lsd_nb.encoder import EncoderConfig
from lsd_nb.gan import GANConfig
from lsd_nb.latents import encode_labelled, sample_labelled
from lsd_nb.training import find_artifact

STEPS = ("gan", "classifier", "encoder")
# a shell's background jobs ignore Ctrl-C, and so would their children
PROGRAM = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from lsd_nb.cli import main; main()",
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
    "Train a step in another process, a checkpoint after every batch; a signal after the first."
    forget(cache, step)
    checkpoint = cache / "runs" / config_of(step).filename / "checkpoint.safetensors"
    shutil.rmtree(checkpoint.parent, ignore_errors=True)
    with subprocess.Popen(
        [*PROGRAM, "train", step, "--preset", "tiny", "--device", "cpu", "--checkpoint-every", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LSD_NB_CACHE": str(cache)},
    ) as p:
        while not checkpoint.exists() and p.poll() is None:
            time.sleep(0.002)
        p.send_signal(signum)
        out, err = p.communicate(timeout=300)
    assert not (cache / "artifacts" / f"{config_of(step).filename}.safetensors").exists(), (
        "it was over before it was stopped"
    )
    meta = load_tensors(checkpoint)[1]  # whole, whenever the run was killed
    assert (meta["epoch"], meta["step"]) > (0, 0)
    return p.returncode, out, err


def assert_goes_on_to_the_same_bits(cache, tiny, step):
    done = train(step)
    assert done.exit_code == 0 and f"{step}: going on from epoch" in done.stderr, done.output
    ours, expected = weights_of(cache, step), weights_of(tiny, step)
    assert ours.keys() == expected.keys() and all(
        torch.equal(ours[k], expected[k]) for k in expected
    )
    history = [
        json.loads(p.read_text())["history"]
        for p in ((c / "artifacts" / f"{config_of(step).filename}.json") for c in (cache, tiny))
    ]
    for epochs in history:
        for epoch in epochs:
            del epoch["seconds"]
    assert history[0] == history[1]


# ---- interruption


@pytest.mark.parametrize("step", STEPS)
def test_killed_and_resumed(tiny, own_cache, step):
    code, _, _ = stop_in_mid_run(own_cache, step, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert_goes_on_to_the_same_bits(own_cache, tiny, step)


def test_ctrl_c_says_what_to_do_and_can_go_on(tiny, own_cache):
    code, out, err = stop_in_mid_run(own_cache, "classifier", signal.SIGINT)
    assert (code, out) == (1, "") and "Traceback" not in err
    last = err.rstrip().splitlines()[-1]
    assert last.startswith("interrupted: ") and "checkpoint" in last and "same command" in last
    assert_goes_on_to_the_same_bits(own_cache, tiny, "classifier")


@pytest.mark.parametrize(
    "step, Config", list(zip(STEPS, (GANConfig, ClassifierConfig, EncoderConfig), strict=True))
)
def test_a_loss_that_is_not_finite_stops(tiny, own_cache, monkeypatch, step, Config):
    monkeypatch.setitem(Config.presets, "tiny", {**Config.presets["tiny"], "lr": 1e30})
    before = sorted(p.name for p in (own_cache / "artifacts").iterdir())
    done = train(step)
    assert done.exit_code == 1 and done.stdout == "" and "Traceback" not in done.output
    last = done.stderr.rstrip().splitlines()[-1]
    assert "is not finite" in last and "lower the learning rate" in last
    assert before == sorted(p.name for p in (own_cache / "artifacts").iterdir())


def test_two_processes(own_cache):
    forget(own_cache, "gan")
    env = {
        **os.environ,
        "LSD_NB_CACHE": str(own_cache),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    env.pop("ACCELERATE_TORCH_DEVICE", None)
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "--no-python",
    ]
    with subprocess.Popen(
        [*torchrun, *PROGRAM, "train", "gan", "--preset", "tiny", "--device", "cpu", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    ) as p:
        try:
            out, err = p.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            p.terminate()
            raise  # torchrun ends its two processes
    assert p.returncode == 0, err
    assert json.loads(out)["networks"]["gan"]["trained_now"], (
        "one process speaks, the other is silent"
    )
    weights, record = find_artifact(config_of("gan"))
    assert (
        record["processes"] == 2 and len(record["history"]) == GANConfig.presets["tiny"]["epochs"]
    )
    assert all(torch.isfinite(w).all() for w in weights.values())


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
    config.train("cpu", progress=False)
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
    with pytest.raises(LSDError, match="label 2 does not appear"):
        encode_labelled(
            lambda x: (x, torch.zeros_like(x)),
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


def test_more_labels_than_classes():
    config = ClassifierConfig.preset("tiny", classes=5)
    with pytest.raises(LSDError, match="has 5 classes: set `classes` to 10"):
        config.train(device="cpu", progress=False)
