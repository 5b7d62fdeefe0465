"""Pictures of any size, colour and number of labels, from files to edited pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from lsd_nb import LSDError, cli, load_dataset
from lsd_nb.classifier import Classifier, ClassifierConfig
from lsd_nb.data import MOST_EPOCHS, SIZES, Shape, data_shape, load_for, sprites
from lsd_nb.encoder import Encoder, EncoderConfig
from lsd_nb.gan import Discriminator, GANConfig, Generator
from lsd_nb.image_files import write_images
from lsd_nb.judge import Judge, JudgeConfig
from lsd_nb.studies.autoencoders import Autoencoder, AutoencoderConfig, ConvVAEConfig, VAEConfig
from lsd_nb.training import Config, artifact_path, load_or_train, save_artifact


def save(path, images, labels, **more):
    np.savez(path, images=images, labels=labels, **more)
    return str(path)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    "An empty cache."
    monkeypatch.setenv("LSD_NB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def sixty(tmp_path):
    "Sixty coloured sprites of three shapes, 32 × 32, in one file."
    x, factors = sprites(90)
    kept = factors["shape"] < 3
    x, y = x[kept][:60], factors["shape"][kept][:60]
    return save(tmp_path / "sixty.npz", x.numpy(), y.numpy(), classes=["box", "disc", "roof"])


# ---- at 28 × 28 × 1 with ten labels all is as it was


def legacy_generator(w, m):
    return nn.Sequential(
        *(nn.Linear(m, 49 * w, bias=False), nn.Unflatten(1, (w, 7, 7)), nn.BatchNorm2d(w)),
        *(nn.ReLU(), nn.ConvTranspose2d(w, w // 2, 5, 1, 2, bias=False), nn.BatchNorm2d(w // 2)),
        *(nn.ReLU(), nn.ConvTranspose2d(w // 2, w // 4, 4, 2, 1, bias=False)),
        *(nn.BatchNorm2d(w // 4), nn.ReLU(), nn.ConvTranspose2d(w // 4, 1, 4, 2, 1)),
    )


def legacy_classifier(a, b, c):
    parts = []
    for m, n in ((1, a), (a, b), (b, c)):
        parts += [nn.Conv2d(m, n, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts), nn.Linear(9 * c, 10)


def legacy_encoder(w, m):
    def block(conv, a, b, stride):
        return conv(a, b, 4, stride, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)

    trunk = nn.Sequential(
        *block(nn.ConvTranspose2d, 1, w, 1),
        *block(nn.Conv2d, w, 2 * w, 2),
        *block(nn.Conv2d, 2 * w, 2 * w, 2),
    )
    return trunk, *(nn.Sequential(nn.Flatten(), nn.Linear(98 * w, m)) for _ in range(2))


def values(*modules):
    return [t for m in modules for t in m.state_dict().values()]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_weights_of_28_grey_pixels_are_those_of_before():
    def made(make):
        torch.manual_seed(3)
        return make()

    def dcgan(net):  # the small normal start of both sides of the game
        for m in net.modules():
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.normal_(m.weight, 0.0, 0.02)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        return net

    g = made(lambda: Generator(20, 16))
    assert same(values(g), values(made(lambda: dcgan(legacy_generator(16, 20)))))
    c = made(lambda: Classifier(10, (4, 8, 8)))
    assert same(values(c), values(*made(lambda: legacy_classifier(4, 8, 8))))
    e = made(lambda: Encoder(20, 4, "linear"))
    assert same(values(e), values(*made(lambda: legacy_encoder(4, 20))))


def test_bundled_networks_have_their_keys_and_fit():
    folder = Path(cli.__file__).parent / "pretrained"
    kinds = {cli._kind(step).step for step in cli.trainable()}
    found = [p for p in folder.glob("*.json") if p.name.rsplit("-", 1)[0] in kinds]
    assert len(found) >= 40
    for path in found:
        config = Config.from_json(path)
        assert config.filename == path.stem
        load_or_train(config, "cpu", train=False)


def test_keys_have_shapes_only_where_they_are_not_mnists():
    for kind in (GANConfig, ClassifierConfig, JudgeConfig, AutoencoderConfig, VAEConfig):
        plain = kind()
        assert (plain.channels, plain.size) == (1, 28)
        assert plain.key == kind(channels=1, size=28).key
        assert len({plain.key, kind(channels=3).key, kind(size=32).key}) == 3
        assert not {"channels", "size"} & set(plain.canonical()[1])
    assert ClassifierConfig().key == ClassifierConfig(classes=10).key
    assert ClassifierConfig().key != ClassifierConfig(classes=11).key


# ---- any size from 16 to 64, grey and coloured


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_network_at_every_size(channels, size):
    shape = {"channels": channels, "size": size}
    x = Generator(5, 4, **shape)(torch.randn(2, 5))
    assert x.shape == (2, channels, size, size)
    for stages in (1, 2, 3, 4):
        d = Discriminator(2, stages=stages, deviation=True, **shape)
        assert d(x).shape == (2, 1)
    assert Classifier(7, (2, 2, 2), **shape)(x).shape == (2, 7)
    assert Judge(7, (4, 4), channels)(x).shape == (2, 7)
    assert [t.shape for t in Encoder(5, 2, "linear", **shape)(x)] == [(2, 5)] * 2
    for architecture, width in (("mlp", 8), ("conv", 32)):
        net = Autoencoder(5, architecture, width, **shape)
        assert net.decode(net.encode(x.detach())).shape == x.shape


@pytest.mark.parametrize("size", [8, 12, 18, 30, 33, 68])
def test_other_sizes_are_refused_in_one_line(size):
    for make in (Generator, Discriminator, Classifier, Encoder):
        with pytest.raises(LSDError, match="networks take 16, 20, … 64; resize or pad them"):
            make(size=size)
    with pytest.raises(LSDError, match=f"gan: unknown size {size}: expected 16, 20"):
        GANConfig(size=size)


def test_what_the_data_say(sixty, tmp_path):
    assert data_shape(sixty) == Shape(3, 32, 3, 48)
    assert len(load_dataset(sixty, progress=False).train.labels) == 48
    for name in ("digits", "sprites"):
        found = load_dataset(name, progress=False)
        assert data_shape(name).images == len(found.train.labels)
        assert data_shape(name).channels == found.train.images.shape[1]
        assert data_shape(name).classes == len(found.classes)
    for kind in (GANConfig, ClassifierConfig, JudgeConfig, ConvVAEConfig):
        config = kind(dataset=sixty)
        assert (config.channels, config.size) == (3, 32)
        assert kind(dataset=sixty, size=24).size == 24
    assert ClassifierConfig(dataset=sixty).classes == 3
    assert ClassifierConfig(dataset=sixty, classes=5).network().head.out_features == 5
    # other files at the same place have another shape, and networks another key
    before = GANConfig(dataset=sixty).key
    save(sixty, np.zeros((30, 18, 11), np.uint8), np.arange(30) % 2)
    assert data_shape(sixty) == Shape(1, 20, 2, 24)
    assert GANConfig(dataset=sixty).key != before
    assert load_for(GANConfig(dataset=sixty), False).test.images.shape == (4, 1, 20, 20)
    assert data_shape(str(tmp_path / "nothing")) == data_shape("mnist")


def test_records_hold_the_shape_so_that_loading_needs_no_data(sixty, cache):
    config = ClassifierConfig.preset("tiny", dataset=sixty, batch_size=8, epochs=1)
    path = load_or_train(config, "cpu", progress=False) and artifact_path(config)
    record = json.loads(path.with_suffix(".json").read_text())["config"]
    assert (record["channels"], record["size"], record["classes"]) == (3, 32, 3)
    Path(sixty).unlink()
    assert Config.from_json(path.with_suffix(".json")).network().head.out_features == 3


def test_generator_and_classifier_must_agree():
    parents = dict(gan=GANConfig(size=32), classifier=ClassifierConfig())
    with pytest.raises(LSDError, match="give both the same channels and size"):
        EncoderConfig(**parents)


def test_iterations_make_epochs():
    quick = {d: EncoderConfig.for_dataset(d, "quick") for d in ("mnist", "digits")}
    steps = {d: c.gan.epochs * (data_shape(d).images // c.gan.batch_size) for d, c in quick.items()}
    assert quick["mnist"].gan.iterations <= steps["mnist"] < quick["mnist"].gan.iterations + 859
    assert quick["digits"].gan.epochs == MOST_EPOCHS
    assert GANConfig.preset("quick", epochs=3).epochs == 3
    with pytest.raises(LSDError, match="epochs is 0: expected 1 or more"):
        GANConfig(epochs=0)


# ---- from files to edited pictures


def call(*args, status=0):
    done = CliRunner().invoke(cli.app, [str(a) for a in args])
    assert done.exit_code == status and "Traceback" not in done.output, done.output
    return done


def colours(n=120, size=10):
    "Red and blue squares with a little noise, 8-bit, and their labels."
    noise = np.random.default_rng(0)
    y = np.arange(n) % 2
    x = noise.integers(0, 60, (n, size, size, 3))
    x[y == 0, ..., 0] += 180
    x[y == 1, ..., 2] += 180
    return x.astype(np.uint8), y


def two_coloured(config):
    "A generator of squares that are red where the first latent coordinate is positive, else blue."
    g = config.network()
    with torch.no_grad():
        for p in g.parameters():
            p.zero_()
        for m in g.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.fill_(1)
        linear, *convs = [m for m in g.layers if hasattr(m, "in_features") or hasattr(m, "stride")]
        rows = linear.weight.view(config.width, -1, config.latent_dim)
        rows[0, :, 0], rows[1, :, 0] = 1, -1
        for i in range(2):
            convs[0].weight[i, i, 2, 2] = 1
            convs[1].weight[i, i] = 0.25
            convs[2].weight[i, 2 * i] = 0.5
        convs[2].bias.fill_(-0.7)
    return g


def test_folders_end_to_end(tmp_path, cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = colours()
    for part, some in (("train", slice(96)), ("test", slice(96, None))):
        images = torch.from_numpy(x[some]).permute(0, 3, 1, 2) / 127.5 - 1
        paths = [
            Path("mine", part, ("blush", "navy")[k], f"{i}.png") for i, k in enumerate(y[some])
        ]
        write_images(images, paths)
    how = ("--dataset", "mine", "--preset", "tiny", "--device", "cpu")
    planted = cli._configs("mine", "tiny")["gan"]  # a few batches would give one colour only
    save_artifact(planted, two_coloured(planted).state_dict(), {"history": [], "seconds": 0.0})
    said = call("train", "all", *how)
    assert "images of 16×16 pixels, 2 labels (blush, navy)" in said.stderr
    nets = [load_or_train(c, "cpu", train=False) for c in cli._configs("mine", "tiny").values()]
    assert nets[0](torch.zeros(1, 20)).shape == (1, 3, 16, 16)
    said = call("basis", *how, "--json").stdout
    assert json.loads(said)["labelled_vectors"] == 4
    pictures = ["mine/test/blush/0.png", "mine/test/navy/1.png"]
    found = json.loads(call("classify", *pictures, *how, "--json").stdout)["files"]
    assert {f["label"] for f in found} <= {"blush", "navy"}
    assert {a["label"] for f in found for a in f["amplitudes"]} <= {"blush", "navy", None}
    report = json.loads(call("rotate", *pictures, *how, "--json").stdout)
    assert report["path"] == ["blush", "navy"] and report["frames"] == 4
    assert call("rotate", *pictures, *how, "--path", "navy,blush", "--out", "b").exit_code == 0
    said = call("rotate", *pictures, *how, "--path", "navy,pink", "--out", "c", status=1).stderr
    assert "label pink is not in the basis: expected blush, navy" in said


def test_another_size_through_a_file(tmp_path, cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = call("data", "digits", "--size", 28, "--fit", "pad", "--store", "d28.npz", "--json")
    assert json.loads(report.stdout)["stored"] == "d28.npz"
    assert load_dataset("d28.npz", progress=False).test.images.shape == (256, 1, 28, 28)
    plain = load_dataset("digits", progress=False)
    back = load_dataset("d28.npz", progress=False).test.images[:, :, 10:18, 10:18]
    assert (back - plain.test.images).abs().max() < 0.01 and data_shape("d28.npz").size == 28
    assert call("data", "digits", "--store", "d28.npz", status=1)
    assert call("data", "digits", "--store", "d28.png", status=1)
    assert "expected 4" in call("data", "digits", "--size", 2, status=1).stderr
    assert call("data", "digits", "--size", 28, "--fit", "crop", status=2)


@pytest.mark.parametrize(
    "options, says, status",
    [
        (("all", "--set", "size=32"), "lsd-nb data --store", 1),
        (("gan", "--classes", "3"), "--classes has no meaning for gan", 1),
        (("classifier", "--classes", "1"), "expected 2 or more", 2),
        (("classifier", "--classes", "3"), "set `classes` to 10 or more", 1),
        (("gan", "--set", "size=30"), "unknown size 30", 1),
        (("gan", "--set", "channels=2"), "unknown channels 2", 1),
        (("gan", "--epochs", "0"), "expected 1 or more", 2),
        (("gan", "--set", "colour=3"), "it has no setting colour", 1),
        (("gan", "--set", "width"), "expected field=value", 1),
    ],
)
def test_train_says_no_in_one_line(cache, options, says, status):
    said = call("train", *options, "--dataset", "digits", "--preset", "tiny", status=status).stderr
    assert says in said


def test_changed_settings_are_another_network(cache):
    how = ("train", "classifier", "--dataset", "digits", "--preset", "tiny", "--json")
    paths = [
        json.loads(call(*how, *more).stdout)["networks"]["classifier"]["file"]
        for more in ((), ("--epochs", 1), ("--classes", 12), ("--set", "size=20"))
    ]
    assert len(set(paths)) == 4


def test_fewer_sets_where_they_do_not_fit(tmp_path):
    x = np.zeros((120, 16, 16), np.uint8)
    path = save(tmp_path / "many.npz", x, np.arange(120) % 20)
    assert cli._means_config(path, "small").n_sets == 5
    with pytest.raises(LSDError, match="6 sets of 20 labels don't fit"):
        cli._means_config(path, "small", n_sets=6)
