"""Interpolation and arithmetic: paths that hit their ends, marks and sums with known answers."""

import json
import math

import pytest
import torch
from house import ROOT
from torch import nn

from lsd_nb.basis import LatentBasis
from lsd_nb.core import LSDError
from lsd_nb.decomposition import LatentSpectralDecomposition
from lsd_nb.metrics import image_style, path_marks, strangeness
from lsd_nb.studies.interpolation import (
    WAYS,
    Triples,
    amplitude_path,
    analogy_images,
    analogy_marks,
    corner_path,
    draw_triples,
    extremes,
    greyness,
    latent_path,
    surer_path,
)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BASIS = LatentBasis.as_published(n_sets=1, method="lowdin", complete=True).fit(
    torch.cat([noise(60, 6) * 0.1 + 4 * torch.eye(6)[k] for k in range(3)]),
    [k for k in range(3) for _ in range(60)],
)


class Picture(nn.Module):
    "Features are the pixels; the logits are the first three."

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3, bias=False)
        self.head.weight.data = 30 * torch.eye(3, 4)

    def features(self, x):
        return x.flatten(1)

    def forward(self, x):
        return self.head(self.features(x))


def pictures(rows):
    return torch.as_tensor(rows, dtype=torch.float32).unflatten(-1, (1, 2, 2))


# ---- paths


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_paths_hit_their_ends(steps):
    a, b = noise(5, 6), noise(5, 6, seed=1)
    for kind in ("spherical", "linear"):
        path = latent_path(a, b, steps, kind)
        assert path.shape == (5, steps + 1, 6)
        assert torch.equal(path[:, 0], a) and torch.equal(path[:, -1], b)


def test_arc_keeps_the_norm_and_has_even_steps():
    a, b = (v / v.norm(dim=1, keepdim=True) * 3 for v in (noise(50, 6), noise(50, 6, seed=1)))
    path = latent_path(a, b, 12)
    assert torch.allclose(path.norm(dim=2), torch.full((50, 13), 3.0), atol=1e-5)
    step = path.diff(dim=1).norm(dim=2)
    assert torch.allclose(step, step[:, :1].expand_as(step), atol=1e-4)
    angle = torch.arccos((a * b).sum(1) / 9)
    chord = 2 * 3 * torch.sin(angle / 24)  # of a twelfth of the angle
    assert torch.allclose(chord, step[:, 0], atol=1e-4)


def test_arc_between_different_norms_changes_the_norm_evenly():
    a, b = noise(20, 6), 4 * noise(20, 6, seed=1)
    norms = latent_path(a, b, 4).norm(dim=2)
    ends = a.norm(dim=1), b.norm(dim=1)
    wanted = torch.stack([torch.lerp(*ends, t / 4) for t in range(5)], 1)
    assert torch.allclose(norms, wanted, atol=1e-4)


@pytest.mark.parametrize("first", ["label", "style"])
def test_corner_has_one_sort_of_amplitudes_from_each_end(first):
    a, b = noise(7, 6), noise(7, 6, seed=1)
    path = corner_path(a, b, BASIS, 6, first)
    assert path.shape == (7, 7, 6) and torch.equal(path[:, 0], a) and torch.equal(path[:, -1], b)
    labelled = torch.as_tensor(BASIS.sets_ == 1)
    c, d, m = (torch.as_tensor(BASIS.transform(v)) for v in (a, b, path[:, 3]))
    new, old = (d, c) if first == "label" else (c, d)
    assert torch.allclose(m, torch.where(labelled, new, old), atol=1e-5)


def test_amplitudes_go_along_an_arc_whatever_the_metric():
    labels = torch.arange(400) % 2
    cloud = noise(400, 5, seed=2) * torch.tensor([5.0, 1, 1, 0.2, 1]) + 3.0
    cloud[:, 1] += 4 * labels
    basis = LatentBasis().fit(cloud, labels)  # two vectors in five dimensions: the rest is a line
    path = amplitude_path(cloud[:9], cloud[9:18], basis, 6)
    assert torch.equal(path[:, 0], cloud[:9]) and torch.equal(path[:, -1], cloud[9:18])
    c = [torch.as_tensor(basis.transform(v)) for v in path.unbind(1)]
    arc = latent_path(c[0], c[-1], 6)
    assert torch.allclose(torch.stack(c, 1), arc, atol=1e-3)
    pairs = zip(path.unbind(1), c, strict=True)
    rest = torch.stack([v - basis.inverse_transform(u) for v, u in pairs], 1)
    assert torch.allclose(rest, latent_path(rest[:, 0], rest[:, -1], 6, "linear"), atol=1e-3)


def test_descent_keeps_the_ends_and_leaves_the_border():
    models = LatentSpectralDecomposition(
        lambda z: z.unflatten(1, (1, 2, 2)), lambda x: 3 * x.flatten(1)[:, :2], latent_shape=4
    ).models
    a, b = torch.tensor([[1.0, 0.0, 0.2, 0.1]]), torch.tensor([[0.0, 1.0, 0.1, 0.3]])
    arc = latent_path(a, b, 6)
    still = surer_path(models, arc, iterations=0)
    assert torch.equal(still, arc)
    sure = surer_path(models, arc, iterations=60, jitter=0.0)
    assert torch.equal(sure[:, [0, -1]], arc[:, [0, -1]])

    def unsure(p):
        return (p[0, 1:-1, 0] - p[0, 1:-1, 1]).abs().min()

    assert unsure(sure) > unsure(arc) + 0.1
    again, other = (surer_path(models, arc, 5, seed=s) for s in (0, 1))
    assert torch.equal(again, surer_path(models, arc, 5)) and not torch.equal(again, other)


def test_paths_take_arrays():
    assert torch.equal(
        latent_path(noise(2, 6).numpy(), noise(2, 6, seed=1).numpy(), 3),
        latent_path(noise(2, 6), noise(2, 6, seed=1), 3),
    )


# ---- marks


def test_straight_and_crooked_paths():
    e = torch.eye(4)
    straight = torch.stack([torch.lerp(e[0], e[1], t / 4) for t in range(5)])
    crooked = torch.stack([e[0], e[0], e[2], e[2], e[1]])
    m = path_marks(pictures(torch.stack([straight, crooked])), Picture())
    root = math.sqrt(2)
    assert m["length"].tolist() == pytest.approx([root, 2 * root])
    assert m["detour"].tolist() == pytest.approx([1, 2])
    assert m["jump"].tolist() == pytest.approx([0.25, 0.5])
    assert (m["changes"].tolist(), m["third"].tolist()) == ([1, 2], [0, 1])
    assert m["lowest"][0].item() == pytest.approx(0.5, abs=1e-4)
    assert m["confidence"][1].item() == pytest.approx(1, abs=1e-4)


def test_a_path_that_stays_is_no_division_by_zero():
    m = path_marks(pictures(torch.eye(4)[[0, 0, 0]])[None], Picture())
    assert m["length"] == m["jump"] == m["changes"] == m["third"] == 0
    assert torch.isfinite(m["detour"]).all()


def test_strangeness_is_a_ratio_of_distances():
    real = pictures(torch.eye(4))
    same, off = (strangeness(real * s, real, real * 0.5, Picture()) for s in (1, 0.25))
    assert same.tolist() == pytest.approx([0] * 4, abs=1e-5)
    assert off.tolist() == pytest.approx([1.5] * 4, rel=1e-4)


def test_greyness_counts_half_tones_per_ink():
    half_tones = pictures([[0.0, 0, -1, -1], [1, 0, 0, -1], [1, 1, -1, -1]])
    assert greyness(half_tones).tolist() == pytest.approx([2, 1, 0], abs=1e-6)


# ---- sums


def test_triples_have_the_labels_and_sides_they_should():
    values, labels = noise(600), torch.arange(600) % 4
    t = draw_triples(values, labels, n=5, k=2, per_pair=3, share=0.1)
    assert len(t.target) == 4 * 3 * 2 * 3 and t.a.shape == (72, 5) and t.c.shape == (72, 2)
    up = t.goal > t.without
    assert up.sum() == 36
    for side, rows in ((up, (t.a, t.b)), (~up, (t.b, t.a))):
        high, low = (values[r[side]] for r in rows)
        assert high.min() > low.max()
    for rows, wanted in ((t.a, t.source), (t.b, t.source), (t.c, t.target)):
        assert (labels[rows] == wanted[:, None]).all()
    again, other = (
        draw_triples(values, labels, n=5, k=2, per_pair=3, share=0.1, seed=s) for s in (0, 1)
    )
    assert all(torch.equal(u, v) for u, v in zip(t, again, strict=True))
    assert not torch.equal(t.a, other.a)


def test_extremes_are_the_ends_of_each_label():
    groups = extremes(torch.arange(20.0), torch.arange(20) % 2, share=0.2)
    assert {k: [v.tolist() for v in pair] for k, pair in groups.items()} == {
        0: [[0, 2], [16, 18]],
        1: [[1, 3], [17, 19]],
    }


@pytest.fixture
def toy():
    "Images are latents of four numbers: two say which label, two how it is written."
    lsd = LatentSpectralDecomposition(
        lambda z: z.unflatten(1, (1, 2, 2)), lambda x: 30 * x.flatten(1)[:, :2], latent_shape=4
    )
    lsd.basis = LatentBasis.from_means(torch.eye(4)[:2], [0, 1], complete=True)
    return lsd


def test_amplitudes_keep_the_label_and_move_the_rest(toy):
    codes = torch.tensor([[1.0, 0.1, 0.5, 0.2], [0.2, 0.1, 0.1, 0.2], [0.1, 0.5, 0.1, 0.0]])
    t = Triples(
        *torch.tensor([[[0]], [[1]], [[2]]]),
        torch.tensor([0]),
        torch.tensor([1]),
        torch.zeros(1),
        torch.ones(1),
    )
    sums = {way: analogy_images(toy, pictures(codes), codes, t, way).flatten() for way in WAYS}
    for way, answer in (
        ("c alone", [0.1, 0.5, 0.1, 0]),
        ("pixels", [0.9, 0.5, 0.5, 0]),
        ("latents", [0.9, 0.5, 0.5, 0]),
        ("amplitudes", [0.1, 0.5, 0.5, 0]),
        ("amplitudes, label raised", [0.1, 0.5, 0.5, 0]),
    ):
        assert sums[way].tolist() == pytest.approx(answer, abs=1e-6), way
    lost = toy.classifier(pictures(sums["latents"]))
    assert lost.argmax() == 0, "the sum of latents lost its label"


def test_label_is_raised_where_it_was_lost(toy):
    # c reads as 0, and should be 1
    codes = torch.tensor([[0.0, 0.0, 1.5, 0.0], [0.0, 0.0, 0.5, 0.0], [0.6, 0.5, 0.1, 0.0]])
    t = Triples(
        *torch.tensor([[[0]], [[1]], [[2]]]),
        torch.tensor([0]),
        torch.tensor([1]),
        torch.zeros(1),
        torch.ones(1),
    )
    before, after = (
        analogy_images(toy, pictures(codes), codes, t, way)
        for way in ("amplitudes", "amplitudes, label raised")
    )
    assert toy.classifier(before).argmax() == 0
    assert toy.classifier(after).argmax() == 1 and after.flatten()[2] > 0.5


def test_marks_of_images_that_are_known():
    bars = torch.full((4, 1, 28, 28), -1.0)
    for n, width in enumerate((2, 4, 6, 8)):
        bars[n, 0, 4:24, 10 : 10 + width] = 1.0
    widths = image_style(bars)["stroke_width"]
    t = Triples(
        *torch.zeros(3, 4, 1, dtype=torch.long),
        torch.zeros(4, dtype=torch.long),
        torch.tensor([0, 0, 0, 1]),
        widths[0].expand(4).float(),
        widths[2].expand(4).float(),
    )

    class Zero(nn.Linear):
        def forward(self, x):
            return torch.eye(2)[torch.zeros(len(x), dtype=torch.long)]

    m = analogy_marks(bars, "stroke_width", t, Zero(1, 1))
    assert m["moved"][[0, 2]].tolist() == pytest.approx([0, 1], abs=1e-5)
    assert m["kept"].tolist() == [1, 1, 1, 0]
    assert m["solved"].tolist() == [0, float(m["moved"][1] > 0.5), 1, 0]


# ---- what is reported


def test_results_say_what_the_chapter_says():
    found = json.loads((ROOT / "results/interpolation.json").read_text())
    paths, header = found["paths"], found["header"]
    names = {"pixels", "linear", "spherical", "amplitudes", "label first", "style first"}
    assert header["paths"] == 90 * header["per_pair"] and set(paths) == set(found["prior"]) == names
    ends = [(m, 0.9) for m in paths.values()] + [(m, 0.7) for m in found["prior"].values()]
    for m, sure in ends:  # the judge is less sure of what was drawn
        target = m["along"]["target"]
        assert len(target) == header["steps"] + 1 and target[0] < 0.1 < sure < target[-1], (
            "a path starts at one label and ends at the other"
        )
    for part in (paths, found["prior"]):
        assert part["pixels"]["greyness"]["mean"] > 2 * part["spherical"]["greyness"]["mean"], (
            "pixels fade, the arc does not"
        )
    assert paths["spherical"]["confidence"]["mean"] > paths["pixels"]["confidence"]["mean"]
    assert paths["label first"]["slant_start"]["mean"] > paths["spherical"]["slant_start"]["mean"]
    rows = {(r["attribute"], r["way"], r["n"], r["k"]): r for r in found["analogies"]}
    for attribute in ("slant", "stroke_width"):
        raised, summed = (
            rows[attribute, way, 10, 1]["kept"]["mean"]
            for way in ("amplitudes, label raised", "latents")
        )
        assert raised > summed
        latents, pixels = (
            rows[attribute, way, 10, 10]["solved"]["mean"] for way in ("latents", "pixels")
        )
        assert latents > pixels


def test_stored_choices_are_the_best_of_those_tried():
    found = json.loads((ROOT / "results/interpolation.json").read_text())
    best = max(found["descent_choices"], key=lambda r: r["lowest"]["mean"])
    settings, descent = found["header"]["descent_settings"], found["descent"]
    assert (settings["smooth"], settings["jitter"]) == (best["smooth"], best["jitter"])
    low = {name: m["lowest"]["mean"] for name, m in descent.items()}
    assert max(low, key=low.get) == "entropy descent" and low["linear"] < low["spherical"]
    sprites = found["sprites"]
    assert sprites["choices"][f"{sprites['beta']:g}"] == max(sprites["choices"].values())
    both = {(r["way"], r["n"]): r["both"] for r in sprites["rows"]}
    assert all(len(v) == len(sprites["seeds"]) for v in both.values())
    assert min(both["latents", 10]) > max(both["pixels", 10]) > max(both["c alone", 10])


# ---- bad input

TOY = Triples(
    *torch.zeros(3, 2, 1, dtype=torch.long),
    *torch.zeros(2, 2, dtype=torch.long),
    torch.zeros(2),
    torch.ones(2),
)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: latent_path(noise(2, 6), -noise(2, 6)), "opposite"),
        (lambda: latent_path(noise(2, 6), torch.zeros(2, 6)), "zero vector"),
        (lambda: latent_path(noise(2, 6), noise(2, 5)), "expected the same"),
        (lambda: latent_path(noise(6), noise(6)), "expected the same"),
        (lambda: latent_path(noise(2, 6), noise(2, 6, seed=1) * math.nan), "NaN"),
        (lambda: latent_path(noise(2, 6), noise(2, 6, seed=1), 0), "steps is 0"),
        (lambda: latent_path(noise(2, 6), noise(2, 6, seed=1), kind="cubic"), "unknown kind"),
        (lambda: corner_path(noise(2, 6), noise(2, 6, seed=1), BASIS, 3), "even number"),
        (
            lambda: corner_path(noise(2, 6), noise(2, 6, seed=1), BASIS, first="both"),
            "label or style",
        ),
        (lambda: corner_path(noise(2, 6), noise(3, 6, seed=1), BASIS), "as many ends"),
        (lambda: corner_path(noise(2, 5), noise(2, 5, seed=1), BASIS), "features"),
        (lambda: surer_path(None, noise(2, 2, 6)), "F ≥ 3"),
        (lambda: path_marks(torch.zeros(3, 1, 2, 2), Picture()), "N, F, C, H, W"),
        (lambda: path_marks(torch.zeros(3, 1, 1, 2, 2), Picture()), "two frames"),
        (lambda: path_marks(torch.full((1, 2, 1, 2, 2), math.nan), Picture()), "NaN"),
        (lambda: draw_triples(noise(20), torch.zeros(19)), "one finite value per label"),
        (lambda: draw_triples(noise(20) / 0, torch.arange(20) % 2), "one finite value"),
        (lambda: draw_triples(noise(20), torch.arange(20) % 2, share=0.6), "share in"),
        (lambda: draw_triples(noise(20), torch.arange(20) % 2, n=0), "expected ≥ 1"),
        (lambda: draw_triples(noise(20), torch.arange(20) % 10, share=0.2), "give more images"),
        (lambda: draw_triples(noise(20), torch.zeros(20)), "two labels"),
        (
            lambda: analogy_marks(torch.zeros(3, 1, 28, 28), "slant", TOY, Picture()),
            "give one each",
        ),
        (
            lambda: analogy_marks(torch.zeros(2, 1, 28, 28), "colour", TOY, Picture()),
            "unknown attribute",
        ),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(LSDError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
