"""Measures and the judge: who may ask it, and what several devices and kinds of numbers do."""

import ast

import numpy as np
import pytest
import torch
from house import LIB
from torch import nn

from lsd_nb import LSDError
from lsd_nb.judge import Judge, JudgeConfig, load_judge
from lsd_nb.metrics import (
    accuracy,
    confident_share,
    decode_accuracy,
    frechet_distance,
    generator_quality,
    precision_recall,
    strangeness,
)
from lsd_nb.training import Config

JUDGES = {"judge", "Judge", "JudgeConfig", "load_judge", "judge_step", "judge_metrics"}
BUILDERS = (  # what trains, labels, orthogonalises or edits: none of it may know the judge
    *("core", "training", "models", "data", "gan", "classifier", "encoder", "latents", "basis"),
    *("operators", "attributes", "decomposition", "explore", "export"),
)


def modules():
    found = {p.stem: p for p in LIB.glob("*.py") if not p.stem.startswith("_")}
    return found | {f"studies.{p.stem}": p for p in (LIB / "studies").glob("[!_]*.py")}


def uses(node):
    "Names of the judge that a piece of code mentions, not counting a method of another object."
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    names |= {a.name for n in ast.walk(node) if isinstance(n, ast.ImportFrom) for a in n.names}
    strings = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
    return names & (JUDGES - {"judge"}) | {s for s in strings if s in ("judge", "lsd_nb.judge")}


@pytest.mark.parametrize("name", BUILDERS)
def test_nothing_that_trains_or_labels_knows_the_judge(name):
    path = modules().get(name)
    if path is None:
        pytest.skip("not there")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        n.module.split(".")[-1]
        for n in ast.walk(tree)
        if isinstance(n, ast.ImportFrom) and n.module
    }
    assert "judge" not in imported, "the judge took part"
    assert not uses(tree) - {"judge"}, f"{name} mentions {uses(tree)}"


@pytest.mark.parametrize("name", sorted(set(modules()) - {"judge"}))
def test_no_training_task_uses_the_judge(name):
    "In studies the judge may report; it may not stand in a configuration or in a step of training."
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any("Config" in ast.unparse(b) for b in node.bases):
            assert not uses(node) & JUDGES - {"judge"}, f"{node.name} in {name}"
        if isinstance(node, ast.FunctionDef) and node.name.endswith(("_step", "_loss", "_losses")):
            assert not uses(node), f"{node.name} in {name}"


def test_no_configuration_contains_the_judge():
    import lsd_nb  # noqa: F401  all library kinds

    for kind in set(Config.kinds.values()) - {JudgeConfig}:
        for preset in kind.presets:
            try:
                parents = kind.preset(preset).parents()
            except LSDError:
                continue
            assert not any(isinstance(p, JudgeConfig) for p in parents), kind


def test_the_judge_has_another_architecture():
    from lsd_nb.classifier import ClassifierConfig

    def kinds(net):
        return {type(m).__name__ for m in net.modules()}

    assert "BatchNorm2d" in kinds(Judge()) and "MaxPool2d" not in kinds(Judge())
    assert kinds(Judge()) != kinds(ClassifierConfig().network())


def test_the_bundled_judge_is_strict():
    found = load_judge(device="cpu").record["metrics"]
    assert found["test_accuracy"] >= 99.5 and found["sure_real"] > 0.9
    assert max(found[f"sure_{k}"] for k in ("noise", "blobs", "blends")) < 0.03
    black = torch.full((3, 1, 28, 28), -1.0)
    assert confident_share(load_judge(device="cpu"), black) == 0, "an empty page is no digit"


class Reader(nn.Module):
    "Features are the pixels."

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)

    def features(self, x):
        return x.flatten(1)

    def forward(self, x):
        return self.head(self.features(x))


class NoDoubles(torch.Tensor):
    "A tensor of a device without double precision: to make one of its numbers is an error."

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        out = super().__torch_function__(func, types, args, kwargs or {})
        if func.__name__ in ("double", "to") and getattr(out, "dtype", None) == torch.float64:
            raise TypeError("this device has no float64")
        if func.__name__ == "cpu":
            return out.as_subclass(torch.Tensor)
        return out


def test_distances_are_taken_off_the_device_before_they_become_doubles():
    a = torch.randn(30, 3).as_subclass(NoDoubles)
    with pytest.raises(TypeError, match="no float64"):
        a.double()
    assert frechet_distance(a, torch.randn(30, 3)) >= 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_images_and_network_may_be_on_different_devices():
    net, images = Reader().cuda(), torch.rand(40, 1, 2, 2)
    for x in (images, images.cuda()):
        assert strangeness(x, images, images.cuda(), net).device.type == "cpu"
        assert 0 <= accuracy(net, x, torch.zeros(40, dtype=torch.long)) <= 100


def test_labels_in_a_column_are_refused():
    with pytest.raises(LSDError, match="one label per image"):
        accuracy(lambda x: x, torch.eye(4), torch.zeros(4, 1))


def test_quality_of_a_generator_does_not_depend_on_the_batch():
    class Line(nn.Module):
        latent_dim = 4

        def forward(self, z):
            return z.view(-1, 1, 2, 2)

    real = torch.randn(400, 1, 2, 2)
    once, again = (generator_quality(Line(), Reader(), real, n=n, seed=3) for n in (700, 700))
    assert once["frechet"] == again["frechet"] and once["n"] == 700


def test_decode_accuracy_repeats_itself_and_follows_its_seed():
    x, y = torch.eye(4).repeat(200, 1), torch.arange(4).repeat(200)

    def encode(x):
        return x, torch.zeros_like(x)

    first, same, other = (
        decode_accuracy(encode, lambda z: z, lambda x: x, x, y, seed) for seed in (0, 0, 1)
    )
    assert first == same and first["decode_accuracy"] != other["decode_accuracy"]
    assert first["decode_accuracy_mean"] == 100


def test_precision_of_a_part_and_recall_of_a_whole():
    rng = np.random.default_rng(0)
    whole = rng.uniform(size=(400, 2))
    part = whole[whole[:, 0] < 0.5] + 1e-6
    found = precision_recall(whole, part)
    assert found["precision"] > 0.95 and found["recall"] < 0.7
