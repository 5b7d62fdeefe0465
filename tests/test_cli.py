"""The command line: what each command promises, on tiny networks in a cache of this run."""

import inspect
import json
import math
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lsd_nb import cli
from lsd_nb.basis import LatentBasis
from lsd_nb.commands import comments_of, plain
from lsd_nb.core import load_tensors
from lsd_nb.data import load_dataset
from lsd_nb.decomposition import LatentSpectralDecomposition, load_pretrained
from lsd_nb.image_files import read_images, write_images
from lsd_nb.latents import LabelledMeans, labelled_means
from lsd_nb.studies.denoising import noisy_encoder_config
from lsd_nb.training import Config, artifact_path, load_or_train

COMMANDS = (
    "reproduce",
    "train",
    "means",
    "merge",
    "basis",
    "classify",
    "denoise",
    "rotate",
    "export",
    "data",
    "doctor",
)
runner = CliRunner()


def call(*args, status=0):
    "Run a command in this process; its result, after a look at status and manners."
    done = runner.invoke(cli.app, [str(a) for a in args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.output
    if status:
        assert not done.stdout or "--json" in args, "a failure says nothing on standard output"
    if status == 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and done.stderr.rstrip().splitlines()[-1] == lines[0], done.stderr
    return done


def reported(*args):
    return json.loads(call(*args, "--json").stdout)


@pytest.fixture
def files(tmp_path, tiny, monkeypatch):
    "Three image files in the working folder: grey, large in colour, with transparency."
    monkeypatch.chdir(tmp_path)
    images = load_dataset(progress=False).test.images[:3]
    write_images(images, ["a.png", "b.png", "c.png"])
    grey = Image.open("b.png")
    Image.merge(
        "RGB", [grey.resize((133, 90))] * 2 + [grey.resize((133, 90)).point(lambda v: v // 2)]
    ).save("b.png")
    clear = Image.new("LA", (28, 28), (255, 0))
    clear.putalpha(Image.open("c.png"))
    clear.save("c.png")
    return ["a.png", "b.png", "c.png"]


@pytest.fixture
def lsd(tiny):
    "The same decomposition as the commands use, made in Python."
    return LatentSpectralDecomposition(
        *load_pretrained("mnist", "tiny", "cpu"), progress=False
    ).fit_means(labelled_means(cli._means_config("mnist", "tiny"), "cpu", False))


# ---- what all commands share


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_units_defaults_and_the_common_options(name):
    text, squeezed = (join.join(call(name, "--help").stdout.split()) for join in (" ", ""))
    for option in ("--out", "--json", "--help"):
        assert option in text
    if name != "merge":
        assert "--seed" in text and "--device" in text
        assert "[default: 0]" in text and "[default: auto]" in text and "an integer ≥ 0" in text
    assert ("--force" in text) == (name != "reproduce")
    for option in inspect.signature(getattr(cli, name)).parameters.values():
        assert "".join(comments_of(getattr(cli, name))[option.name].split()) in squeezed, (
            f"{name}: {option.name} is not explained"
        )


@pytest.mark.parametrize(
    "name, words",
    [
        ("train", ("seconds",)),
        ("rotate", ("90°", "milliseconds", "pixels")),
        ("classify", ("amplitudes", "no unit")),
        ("denoise", ("amplitudes to keep, 1 …", "[0, 1] grey scale")),
        ("basis", ("latents per set and label",)),
        ("reproduce", ("[default: 20]", "[default: 5000]")),
    ],
)
def test_units(name, words):
    text = " ".join(call(name, "--help").stdout.split())
    for word in words:
        assert word in text


def test_top_level():
    assert all(name in call("--help").stdout for name in COMMANDS)
    assert "Exit status" in call("--help").stdout
    assert call("--version").stdout.startswith("lsd-nb 0.")


@pytest.mark.parametrize(
    "args",
    [
        ("juggle",),
        ("classify",),
        ("denoise",),
        ("rotate",),
        ("train",),
        ("train", "everything"),
        ("train", "gan", "--preset", "huge"),
        ("train", "gan", "--seed", "-1"),
        ("train", "gan", "--seed", "x"),
        ("train", "gan", "--checkpoint-every", "-1"),
        ("train", "gan", "--device", "abacus"),
        ("train", "gan", "--device", "cuda:99"),
        ("basis", "--method", "magic"),
        ("basis", "--set-weight", "0"),
        ("basis", "--set-weight", "nan"),
        ("basis", "--set-weight", "-2"),
        ("basis", "--per-set", "1"),
        ("basis", "--n-sets", "0"),
        ("reproduce", "--trials", "0"),
        ("reproduce", "--preset", "x"),
        ("classify", "a.png", "--device", "x"),
        ("classify", "a.png", "--top", "0"),
        ("denoise", "a.png", "--k", "0"),
        ("denoise", "a.png", "--scale", "0"),
        ("denoise", "a.png", "--sigma", "0"),
        ("denoise", "a.png", "--sigma", "nan"),
        ("denoise", "a.png", "--sigma", "0.5", "--k", "4"),
        ("denoise", "a.png", "--sigma", "0.5", "--noisy"),
        ("denoise", "a.png", "--average"),
        ("rotate", "a.png", "--steps", "0"),
        ("rotate", "a.png", "--path", "7"),
        ("rotate", "a.png", "--path", "zero"),
        ("rotate", "a.png", "--path", ""),
        ("rotate", "a.png", "--kind", "round"),
        ("rotate", "a.png", "--path", "cat,"),
        ("train", "gan", "--processes", "0"),
        ("means", "--every", "-1"),
        ("merge",),
        ("export",),
        ("export", "--onnx", "--method", "magic"),
        ("export", "--onnx", "--set-weight", "0"),
        ("data", "--seed", "-1"),
        ("doctor", "--device", "x"),
        ("doctor", "--frobnicate"),
    ],
    ids=" ".join,
)
def test_bad_usage_is_status_2_before_any_work(args, tmp_path, monkeypatch):
    monkeypatch.setenv("LSD_NB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    said = call(*args, status=2).stderr
    assert "Usage:" in said and len(said.strip().splitlines()) <= 6
    assert not list(tmp_path.iterdir()), "nothing is written before the command is understood"


def test_no_arguments_show_the_help():
    done = runner.invoke(cli.app, [])
    assert "Commands:" in done.output


def test_infinite_numbers_in_json():
    assert json.loads(
        json.dumps(plain({"a": [math.inf, -math.inf], "b": (math.nan, 1, "x", None, True)}))
    ) == {"a": ["inf", "-inf"], "b": ["nan", 1, "x", None, True]}


@pytest.mark.parametrize(
    "problem, says",
    [
        (
            OSError(28, "No space left on device", "results/x.png"),
            "results/x.png: No space left on device",
        ),
        (PermissionError(13, "Permission denied", "x"), "x: Permission denied"),
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), "out of memory"),
    ],
)
def test_what_the_system_refuses_is_one_line(problem, says, monkeypatch):
    def refuse(*args, **kwargs):
        raise problem

    monkeypatch.setattr("lsd_nb.data.load_dataset", refuse)
    assert says in call("data", status=1).stderr


def test_ctrl_c_is_one_line(monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("lsd_nb.data.load_dataset", stop)
    done = runner.invoke(cli.app, ["data", "--json"])
    assert (done.exit_code, done.output) == (130, "")  # the program says the line


@pytest.mark.filterwarnings("default:a warning")
def test_warnings_and_prints_go_to_standard_error(monkeypatch):
    def noisy(*args, **kwargs):
        print("a line")
        warnings.warn("a warning", stacklevel=2)
        return load_dataset("mnist", False)

    monkeypatch.setattr("lsd_nb.data.load_dataset", noisy)
    done = call("data", "--json")
    assert "a line\n" in done.stderr and "note: a warning\n" in done.stderr
    assert json.loads(done.stdout)["name"] == "mnist"


# ---- data, doctor


def test_data(tmp_path):
    report = reported("data", "--out", tmp_path / "new", "--seed", "3")
    assert report["images"] == {"train": 55_000, "valid": 5_000, "test": 10_000} and report[
        "size"
    ] == [28, 28]
    assert len(report["classes"]) == 10 and Path(report["folder"]).is_dir()
    assert Image.open(report["picture"]).size == (280, 280)
    assert "55,000 train" in call("data").stdout and ", verified" in call("data").stdout


def test_data_of_an_unknown_name():
    assert "unknown dataset 'nothing'" in call("data", "nothing", status=1).stderr


def test_doctor(tiny, tmp_path):
    report = reported("doctor", "--device", "cpu", "--out", tmp_path / "report.json")
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert (
        report["networks"]["tiny"] == {"gan": "cached", "classifier": "cached", "encoder": "cached"}
        and report["problems"] == []
    )
    assert (
        report["data"]["mnist"].startswith("verified")
        and report["gflops"] > 0
        and report["threads"] == torch.get_num_threads()
    )
    text = call("doctor").stdout
    assert "no problems found" in text and report["versions"]["torch"] in text


def test_doctor_fetches_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("LSD_NB_DATA", str(tmp_path / "data"))
    assert reported("doctor")["data"]["mnist"] == "not fetched"
    assert not list((tmp_path / "data").rglob("*-ubyte*"))


# ---- train


def test_training_again_uses_what_is_there(tiny):
    before = {p: p.stat().st_mtime_ns for p in tiny.rglob("artifacts/*")}
    done = call("train", "all", "--preset", "tiny", "--device", "cpu", "--json")
    assert done.stderr.count("cached already") == 3
    assert not any(r["trained_now"] for r in json.loads(done.stdout)["networks"].values())
    assert before == {p: p.stat().st_mtime_ns for p in tiny.rglob("artifacts/*")}


def test_generator_quality_is_stored(tiny):
    gan, classifier = (
        artifact_path(cli._configs("mnist", "tiny")[s]) for s in ("gan", "classifier")
    )
    quality = json.loads(gan.with_suffix(".json").read_text())["metrics"]["quality"]
    assert (
        quality["frechet"] > 0
        and abs(sum(quality["labels"]) - 1) < 1e-6
        and 0 <= quality["confident"] <= 1
    )
    assert quality["features"] == classifier.stem.split("-")[1]


def test_out_gets_copies(tiny, tmp_path):
    report = reported(
        "train", "all", "--preset", "tiny", "--device", "cpu", "--out", tmp_path / "bundle"
    )
    for r in report["networks"].values():
        copy = Path(r["file"])
        assert copy.parent == tmp_path / "bundle"
        for p in (copy, copy.with_suffix(".json")):
            assert p.read_bytes() == (tiny / "artifacts" / p.name).read_bytes()
    assert (
        "quality"
        in json.loads(Path(report["networks"]["gan"]["file"]).with_suffix(".json").read_text())[
            "metrics"
        ]
    )


def test_fresh_trains_again_to_the_same_weights(tiny, own_cache):
    path = own_cache / "artifacts" / artifact_path(cli._configs("mnist", "tiny")["classifier"]).name
    before = load_tensors(path)[0]
    assert reported("train", "classifier", "--preset", "tiny", "--device", "cpu", "--fresh")[
        "networks"
    ]["classifier"]["trained_now"]
    after = load_tensors(path)[0]
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_another_seed_is_another_network(own_cache):
    for p in (own_cache / "artifacts").iterdir():
        p.unlink()
    report = reported("train", "classifier", "--preset", "tiny", "--device", "cpu", "--seed", "5")
    record = json.loads(
        Path(report["networks"]["classifier"]["file"]).with_suffix(".json").read_text()
    )
    assert record["seed"] == record["config"]["seed"] == 5
    assert len(list((own_cache / "artifacts").glob("*.safetensors"))) == 1


# ---- basis


def test_basis(tiny, tmp_path, lsd):
    report = reported(
        "basis", "--preset", "tiny", "--device", "cpu", "--out", tmp_path / "b.safetensors"
    )
    loaded = LatentBasis.load(tmp_path / "b.safetensors")
    assert torch.equal(loaded.vectors_, lsd.basis.vectors_)
    assert (
        report["labelled_vectors"] == report["latent_dim"] == 20
        and report["largest_off_diagonal"] < 1e-6
    )
    assert 0 <= report["label_pure_vectors"] <= 20


@pytest.mark.parametrize("weight, stored", [("1", 1.0), ("2.5", 2.5), ("inf", math.inf)])
def test_lowdin_basis(tiny, tmp_path, weight, stored):
    report = reported(
        "basis",
        "--preset",
        "tiny",
        "--device",
        "cpu",
        "--method",
        "lowdin",
        "--set-weight",
        weight,
        "--out",
        tmp_path / "b.safetensors",
    )
    assert report["set_weight"] == ("inf" if stored == math.inf else stored)
    assert LatentBasis.load(tmp_path / "b.safetensors").set_weight == stored


def test_weight_without_lowdin(tiny, tmp_path):
    assert (
        "--method lowdin"
        in call(
            "basis",
            "--preset",
            "tiny",
            "--set-weight",
            "2",
            "--out",
            tmp_path / "b.safetensors",
            status=1,
        ).stderr
    )
    assert not list(tmp_path.iterdir())


def test_more_labels_than_dimensions(tiny, tmp_path):
    assert (
        "at most 2"
        in call(
            "basis",
            "--preset",
            "tiny",
            "--n-sets",
            "3",
            "--out",
            tmp_path / "b.safetensors",
            status=1,
        ).stderr
    )


# ---- classify


def test_classify_agrees_with_the_library(files, lsd):
    done = call(
        "classify",
        *files,
        "--preset",
        "tiny",
        "--device",
        "cpu",
        "--json",
        "--out",
        "labels/all.json",
    )
    results, images = json.loads(done.stdout)["files"], read_images(files)[0]
    assert [r["file"] for r in results] == files and results == json.loads(
        Path("labels/all.json").read_text()
    )
    assert [r["label"] for r in results] == lsd.predict(images).tolist()
    c = lsd.transform(images)
    for r, row in zip(results, c, strict=True):
        assert len(r["amplitudes"]) == 4 and 0 < r["probability"] <= 1
        assert [abs(a["amplitude"]) for a in r["amplitudes"]] == pytest.approx(
            row.abs().sort(descending=True).values[:4].tolist()
        )
        assert r["amplitudes"][0]["set"] in (1, 2)
    assert (
        "note: b.png:" in done.stderr
        and "note: c.png:" in done.stderr
        and "note: a.png" not in done.stderr
    )


def test_classify_table(files):
    lines = call("classify", *files, "--preset", "tiny", "--top", "2").stdout.splitlines()
    assert (
        lines[0].split()[:3] == ["file", "label", "probability"]
        and [line.split()[0] for line in lines[1:]] == files
    )


def test_sampled_codes_depend_on_the_seed_alone(files):
    seen = [
        reported("classify", *files, "--preset", "tiny", "--device", "cpu", "--sample", "--seed", s)
        for s in (1, 1, 2)
    ]
    assert seen[0] == seen[1] != seen[2]


def test_a_basis_from_a_file(files, lsd, tmp_path):
    lsd.with_basis("lowdin", 3.0).basis.save("own.safetensors")
    given = reported(
        "classify", *files, "--preset", "tiny", "--device", "cpu", "--basis", "own.safetensors"
    )
    built = reported(
        "classify",
        *files,
        "--preset",
        "tiny",
        "--device",
        "cpu",
        "--method",
        "lowdin",
        "--set-weight",
        "3",
    )
    assert given == built


def test_basis_with_complement(files, lsd):
    ten = LatentBasis.from_means(lsd.means.means[:10], lsd.means.labels[:10], complete=True)
    ten.save("ten.safetensors")
    entries = [
        a
        for r in reported(
            "classify", *files, "--preset", "tiny", "--basis", "ten.safetensors", "--top", "20"
        )["files"]
        for a in r["amplitudes"]
    ]
    assert (
        len(entries) == 60 and sum(a["label"] is None and a["set"] is None for a in entries) == 30
    )
    assert (
        "–"
        in call(
            "classify", *files, "--preset", "tiny", "--basis", "ten.safetensors", "--top", "20"
        ).stdout
    )


def test_basis_of_another_size(files):
    LatentBasis().fit(torch.randn(60, 7), torch.arange(60) % 3).save("seven.safetensors")
    assert (
        "7 dimensions"
        in call(
            "classify", *files, "--preset", "tiny", "--basis", "seven.safetensors", status=1
        ).stderr
    )


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: None, "is not there"),
        (lambda: Path("own.safetensors").write_bytes(b"junk"), "not a safetensors file"),
        (
            lambda: shutil.copy(
                next(Path(os.environ["LSD_NB_CACHE"]).rglob("gan*.safetensors")), "own.safetensors"
            ),
            "holds no LatentBasis",
        ),
    ],
)
def test_files_that_are_no_basis(files, make, says):
    make()
    assert (
        says
        in call(
            "classify", "a.png", "--preset", "tiny", "--basis", "own.safetensors", status=1
        ).stderr
    )


# ---- denoise, rotate


def test_denoise_agrees_with_the_library(files, lsd):
    report = reported(
        "denoise", *files, "--preset", "tiny", "--device", "cpu", "--k", "3", "--out", "clean"
    )
    assert [r["output"] for r in report["files"]] == [f"clean/{s}-denoised.png" for s in "abc"]
    write_images(lsd.denoise(read_images(files)[0], 3), ["x.png", "y.png", "z.png"])
    for r, expected in zip(report["files"], ("x.png", "y.png", "z.png"), strict=True):
        assert Path(r["output"]).read_bytes() == Path(expected).read_bytes()


@pytest.mark.parametrize("average", [False, True])
def test_denoise_by_the_strength_of_the_noise(files, lsd, average):
    options = ["--preset", "tiny", "--device", "cpu", "--sigma", "0.2", "--out", "clean"]
    report = reported("denoise", *files, *options, *["--average"] * average)
    assert report["sigma"] == 0.2 and report["k"] is None
    clean = lsd.denoise(read_images(files)[0], sigma=0.2, average=average)
    write_images(clean, ["x.png", "y.png", "z.png"])
    for r, expected in zip(report["files"], ("x.png", "y.png", "z.png"), strict=True):
        assert Path(r["output"]).read_bytes() == Path(expected).read_bytes()


def test_scale_makes_squares(files):
    reported("denoise", "a.png", "--preset", "tiny", "--scale", "3", "--out", "big")
    picture = Image.open("big/a-denoised.png")
    assert (
        picture.size == (84, 84)
        and picture.resize((28, 28), Image.Resampling.NEAREST)
        .resize((84, 84), Image.Resampling.NEAREST)
        .tobytes()
        == picture.tobytes()
    )


def test_more_amplitudes_than_there_are(files):
    assert "20" in call("denoise", "a.png", "--preset", "tiny", "--k", "21", status=1).stderr
    assert not Path("lsd-nb-out").exists()


def test_noisy_takes_the_encoder_that_was_trained_on_noise(files):
    assert (
        "leave out --noisy"
        in call("denoise", "a.png", "--preset", "tiny", "--noisy", status=1).stderr
    )
    report = reported("denoise", *files, "--noisy", "--device", "cpu", "--out", "clean")
    nets = load_pretrained(device="cpu")
    encoder = load_or_train(noisy_encoder_config(), "cpu", train=False)
    write_images(
        LatentSpectralDecomposition(nets.generator, nets.classifier, encoder).decode(
            encoder(read_images(files)[0])[0].detach()
        ),
        ["x.png", "y.png", "z.png"],
    )
    for r, expected in zip(report["files"], ("x.png", "y.png", "z.png"), strict=True):
        a, b = (np.asarray(Image.open(p)).astype(int) for p in (r["output"], expected))
        assert abs(a - b).max() <= 1


@pytest.mark.parametrize("kind", ["swap", "paper", "plane"])
def test_rotate_agrees_with_the_library(files, lsd, kind):
    report = reported(
        "rotate",
        *files,
        "--preset",
        "tiny",
        "--device",
        "cpu",
        "--path",
        "0,3,7",
        "--steps",
        "2",
        "--kind",
        kind,
        "--gif",
        "--milliseconds",
        "40",
    )
    assert (report["path"], report["frames"]) == ([0, 3, 7], 5)
    frames = lsd.rotate(read_images(files)[0], [0, 3, 7], 2, kind)
    for r, expected in zip(report["files"], frames, strict=True):
        strip = Image.open(r["output"])
        assert strip.size == (5 * 28, 28)
        write_images(expected, [f"frame{i}.png" for i in range(5)])
        for i in range(5):
            assert (
                strip.crop((28 * i, 0, 28 * i + 28, 28)).tobytes()
                == Image.open(f"frame{i}.png").tobytes()
            )
        with Image.open(r["gif"]) as movie:
            assert (
                movie.n_frames > 1 and movie.info["duration"] % 40 == 0 and movie.info["loop"] == 0
            )


def test_the_whole_path_by_default(files):
    assert reported("rotate", "a.png", "--preset", "tiny")["frames"] == 28


def test_unknown_label(files):
    said = call("rotate", "a.png", "--preset", "tiny", "--path", "0,12", status=1).stderr
    assert "label 12" in said and not Path("lsd-nb-out").exists()


def test_inputs_are_never_overwritten(files):
    Path("sub").mkdir()
    shutil.copy("a.png", "sub/a.png")
    shutil.copy("a.png", "a-denoised.png")
    inputs = ["a.png", "sub/a.png", "a-denoised.png"]
    before = [Path(p).read_bytes() for p in inputs]
    outputs = [
        r["output"] for r in reported("denoise", *inputs, "--preset", "tiny", "--out", ".")["files"]
    ]
    assert [Path(p).read_bytes() for p in inputs] == before
    assert outputs == ["a-denoised-2.png", "a-denoised-3.png", "a-denoised-denoised.png"]


@pytest.mark.parametrize("name", ["classify", "denoise", "rotate"])
@pytest.mark.parametrize(
    "content, says",
    [
        (None, "no such image file"),
        (b"", "cannot be read as an image"),
        (b"just text", "cannot be read as an image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "cannot be read as an image"),
    ],
)
def test_files_that_are_no_image(files, name, content, says):
    if content is not None:
        Path("bad.png").write_bytes(content)
    assert says in call(name, "a.png", "bad.png", "--preset", "tiny", status=1).stderr
    assert not Path("lsd-nb-out").exists()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (29, 27)])
def test_odd_sizes(files, size):
    Image.new("RGBA", size, (9, 200, 30, 128)).save("odd.png")
    assert "note: odd.png" in call("classify", "odd.png", "--preset", "tiny").stderr


@pytest.mark.parametrize("name", ["denoise", "rotate"])
def test_results_that_have_no_place(files, name):
    assert (
        "can't be written"
        in call(name, "a.png", "--preset", "tiny", "--out", "b.png/below", status=1).stderr
    )


# ---- reproduce


def test_reproduce_hands_everything_on(tiny, monkeypatch, tmp_path):
    seen, board = {}, {"header": {"seconds": 1.0}, "rows": [{"id": "lsd_top1", "ours": math.inf}]}
    from lsd_nb.studies import reproduction

    monkeypatch.setattr(reproduction, "reproduce", lambda **options: seen.update(options) or board)
    monkeypatch.setattr(reproduction, "format_scoreboard", lambda b: "a table")
    args = (
        "reproduce",
        "--preset",
        "tiny",
        "--trials",
        "2",
        "--per-set",
        "20",
        "--n-sets",
        "2",
        "--seed",
        "4",
        "--device",
        "cpu",
        "--fresh",
        "--out",
        tmp_path / "r",
    )
    assert reported(*args)["rows"][0]["ours"] == "inf"
    assert {**seen, "out": None} == dict(
        preset="tiny",
        trials=2,
        per_set=20,
        n_sets=2,
        seed=4,
        device="cpu",
        dataset="mnist",
        fresh=True,
        out=None,
    )
    assert str(seen["out"]) == str(tmp_path / "r") and call(*args).stdout.startswith("a table")


def test_reproduce_with_too_many_sets():
    assert "at most 2" in call("reproduce", "--preset", "tiny", "--n-sets", "9", status=1).stderr


# ---- export


def test_export(files, lsd):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'lsd_nb[onnx]'")
    report = reported("export", "--onnx", "--preset", "tiny", "--out", "new/onnx")["files"]
    assert sorted(report) == ["basis.json", "classifier.onnx", "encoder.onnx", "generator.onnx"]
    for name, r in report.items():
        assert Path(r["file"]).stat().st_size == r["bytes"] and Path(r["file"]).name == name
        assert r["difference"] is None or 0 <= r["difference"] <= 1e-4
    z = torch.randn(3, lsd.latent_dim)
    (image,) = onnxruntime.InferenceSession("new/onnx/generator.onnx").run(
        ["image"], {"latent": z.numpy()}
    )
    assert torch.allclose(torch.tensor(image), lsd.decode(z), atol=1e-4)
    table = json.loads(Path("new/onnx/basis.json").read_text())
    assert torch.allclose(
        torch.tensor(table["vectors"]), torch.as_tensor(lsd.basis.vectors_).float(), atol=1e-5
    )
    assert (
        table["sets"] == list(map(int, lsd.basis.sets_)) and len(table["labels"]) == lsd.latent_dim
    )
    assert "within" in call("export", "--onnx", "--preset", "tiny", "--out", "again").stdout


def test_export_without_its_packages(files, monkeypatch):
    import lsd_nb.export

    monkeypatch.setattr(lsd_nb.export, "find_spec", lambda name: None)
    assert (
        "pip install 'lsd_nb[onnx]'"
        in call("export", "--onnx", "--preset", "tiny", "--out", "new", status=1).stderr
    )
    assert not Path("new").exists()


def test_export_to_a_place_that_is_none(files):
    pytest.importorskip("onnxruntime", reason="pip install 'lsd_nb[onnx]'")
    assert (
        "can't be written"
        in call("export", "--onnx", "--preset", "tiny", "--out", "a.png/below", status=1).stderr
    )


def test_export_of_networks_that_are_not_there(own_cache):
    for p in own_cache.rglob("encoder-*"):
        p.unlink()
    assert "no trained encoder" in call("export", "--onnx", "--preset", "tiny", status=1).stderr


# ---- start-up, text, Ctrl-C


def program(*args, **env):
    "Run the program in a process of its own: bytes of its outputs, and its status."
    line = [sys.executable, "-m", "lsd_nb", *map(str, args)]
    return subprocess.run(line, capture_output=True, env={**os.environ, **env}, timeout=120)


@pytest.mark.parametrize("args", [["--version"], ["--help"], ["train", "--help"]], ids=" ".join)
def test_help_imports_no_torch(args):
    code = (
        "import sys; from lsd_nb.__main__ import main; sys.argv[1:] = "
        f"{args!r}\ntry:\n    main()\nfinally:\n"
        "    print({'torch', 'numpy', 'PIL'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.strip() == "set()", done.stderr


def test_help_is_quick():
    import resource

    def used():
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return spent.ru_utime + spent.ru_stime

    times = []
    for _ in range(3):
        before = used()
        assert program("classify", "--help").returncode == 0
        times.append(used() - before)
    assert min(times) < 0.5, times


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_any_encoding_of_the_terminal(files, encoding):
    args = ("denoise", "a.png", "--preset", "tiny", "--device", "cpu", "--out", "new")
    done = program(*args, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    arrow = "→" if encoding == "utf-8" else "->"
    assert done.stdout.decode(encoding).split() == ["a.png", arrow, "new/a-denoised.png"]
    helped = program("denoise", "--help", PYTHONIOENCODING=encoding)
    assert helped.returncode == 0 and b"Traceback" not in helped.stderr
    if encoding != "ascii":  # for which click, that prints the help, takes UTF-8
        assert {"utf-8": "≥ 0"}.get(encoding, ">= 0") in helped.stdout.decode(encoding)


@pytest.mark.parametrize("wait", [0.05, 0.15, 0.3, 0.6, 1.2, 2.0])
def test_ctrl_c_at_any_moment_is_one_line_and_130(tmp_path, wait):
    import signal
    import time

    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "print('up', flush=True)\nfrom lsd_nb.__main__ import main; main()"
    )
    env = {**os.environ, "LSD_NB_CACHE": str(tmp_path)}
    line = [sys.executable, "-c", code, "train", "gan", "--preset", "tiny", "--epochs", "500"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(line, env=env, **pipes) as p:
        assert p.stdout.readline() == "up\n"
        time.sleep(wait)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
    assert (p.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert err.rstrip().splitlines()[-1].startswith("interrupted: ")


# ---- the registry


def test_choices_are_the_modules():
    from lsd_nb.basis import orthogonalise
    from lsd_nb.gan import GANConfig

    assert cli._CHOICES["preset"] == tuple(GANConfig.presets)
    for step in cli.trainable():
        assert cli._kind(step) is Config.kinds[step] and "tiny" in cli._kind(step).presets
    means = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    for method in cli._CHOICES["method"][1:]:  # after "recommended"
        assert orthogonalise(means, method=method).shape == (3, 5)


def test_any_setting_of_a_kind(own_cache):
    args = ("train", "denoiser", "--preset", "tiny", "--device", "cpu", "--epochs", "1")
    report = reported(*args, "--set", "width=2", "--set", "sigma=0.25")["networks"]["denoiser"]
    config = json.loads(Path(report["file"]).with_suffix(".json").read_text())["config"]
    assert (config["width"], config["sigma"], config["epochs"]) == (2, 0.25, 1)
    for wrong, says in (
        ("colour=red", "it has no setting colour"),
        ("width=wide", "width is 'wide'"),
        ("width", "expected field=value"),
        ("width=0", "expected 1 or more"),
    ):
        assert says in call(*args, "--set", wrong, status=1).stderr
    assert "one by one" in call("train", "all", "--epochs", "3", status=1).stderr


def test_processes_share_a_training(own_cache, tmp_path):
    args = ("train", "classifier", "--preset", "tiny", "--device", "cpu", "--processes", "2")
    more = ("--epochs", "1", "--set", "train_images=640", "--json")
    done = program(*args, *more)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)["networks"]["classifier"]
    record = json.loads(Path(report["file"]).with_suffix(".json").read_text())
    assert report["trained_now"] and record["processes"] == 2
    failed = program(*args, "--set", "noise=3e38", "--set", "lr=10")
    said = failed.stderr.decode()
    assert failed.returncode == 1 and "Traceback" not in said, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "is not finite" in errors[0]


# ---- outputs


def test_files_are_replaced_only_by_force(files, lsd):
    args = ("denoise", "a.png", "--preset", "tiny", "--device", "cpu", "--out", "new")
    call(*args)
    before = Path("new/a-denoised.png").stat().st_mtime_ns
    assert "--force" in call(*args, "--k", "1", status=1).stderr
    assert Path("new/a-denoised.png").stat().st_mtime_ns == before
    call(*args, "--k", "1", "--force")
    assert Path("new/a-denoised.png").stat().st_mtime_ns != before


@pytest.mark.parametrize("kind", ["link", "fifo", "device", "folder", "input", "basis"])
def test_outputs_that_are_no_files_for_it(files, lsd, kind):
    lsd.basis.save("own.safetensors")
    out = {"device": "/dev/null", "input": "a.png", "basis": "own.safetensors"}.get(kind, kind)
    if kind == "link":
        Path("link").symlink_to("b.png")
    if kind == "fifo":
        os.mkfifo("fifo")
    if kind == "folder":
        Path("folder").mkdir()
    before = {p: p.read_bytes() for p in Path().glob("*.[ps]*")}
    args = ("classify", "a.png", "--preset", "tiny", "--basis", "own.safetensors", "--force")
    said = call(*args, "--out", out, status=1).stderr
    assert ("an input" if kind in ("input", "basis") else "a link or a device") in said
    assert before == {p: p.read_bytes() for p in before}


# ---- means, merge


def test_shards_of_means_make_the_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ("--device", "cpu", "--per-set", "8", "--n-sets", "2", "--parts", "2")
    for k in (1, 2):
        report = reported("means", *common, "--shard", f"{k}/2", "--out", f"p{k}.safetensors")
        assert report["parts"] == 2
    assert "there already" in call("means", *common, "--out", "p1.safetensors", status=1).stderr
    assert "are missing" in call("merge", "p1.safetensors", "--out", "x", status=1).stderr
    merged = reported("merge", "p2.safetensors", "p1.safetensors", "--out", "all.safetensors")
    assert (merged["n_sets"], merged["labels"]) == (2, 10)
    assert (LabelledMeans.load("all.safetensors").counts[1] == 8).all()
    report = reported("basis", "--means", "all.safetensors", "--out", "b.safetensors")
    assert (report["labelled_vectors"], report["n_sets"]) == (20, 2)
    assert (
        "an input"
        in call(
            "basis", "--means", "all.safetensors", "--out", "all.safetensors", "--force", status=1
        ).stderr
    )
    said = call("basis", "--preset", "tiny", "--means", "all.safetensors", status=1).stderr
    assert "100 dimensions" in said
    assert "expected i/n" in call("means", *common, "--shard", "3", "--out", "y", status=1).stderr


# ---- a model of one's own

MODEL = """
import torch

def make():
    def generator(z):
        return torch.sigmoid(z)[:, :, None, None].expand(-1, 3, 8, 8)
    def classifier(x):
        return 10 * x.mean((2, 3))
    def encoder(x):
        return torch.logit(x.mean((2, 3)).clamp(0.01, 0.99))
    return dict(generator=generator, classifier=classifier, encoder=encoder, latent_shape=3,
                image_range=(0.0, 1.0), per_set=200)

class Grey(torch.nn.Module):
    latent_dim = 4
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 36)
    def forward(self, z):
        return torch.tanh(self.layer(z)).view(-1, 1, 6, 6)

def pair():
    torch.manual_seed(0)
    return Grey(), None

def broken():
    raise RuntimeError("two\\nlines")

def nothing():
    return 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_module", raising=False)
    Path("my_module.py").write_text(MODEL)
    for name, colour in (("red", (250, 110, 120)), ("blue", (100, 120, 250))):
        Image.new("RGB", (50, 50), colour).save(f"{name}.png")
    return ("--model", "my_module:make")


def test_a_model_of_ones_own(own):
    found = reported("classify", "red.png", "blue.png", *own)["files"]
    assert [f["label"] for f in found] == [0, 2]
    report = reported("basis", *own, "--per-set", "50", "--out", "b.safetensors")
    assert (report["labelled_vectors"], report["latent_dim"]) == (3, 3)
    args = ("rotate", "red.png", *own, "--basis", "b.safetensors", "--path", "0,2", "--steps", "2")
    assert reported(*args, "--kind", "plane")["frames"] == 3
    strip = Image.open("lsd-nb-out/red-rotated.png")
    assert strip.size == (24, 8) and strip.mode == "RGB"
    r, g, b = strip.getpixel((2, 2))
    assert r > 200 > 150 > max(g, b)


@pytest.mark.parametrize(
    "spec, says",
    [
        ("no_such_module:make", "No module named"),
        ("my_module:missing", "has no attribute"),
        ("my_module", "expected module:function"),
        ("my_module:broken", "RuntimeError: two lines"),
        ("my_module:nothing", "expected a function that returns"),
        ("my_module:pair", "no classifier"),
    ],
)
def test_models_that_are_none(own, spec, says):
    assert says in call("basis", "--model", spec, "--out", "x.safetensors", status=1).stderr
    assert not Path("x.safetensors").exists()


# ---- labels


def test_names_of_labels_in_a_path(files, lsd, monkeypatch):
    import lsd_nb.data

    real = load_dataset(progress=False)
    named = type("Named", (), {"classes": [*"abcdefghi", "cat"], "test": real.test})
    monkeypatch.setattr(lsd_nb.data, "load_dataset", lambda *a, **k: named)
    args = ("rotate", "a.png", "--preset", "tiny", "--device", "cpu", "--steps", "1")
    assert reported(*args, "--path", "3,cat,b")["path"] == [3, 9, 1]
    assert "label dog" in call(*args, "--path", "cat,dog", "--out", "x", status=1).stderr


def test_labels_that_are_words(files, lsd):
    words = [f"word{i}" for i in range(10)]
    b = LatentBasis.from_means(lsd.means.means[:10], words, complete=True)
    b.save("words.safetensors")
    args = ("a.png", "--preset", "tiny", "--device", "cpu", "--basis", "words.safetensors")
    found = reported("classify", *args, "--top", "20")["files"][0]
    assert found["label"] in words
    labelled = [a for a in found["amplitudes"] if a["set"] == 1]
    assert sorted(a["label"] for a in labelled) == words
    assert reported("rotate", *args, "--path", "word1,word2")["path"] == ["word1", "word2"]
