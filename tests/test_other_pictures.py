"""Chapter 28: the ruler of sprites, edits of one factor, the stored numbers of both datasets."""

import json
import zlib

import pytest
import torch
from house import ROOT

from lsd_nb.attributes import AttributeBasis
from lsd_nb.classifier import ClassifierConfig
from lsd_nb.data import load_dataset, sprites
from lsd_nb.encoder import EncoderConfig
from lsd_nb.judge import JudgeConfig, load_judge
from lsd_nb.studies.other_pictures import (
    SPRITE_RANGES,
    LabelledVAE,
    SpriteVAEConfig,
    StrictClassifierConfig,
    factor_changes,
    labelled_loss,
    measured_sprites,
    sprite_split,
    told,
    with_value,
)
from lsd_nb.training import load_or_train


@pytest.fixture(scope="module")
def stored():
    return json.loads((ROOT / "results" / "other_pictures.json").read_text(encoding="utf-8"))


# ---- the ruler


@pytest.mark.parametrize("seed", [5, 6])
def test_ruler_measures_fresh_sprites(seed):
    images, factors = sprites(400, seed)
    off = factor_changes(factors, measured_sprites(images))
    assert off["shape"] == off["hue"] == 0
    assert max(off.values()) < 0.5  # per cent of the range


def test_ruler_stands_noise_and_blur():
    images, factors = sprites(300, 7)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    soft = torch.nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    for seen in ((images + 0.05 * noise).clamp(-1, 1), 0.5 * images + 0.5 * soft):
        off = factor_changes(factors, measured_sprites(seen))
        assert max(off.values()) < 2 and off["shape"] == off["hue"] == 0


def test_ruler_has_an_answer_for_empty_pictures():
    read = measured_sprites(torch.zeros(2, 3, 32, 32))
    assert all(torch.isfinite(v.float()).all() for v in read.values())
    assert read["background"].tolist() == [0.5, 0.5]


# ---- parts and edits


def test_parts_are_those_of_the_dataset():
    for name in ("shape", "hue"):
        data = load_dataset("sprites" + "_hue" * (name == "hue"), progress=False)
        for part, (x, factors) in sprite_split().items():
            assert torch.equal(getattr(data, part).images, x)
            assert torch.equal(getattr(data, part).labels, factors[name])


def test_labels_pull_at_the_encoder():
    torch.manual_seed(0)
    net, (x, f) = LabelledVAE(4, 4), sprite_split()["valid"]
    known = told({k: v[:16] for k, v in f.items()})
    grads = []
    for weight in (0.0, 30.0):
        torch.manual_seed(1)
        loss = labelled_loss(net, x[:16], known, label_weight=weight)["loss"]
        grads.append(torch.autograd.grad(loss, net.mu.weight)[0])
    assert not torch.allclose(*grads)


def toy():
    g = torch.Generator().manual_seed(0)
    f = {"shape": torch.randint(3, (2000,), generator=g), "x": torch.randn(2000, generator=g)}
    vectors = torch.randn(4, 6, generator=g)
    z = vectors[f["shape"]] + f["x"][:, None] * vectors[3]
    return z + 0.1 * torch.randn(2000, 6, generator=g), f, vectors


def test_an_edit_is_the_difference_of_two_values():
    z, f, vectors = toy()
    basis = AttributeBasis("oblique", kinds={"x": "number"}).fit(z, f)
    moved = with_value(basis, z, "x", f["x"], f["x"] + 2)
    assert torch.allclose(moved - z, 2 * vectors[3].expand_as(z), atol=0.05)
    goal = (f["shape"] + 1) % 3
    turned = with_value(basis, z, "shape", f["shape"], goal)
    assert torch.allclose(turned - z, vectors[goal] - vectors[f["shape"]], atol=0.05)
    assert (basis.read(turned, "shape") == goal).double().mean() > 0.99
    assert torch.equal(with_value(basis, z, "shape", goal, goal), z)


def test_changes_count_labels_and_share_ranges():
    f = {k: torch.zeros(4) for k in SPRITE_RANGES}
    other = f | {"hue": torch.tensor([0.0, 1, 2, 0]), "size": torch.ones(4)}
    changes = factor_changes(f, other)
    assert changes["hue"] == 50 and changes["size"] == 25 and changes["y"] == 0


# ---- what is bundled, and what is stored


def test_bundled_networks_are_those_of_the_results(stored):
    fashion = EncoderConfig.for_dataset("fashion_mnist", "convincing")
    assert stored["fashion"]["header"]["networks"]["encoder"] == fashion.key
    assert stored["fashion"]["header"]["judge"] == JudgeConfig(dataset="fashion_mnist").key
    wanted = [fashion.gan, fashion.classifier, fashion, JudgeConfig(dataset="fashion_mnist")]
    wanted += [
        SpriteVAEConfig(),
        *(ClassifierConfig(dataset=d) for d in ("sprites", "sprites_hue")),
    ]
    for config in wanted:
        folder = ROOT / "lsd_nb" / "pretrained"
        assert (folder / f"{config.filename}.safetensors").is_file(), config.filename
        load_or_train(config, "cpu", train=False)


def test_turned_vectors_of_clothes_convince_a_judge_that_was_not_asked(stored):
    found = stored["fashion"]
    strict = StrictClassifierConfig.preset("convincing", dataset="fashion_mnist", seed=1)
    assert found["header"]["strict"] == strict.key != found["header"]["judge"]
    assert found["second_judge"]["key"] == JudgeConfig(dataset="fashion_mnist", seed=1).key
    for seed in range(3):
        assert found["judge"]["pure"][f"turned {seed}"] == 100
        assert found["second_judge"]["pure"][f"turned {seed}"] == 100


def test_a_strict_classifier_is_taught_to_doubt_and_has_a_name_of_its_own():
    config = StrictClassifierConfig.preset("tiny")
    assert config.key != ClassifierConfig.preset("tiny").key
    assert {type(m) for m in config.network().modules()} == {
        type(m) for m in ClassifierConfig.preset("tiny").network().modules()
    }
    torch.manual_seed(0)
    x, y = torch.rand(400, 1, 28, 28) * 2 - 1, torch.arange(400) % 10
    seen, wanted = config.augmented(x, y)
    doubts = wanted.amax(1) < 0.2
    assert seen.shape == x.shape and 0.1 < doubts.float().mean() < 0.3
    assert torch.equal(wanted[~doubts].argmax(1), y[~doubts])
    plain = ClassifierConfig.preset("tiny").augmented(x, y)
    assert torch.equal(plain[0], x) and torch.equal(plain[1], y)


def test_the_wheel_stays_small():
    folder = ROOT / "lsd_nb" / "pretrained"
    packed = sum(len(zlib.compress(p.read_bytes())) for p in folder.iterdir())
    assert packed < 30e6, f"{packed / 1e6:.1f} MB of networks: at most 30"


def test_judge_of_clothes_is_strict():
    judge = load_judge("fashion_mnist", "cpu")
    assert judge.record["metrics"]["test_accuracy"] > 90
    grey = torch.zeros(50, 1, 28, 28) + torch.linspace(-1, 1, 50)[:, None, None, None]
    assert (judge(grey).softmax(1).amax(1) < 0.9).all()


def test_sprites_are_read_and_edited_as_stored(stored):
    found = stored["sprites"]
    assert all(r["recommended"] > 97 for r in found["labels"])
    assert max(v for r in found["edits"] for k, v in r.items() if k not in ("edit", r["edit"])) <= 5
    vae = load_or_train(SpriteVAEConfig(), "cpu", train=False)
    x, f = sprite_split()["test"]
    z = vae.encode(x[:500])[0]
    again = factor_changes(f | {k: f[k][:500] for k in f}, measured_sprites(vae.decode(z)))
    assert again["shape"] < 3 and again["hue"] < 3
