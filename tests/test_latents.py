"""Statistics of labelled latents: against NumPy, in files, and what was wrong with them before."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from lsd_nb import load_pretrained
from lsd_nb.basis import LatentBasis
from lsd_nb.core import LSDError, save_tensors
from lsd_nb.encoder import EncoderConfig
from lsd_nb.latents import (
    LabelledMeans,
    MeansConfig,
    _network_digest,
    encode_labelled,
    load_parts,
    merge_statistics,
    place_in_sets,
    sample_labelled,
    save_parts,
)
from lsd_nb.models import LatentModel, for_inference

HERE = {"device": "cpu", "precision": "no", "progress": False}
quick = settings(max_examples=30, deadline=None, derandomize=True)


def identity(z):
    return z


def certain(x):
    "An encoder without noise."
    return x, torch.full_like(x, -40.0)


def noisy(x):
    return x, torch.zeros_like(x)


def largest(x):
    "The label is the largest coordinate."
    return x.flatten(1)


def cloud(n, m=4, seed=0):
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed))


def close(a, b, tol=1e-10):
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), atol=tol, rtol=0)


@quick
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 9), st.integers(1, 3))
def test_batches_of_any_size_give_the_same(sizes, per_set, n_sets):
    "Against a plain loop: a label's latents fill set after set in the order they come."
    z = cloud(sum(sizes), 3, 1).double()
    y = largest(z).argmax(1)
    found = LabelledMeans.empty(3, 3, per_set, n_sets)
    used = sum(found.add(a, b) for a, b in zip(z.split(sizes), y.split(sizes), strict=True))
    assert used == found.counts.sum() and found.draws == len(z)
    for a in range(3):
        mine = z[y == a]
        for i in range(n_sets):
            group = mine[i * per_set : (i + 1) * per_set]
            assert found.counts[i, a] == len(group)
            close(found.sums[i, a], group.sum(0))
            close(found.moments[i, a], group.T @ group)
            close(found.squares[i, a], (group**2).sum(0))


def test_place_of_each_latent():
    y = torch.tensor([2, 2, 0, 2, 2])
    have = torch.tensor([[0, 0, 1], [0, 0, 0]])
    assert place_in_sets(y, have, 2).tolist() == [2, 5, 0, 5, -1]


def test_means_deviations_and_covariances_are_those_of_numpy():
    z = cloud(500).double()
    y = largest(z).argmax(1)
    full, flat = (LabelledMeans.empty(4, 4, 500, moments=k) for k in ("full", "diagonal"))
    for found in (full, flat):
        found.add(z, y)
        for a in range(4):
            mine = z[y == a].numpy()
            close(found.raw_means[a], mine.mean(0))
            close(found.deviations[a], mine.std(0, ddof=1))
        close(found.means.norm(dim=1), torch.full((4,), 2.0, dtype=torch.float64))
    close(full.covariances[2], np.cov(z[y == 2].numpy().T))
    with pytest.raises(LSDError, match="only squares"):
        _ = flat.covariances
    assert full.join(flat).moments.ndim == 3


def test_what_does_not_fit_together():
    a = LabelledMeans.empty(3, 4, 5)
    for other in (
        LabelledMeans.empty(2, 4, 5),
        LabelledMeans.empty(3, 5, 5),
        LabelledMeans.empty(3, 4, 5, 2),
        LabelledMeans.empty(3, 4, 5, moments="diagonal"),
    ):
        with pytest.raises(LSDError, match="don't fit"):
            _ = a + other
    named = LabelledMeans.empty(3, 4, 5)
    named.label_names = ["a", "b", "c"]
    for both in (lambda: a + named, lambda: a.join(named)):
        with pytest.raises(LSDError, match="same names"):
            both()
    with pytest.raises(LSDError, match="expected the same labels"):
        a.join(LabelledMeans.empty(3, 5, 5))


@pytest.mark.parametrize(
    "z,y,says",
    [
        (cloud(3), torch.tensor([0, 1, 4]), "expected 0 … 2"),
        (cloud(3), torch.tensor([0, 1, -1]), "expected 0 … 2"),
        (cloud(3), torch.tensor([0, 1]), "one each"),
        (cloud(3) * math.nan, torch.tensor([0, 1, 2]), "NaN"),
    ],
)
def test_bad_batches(z, y, says):
    with pytest.raises(LSDError, match=says):
        LabelledMeans.empty(3, 4, 5).add(z, y)


def filled(**options):
    found = LabelledMeans.empty(4, 4, 20, **options)
    found.add(cloud(100), largest(cloud(100)).argmax(1))
    found.label_names = list("abcd")
    return found


@pytest.mark.parametrize("moments", ["full", "diagonal"])
def test_files_bring_everything_back(tmp_path, moments):
    found = filled(moments=moments, n_sets=2)
    same = LabelledMeans.load(found.save(tmp_path / "a.safetensors"))
    for k in ("sums", "moments", "counts", "per_set", "draws", "label_names"):
        assert (
            torch.equal(torch.as_tensor(getattr(same, k)), getattr(found, k))
            if isinstance(getattr(found, k), torch.Tensor)
            else getattr(same, k) == getattr(found, k)
        )


@pytest.mark.parametrize(
    "change,says",
    [
        (lambda t: t.pop("counts"), "expected counts"),
        (lambda t: t.update(squares=t["sums"]), "either moments or squares"),
        (lambda t: t.update(extra=t["sums"]), "expected counts"),
        (lambda t: t.update(sums=t["sums"].float()), "float64"),
        (lambda t: t.update(counts=t["counts"].int()), "int64"),
        (lambda t: t.update(counts=t["counts"] - 30), "negative"),
        (lambda t: t.update(sums=t["sums"] / 0), "not finite"),
        (lambda t: t.update(moments=t["moments"][:, :2]), "shape"),
        (lambda t: t.update(sums=t["sums"][0]), "shape"),
    ],
)
def test_damaged_files_are_named(tmp_path, change, says):
    tensors, path = dict(filled().tensors), tmp_path / "bad.safetensors"
    change(tensors)
    rest = {"per_set": 20, "draws": 1, "label_names": None}
    save_tensors(path, tensors, {"kind": "labelled means", **rest})
    with pytest.raises(LSDError, match=says) as e:
        LabelledMeans.load(path)
    assert "bad.safetensors" in str(e.value) and "\n" not in str(e.value)


def test_files_of_another_kind(tmp_path):
    whole = filled().save(tmp_path / "whole.safetensors")
    parts = save_parts(tmp_path / "parts.safetensors", {(1, 0): filled()}, {"a": 1})
    assert load_parts(parts)[1] == {"a": 1}
    with pytest.raises(LSDError, match=r"parts\.safetensors holds no labelled means"):
        LabelledMeans.load(parts)
    for read in (load_parts, lambda p: merge_statistics([p])):
        with pytest.raises(LSDError, match=r"whole\.safetensors holds no parts"):
            read(whole)
    with pytest.raises(LSDError, match="is not there"):
        merge_statistics([tmp_path / "nowhere.safetensors"])
    with pytest.raises(LSDError, match="missing"):
        merge_statistics([])


def test_means_of_images_are_exact_and_do_not_depend_on_the_seed():
    "35 codes per label were counted again and again up to V = 50: 6–7° off, another way per seed."
    x = cloud(140)
    y = torch.arange(4).repeat(35)
    exact = torch.stack([x[y == a].double().mean(0) for a in range(4)])
    for seed in range(3):
        found = encode_labelled(certain, None, None, x, y, per_set=50, seed=seed, **HERE)
        assert found.counts.tolist() == [[35] * 4] and found.draws == 140
        close(found.raw_means, exact, 1e-6)


def test_one_draw_per_image():
    found = encode_labelled(noisy, identity, largest, cloud(300), per_set=1000, **HERE)
    assert found.draws == found.counts.sum() == 300
    other = encode_labelled(noisy, identity, largest, cloud(300), per_set=1000, seed=1, **HERE)
    assert not torch.equal(found.counts, other.counts)


def test_the_cap_holds_for_sorted_images_too():
    x = cloud(4000)
    x = x[largest(x).argmax(1).argsort()]
    found = encode_labelled(certain, identity, largest, x, per_set=100, parts=5, **HERE)
    assert found.counts.tolist() == [[100] * 4] and found.per_set == 100
    assert found.draws < 2000


def test_arrays_on_disk_and_loaders(tmp_path):
    x, y = cloud(200), largest(cloud(200)).argmax(1)
    whole = encode_labelled(certain, identity, largest, x, per_set=500, **HERE)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    loader = DataLoader(TensorDataset(x, y), batch_size=33)
    for images in (mapped, loader, x.split(50), iter(x.split(50))):
        found = encode_labelled(certain, identity, largest, images, per_set=500, **HERE)
        close(found.sums, whole.sums, 1e-6)
        close(found.counts, whole.counts)
    found = encode_labelled(certain, None, None, loader, per_set=500, classes=4, **HERE)
    close(found.sums, whole.sums, 1e-6)


@pytest.mark.parametrize(
    "options,says",
    [
        ({"images": cloud(0)}, "no images"),
        ({"images": []}, "no images"),
        ({"labels": torch.zeros(5).long()}, "one each"),
        ({"labels": torch.zeros(30, 1).long()}, "one each"),
        ({"labels": torch.arange(30) % 2 * 2}, "label 1 does not appear among 30 given"),
        ({"labels": torch.arange(30) - 1}, "below 0"),
        ({"classifier": None}, "give `labels`"),
        ({"per_set": 3, "parts": 4}, "no more parts than latents"),
        ({"moments": "some"}, "unknown moments"),
        ({"images": cloud(30) * math.nan}, "not finite"),
    ],
)
def test_bad_images(options, says):
    given_ = {"encoder": certain, "generator": identity, "classifier": largest}
    with pytest.raises(LSDError, match=says) as e:
        encode_labelled(**{**given_, "images": cloud(30), "per_set": 9, **HERE, **options})
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_parts_share_out_every_label(parts):
    found = sample_labelled(
        identity, largest, 4, per_set=100, n_sets=2, parts=parts, batch_size=64, **HERE
    )
    assert found.counts.tolist() == [[100] * 4] * 2 and found.per_set == 100
    mean = found.raw_means.reshape(2, 4, 4).diagonal(dim1=1, dim2=2)
    close(
        mean, torch.full((2, 4), 1.03, dtype=torch.float64), 0.3
    )  # largest of four normal numbers


def test_a_set_does_not_depend_on_how_many_there_are():
    options = {"per_set": 50, "parts": 2, "batch_size": 32, **HERE}
    three, five = (sample_labelled(identity, largest, 4, n_sets=n, **options) for n in (3, 5))
    assert torch.equal(three.sums, five.sums[:3]) and not torch.equal(three.sums[0], three.sums[1])


def test_a_prior_of_ones_own_and_a_shape():
    def prior(n, g):
        return 2 + torch.randn(n, 2, 2, generator=g)

    found = sample_labelled(identity, largest, (2, 2), per_set=50, n_sets=1, prior=prior, **HERE)
    assert found.sums.shape == (1, 4, 4) and (found.raw_means > 0.5).all()


def test_a_collapsed_generator_is_named():
    with pytest.raises(LSDError, match=r"collapsed: 100\.0 % of its samples show label 2") as e:
        sample_labelled(
            lambda z: z * 0 + torch.tensor([0.0, 0, 1, 0]), largest, 4, patience=1000, **HERE
        )
    assert "label 0, 1, 3 never appeared" in str(e.value)


def test_labels_that_images_show_and_no_code_decodes_to():
    images = torch.eye(4).repeat(20, 1)
    flat = torch.tensor([0.0, 0, 1, 0])
    options = {"per_set": 20, **HERE}
    with pytest.raises(LSDError, match="show label 0, 1, 3, but none of 80 codes") as e:
        encode_labelled(certain, lambda z: z * 0 + flat, largest, images, **options)
    assert "100.0 % decode to label 2" in str(e.value) and "every label" not in str(e.value)
    with pytest.raises(LSDError, match="label 3 does not appear among 60 encoded images: give"):
        encode_labelled(certain, identity, largest, images[images[:, 3] == 0], **options)


def test_the_key_covers_what_changes_the_means():
    config = MeansConfig()
    same = MeansConfig(parts=config.settled("cpu").parts)
    assert same.key == config.key == config.settled().key
    assert config.settled("cpu").settled("cpu") == config.settled("cpu")
    keys = {config.key}
    for change in (
        {"parts": 3},
        {"labelling": "bf16" if config.settled("cpu").labelling == "no" else "no"},
        {"moments": "diagonal"},
        {"seed": 1},
        {"per_set": 4999},
        {"n_sets": 9},
        {"encoder": EncoderConfig.preset("small", train_images=100)},
    ):
        keys.add(MeansConfig(**change).key)
    assert len(keys) == 8


@pytest.mark.parametrize(
    "bad", [{"per_set": 0}, {"n_sets": 0}, {"parts": -1}, {"labelling": "fp8"}, {"moments": "x"}]
)
def test_bad_configurations(bad):
    with pytest.raises(LSDError):
        MeansConfig(**bad)


def test_networks_are_told_apart_by_their_weights():
    "Behind methods, functions and wrapping objects too."
    nets = [torch.nn.Linear(4, 4) for _ in range(2)]
    models = [LatentModel(net, net, None, latent_shape=4) for net in nets]
    for a, b in (nets, [n.forward for n in nets], [m.decode_batch for m in models]):
        assert _network_digest(a) != _network_digest(b)
        assert _network_digest(a) == _network_digest(a)


def test_a_basis_from_statistics_alone():
    "It is the basis of the latents themselves."
    z = cloud(2000) + 2 * torch.eye(4)[torch.arange(2000) % 4]
    found = encode_labelled(certain, identity, largest, z, per_set=2000, **HERE)
    found.label_names = list("abcd")
    basis = LatentBasis.from_statistics(found)
    names = np.array(found.label_names)[largest(z).argmax(1)]
    direct = LatentBasis().fit(z.double(), names)
    assert (basis.predict(z) == direct.predict(z)).mean() > 0.98


def test_labels_are_those_of_the_networks():
    nets, z = load_pretrained("mnist"), cloud(4000, 100)
    quick = [for_inference(net) for net in (nets.generator, nets.classifier)]
    with torch.inference_mode():
        images, same = nets.generator(z), quick[0](z)
        labels, others = nets.classifier(images).argmax(1), quick[1](same).argmax(1)
    close(same, images, 1e-4)
    assert (labels != others).sum() <= 4  # of 4,000: at least 99.9 % are the same
    assert "BatchNorm2d" not in str(quick[0])
