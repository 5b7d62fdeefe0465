"""Known answers and bad input of the denoising chapter, and of noise that leaves [-1, 1]."""

import json
import math
from pathlib import Path

import pytest
import torch

from lsd_nb import LatentBasis, LatentSpectralDecomposition, LSDError, load_pretrained
from lsd_nb.data import load_dataset
from lsd_nb.encoder import EncoderConfig
from lsd_nb.studies.denoising import (
    Denoiser,
    DenoiserConfig,
    classic_denoiser,
    corrupt,
    denoising_scores,
    linear_mmse,
    noisy_encoder_config,
    pca_denoiser,
    psnr,
    truncation_curve,
    truncation_figure,
    valid_psnr,
)
from lsd_nb.training import find_artifact, load_or_train, train

N = 400


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def halves(x):
    "A classifier: which half is brighter?"
    return torch.stack([x[:, 0, :14].mean((1, 2)), x[:, 0, 14:].mean((1, 2))], 1)


grey = torch.rand(N, 1, 28, 28, generator=noise()) * 2 - 1
truth = halves(grey).argmax(1)
KINDS = [f"gaussian {s}{tail}" for tail in ("", " clipped") for s in (0.25, 0.5, 1.0)] + [
    "salt and pepper 0.3",
    "occlusion 12",
]


@pytest.fixture(scope="module")
def lsd(tiny):
    found = LatentSpectralDecomposition(*load_pretrained("mnist", "tiny", "cpu"), progress=False)
    number = torch.arange(20)
    found.basis = LatentBasis.from_means(
        torch.randn(20, 20, generator=noise()), number % 10, number // 10 + 1, method="gram_schmidt"
    )
    return found


@pytest.fixture(scope="module")
def digits():
    return load_dataset("mnist", progress=False).test.images[:12]


# ---- noise


@pytest.mark.parametrize("sigma", (0.25, 0.5, 1.0))
def test_psnr_of_known_noise(sigma):
    found = denoising_scores(grey, corrupt(grey, f"gaussian {sigma}"), truth, halves)
    assert abs(found["psnr"] + 20 * math.log10(sigma)) < 0.05 and found["n"] == N


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_reproducible_and_in_range_unless_unclipped(kind):
    a, b, c = corrupt(grey, kind), corrupt(grey, kind), corrupt(grey, kind, seed=1)
    assert torch.equal(a, b) and not torch.equal(a, c) and a.shape == grey.shape
    assert (a.abs().max() > 1) == (kind.startswith("gaussian") and "clipped" not in kind)


def test_no_noise_and_unknown_noise():
    assert torch.equal(corrupt(grey, "none"), grey)
    with pytest.raises(LSDError, match=r"unknown noise 'gaussian 0\.6'"):
        corrupt(grey, "gaussian 0.6")


# ---- scores


def test_scores_of_a_perfect_and_of_an_inverted_image():
    perfect = denoising_scores(grey, grey, truth, halves)
    inverted = denoising_scores(grey, -grey, truth, halves)
    assert abs(perfect["psnr"] - 20 * math.log10(255)) < 1e-6 and perfect["ssim"] > 0.9999
    assert perfect["label_kept"] == 100 and perfect["label_kept_se"] == 0
    assert inverted["label_kept"] == 0 and inverted["ssim"] < 0
    off = denoising_scores(grey, grey + 0.2, truth, halves)  # a tenth of the range everywhere
    assert abs(off["psnr"] - 20) < 1e-3 and off["psnr_std"] < 1e-3


def test_standard_error_is_binomial():
    wrong = truth.clone()
    wrong[: N // 4] = 1 - wrong[: N // 4]
    found = denoising_scores(grey, grey + 0.1, wrong, halves)
    assert found["label_kept"] == 75
    assert abs(found["label_kept_se"] - 100 * math.sqrt(0.75 * 0.25 / N)) < 1e-9


def test_psnr_is_per_image():
    errors = torch.tensor([0.02, 0.2, 2.0])[:, None]  # on the scale from -1 to 1
    assert psnr(torch.zeros(3, 4), errors.expand(3, 4)).tolist() == pytest.approx([40, 20, 0])
    alone = valid_psnr(torch.nn.Identity(), grey, 0.5)
    assert alone == pytest.approx(-20 * math.log10(0.5), abs=0.05)


def test_scores_do_not_depend_on_the_batch():
    noisy = corrupt(grey, "gaussian 0.5")
    a, b = (denoising_scores(grey, noisy, truth, halves, batch_size=s) for s in (33, 400))
    assert a == pytest.approx(b, rel=1e-5)


def test_scores_refuse_nonsense():
    with pytest.raises(LSDError, match="one shape"):
        denoising_scores(grey, grey[:3], truth, halves)
    with pytest.raises(LSDError, match="NaN"):
        denoising_scores(grey, grey * float("nan"), truth, halves)


# ---- linear denoisers


def test_mmse_is_the_wiener_filter_on_gaussian_data():
    root = torch.randn(5, 5, generator=noise(1))
    cov = root @ root.T
    x = torch.randn(100_000, 5, generator=noise(2)) @ root.T + 3
    y = x + 0.7 * torch.randn(x.shape, generator=noise(3))
    wiener = cov @ torch.linalg.inv(cov + 0.49 * torch.eye(5))
    wanted = 3 + (y[:500] - 3) @ wiener.T
    found = linear_mmse(x, y)(y[:500])
    torch.testing.assert_close(found, wanted, atol=0.05, rtol=0)
    ours, best, without = ((a - x[:500]).square().mean() for a in (found, wanted, y[:500]))
    assert ours < without and abs(ours / best - 1) < 0.01


def test_mmse_needs_pairs():
    with pytest.raises(LSDError, match="pairs of one shape"):
        linear_mmse(grey, grey[:5])


def test_pca_keeps_its_subspace_and_removes_the_rest():
    axes = torch.linalg.qr(torch.randn(64, 3, generator=noise(4)))[0].T
    x = 0.1 * (torch.randn(500, 3, generator=noise(5)) @ axes).reshape(500, 1, 8, 8)
    f = pca_denoiser(x, 3)
    torch.testing.assert_close(f(x), x, atol=1e-5, rtol=0)
    y = x + 0.1 * torch.randn(x.shape, generator=noise(6))
    ratio = (f(y) - x).square().mean() / (y - x).square().mean()
    assert abs(ratio - 3 / 64) < 0.01  # 3 of 64 directions of the noise are left


# ---- denoisers from libraries


@pytest.mark.parametrize(
    "method, strength", [("median", 3), ("tv", 0.5), ("nlm", 0.3), ("wavelet", 0.2), ("bm3d", 0.2)]
)
def test_classic_denoisers_remove_noise_from_a_step(method, strength):
    if method == "bm3d":
        pytest.importorskip("bm3d", reason="an extra: pip install 'lsd_nb[peers]'")
    step = torch.full((3, 1, 28, 28), -0.5)
    step[..., 14:] = 0.5
    noisy = step + 0.3 * torch.randn(step.shape, generator=noise(7))
    found = classic_denoiser(noisy, method, strength)
    assert found.shape == step.shape and found.dtype == torch.float32 and found.abs().max() <= 1
    left, was = ((x - step).square().mean() for x in (found, noisy))
    assert left < 0.6 * was


def test_classic_denoisers_refuse_nonsense():
    with pytest.raises(LSDError, match="unknown method"):
        classic_denoiser(grey[:1], "hope", 1)
    for strength in (0, -1, float("nan")):
        with pytest.raises(LSDError, match="expected a positive number"):
            classic_denoiser(grey[:1], "tv", strength)


@pytest.mark.parametrize(
    "method, package",
    [
        ("tv", "scikit-image"),
        ("nlm", "scikit-image"),
        ("wavelet", "scikit-image"),
        ("bm3d", "bm3d"),
    ],
)
def test_a_missing_library_is_named(monkeypatch, method, package):
    import importlib

    def without(name, *rest):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(
        LSDError, match=f"needs {package}, which is not installed: pip install {package}"
    ):
        classic_denoiser(grey[:1], method, 0.5)


# ---- truncation


def test_all_amplitudes_give_the_decode(lsd, digits):
    noisy = corrupt(digits, "gaussian 0.5")
    torch.testing.assert_close(
        lsd.denoise(noisy, 20, unclipped=True),
        lsd.decode(lsd.encode(noisy, unclipped=True)),
        atol=1e-4,
        rtol=0,
    )


def test_curve_is_the_scores_of_denoise(lsd, digits):
    noisy, labels = corrupt(digits, "gaussian 0.5"), torch.arange(12) % 10
    for rescale in (True, False):
        for point in truncation_curve(lsd, digits, noisy, labels, (1, 7, 20), rescale):
            restored = lsd.denoise(noisy, point.pop("k"), unclipped=True, rescale=rescale)
            assert point == pytest.approx(
                denoising_scores(digits, restored, labels, lsd.classifier), abs=1e-3
            )


def test_curve_refuses_too_many_amplitudes(lsd, digits):
    with pytest.raises(LSDError, match="expected 1 to 20"):
        truncation_curve(lsd, digits, digits, torch.zeros(12), (21,))


def test_figure_has_a_column_for_each_k(lsd, digits):
    import matplotlib.pyplot as plt

    fig = truncation_figure(lsd, digits, ks=(20, 1, 2), groups=3, width=4)
    words = [t.get_text() for t in fig.axes[0].get_xticklabels()]
    assert len(fig.axes) == 3 and words == ["GT", "20", "1", "2"]
    plt.close(fig)


def test_unclipped_input_must_be_said_and_finite(lsd, digits):
    noisy = corrupt(digits, "gaussian 0.5")
    for f in (lsd.denoise, lsd.encode, lambda x: lsd.invert(x, steps=1)):
        with pytest.raises(LSDError, match=r"expected \[-1, 1\]"):
            f(noisy)
    assert lsd.invert(noisy, steps=1, unclipped=True).shape == (12, 20)
    assert torch.equal(lsd.denoise(digits, 4), lsd.denoise(digits, 4, unclipped=True))
    assert torch.equal(
        lsd.denoise(noisy[:, 0], 4, unclipped=True), lsd.denoise(noisy, 4, unclipped=True)
    )  # (N, 28, 28) as well
    bad = [
        (noisy * float("nan"), "NaN"),
        (noisy / 0, "infinite"),
        (noisy[..., :20], "shape"),
        ((noisy * 99).int(), "type"),
    ]
    for x, says in bad:
        with pytest.raises(LSDError, match=says):
            lsd.denoise(x, 4, unclipped=True)


# ---- networks


def test_noisy_encoder_is_its_own_artifact():
    config, plain = noisy_encoder_config("mnist", "small"), EncoderConfig.preset("small")
    assert config.input_noise == 0.5 and config.key != plain.key
    assert (config.gan, config.classifier) == (plain.gan, plain.classifier)


@pytest.mark.parametrize(
    "config, key",
    [(DenoiserConfig(), "fb7667179f6b"), (noisy_encoder_config(), "99ccaeb23094")],
    ids=["denoiser", "noisy encoder"],
)
def test_bundled_networks_are_found(config, key):
    "The keys of what is bundled never change: a new field needs a way to keep them."
    assert config.key == key
    weights, record = find_artifact(config)
    assert weights and record["key"] == key


def test_denoiser_trains_and_reproduces_itself(tiny):
    config = DenoiserConfig.preset("tiny")
    first = load_or_train(config, "cpu", progress=False).state_dict()
    path = train(config, "cpu", progress=False)
    second = load_or_train(config, "cpu", train=False)
    assert path.exists() and first.keys() == second.state_dict().keys()
    assert all(torch.equal(first[k], v) for k, v in second.state_dict().items())
    losses = [h["mse"] for h in second.record["history"]]
    assert losses[-1] < losses[0]
    assert second.record["metrics"]["valid_psnr"] > 6.02, "better than the noisy image"
    assert second(torch.randn(2, 1, 28, 28) * 9).abs().max() <= 1


def test_denoiser_refuses_nonsense():
    with pytest.raises(LSDError, match="at least 1"):
        Denoiser(0)
    with pytest.raises(LSDError, match="width"):
        DenoiserConfig(width=0)
    with pytest.raises(LSDError, match="unknown preset"):
        DenoiserConfig.preset("huge")


# ---- the stored results


def test_stored_results_are_whole():
    record = json.loads(
        (Path(__file__).resolve().parents[1] / "results/denoising.json").read_text()
    )
    methods = {r["method"] for r in record["rows"]}
    assert {(r["method"], r["noise"]) for r in record["rows"]} == {
        (m, k) for m in methods for k in KINDS if m != "BM3D" or k == "gaussian 0.5"
    }
    assert all(r["n"] == 10_000 for r in record["rows"] if r["method"].startswith("LSD"))
    assert record["header"]["networks"]["noisy-input encoder"] == noisy_encoder_config().key, (
        "measured with other networks: run the chapter with --slow"
    )
    assert record["header"]["networks"]["plain encoder"] == EncoderConfig.preset("small").key
    noisy = {r["noise"]: r["psnr"] for r in record["rows"] if r["method"] == "noisy image"}
    for sigma in (0.25, 0.5, 1.0):
        assert abs(noisy[f"gaussian {sigma}"] + 20 * math.log10(sigma)) < 0.02
