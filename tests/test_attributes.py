"""Several attributes: the known answer, what moves keep, missing labels, units, files, errors."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lsd_nb.attributes import AttributeBasis, as_attribute, block_frames
from lsd_nb.core import LSDError, load_tensors, save_tensors


def make(n=3000, m=8, seed=0):
    "Latents with a category, a number and two binary attributes along known vectors."
    g = torch.Generator().manual_seed(seed)
    digit, glasses, hat = (
        torch.randint(3, (n,), generator=g),
        *(torch.rand(2, n, generator=g) < 0.4),
    )
    age = 40 + 10 * torch.randn(n, generator=g) + 8 * glasses - 6 * (digit == 1)
    v = {k: torch.randn(s, m, generator=g) for k, s in (("digit", 3), ("age", 1))}
    v |= {k: torch.randn(1, m, generator=g) for k in ("glasses", "hat")}
    v["digit"], v["age"] = 2 * (v["digit"] - v["digit"].mean(0)), v["age"] / 10
    z = torch.randn(n, m, generator=g) @ torch.randn(m, m, generator=g) / 3 + v["digit"][digit]
    z += age[:, None] * v["age"]
    z += (2.0 * glasses - 1)[:, None] * v["glasses"] + (2.0 * hat - 1)[:, None] * v["hat"]
    return z.double(), {"digit": digit, "age": age.double(), "glasses": glasses, "hat": hat}, v


Z, KNOWN, MADE = make()
NAMES = list(KNOWN)


@pytest.fixture(scope="module", params=["orthogonal", "oblique"])
def basis(request):
    return AttributeBasis(request.param).fit(Z, KNOWN)


def label_of(name):
    return 2 if name == "digit" else None


def test_oblique_blocks_are_what_latents_were_made_of():
    b = AttributeBasis("oblique").fit(Z, KNOWN)
    for name in ("age", "glasses", "hat"):
        known = MADE[name][0].double()
        assert (b.direction(name) - known).norm() < 0.1 * known.norm(), name
    assert (b.direction("digit", [0, 1, 2]) - MADE["digit"]).norm() < 0.1 * MADE["digit"].norm()


def test_a_move_changes_its_own_amplitude_alone(basis):
    for name in NAMES:
        moved = basis.move(Z, name, -0.7, label_of(name))
        for other in NAMES:
            change = basis.amplitude(moved, other, label_of(other))
            change = change - basis.amplitude(Z, other, label_of(other))
            assert torch.allclose(change, torch.tensor(-0.7 * (name == other)).double(), atol=1e-8)


def test_keep_keeps_what_is_read(basis):
    for name in NAMES:
        rest = [k for k in NAMES if k != name]
        moved = basis.move(Z, name, torch.linspace(-2, 2, len(Z)), label_of(name), keep=rest)
        for other in rest:
            before, after = basis.read(Z, other), basis.read(moved, other)
            assert torch.allclose(before.double(), after.double(), atol=1e-7), (name, other)
        gain = basis.amplitude(moved, name, label_of(name))
        gain = gain - basis.amplitude(Z, name, label_of(name))
        assert torch.allclose(gain, torch.linspace(-2, 2, len(Z)).double(), atol=1e-6)


def test_blocks_are_orthogonal_in_the_metric_and_order_does_not_matter():
    b = AttributeBasis().fit(Z, KNOWN)
    white = b.vectors_ @ b._t["white"]
    gram = white @ white.T
    gram[:3, :3] = gram[4:6, 4:6] = gram[6:, 6:] = 0  # within the categories
    gram[3, 3] = 0
    assert gram.abs().max() < 1e-8 * white.square().sum()
    turned = AttributeBasis().fit(Z, {k: KNOWN[k] for k in reversed(NAMES)})
    for name in NAMES:
        own = b.direction(name, label_of(name)), turned.direction(name, label_of(name))
        assert torch.allclose(*own, atol=1e-8)


def test_linear_maps_of_latents_change_nothing():
    g = torch.Generator().manual_seed(5)
    a = torch.randn(8, 8, generator=g).double() + 3 * torch.eye(8).double()
    b, c = (AttributeBasis(shrinkage=0).fit(z, KNOWN) for z in (Z, Z @ a + 100))
    for name in NAMES:
        mapped = b.direction(name, label_of(name)) @ a
        assert torch.allclose(mapped, c.direction(name, label_of(name)), atol=1e-6)
        reads = b.read(Z, name).double(), c.read(Z @ a + 100, name).double()
        assert torch.allclose(*reads, atol=1e-5)


def test_readings_are_good(basis):
    for name in ("digit", "glasses", "hat"):
        assert (basis.read(Z, name) == KNOWN[name]).double().mean() > 0.85, name
    pair = torch.stack([basis.read(Z, "age"), KNOWN["age"]])
    assert torch.corrcoef(pair)[0, 1] > 0.7
    assert abs(basis.read(Z, "age").mean() - KNOWN["age"].mean()) < 1e-6


@pytest.mark.parametrize("gap", [np.nan, None])
def test_labels_may_be_missing(gap):
    lost = torch.rand(4, len(Z), generator=torch.Generator().manual_seed(1)) < 0.5
    gaps = {
        k: [gap if q else x for q, x in zip(lost[i].tolist(), v.tolist(), strict=True)]
        for i, (k, v) in enumerate(KNOWN.items())
    }
    b = AttributeBasis("oblique").fit(Z, gaps)
    assert (b.read(Z, "digit") == KNOWN["digit"]).double().mean() > 0.85
    for name in ("age", "hat"):
        known = MADE[name][0].double()
        assert (b.direction(name) - known).norm() < 0.2 * known.norm(), name


def test_erased_is_not_read(basis):
    from sklearn.linear_model import LogisticRegression

    clean = basis.erase(Z, "hat").numpy()
    model = LogisticRegression().fit(clean, KNOWN["hat"])
    assert abs(model.score(clean, KNOWN["hat"]) - max(1 - KNOWN["hat"].double().mean(), 0.5)) < 0.01
    again = basis.erase(Z, "hat")
    assert (basis.read(again, "digit") == basis.read(Z, "digit")).double().mean() > 0.8


def test_kinds_of_values():
    assert as_attribute(np.array(["cat", "dog", None], object)).labels.tolist() == ["cat", "dog"]
    assert as_attribute([1.0, 3.0, np.nan]).labels.tolist() == [1, 3]
    assert as_attribute([1, 2, 3], kind="number").kind == "number"
    assert as_attribute([True, False, True]).kind == "category"
    pd = pytest.importorskip("pandas")
    a = as_attribute(pd.Series([1, None, 2], dtype="Int64"))
    assert a.labels.tolist() == [1, 2] and a.known.tolist() == [True, False, True]
    assert as_attribute(pd.Series(["x", None, "y"], dtype="category")).labels.tolist() == ["x", "y"]


def test_arrays_in_arrays_out_and_gradients():
    b = AttributeBasis().fit(Z.numpy(), {k: v.numpy() for k, v in KNOWN.items()})
    assert isinstance(b.vectors_, np.ndarray)
    for out in (b.read(Z.numpy(), "digit"), b.move(Z.numpy(), "age", 3), b.erase(Z.numpy(), "hat")):
        assert isinstance(out, np.ndarray)
    z = Z[:5].float().requires_grad_()
    b.amplitude(b.move(z, "age", 1.0), "hat").sum().backward()
    assert z.grad.abs().sum() > 0 and b.move(z, "age", 1.0).dtype == torch.float32


def test_labels_one_per_latent(basis):
    labels = KNOWN["digit"]
    moved = basis.move(Z, "digit", 1.0, labels)
    for k in range(3):
        own = labels == k
        assert torch.allclose(moved[own], basis.move(Z[own], "digit", 1.0, k))
    gain = basis.amplitude(moved, "digit", labels) - basis.amplitude(Z, "digit", labels)
    assert torch.allclose(gain, torch.ones(len(Z)).double())


def test_files(basis, tmp_path):
    path = basis.save(tmp_path / "a.safetensors")
    again = AttributeBasis.load(path)
    assert again.get_params() == basis.get_params() and list(again.attributes_) == NAMES
    for name in NAMES:
        assert torch.equal(again.read(Z, name), basis.read(Z, name))
        assert torch.equal(again.erase(Z, name), basis.erase(Z, name))
    t, meta = load_tensors(path)
    assert set(t) == set(load_file(path))
    for broken in (
        {**t, "duals": 2 * t["duals"]},
        {**t, "center": t["center"][:-1]},
        {**t, "white": t["white"] * np.nan},
        {k: v for k, v in t.items() if k != "rows"},
    ):
        with pytest.raises(LSDError, match="holds no sound AttributeBasis"):
            AttributeBasis.load(save_tensors(tmp_path / "b.safetensors", broken, meta))
    for wrong in ({}, {**meta, "kind": "LatentBasis"}, {**meta, "attributes": [{}]}):
        with pytest.raises(LSDError, match="AttributeBasis"):
            AttributeBasis.load(save_tensors(tmp_path / "c.safetensors", t, wrong))
    with pytest.raises(LSDError, match="AttributeBasis"):
        extra = {**meta, "params": {"unknown": 1}}
        AttributeBasis.load(save_tensors(tmp_path / "d.safetensors", t, extra))


@pytest.mark.parametrize(
    "attributes, message",
    [
        ({}, "dictionary"),
        ({"a": KNOWN["digit"][:5]}, "values for"),
        ({"a": KNOWN["digit"], "b": KNOWN["digit"]}, "follows from"),
        ({"a": torch.zeros(len(Z))}, "fewer than two"),
        ({"a": KNOWN["digit"][:, None]}, "expected \\(N,\\)"),
        ({"a": [np.inf, *KNOWN["age"][1:].tolist()]}, "finite"),
    ],
)
def test_wrong_attributes(attributes, message):
    with pytest.raises(LSDError, match=message):
        AttributeBasis().fit(Z, attributes)


def test_wrong_calls(basis):
    for call, message in (
        (lambda: basis.read(Z, "weight"), "no attribute"),
        (lambda: basis.direction("digit"), "no label"),
        (lambda: basis.move(Z, "age", 1, keep=["age"]), "both move and stay"),
        (lambda: basis.move(Z, "age", 1, keep=["weight"]), "no attribute"),
        (lambda: basis.read(Z[0], "age"), "latents"),
        (lambda: basis.read(Z[:, :3], "age"), "features"),
        (lambda: AttributeBasis("crooked").fit(Z, KNOWN), "blocks"),
    ):
        with pytest.raises(LSDError, match=message) as e:
            call()
        assert "\n" not in str(e.value)
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        AttributeBasis().read(Z, "age")
    eye = torch.eye(4).double()
    with pytest.raises(LSDError, match="overlap"):
        block_frames([eye[:2], eye[1:3]])
