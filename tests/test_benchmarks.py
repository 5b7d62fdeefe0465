"""The benchmark's own correctness, at sizes that take no time; nothing depends on speed."""

import json
import math
import os

import pytest
import torch
from torch import nn
from trainer import short

from lsd_nb.classifier import ClassifierConfig
from lsd_nb.core import LSDError
from lsd_nb.encoder import EncoderConfig
from lsd_nb.gan import GANConfig
from lsd_nb.latents import MeansConfig, sample_labelled
from lsd_nb.studies.benchmarks import (
    ByteImages,
    bench_accelerator,
    benchmark_row,
    benchmark_table,
    changed_labels,
    flops_of,
    matmul_rate,
    memory_growth,
    reference_sets,
    time_alternating,
    training_loops,
    training_rate,
)
from lsd_nb.training import Config


class Clock:
    "A clock that only our own work moves."

    now = 0.0

    def __call__(self):
        return self.now

    def work(self, *seconds, amount=10):
        seconds = iter(seconds)

        def run():
            self.now += next(seconds)
            return amount

        return run


def sign(x):
    return torch.cat([-x[:, :1], x[:, :1]], 1)  # label 1 where the first coordinate is positive


def test_rates_and_ratio():
    clock = Clock()
    timing = time_alternating(
        clock.work(5, 1, 2, 4), clock.work(5, 8, 8, 8, amount=20), repeats=3, clock=clock
    )
    assert timing == {"ours": 5.0, "theirs": 2.5, "ratio": 2.0, "low": 1.0, "high": 4.0, "n": 3}


def test_versions_take_turns():
    order = []
    ticks = iter(range(100))
    time_alternating(
        lambda: order.append("a") or 1,
        lambda: order.append("b") or 1,
        repeats=3,
        warmup=2,
        clock=lambda: next(ticks),
    )
    assert "".join(order) == "ab" * 5


def test_no_repeats():
    with pytest.raises(LSDError, match="at least 1"):
        time_alternating(int, int, repeats=0)


def test_flops_of_a_product():
    a, b = torch.zeros(3, 5), torch.zeros(5, 7, requires_grad=True)
    assert flops_of(lambda: a @ b) == 2 * 3 * 5 * 7
    assert flops_of(lambda: (a @ b).sum().backward()) == 4 * 3 * 5 * 7


def test_flops_are_those_of_both_precisions():
    layer, x = nn.Conv2d(2, 4, 3), torch.zeros(1, 2, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        lower = flops_of(lambda: layer(x))
    assert lower == flops_of(lambda: layer(x)) == 2 * 16 * 4 * 18


def test_matmul_rate_is_the_best_of_several():
    ticks = iter([0.0, 4.0, 4.0, 5.0, 5.0, 7.0])
    assert matmul_rate(size=10, repeats=3, clock=lambda: next(ticks)) == 2000.0


@pytest.mark.parametrize("batch_size", [25, 64])
def test_reference_loop_and_streaming_agree(batch_size):
    V, n = 400, 3
    plain, draws = reference_sets(
        lambda z: z, sign, 3, per_set=V, n_sets=n, classes=2, batch_size=batch_size
    )
    found = sample_labelled(
        lambda z: z,
        sign,
        3,
        per_set=V,
        n_sets=n,
        seed=1,
        device="cpu",
        precision="no",
        progress=False,
    )
    assert (
        plain.shape == found.raw_means.shape == (6, 3)
        and draws >= 2 * V * n
        and draws % batch_size == 0
    )
    exact = torch.tensor([[-math.sqrt(2 / math.pi), 0, 0], [math.sqrt(2 / math.pi), 0, 0]]).repeat(
        n, 1
    )
    for means in (plain, found.raw_means):
        assert (means - exact).abs().max() < 5 / math.sqrt(V)
    t = (plain - found.raw_means) / (found.deviations * math.sqrt(2 / V))
    assert 0.5 < t.square().mean().sqrt() < 1.7


def test_reference_loop_keeps_the_order_of_draws():
    plain, _ = reference_sets(
        lambda z: z, sign, 1, per_set=2, n_sets=2, classes=2, batch_size=4, seed=3
    )
    noise, drawn = torch.Generator().manual_seed(3), []
    while min(sum(v > 0 for v in drawn), sum(v <= 0 for v in drawn)) < 4:
        drawn += torch.randn(4, 1, generator=noise).flatten().tolist()
    low, high = ([v for v in drawn if (v > 0) == side][:4] for side in (False, True))
    expected = [sum(low[:2]) / 2, sum(high[:2]) / 2, sum(low[2:]) / 2, sum(high[2:]) / 2]
    torch.testing.assert_close(plain.flatten(), torch.tensor(expected))


def test_changed_labels_are_counted_over_batches():
    pick = nn.Linear(2, 2, bias=False)
    pick.weight.data = torch.eye(2)
    z = torch.tensor([[1.0, 1.001], [1.0, 2.0], [2.0, 1.0], [1.0, 1.001]])
    assert changed_labels(lambda z: z, pick, z, batch_size=3) == 2


def test_memory_of_a_fresh_process():
    assert 40 < memory_growth("", "a = bytearray(b'x') * 48 * 1024**2") < 64
    assert memory_growth("", "a = 1") < 8
    with pytest.raises(LSDError, match="KeyError"):
        memory_growth("", "{}['no']")


@pytest.mark.parametrize(
    "config", [GANConfig, ClassifierConfig, EncoderConfig], ids=lambda c: c.step
)
def test_both_training_loops_run(config):
    config = short(config.step)
    with training_loops(config) as loops:
        assert [loop(2) for loop in loops] == [2 * config.batch_size] * 2


def test_what_is_timed_is_the_task_of_the_configuration(monkeypatch):
    done = []
    monkeypatch.setitem(Config.kinds, "classifier", ClassifierConfig)  # to be put back

    class Counted(ClassifierConfig):
        "A classifier whose updates are counted."

        step = "classifier"

        def task(self, run):
            task = super().task(run)
            own = task.step
            task.step = lambda *batch: done.append(len(batch[0])) or own(*batch)
            return task

    with training_loops(Counted.preset("tiny")) as (ours, plain):
        ours(3)
        plain(2)
    assert done == [Counted.preset("tiny").batch_size] * 3


def test_images_from_bytes():
    images = (torch.arange(256.0).view(1, 1, 16, 16) / 127.5 - 1).repeat(2, 1, 1, 1)
    found = ByteImages(images, torch.tensor([3, 4]))
    assert len(found) == 2 and found[1][1] == 4
    torch.testing.assert_close(found[0][0], images[0])


def test_only_networks_are_trained():
    with pytest.raises(LSDError, match="no plain training loop"):
        training_loops(MeansConfig.preset("tiny")).__enter__()


def test_table():
    timing = {"ours": 4.0, "theirs": 2.0, "ratio": 2.0, "low": 1.5, "high": 2.5, "n": 5}
    row = benchmark_row("thing", timing, "images", 1.3, flops=3.0, rate=24.0, precision="bf16")
    assert row["fraction"] == 0.5
    assert benchmark_table([row, row]).count("**2.00** (1.50–2.50, 5) | ≥ 1.3") == 2


def test_untrained_parents_are_timed_and_forgotten(tmp_path, monkeypatch):
    "An encoder of a preset that nobody has trained can be timed; no network of it stays."
    monkeypatch.setenv("LSD_NB_CACHE", str(tmp_path))
    found = training_rate(EncoderConfig.preset("tiny"), "cpu", iterations=2, repeats=2)
    assert found["n"] == 2 and 0 < found["low"] <= found["rate"] <= found["high"]
    assert (
        found["schedule_hours"] > 0
        and found["batch_size"] == EncoderConfig.preset("tiny").batch_size
    )
    assert os.environ["LSD_NB_CACHE"] == str(tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_no_accelerator_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lsd_nb.studies.benchmarks.pick_device", lambda name: torch.device("cpu"))
    assert bench_accelerator(tmp_path) is None and not list(tmp_path.iterdir())
    said = capsys.readouterr().out.strip()
    assert said.startswith("no accelerator here") and "\n" not in said


def test_what_an_accelerator_does_is_stored_under_its_name(tmp_path, monkeypatch):
    "With a stand-in for the accelerator: a device whose type is not that of a processor."
    rows = [{"name": "step 4b", "unit": "latents", "rate": 2.0, "low": 1.0, "high": 3.0, "n": 3}]
    where = "lsd_nb.studies.benchmarks."
    monkeypatch.setattr(where + "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(where + "accelerator_rows", lambda device, **options: iter(rows))
    monkeypatch.setattr(where + "run_record", lambda *_: {"hardware": "Toy H1 (80 GB)"})
    path = bench_accelerator(tmp_path)
    assert path.name == "benchmarks_toy-h1-80-gb.json"
    assert json.loads(path.read_text())["rows"] == rows
