"""Calls with wrong arguments: every public function of the library, one or two arguments spoiled.

`LSDError` is the rule ("refused"); a `TypeError` or `ValueError` with a text is allowed ("plain").
Everything else is obscure, and so is NaN out of finite numbers ("nan").
"""

import dataclasses
import functools
import importlib
import inspect
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lsd_nb import attributes, basis, core, data, large, latents, models
from lsd_nb.classifier import Classifier, ClassifierConfig
from lsd_nb.core import LSDError
from lsd_nb.decomposition import LatentSpectralDecomposition
from lsd_nb.encoder import Encoder, EncoderConfig
from lsd_nb.gan import GANConfig, Generator
from lsd_nb.operators import Operator

# what trains, fetches, waits for a person, or wants a display: tested elsewhere
LEFT_OUT = [
    "LSDError",
    "train",
    "load_or_train",
    "Run",
    "Task",
    "schedule_for",
    "fetch_file",
    "fetch_npm",
    "fetch_dataset",
    "check_dataset",
    "known_sums",
    "Known",
    "KNOWN",
    "raw_folder",
    "mnist",
    "OptimisticAdam",
    "Explorer",
    "explore",
    "collect_means",
    "labelled_means",
    "load_pretrained",
    "export_onnx",
    "network_to_onnx",
    "d_step",
    "g_step",
    "classifier_step",
    "find_artifact",
    "artifact_path",
    "Config",
    "Network",
    "Networks",
    "Moments",
    "Split",
    "ImageData",
    "cache_dir",
    "data_dir",
    "package_versions",
    "modules_in",
    "say",
    "one_line",
    "figure",
    "plot_history",
    "show_images",
    "collect_parts",
    "fill",
    "merge_statistics",
    "pack_parts",
    "knob_strip",
    "precision_for",
    "damaged",
    "content_md5",
    "read_content",
    "find_file",
    "penalty_step",
    "one_line_errors",
    "warn_user",
    "BatchDeviation",
    "Attribute",
    "Covariances",
    "Blocks",
    "Shape",
    "Batches",
    "load_for",
    "open_shape",
    "AttributeBasis",
    "LatentSpectralDecomposition",
    "report_of",
    "BlockMetric",
    "Directions",
    "StreamedMoments",
    "judge_step",
    "judge_metrics",
    "load_judge",
    "JudgeConfig",
]


@functools.cache
def world() -> dict[str, Any]:
    "Small things of every kind that the library knows."
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    z = torch.randn(60, 6, generator=g) + 3 * torch.eye(6)[y]
    xi = basis.orthogonalise(torch.eye(3, 6) + 0.1)
    generator, classifier, encoder = Generator(6, 4), Classifier(3, (2, 2, 2)), Encoder(6, 2)
    x = torch.rand(12, 1, 28, 28, generator=g) * 2 - 1
    found = latents.LabelledMeans.empty(3, 6, 20, 1)
    found.add(z, y)
    fitted = basis.LatentBasis().fit(z, y)
    lsd = LatentSpectralDecomposition(generator, classifier, encoder, per_set=20, progress=False)
    lsd.means, lsd._names, lsd.basis = found, None, fitted
    attribute = attributes.as_attribute(y)
    joint = attributes.joint_covariances(z, [attribute])
    for net in (generator, classifier, encoder):
        net.eval().requires_grad_(False)
    return {
        "g": g,
        "y": y,
        "z": z,
        "xi": xi,
        "x": x,
        "G": generator,
        "C": classifier,
        "E": encoder,
        "found": found,
        "basis": fitted,
        "lsd": lsd,
        "models": models.LatentModel(generator, classifier, encoder),
        "attribute": attribute,
        "joint": joint,
        "effects": attributes.partial_effects(joint, [attribute]),
        "moments": basis.label_moments(z, y, torch.ones(60).long(), (1, 3)),
        "operator": Operator(torch.eye(6) * 2, torch.ones(6)),
        "data": data.ImageData(
            "own",
            "0",
            ["a", "b", "c"],
            *[data.Split(x.clone(), torch.arange(12) % 3) for _ in range(3)],
        ),
    }


def write_files(folder: Path, name: str) -> None:
    "The files that the example of a name reads."
    w = world()
    if name in ("open_picture", "read_images"):
        Image.new("L", (9, 9), 7).save(folder / "a.png")
    elif name == "read_json":
        (folder / "a.json").write_text("{}")
    elif name == "load_tensors":
        core.save_tensors(folder / "a.safetensors", {"a": w["z"]})
    elif name == "read_idx":
        (folder / "a-idx").write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 2, 5, 6)))
    elif name == "load_parts":
        description = {"places": [[1, 0]]}
        latents.save_parts(folder / "p.safetensors", {(1, 0): w["found"]}, description)


def examples(folder: Path, name: str = "") -> dict[str, dict]:
    "Arguments that are right, by the name of what is called; files are written for one name."
    write_files(folder, name)
    w = world()
    z, y, xi, x, g = w["z"], w["y"], w["xi"], w["x"], torch.Generator().manual_seed(0)
    y12, lsd, b = torch.arange(12) % 3, w["lsd"], w["basis"]
    ones = torch.ones(60).long()
    paired = {"mu": z, "log_sigma": 0 * z}
    pair = {"a": z, "b": z + 1}
    plane = {"vectors": xi, "i": 0, "j": 1}
    judged = {"classifier": w["C"], "images": x}
    attribute, joint = w["attribute"], w["joint"]
    columns = {"z": z, "attributes": [attribute]}
    one = {"white": torch.eye(6).double(), "colour": torch.eye(6).double()}
    statistics = large.StreamedMoments.empty(3, 6).add(z, y)
    return {
        "pick_device": {"name": "cpu"},
        "atomic_write": {"path": folder / "b", "data": "x"},
        "parse_json": {"text": "{}", "name": "here"},
        "read_json": {"path": folder / "a.json"},
        "save_tensors": {"path": folder / "b", "tensors": {"a": z}, "meta": {"k": 1}},
        "load_tensors": {"path": folder / "a.safetensors"},
        "run_record": {"seed": 0, "seconds": 1.0, "device": "cpu"},
        "save_artifact": {
            "config": ClassifierConfig(),
            "weights": {"a": z},
            "record": {},
            "folder": folder,
        },
        "load_weights": {
            "network": Classifier(3, (2, 2, 2)),
            "weights": w["C"].state_dict(),
            "name": "x",
        },
        "as_output": {"out": z, "what": "network"},
        "as_distribution": {"out": (z, z), "log_variance": False},
        "sample_latents": {**paired, "generator": g},
        "kl_divergence": paired,
        "looks_like_variance": paired,
        "in_batches": {"f": w["G"], "x": z, "batch_size": 20},
        "check_batch": {"images": x, "shape": (1, 28, 28), "limits": (-1, 1)},
        "image_batches": {"images": x, "batch_size": 5},
        "LatentModel": {"generator": w["G"], "classifier": w["C"], "encoder": w["E"]}
        | {"latent_shape": 6, "image_range": (-1, 1), "log_variance": False, "batch_size": 20},
        "read_idx": {"path": folder / "a-idx"},
        "as_images": {"values": x, "notes": []},
        "as_labels": {"values": y},
        "fit_size": {"images": x, "size": 20, "fit": "resize"},
        "sprites": {"n": 5, "seed": 0},
        "load_dataset": {"name": (x, y12), "progress": False, "size": 20, "fit": "pad"}
        | {"channels": 1, "name": (x[..., :20, :20], y12)},
        "summary": {"data": w["data"]},
        "save_dataset": {"data": w["data"], "path": folder / "own.npz"},
        "batches": {"batch_size": 4, "seed": 0, "epoch": 1, "start": 1, "shard": (0, 2)}
        | {"drop_last": False},
        "add_gaussian": {"images": x, "sigma": 0.1, "clip": True, "generator": g},
        "add_salt_and_pepper": {"images": x, "amount": 0.1, "generator": g},
        "occlude": {"images": x, "size": 5, "generator": g},
        "from_bytes": {"values": torch.zeros(3, dtype=torch.uint8)},
        "to_bytes": {"images": x},
        "check_images": {"images": x, "channels": 1, "size": 28, "clipped": True},
        "open_picture": {"path": folder / "a.png", "notes": []},
        "read_images": {"paths": [folder / "a.png"], "size": 28, "channels": 1},
        "write_images": {"images": x[:1], "paths": [folder / "b.png"]},
        "accuracy": {**judged, "labels": y12, "batch_size": 5},
        "confident_share": {**judged, "confidence": 0.5, "batch_size": 5},
        "decode_accuracy": {"encoder": w["E"], "generator": w["G"], **judged, "labels": y12}
        | {"seed": 0, "batch_size": 5},
        "rank_table": {"basis": b, "z": z, "labels": y},
        "label_pure": {"vectors": xi.float(), "labels": y[:3], "lsd": lsd, "confidence": 0.5},
        "image_style": {"images": x},
        "digit_style": {"images": x},
        "variation": {"images": x, "reference": x},
        "frechet_distance": pair,
        "sample_quality": {"images": x, "classifier": _judge(), "real": x},
        "generator_quality": {"generator": w["G"], "classifier": _judge(), "real": x, "n": 9}
        | {"seed": 0},
        "mmd_test": {**pair, "permutations": 5, "seed": 0},
        "gaussian_tests": {"z": torch.randn(40, 3), "level": 0.1},
        "correlation": {"a": z[:, 0], "b": z[:, 1]},
        "precision_recall": {"real": z, "fake": z + 1, "neighbours": 3},
        "path_marks": {"frames": x.view(3, 4, 1, 28, 28), "classifier": _judge()},
        "strangeness": {"images": x, "real": x, "other": x + 0.1, "classifier": _judge()},
        "image_grid": {"images": x, "columns": 3, "border": 1, "paper": -1.0},
        "png_bytes": {"image": x[0], "scale": 2},
        "write_gif": {"frames": x[:3], "path": folder / "a.gif", "milliseconds": 100, "scale": 1},
        "markdown_table": {"rows": [{"a": 1}], "columns": {"a": "A"}, "digits": 2},
        "Table": {"rows": [{"a": 1}], "columns": {"a": "A"}, "digits": 2},
        "Generator": {"latent_dim": 6, "width": 4, "output": "tanh"},
        "Discriminator": {"width": 4, "dropout": 0.1},
        "GANConfig": _fields(GANConfig),
        "Classifier": {"classes": 3, "widths": (2, 2, 2), "noise": 0.1},
        "ClassifierConfig": _fields(ClassifierConfig),
        "Encoder": {"latent_dim": 6, "width": 2, "heads": "linear"},
        "EncoderConfig": _fields(EncoderConfig),
        "encoder_losses": {"generator": w["G"], "classifier": w["C"], "x": x, "y": y12}
        | {"mu": z[:12], "log_sigma": 0 * z[:12]},
        "weighted_loss": {"config": EncoderConfig(), "parts": _parts()},
        "mean_overlap": {"mu": z, "y": y},
        "add_by_label": {"z": z.double(), "y": y, "counts": torch.zeros(3).long()}
        | {"sums": torch.zeros(3, 6).double(), "moments": torch.zeros(3, 6).double()},
        "place_in_sets": {"y": y, "counts": torch.zeros(1, 3).long(), "per_set": 20},
        "check_statistics": {"tensors": w["found"].tensors, "where": "here", "values": True},
        "group_means": {"sums": w["found"].sums, "counts": w["found"].counts},
        "at_norm": {"eta": z},
        "LabelledMeans": {"sums": w["found"].sums, "moments": w["found"].moments}
        | {"counts": w["found"].counts, "per_set": 20, "draws": 60, "label_names": None},
        "split_evenly": {"total": 7, "parts": 2},
        "part_stream": {"seed": 0, "i": 0, "part": 0, "device": "cpu"},
        "add_parts": {"parts": [((1, 0), w["found"])]},
        "sample_labelled": {"generator": _plain, "classifier": _plain, "latent_shape": 3}
        | {"per_set": 4, "n_sets": 1, "batch_size": 8, "patience": 200, "max_draws": 300}
        | {"seed": 0, "device": "cpu", "precision": "no", "progress": False, "parts": 1}
        | {"moments": "full"},
        "encode_labelled": {"encoder": _code, "generator": _plain, "classifier": None}
        | {"images": z, "labels": y, "per_set": 4, "batch_size": 8, "seed": 0, "device": "cpu"}
        | {"precision": "no", "progress": False, "parts": 1, "moments": "full", "classes": 3},
        "save_parts": {"path": folder / "b", "parts": {(1, 0): w["found"]}, "description": {}},
        "load_parts": {"path": folder / "p.safetensors"},
        "MeansConfig": _fields(latents.MeansConfig),
        "as_latents": {"z": z, "m": 6, "what": "latents"},
        "gram_schmidt": {"means": xi, "passes": 2},
        "modified_gram_schmidt": {"means": xi, "passes": 2},
        "lowdin": {"means": xi, "weights": torch.ones(3), "tol": 0.0},
        "orthonormal_complement": {"vectors": xi},
        "orthogonalise": {"means": z[:3], "method": "lowdin", "sets": [1, 1, 2], "set_weight": 2.0}
        | {"labels": [0, 1, 0], "lengths": True, "rank_deficient": "raise"},
        "amplitudes": {"z": z, "vectors": xi},
        "synthesise": {"c": z[:, :3], "vectors": xi},
        "label_moments": {"z": z, "codes": y, "sets": ones, "shape": (1, 3)}
        | {"weights": torch.ones(60), "origin": torch.zeros(6), "full": True},
        "covariances": {"moments": w["moments"]},
        "shrunk": {"covariance": torch.eye(6) + 0.1, "n": 50.0, "shrinkage": 0.1},
        "whitening": {"metric": torch.eye(6) * 2},
        "lift": {"rows": z[:3] - z[:3].mean(0), "first": ones[:3].bool(), "towards": z[5]},
        "labelled_vectors": {"means": z[:3], "sets": ones[:3], "method": "lowdin"}
        | {"set_weight": 1.0, "center": True, "metric": torch.eye(6).double()},
        "complement_of": {"vectors": xi, "duals": xi, "means": z[4:6].double()},
        "leace": {"moments": w["moments"], "erased": torch.eye(3)},
        "readers": {"reading": "nearest", "duals": xi, "means": xi, "point": xi[0]}
        | {"metric": torch.eye(6).double()},
        "LatentBasis": _unfitted() | {"set_weight": 2.0, "shrinkage": 0.1},
        "reading_scores": {"Z": z, "y": y, "Z_test": z, "y_test": y, "basis": b},
        "LatentBasis.turned": {"rotation": torch.eye(len(b.vectors_))},
        "LatentBasis.fit": {"Z": z, "y": y, "sets": ones, "sample_weight": np.ones(60)},
        "LatentBasis.partial_fit": {"Z": z, "y": y, "classes": [0, 1, 2]},
        "LatentBasis.from_means": {"means": z[:3], "labels": [0, 1, 2], "sets": [1, 1, 1]},
        "LatentBasis.from_statistics": {"stats": w["found"]},
        "basis.transform": {"Z": z},
        "basis.inverse_transform": {"c": z[:, :3], "Z": z},
        "basis.decision_function": {"Z": z},
        "basis.predict": {"Z": z},
        "basis.predict_proba": {"Z": z},
        "basis.score": {"Z": z, "y": y},
        "basis.label_rank": {"Z": z, "y": y},
        "basis.amplitude": {"Z": z, "label": 1},
        "basis.move": {"Z": z, "label": 1, "amount": 0.5},
        "basis.erase": {"Z": z, "label": 1},
        "basis.index_of": {"label": 1},
        "operator": {"z": z},
        "compose_terms": {"first": (1.0, xi, xi), "then": (1.0, xi, xi)},
        "invert_terms": {"scale": 1.0, "write": xi, "read": xi},
        "Operator": {"matrix": torch.eye(6), "offset": torch.ones(6)},
        "projector": plane,
        "rank_one_rotation": {**plane, "theta": 0.1, "dtheta": 0.2},
        "plane_rotation": {**plane, "angle": 0.3},
        "householder_swap": plane,
        "sphere_of": {"samples": z},
        "on_sphere": {"z": z, "radius": 2.0, "center": torch.zeros(6)},
        "amplitude_swap": {"z": z, **plane, "minimum": 0.1, "amplitude": None, "radius": 2.0}
        | {"center": torch.zeros(6)},
        "slerp": {"a": z, "b": z + 1, "t": 0.5},
        "truncate": {"z": z, "vectors": xi, "k": 2},
        "subspace": {"vectors": xi, "keep": [0, 2]},
        "rotation_path": {"z": z, "vectors": xi, "path": [0, 1], "steps": 2, "kind": "plane"}
        | {"radius": 2.0, "center": torch.zeros(6)},
        "labelled_sets": {"models": w["models"], "images": x, "codes": y12, "n_sets": 1}
        | {"per_set": 3, "progress": False},
        "label_codes": {"labels": y, "n": 60},
        "leading": {"basis": b, "z": z},
        "exchange": {"models": w["models"], "basis": b, "z": z, "own": 0 * y, "goal": 1}
        | {"least": torch.ones(60)},
        "relabelled": {"models": w["models"], "basis": b, "z": z, "label": 1}
        | {"confidence": 0.5, "share": 0.5},
        "rotation_frames": {"models": w["models"], "basis": b, "z": z, "path": [0, 1]}
        | {"steps": 2, "kind": "swap", "confidence": 0.5},
        "basis_of": {"means": w["found"], "names": ["a", "b", "c"], "method": "lowdin"}
        | {"set_weight": 1.0},
        "codes_of": {"models": w["models"], "images": x, "seed": 0, "unclipped": True},
        "first_set": {"models": w["models"], "images": x, "labels": y12, "latents": None}
        | {"invert": _plain},
        "optimal_transport_map": {"mean_a": z[0], "cov_a": torch.eye(6), "mean_b": z[1]}
        | {"cov_b": 2 * torch.eye(6)},
        "shortened": {"z": z, "basis": b, "k": 2, "rescale": True},
        "best_starts": {"models": w["models"], "images": x, "n": 4, "seed": 0},
        "invert_images": {"models": w["models"], "images": x, "starts": z[:12], "steps": 2}
        | {"lr": 0.1, "weight": 0.1, "progress": False},
        "map_codes": {"models": w["models"], "images": x, "starts": z[:24].view(2, 12, 6)}
        | {"sigma": 0.5, "rounds": ((1, 1),), "lr": 0.1},
        "posterior_mean": {"models": w["models"], "images": x, "starts": z[:24].view(2, 12, 6)}
        | {"sigma": 0.5, "rounds": ((1, 1),), "steps": 2, "burn_in": 1, "step_size": 0.1},
        "lsd.encode": {"images": x, "sample": True, "seed": 0, "unclipped": False},
        "lsd.transform": {"images": x},
        "lsd.predict": {"images": x},
        "lsd.decode": {"z": z},
        "knobs": {"c": z[0], "keep": 2, "change": (1, 0.5)},
        "with_amplitudes": {"basis": b, "z": z[:1], "c": z[:1, :3]},
        "turned": {"path": z[:4].reshape(2, 2, 6), "angle": 20.0, "center": 0.0},
        "as_digit": {"ink": np.ones((40, 40)) * np.eye(40), "side": 28},
        "vector_names": {"basis": b, "n": 3},
        "spectrum_svg": {"before": z[0, :3], "after": z[1, :3], "chosen": 1}
        | {"names": [(k, 1, str(k)) for k in range(3)]},
        "basis_to_json": {"basis": b},
        "network_size": {"height": 20, "width": 9},
        "quarter": {"size": 28},
        "data_shape": {"name": "mnist", "size": 0},
        "reading_loss": {"z": z, "y": y, "frame": torch.eye(6)[:3], "temperature": 0.05},
        "LabelFrame": {"labels": 3, "latent_dim": 6, "rate": 0.05},
        "as_attribute": {"values": y, "name": "a", "kind": "category"},
        "joint_covariances": columns,
        "partial_effects": {"covariances": joint, "attributes": [attribute]},
        "residual_whitening": {"covariances": joint, "effects": w["effects"], "n": 60}
        | {"shrinkage": 0.1, "floor": 1e-3},
        "block_frames": {"rows": [z[:2].double(), z[3:4].double()], "orthogonal": True},
        "attribute_vectors": columns | {"orthogonal": True, "shrinkage": 0.1},
        "linear_reader": {"z": z, "attribute": attribute, "shrinkage": 0.1},
        "unseen_part": {"direction": z[0].double(), "readers": z[1:3].double()} | one,
        "attribute_eraser": {"z": z, "attribute": attribute},
        "jittered": {"images": x, "noise": g, "strength": 0.5},
        "purified": {"models": w["models"], "basis": b, "iterations": 2, "seed": 0},
        "polished": {"models": w["models"], "z": z, "target": y, "iterations": 1, "pull": 0.1}
        | {"seed": 0},
        "clear_path": {"models": w["models"], "path": torch.stack([z, z], 1), "source": y}
        | {"target": y, "iterations": 1, "pull": 0.1, "smooth": 0.1, "seed": 0},
        "codes_of_pairs": {"models": w["models"], "batches": [(x, y12)], "seed": 0},
        "latent_batches": {"Z": z, "y": y, "batch_size": 7},
        "stream": {"basis": b, "Z": z, "what": "predict", "out": None, "batch_size": 7},
        "nystrom": {"sketch": torch.eye(6).double() * 2, "omega": torch.eye(6).double()}
        | {"rank": 2},
        "random_directions": {"m": 6, "r": 3, "seed": 0},
        "fit_large": {"Z": statistics, "y": None, "classes": [0, 1, 2], "metric": "diagonal"}
        | {"block": 2, "sketch": 3, "rank": 2},
        "small_affine": {"images": x, "angle": 9.0, "scale": 0.1, "shear": 0.1, "shift": 1.0},
        "noise_like": {"images": x},
        "blobs_like": {"images": x},
        "blends_of": {"images": x, "labels": y12},
        "strict_batch": {"images": x, "labels": y12, "classes": 3, "garbage": 0.2}
        | {"smoothing": 0.05, "noise": 0.3, "still": 0.3},
        "Residual": {"a": 2, "b": 3, "stride": 2},
        "Judge": {"classes": 3, "widths": (2, 2, 2), "channels": 1},
    }


def _parts() -> dict:
    "Losses of an encoder."
    names = ("hinge", "cross_entropy", "kl_mean", "kl_spread", "accuracy", "overlap")
    return {name: torch.tensor(0.5) for name in names}


@functools.cache
def _unfitted() -> dict:
    "The parameters of a basis."
    return basis.LatentBasis().get_params()


def _plain(z):
    "Images are latents, logits are images."
    return z


def _code(x):
    "A code without spread."
    return x, torch.full_like(x, -9.0)


@functools.cache
def _judge():
    "A classifier with features and a head."
    return world()["C"]


@functools.cache
def _made(kind) -> tuple:
    "Names and values of a configuration."
    made = kind()
    return tuple((f.name, getattr(made, f.name)) for f in dataclasses.fields(made))


def _fields(kind) -> dict:
    "The values of a configuration by name."
    return dict(_made(kind))


@functools.cache
def public() -> dict[str, Any]:
    "Every public callable of the library by name, without those left out."
    found = {}
    for name in MODULES:
        try:
            module = importlib.import_module(f"lsd_nb.{name}")
        except ModuleNotFoundError:
            continue
        there = {n: getattr(module, n) for n in module.__all__}
        found |= {n: f for n, f in there.items() if callable(f) and n not in LEFT_OUT}
    return found


MODULES = [
    "core",
    "training",
    "models",
    "fetching",
    "data",
    "noise",
    "image_files",
    "metrics",
    "pictures",
    "gan",
    "classifier",
    "encoder",
    "latents",
    "basis",
    "operators",
    "attributes",
    "decomposition",
    "explore",
    "export",
    "large",
    "judge",
]


def target(name: str) -> Any:
    "What is called: a function, a class, or a method of one of the small things."
    first, _, rest = name.partition(".")
    if name == "operator":
        return world()["operator"]
    if rest:
        owner = basis.LatentBasis() if first == "LatentBasis" else world()[first]
        return getattr(owner, rest)
    return public()[name]


# ---- what an argument may be instead


def like(value: Any, rng: random.Random) -> Any:
    "The same kind of thing with something wrong."
    if isinstance(value, np.ndarray):
        return np.asarray(like(torch.as_tensor(value), rng))
    if isinstance(value, torch.Tensor) and value.numel():
        kinds = [
            value[..., None],
            value[:0],
            value[None],
            value.to(torch.complex64),
            value.tolist(),
        ]
        kinds += [value.flatten(), value[..., :-1], value.numpy().astype(object), value.bool()]
        kinds += [value[:1], -value.double(), value.to(torch.int64), value.to(torch.float16)]
        kinds += [value.numpy(), torch.zeros_like(value), value[0] if value.ndim else value]
        for bad in (float("nan"), float("inf")):
            kinds.append(torch.full(value.shape, bad))
        return rng.choice(kinds)
    if isinstance(value, bool) or not isinstance(value, (int, float, tuple, list)):
        return rng.choice(ODD)
    if isinstance(value, (int, float)):
        return rng.choice((0, -1, 2.5, float("nan"), float("inf"), 10**30, -(10**30), 1e-300, "1"))
    return rng.choice((value[:-1], [*value, None], tuple(value) * 2, [float("nan")], [value]))


class Odd:
    "A thing that is nothing the library knows."


ODD = [None, "", "x", "é\n", b"x", Odd(), [], {}, [[1], [1, 2]], 1j, True, 0, -1, float("nan")]
ODD += [np.array([None]), np.array(["a"]), torch.zeros(0), torch.tensor(1 + 1j), Path("/nowhere")]
ODD += [torch.full((2, 2), float("nan")), {"a": 1}, (1, 2, 3), Exception, len]


def finite(found: Any, depth: int = 0) -> bool:
    "Are all numbers finite, as deep as they are nested?"
    if isinstance(found, torch.Tensor):
        number = found.is_floating_point() or found.is_complex()
        return not number or bool(torch.isfinite(found).all())
    if isinstance(found, np.ndarray):
        return found.dtype.kind not in "fc" or bool(np.isfinite(found).all())
    if isinstance(found, (float, np.floating)):
        return bool(np.isfinite(found))
    if depth < 3 and isinstance(found, dict):
        return all(finite(v, depth + 1) for v in found.values())
    if depth < 3 and isinstance(found, (tuple, list)):
        return all(finite(v, depth + 1) for v in found)
    if isinstance(found, Operator):
        return finite(found.matrix) and finite(found.offset)
    return True


def _too_long(*_):
    raise TimeoutError("longer than 5 s of computing")


def spoilt(name: str, folder: Path, rng: random.Random) -> tuple[dict, list[str]]:
    "Arguments of which one or two are wrong, and which."
    arguments = dict(examples(folder, name)[name])
    which = rng.sample(sorted(arguments), min(len(arguments), rng.choice((1, 1, 2))))
    for key in which:
        odd = rng.random() < 0.5
        arguments[key] = rng.choice(ODD) if odd else like(arguments[key], rng)
    return arguments, which


def call(name: str, arguments: dict) -> Any:
    "Call by name; what comes in pieces is taken whole, for `batches` has its tensors in front."
    f = target(name)
    if name == "LatentBasis":
        found = f(**arguments).fit(world()["z"], world()["y"]).vectors_
    elif name == "batches":
        found = list(f(world()["x"], torch.arange(12), **arguments))
    else:
        found = f(**arguments)
    return list(found) if inspect.isgenerator(found) else found


def draw(name: str, folder: Path, rng: random.Random) -> tuple[str, str]:
    "One call with wrong arguments: what came of it, and the details."
    arguments, which = spoilt(name, folder, rng)

    def text(what: str) -> str:
        given = {k: " ".join(repr(arguments[k]).split())[:60] for k in which}
        return f"{name}({given}){what}"

    before = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, 5)
    try:
        found = call(name, arguments)
        if finite(found) or not finite(arguments):
            return "right", ""
        return "nan", text(f" = {str(found)[:80]}")
    except LSDError as e:
        if "\n" not in str(e) and len(str(e)) <= 1500:
            return "refused", ""
        return "unclear", text(f": {str(e)[:160]!r}")
    except (TypeError, ValueError) as e:
        return ("plain", "") if str(e) else ("obscure", text(f": {type(e).__name__}"))
    except Exception as e:
        return "obscure", text(f": {type(e).__name__}: {' '.join(str(e).split())[:120]}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


METHODS = [
    "LatentBasis.fit",
    "LatentBasis.partial_fit",
    "LatentBasis.from_means",
    "LatentBasis.from_statistics",
    "basis.transform",
    "basis.inverse_transform",
    "basis.decision_function",
    "basis.predict",
    "basis.predict_proba",
    "basis.score",
    "basis.label_rank",
    "basis.amplitude",
    "basis.move",
    "basis.erase",
    "basis.index_of",
    "operator",
    "lsd.encode",
    "lsd.transform",
    "lsd.predict",
    "lsd.decode",
]


@functools.cache
def known() -> set[str]:
    "Names that have an example."
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return set(examples(Path(folder)))


CALLS = sorted(n for n in [*public(), *METHODS] if n in known())
WITHOUT_EXAMPLE = sorted(set(public()) - known())
NAMES = CALLS


def more() -> dict:
    "What a reader of the results should know beside the counts."
    return {"without_an_example": WITHOUT_EXAMPLE}
