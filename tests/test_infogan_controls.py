"""InfoGAN's controls: a reader taught afterwards, clustering alone, a judge, slopes, solids."""

import json
import math

import numpy as np
import pytest
import torch
from test_infogan import TINY, noise
from torch import nn

from lsd_nb.core import LSDError
from lsd_nb.data import Split, load_dataset
from lsd_nb.studies.infogan import (
    InfoGAN,
    InfoGANConfig,
    Recogniser,
    RegularGANConfig,
    reader_scores,
)
from lsd_nb.studies.infogan_controls import (
    IICConfig,
    ReadGANConfig,
    SolidsInfoGANConfig,
    factor_table,
    judged,
    knob_slopes,
    solids,
    teach_reader,
)
from lsd_nb.training import find_artifact, load_or_train, train


def test_a_reader_leaves_the_generator_and_the_random_numbers_alone():
    config = InfoGANConfig(**TINY)
    generator = config.parts().generator.eval()
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    state = torch.get_rng_state()
    readers = [teach_reader(generator, config, 5, seed=s) for s in (1, 1, 2)]
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in generator.state_dict().items())
    x = noise(8, 1, 28, 28).tanh()
    with torch.no_grad():
        first, again, other = (r(x)[1] for r in readers)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not readers[0].training


def test_a_read_gan_is_the_gan_without_a_bound_and_has_a_reader(tmp_path):
    config = ReadGANConfig(reading=3, seed=2, **TINY)
    train(config, "cpu", progress=False, folder=tmp_path / "a")
    stored = find_artifact(config)[0]
    plain = RegularGANConfig(seed=2, **TINY)
    train(plain, "cpu", progress=False, folder=tmp_path / "b")
    for k, v in find_artifact(plain)[0].items():
        assert torch.equal(stored[f"generator.{k}"], v), "reading comes after the training"
    net = load_or_train(config, "cpu", train=False)
    taught = teach_reader(net.generator, config, 3, seed=2).half().float()
    x = noise(8, 1, 28, 28).tanh()
    with torch.no_grad():
        assert torch.allclose(net.recogniser(x)[1], taught(x)[1], atol=1e-2)
    assert len(net.record["metrics"]["bounds"]) == 3
    with pytest.raises(LSDError, match="reading is 0: expected 1 or more"):
        ReadGANConfig(reading=0)


def test_clustering_alone_reads_only_real_images_and_can_be_repeated(tmp_path, monkeypatch):
    config = IICConfig(seed=1, **TINY)
    monkeypatch.setattr(InfoGANConfig, "draw", lambda *a: pytest.fail("nothing is generated"))
    kept = []
    for i in range(2):
        train(config, "cpu", progress=False, folder=tmp_path / str(i))
        kept.append(find_artifact(config)[0])
    assert all(torch.equal(kept[0][k], v) for k, v in kept[1].items())
    net = load_or_train(config, "cpu", train=False)
    assert isinstance(net, Recogniser) and list(net.record["history"][0]) == [
        "epoch",
        "shared",
        "seconds",
    ]
    found = reader_scores(net, load_dataset(progress=False))
    assert net.record["metrics"]["error_test"] == pytest.approx(found["error_test"], abs=0.1)


def test_clustering_alone_learns_what_copies_share(tmp_path):
    config = IICConfig(seed=1, **{**TINY, "train_images": 6400, "epochs": 12, "lr_d": 3e-3})
    train(config, "cpu", progress=False, folder=tmp_path)
    net = load_or_train(config, "cpu", train=False)
    untrained = config.parts().recogniser.eval()
    data = load_dataset(progress=False)
    assert net.record["metrics"]["shared"] > 0.6
    assert reader_scores(untrained, data)["shared"] < 0.1


class Eye(nn.Module):
    "Features are the first four pixels, logits ten times these."

    def features(self, x):
        return x.flatten(1)[:, :4]

    def head(self, f):
        return 10 * f

    def forward(self, x):
        return self.head(self.features(x))


def test_the_judge_is_asked_about_each_digit_by_itself():
    k = torch.arange(400) % 4
    images = torch.full((400, 1, 2, 2), -1.0)
    images.flatten(1)[torch.arange(400), k] = 1.0
    images = images + 0.01 * noise(400, 1, 2, 2)
    real = Split(images, k)
    meant = k.numpy().copy()
    found = judged(images, meant, Eye(), real)
    assert found["shown"] == 1 and found["sure"] == 1 and found["n"] == 400
    assert found["shown_of"] == [1.0] * 4 and max(found["frechet_of"]) < 1e-3
    meant[meant == 3] = 2  # nobody means a 3, and half of the 2s are 3s
    found = judged(images, meant, Eye(), real)
    assert found["shown"] == 0.75 and found["shown_of"] == [1.0, 1.0, 0.5, None]
    assert found["frechet_of"][3] is None and found["frechet_of"][2] > 0.5 > found["frechet_of"][0]
    grey = images.clone()
    grey[k == 1] = 0.0
    assert judged(grey, k.numpy(), Eye(), real)["sure_of"] == [1.0, 0.0, 1.0, 1.0]


class Wide(nn.Module):
    "A block that is 10 + 2·c₂ pixels wide, and brighter by c₃, which no ruler here measures."

    def forward(self, z):
        half = 5 + z[:, -2, None, None]
        off = (torch.arange(28) - 13.5).abs()
        block = (half + 0.5 - off).clamp(0, 1).expand(-1, 28, -1).clone()
        block[:, :6] = block[:, 22:] = 0
        return (2 * block * (0.8 + 0.1 * z[:, -1, None, None]) - 1)[:, None]


def test_slopes_are_those_of_the_ruler():
    first, second = knob_slopes(Wide(), InfoGANConfig(), rows=4)
    # a uniform block of width w has twice the deviation 2 w / √12
    assert first["width"][0] == pytest.approx(2 * 2 / math.sqrt(12), rel=0.05)
    assert first["width"][1] < 1e-3 and abs(first["slant"][0]) < 1e-6
    assert abs(second["width"][0]) < 1e-6


def test_factors_are_told_by_codes_in_any_mixture():
    truth = {"a": noise(3000).numpy(), "b": noise(3000, seed=1).numpy()}
    codes = torch.tensor(np.stack([truth["a"] + truth["b"], truth["a"] - truth["b"]], 1))
    found = factor_table(codes, truth)
    assert found["a"]["r2"] == pytest.approx(1) and found["a"]["r"][0] == pytest.approx(
        np.corrcoef(truth["a"], codes[:, 0])[0, 1], abs=1e-6
    )
    blind = factor_table(noise(3000, 2, seed=5), truth)
    assert all(abs(f["r2"]) < 0.01 for f in blind.values())


def test_solids_are_the_same_each_time_and_their_factors_can_be_seen():
    images, factors = solids(900, seed=3)
    assert torch.equal(images, solids(900, seed=3)[0])
    assert not torch.equal(images, solids(900, seed=4)[0])
    assert images.shape == (900, 1, 28, 28) and images.min() == -1 and images.max() <= 1
    assert set(factors["kind"]) == {0, 1, 2}
    assert abs(factors["azimuth"]).max() <= 60 and factors["width"].min() >= 0.8
    head = factors["kind"] == 0
    light = images[head, 0, :, 14:].mean((1, 2)) - images[head, 0, :, :14].mean((1, 2))
    assert np.corrcoef(light, factors["light"][head])[0, 1] > 0.9
    wide = (images[head, 0].amax(1) > -0.95).sum(1)
    assert np.corrcoef(wide, factors["width"][head])[0, 1] > 0.7
    bird = factors["kind"] == 1
    ink = images[bird, 0] > -0.95
    lean = ((torch.arange(28) - 13.5) * ink).sum((1, 2)) / ink.sum((1, 2))
    upper = ((torch.arange(28) - 13.5) * ink[:, :12]).sum((1, 2)) / ink[:, :12].sum((1, 2))
    assert np.corrcoef(upper - lean, factors["azimuth"][bird])[0, 1] > 0.9  # it looks there
    for wrong in (dict(n=0), dict(seed=-1)):
        with pytest.raises(LSDError, match="expected at least"):
            solids(**wrong)


def test_an_infogan_of_solids_is_scored_by_their_factors(tmp_path, monkeypatch):
    few = {"train": slice(1400), "valid": slice(1400, 1700), "test": slice(1700, 2000)}
    config = SolidsInfoGANConfig(seed=1, **TINY)
    whole = config.load()
    assert [len(getattr(whole, k).images) for k in few] == [20_000, 2000, 2000]
    assert all(len(f) == 2000 for f in whole.factors.values()) and "kind" not in whole.factors
    images, labels = whole.train
    for name, part in few.items():
        setattr(whole, name, Split(images[part], labels[part]))
    whole.factors = {k: f[:300] for k, f in whole.factors.items()}
    monkeypatch.setattr(SolidsInfoGANConfig, "load", lambda *a: whole)
    train(config, "cpu", progress=False, folder=tmp_path)
    net = load_or_train(config, "cpu", train=False)
    found = net.record["metrics"]
    assert isinstance(net, InfoGAN) and set(found["factors"]) == {"all", "head", "bird", "chair"}
    assert all(len(f["r"]) == 3 for f in found["factors"]["head"].values())
    assert np.array(found["table"]).shape == (3, 3) and "read" not in found
    with pytest.raises(LSDError, match="expected solids"):
        SolidsInfoGANConfig(dataset="mnist")


def test_results_are_those_of_the_trainings():
    from house import ROOT

    found = json.loads((ROOT / "results" / "infogan_controls.json").read_text())
    runs = found["runs"]
    seeds = {k: [r["seed"] for r in runs if r["kind"] == k] for k in {r["kind"] for r in runs}}
    assert all(of == list(range(len(of))) for of in seeds.values()), seeds
    once = {"small in the authors' form", "as the authors' code, small"}
    assert all(len(of) == (1 if k in once else 3) for k, of in seeds.items()) and once < set(seeds)
    for r in runs:
        agree = np.array(r["table"])[range(10), r["meaning"]].sum()
        assert r["error_test"] == pytest.approx(100 - agree / 100, abs=0.01)
        if "judge" in r:
            assert sum(r["judge"]["labels"]) == pytest.approx(1, abs=0.01)
    of = {k: [r["error_test"] for r in runs if r["kind"] == k] for k in seeds}
    for control in ("consistency without a GAN", "consistency of generated images"):
        assert np.mean(of["with consistency"]) + 5 < min(of[control])
    first = {r["kind"]: r["key"] for r in runs if r["seed"] == 0}
    assert first["InfoGAN, λ = 1"] == InfoGANConfig().key
    assert first["consistency without a GAN"] == IICConfig().key
    assert first["λ = 0, read afterwards"] == ReadGANConfig().key
    assert found["solids"]["key"] == SolidsInfoGANConfig().key
