"""Models of any make: the right result or one clear line. And a decomposition saved whole."""

import copy
import importlib.util
import json
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lsd_nb.core import LSDError, save_tensors
from lsd_nb.decomposition import LatentSpectralDecomposition as LSD
from lsd_nb.decomposition import load_pretrained
from lsd_nb.models import LatentModel
from lsd_nb.saving import load_decomposition, load_network, model_card, save_decomposition

QUICK = dict(per_set=100, progress=False)


class Painter(nn.Module):
    image_range = (-1.0, 1.0)

    def __init__(self, m=8, shape=(1, 5, 5)):
        super().__init__()
        self.latent_dim, self.shape = m, shape
        self.line = nn.Linear(m, int(np.prod(shape)))

    def forward(self, z):
        return self.line(z.flatten(1)).tanh().reshape(-1, *self.shape)


class Back(nn.Module):
    "The exact inverse of a painter."

    def __init__(self, painter):
        super().__init__()
        self.bias = nn.Parameter(painter.line.bias.detach().clone())
        self.weight = nn.Parameter(torch.linalg.pinv(painter.line.weight.detach()))

    def forward(self, x):
        mean = (x.flatten(1).clamp(-0.999, 0.999).atanh() - self.bias) @ self.weight.T
        return mean, torch.full_like(mean, -3.0)


def thirds(x):
    "Logits of three labels: which of three pixels is brightest."
    return 9 * x.reshape(len(x), -1)[:, :3]


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    g = Painter()
    with torch.no_grad():
        g.line.bias[:3] = 0
    x = g(torch.randn(600, 8)).detach()
    return SimpleNamespace(g=g, e=Back(g), x=x)


def one_line(f, *words):
    "It fails with one line that says these words."
    with pytest.raises(LSDError) as e:
        f()
    text = str(e.value)
    assert "\n" not in text and len(text) < 400, text
    for word in words:
        assert word in text, text


# ---- what goes in


@pytest.mark.parametrize("encoder", [False, True], ids=["without encoder", "with encoder"])
def test_images_of_another_shape_are_refused(parts, encoder):
    lsd = LSD(parts.g, thirds, parts.e if encoder else None, **QUICK).fit(
        parts.x if encoder else None
    )
    for wrong in (torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 5, 5), torch.zeros(2, 8, 8)):
        for method in (lsd.invert, lsd.predict, lsd.transform, lsd.denoise, lsd.rotate):
            one_line(lambda method=method, wrong=wrong: method(wrong), "(N, 1, 5, 5)")
    one_line(lambda: lsd.invert(torch.zeros(2, 8)), "(N, 1, 5, 5)")  # latents for images
    one_line(lambda: lsd.transform(latents=parts.x), "expected (N, 8)")  # images for latents
    one_line(lambda: lsd.edit(parts.x, 0), "expected (N, 8)")
    one_line(lambda: lsd.decode(parts.x), "expected (N, 8)")


def test_a_missing_channel_axis_is_added(parts):
    lsd = LSD(parts.g, thirds, parts.e, **QUICK).fit(parts.x[:, 0])
    assert torch.equal(lsd.transform(parts.x[:9, 0]), lsd.transform(parts.x[:9]))


def test_loaders_give_what_tensors_give(parts):
    labelled = [(a, 0) for a in parts.x]
    for data in (parts.x, labelled):
        loader = torch.utils.data.DataLoader(data, 64)
        lsd = LSD(parts.g, thirds, parts.e, **QUICK).fit(loader)
        torch.testing.assert_close(lsd.transform(loader), lsd.transform(parts.x))
        assert torch.equal(lsd.predict(loader), lsd.predict(parts.x))
    assert len(lsd.transform(x for x in parts.x.split(100))) == 600  # read once


def test_numpy_images(parts):
    lsd = LSD(parts.g, thirds, parts.e, **QUICK).fit(parts.x.numpy())
    assert torch.equal(lsd.transform(parts.x.numpy()), lsd.transform(parts.x))


# ---- networks


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("wrapped", [False, True])
def test_other_number_types(parts, dtype, wrapped):
    g = copy.deepcopy(parts.g).to(dtype)
    e = Back(parts.g).to(dtype)
    call = (lambda z: g(z)) if wrapped else g
    lsd = LSD(call, thirds, e, latent_shape=8, **QUICK).fit(parts.x)
    frames = lsd.rotate(parts.x[:2], path=[0, 1], steps=2)
    found = lsd.invert(parts.x[:2], steps=2)
    assert {frames.dtype, found.dtype, lsd.transform(parts.x[:2]).dtype} == {torch.float32}


def test_objects_of_other_libraries(parts):
    def decode(z):
        return SimpleNamespace(sample=parts.g(z))

    def judge(x):
        return SimpleNamespace(logits=thirds(x), loss=None)

    def encode(x):
        mean, log_sigma = parts.e(x)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, std=log_sigma.exp()))

    theirs = LSD(decode, judge, encode, latent_shape=8, **QUICK).fit(parts.x)
    ours = LSD(parts.g, thirds, parts.e, **QUICK).fit(parts.x)
    torch.testing.assert_close(theirs.basis.vectors_, ours.basis.vectors_, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="needs diffusers")
def test_autoencoder_of_diffusers():
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    down, up = ["DownEncoderBlock2D"] * 2, ["UpDecoderBlock2D"] * 2
    sizes = dict(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4)
    vae = AutoencoderKL(down_block_types=down, up_block_types=up, **sizes)
    model = LatentModel(vae.decode, thirds, vae.encode, latent_shape=(4, 4, 4))
    z = model.sample(5)
    x = model.decode(z)
    assert model.image_shape == (3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(x, vae.decode(z.unflatten(1, (4, 4, 4))).sample)
        dist = vae.encode(x).latent_dist
    mean, log_sigma = model.encode(x)
    torch.testing.assert_close(mean, dist.mean.flatten(1))
    torch.testing.assert_close(log_sigma, dist.logvar.flatten(1) / 2)


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs transformers")
def test_classifiers_of_transformers():
    from transformers import (
        ResNetConfig,
        ResNetForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    size = dict(image_size=8, patch_size=4, hidden_size=8, intermediate_size=8)
    vit = ViTConfig(**size, num_hidden_layers=1, num_attention_heads=2, num_labels=5)
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], num_labels=5)
    x = torch.randn(6, 3, 8, 8)
    for net in (ViTForImageClassification(vit), ResNetForImageClassification(resnet)):
        model = LatentModel(Painter(8, (3, 8, 8)), net)
        assert model.classes == 5 and not net.training
        with torch.no_grad():
            torch.testing.assert_close(model.logits(x), net(x).logits)


def test_callables_of_arrays(parts):
    w = parts.g.line.weight.detach().numpy().T

    def generator(z):
        return np.tanh(np.asarray(z) @ w).reshape(-1, 1, 5, 5)

    def classifier(x):
        if not isinstance(x, np.ndarray):  # as JAX does
            raise TypeError("not a valid array type")
        return 9 * x.reshape(len(x), -1)[:, :3]

    lsd = LSD(generator, classifier, latent_shape=8, **QUICK).fit()
    z = lsd.models.sample(5)
    np.testing.assert_allclose(lsd.decode(z), generator(z), atol=1e-6)
    assert lsd.rotate(latents=z, path=[0, 1], steps=2).shape == (5, 3, 1, 5, 5)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_logit_means_two_labels(parts, shape):
    def logit(x):
        return (9 * x.flatten(1)[:, 0]).reshape(shape)

    lsd = LSD(parts.g, logit, parts.e, **QUICK).fit(parts.x)
    assert lsd.basis.classes_.tolist() == [0, 1]
    p = lsd.judge(torch.randn(20, 8))
    edited = lsd.judge(lsd.edit(torch.randn(20, 8), 1))
    assert p.shape == (20, 2) and (edited.argmax(1) == 1).all()


def test_few_of_many_classes(parts):
    columns = torch.randn(25, 1000)
    kept = [900, 5, 333]
    lsd = LSD(parts.g, lambda x: x.flatten(1) @ columns, parts.e, labels=kept, **QUICK)
    lsd.fit(parts.x).fit_means(lsd.means, ["zebra", "ant", "cat"])
    truth = (parts.x.flatten(1) @ columns)[:, kept].argmax(1)
    names = np.array(["zebra", "ant", "cat"])[truth]
    assert (lsd.predict(parts.x) == names).mean() > 0.6
    for k, name in enumerate(["zebra", "ant", "cat"]):
        shown = lsd.judge(lsd.edit(torch.randn(50, 8), name)).argmax(1)
        assert (shown == k).float().mean() > 0.9


@pytest.mark.parametrize("encoder", [False, True], ids=["without encoder", "with encoder"])
def test_a_label_that_never_occurs(parts, encoder):
    def logits(x):
        return torch.cat([thirds(x), torch.full((len(x), 1), -1e3)], 1)

    lsd = LSD(parts.g, logits, parts.e if encoder else None, progress=False)
    begin = time.monotonic()
    one_line(lambda: lsd.fit(parts.x if encoder else None), "label 3")
    assert time.monotonic() - begin < 10


def test_more_labels_than_dimensions(parts):
    y = torch.arange(600) % 20
    lsd = LSD(parts.g, None, None, **QUICK)
    z = torch.randn(600, 8) + 4 * torch.randn(20, 8)[y]
    one_line(lambda: LSD.as_published(parts.g, **QUICK).fit(latents=z, labels=y), "20", "8")
    try:
        lsd.fit(latents=z, labels=y)
    except LSDError as e:
        assert "\n" not in str(e) and "20" in str(e)
    else:
        assert lsd.score(latents=z, labels=y) > 0.5


def test_wrong_arguments_are_one_line(parts):
    one_line(lambda: LSD(lambda z: z, thirds), "latent_shape")
    one_line(lambda: LSD(parts.g, 3), "classifier")
    one_line(lambda: LSD(parts.g, lambda x: {"p": x}, **QUICK).fit(), "classifier returned dict")
    short = LSD(parts.g, thirds, lambda x: x.flatten(1)[:, :4], **QUICK)
    one_line(lambda: short.fit(parts.x), "expected 8 numbers")
    flat = LSD(parts.g, thirds, prior=lambda n, g: torch.zeros(n, 3), **QUICK)
    one_line(flat.fit, "prior", "8 numbers")
    one_line(lambda: LSD(parts.g, thirds, parts.e, **QUICK).fit(parts.x * 9), "[-1, 1]")
    lsd = LSD(parts.g, thirds, parts.e, **QUICK).fit(parts.x)
    for nothing in (None, "cat.png", {"x": 1}):
        one_line(lambda nothing=nothing: lsd.predict(nothing), "images")


# ---- what used to go wrong without a word


def test_images_with_as_many_numbers_as_a_latent():
    model = LatentModel(lambda z: z, latent_shape=(4, 8, 8))
    assert model.check_latents(torch.zeros(2, 4, 8, 8)).shape == (2, 256)
    for images in (torch.zeros(2, 1, 16, 16), torch.zeros(2, 16, 16), torch.zeros(2, 8, 8, 4)):
        one_line(lambda images=images: model.decode(images), "expected (N, 256)")


def test_networks_are_found_wherever_they_hide(parts):
    class Wrapper:
        def __init__(self, net):
            self.net = net

        def __call__(self, z):
            return self.net(z)

    def nested(net):
        def inner(z):
            return net(z)

        return lambda z: inner(z)

    def in_a_tuple(net):
        both = net, 1
        return lambda z: both[0](z)

    def method(net):
        return Wrapper(net).__call__

    for make in (Wrapper, nested, in_a_tuple, method):
        net = nn.Sequential(nn.Linear(8, 25), nn.BatchNorm1d(25)).bfloat16().train()
        z = LatentModel(make(net), latent_shape=8).decode(torch.randn(3, 8))
        assert z.shape == (3, 25) and not net.training


def test_batches_are_checked_as_they_come(parts):
    lsd = LSD(parts.g, thirds, parts.e, **QUICK)
    for wrong in (parts.x * 9, parts.x[..., :4], parts.x * float("nan")):
        loader = torch.utils.data.DataLoader(wrong, 64)
        one_line(lambda loader=loader: lsd.fit(loader), "images")
    one_line(lambda: lsd.fit([[1, 2], [3, 4]]), "batch")
    one_line(lambda: lsd.fit(parts.x.split(50), [0] * 600), "pairs")


def test_batches_with_labels(parts):
    y = torch.arange(600) % 3
    pairs = [(parts.x[i : i + 100], y[i : i + 100]) for i in range(0, 600, 100)]
    lsd = LSD(parts.g, None, parts.e, **QUICK).fit(iter(pairs))
    assert lsd.basis.classes_.tolist() == [0, 1, 2]
    named = [(x, ["ant", "cat", "emu"] * 34) for x, _ in pairs]
    named = [(x, np.array(w)[:100]) for x, w in named]
    assert lsd.fit(named).basis.classes_.tolist() == ["ant", "cat", "emu"]
    one_line(lambda: lsd.fit(parts.x.split(100)), "pairs")
    without = LSD(parts.g, thirds, **QUICK).fit()
    assert without.transform(parts.x[:4].split(2)).shape[0] == 4


def test_arrays_have_no_gradients(parts):
    w = parts.g.line.weight.detach().numpy().T

    def generator(z):
        return np.tanh(z.astype(np.float32) @ w).reshape(-1, 1, 5, 5)

    def around(z):
        return parts.g(torch.from_numpy(z)).detach().numpy()

    for g in (generator, around):
        lsd = LSD(g, thirds, latent_shape=8, **QUICK).fit()
        one_line(lambda lsd=lsd: lsd.invert(parts.x[:2]), "no gradients")


def test_a_network_that_fails_is_one_line(parts):
    one_line(lambda: LSD(parts.g, thirds, latent_shape=9, **QUICK).fit(), "the generator failed")
    narrow = nn.Sequential(nn.Flatten(), nn.Linear(24, 3))
    one_line(lambda: LSD(parts.g, narrow, **QUICK).fit(), "the classifier failed")


def test_labels_instead_of_logits(parts):
    lsd = LSD(parts.g, lambda x: thirds(x).argmax(1), **QUICK)
    one_line(lsd.fit, "expected logits")
    maps = LSD(parts.g, lambda x: thirds(x)[:, :, None, None], **QUICK).fit()
    assert maps.basis.classes_.tolist() == [0, 1, 2]


def test_columns_are_the_labels(parts):
    def many(x):
        return 3 * x.flatten(1)[:, :20]

    lsd = LSD(parts.g, many, parts.e, labels=[17, 2, 9], **QUICK).fit(parts.x)
    assert lsd.basis.classes_.tolist() == [17, 2, 9]
    for k, label in enumerate([17, 2, 9]):
        shown = lsd.judge(lsd.edit(torch.randn(50, 8), label)).argmax(1)
        assert (shown == k).float().mean() > 0.9
    for wrong in ([1, 20], [1, 1], [-1, 2]):
        one_line(lambda w=wrong: LSD(parts.g, many, labels=w, **QUICK).fit(), "columns")


def test_given_labels_and_a_classifier_agree(parts):
    y = thirds(parts.x).argmax(1)
    lsd = LSD(parts.g, thirds, parts.e, **QUICK)
    assert lsd.fit(parts.x, y).basis.classes_.tolist() == [0, 1, 2]
    assert lsd.fit(parts.x, np.array(["a", "b", "c"])[y]).basis.classes_.tolist() == ["a", "b", "c"]
    one_line(lambda: lsd.fit(parts.x, np.array(["c", "a", "b"])[y]), "columns [1, 2, 0]")
    one_line(lambda: lsd.fit(parts.x, y.clamp(max=1)), "2 different labels", "knows 3")


def test_a_mapping_network_leaves_no_gradients(parts):
    mapping = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    w = LSD(parts.g, prior=lambda n, g: mapping(torch.randn(n, 8, generator=g)), **QUICK)
    assert not w.models.sample(3).requires_grad and not w.models.center.requires_grad
    assert w.invert(parts.x[:2], steps=2).shape == (2, 8)


def test_log_variances_are_noticed(parts):
    mixing = torch.linalg.qr(torch.randn(25, 8))[0]

    def posterior(x):
        mean = x.flatten(1) @ mixing / 1.36
        return mean, torch.full_like(mean, 0.36 / 1.36).log()

    def generator(z):
        return (z @ mixing.T).reshape(-1, 1, 5, 5)

    x = generator(torch.randn(2000, 8)) + 0.6 * torch.randn(2000, 1, 5, 5)
    lsd = LSD(generator, thirds, posterior, latent_shape=8, **QUICK)
    with pytest.warns(UserWarning, match="log_variance=True"):
        lsd.fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LSD(generator, thirds, posterior, latent_shape=8, log_variance=True, **QUICK).fit(x)


# ---- saved and loaded


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    nets = load_pretrained("mnist", device="cpu")
    z = torch.randn(1500, 100, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        x = nets.generator(z)
    lsd = LSD(*nets, n_sets=2, per_set=50, set_weight=float("inf"), progress=False).fit(x)
    folder = tmp_path_factory.mktemp("saved")
    return SimpleNamespace(lsd=lsd, x=x[:50], nets=nets, folder=save_decomposition(lsd, folder))


@pytest.fixture
def copied(digits, tmp_path):
    for f in digits.folder.iterdir():
        (tmp_path / f.name).write_bytes(f.read_bytes())
    return tmp_path


def test_saved_and_loaded(digits, copied):
    again = load_decomposition(copied)
    assert torch.equal(again.transform(digits.x), digits.lsd.transform(digits.x))
    assert torch.equal(again.rotate(digits.x[:2], [1, 2]), digits.lsd.rotate(digits.x[:2], [1, 2]))
    assert again.set_weight == float("inf") and again.n_sets == 2
    assert torch.equal(
        again.with_basis("qr").basis.vectors_, digits.lsd.with_basis("qr").basis.vectors_
    )
    second = save_decomposition(again, copied / "again")
    assert torch.equal(load_decomposition(second).predict(digits.x), again.predict(digits.x))
    save_decomposition(again, copied / "again")  # over an older one


def test_card_has_front_matter(digits):
    front = (digits.folder / "README.md").read_text(encoding="utf-8").split("---\n")
    assert front[0] == "" and "library_name: lsd_nb\n" in front[1] and '- "mnist"' in front[1]
    assert "load_decomposition(" in front[2]
    yaml = pytest.importorskip("yaml")
    assert set(yaml.safe_load(front[1])) == {"library_name", "tags", "datasets"}


def test_half_folders_are_one_line(digits, copied):
    one_line(lambda: load_decomposition(copied / "nothing"), "no folder")
    for name in sorted(f.name for f in digits.folder.iterdir() if f.name != "README.md"):
        whole = (copied / name).read_bytes()
        (copied / name).unlink()
        one_line(lambda: load_decomposition(copied), name)
        (copied / name).write_bytes(whole[: len(whole) // 2])
        one_line(lambda: load_decomposition(copied), name)
        (copied / name).write_bytes(whole)
    load_decomposition(copied)
    one_line(lambda: load_decomposition(copied / "README.md"), "config.json")
    one_line(lambda: save_decomposition(digits.lsd, copied / "README.md"), "is a file")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "pickle"},
        {"format": 2},
        {"options": None},
        {"options": {"per_set": 1}},
        {"networks": {"judge": "ours"}},
        {"networks": {}},
        {"networks": {"generator": 3}},
        {"networks": []},
        {"files": {}},
        {"files": {"../../etc/passwd": "0"}},
        {"files": {"basis.safetensors": 3}},
        {"label_names": "abc"},
        {"label_names": [1]},
        {"label_names": [{}] * 10},
    ],
    ids=str,
)
def test_hostile_configurations_are_one_line(copied, change):
    about = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**about, **change}))
    one_line(lambda: load_decomposition(copied))


@pytest.mark.parametrize(
    "name", ["batch_size", "latent_shape", "set_weight", "labels", "image_range"]
)
@pytest.mark.parametrize("value", ["x", -1, [], {}, [None], 1e99, ["a", "b"]], ids=str)
def test_hostile_options_are_one_line_or_harmless(copied, name, value):
    about = json.loads((copied / "config.json").read_text())
    about["options"][name] = value
    (copied / "config.json").write_text(json.dumps(about))
    try:
        load_decomposition(copied)
    except LSDError as e:
        assert "\n" not in str(e)


def test_a_network_asks_for_no_more_than_its_file_has(digits, copied):
    about = json.loads((copied / "generator.json").read_text())
    about["config"]["width"] = 4 * 10**6
    (copied / "generator.json").write_text(json.dumps(about))
    one_line(lambda: load_network(copied / "generator.safetensors"), "does not hold the weights")
    (copied / "generator.json").write_text(json.dumps({**about, "step": "os.system"}))
    one_line(lambda: load_network(copied / "generator.safetensors"), "no configuration")
    save_tensors(copied / "generator.safetensors", {"x": torch.zeros(1)})
    one_line(lambda: load_network(copied / "generator.safetensors"))


def test_own_networks_are_given_again(parts, tmp_path):
    lsd = LSD(parts.g, thirds, parts.e, prior=lambda n, g: torch.randn(n, 8, generator=g), **QUICK)
    save_decomposition(lsd.fit(parts.x), tmp_path)
    assert not list(tmp_path.glob("generator*"))
    one_line(lambda: load_decomposition(tmp_path), "give prior=")
    again = dict(classifier=thirds, encoder=parts.e, prior=lsd.models.prior)
    one_line(lambda: load_decomposition(tmp_path, **again), "give generator=")
    one_line(lambda: load_decomposition(tmp_path, Painter(7), **again), "dimensions")
    same = load_decomposition(tmp_path, parts.g, **again)
    assert torch.equal(same.predict(parts.x), lsd.predict(parts.x))
    assert "generator=…" in (tmp_path / "README.md").read_text(encoding="utf-8")
    one_line(lambda: save_decomposition(LSD(parts.g, thirds, **QUICK), tmp_path), "call fit")


def test_card_survives_strange_labels(digits):
    about = dict(
        networks={}, prior=False, options={"method": None}, versions={"lsd_nb": 1, "torch": 2}
    )
    records = {"generator": {"step": "gan", "config": {"dataset": 'a: "b"\n---\n'}}}
    card = model_card({**about, "networks": {"generator": "ours"}}, digits.lsd.basis, "x", records)
    assert card.count("\n---\n") == 1


def test_the_hub_is_asked_only_for_names_that_look_like_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    one_line(lambda: load_decomposition("somebody/something"), "pip install huggingface_hub")
    for name in ("/no/such/folder", "../x/y", "one", "a/b/c"):
        one_line(lambda name=name: load_decomposition(name), "there is no folder")


def test_a_folder_of_the_hub(monkeypatch, tmp_path, copied):
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **options: str(copied))
    assert load_decomposition("somebody/digits").latent_dim == 100

    def fails(name, **options):
        raise OSError("no network\nat all")

    monkeypatch.setattr(hub, "snapshot_download", fails)
    one_line(lambda: load_decomposition("somebody/digits"), "the Hub gave no")
