"""Collections in files on a local Ray with two workers: the answers are those of one process."""

import io
import os
import signal
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("ray", reason="an extra: pip install 'lsd_nb[ray]' -c constraints.txt")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
import ray.data
from PIL import Image

from lsd_nb.basis import LatentBasis
from lsd_nb.collections import (
    LabelBatch,
    Workers,
    block_row,
    collection_statistics,
    fit_collection,
    from_rows,
    label_collection,
    read_collection,
    start_ray,
    transform_collection,
)
from lsd_nb.core import LSDError
from lsd_nb.models import LatentModel

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

M, CLASSES, TWO = 6, 3, Workers(2, batch_size=64)


@pytest.fixture(scope="module", autouse=True)
def local():
    "Two workers and a core to read with; little memory, no dashboard."
    paths = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    start_ray(
        TWO,
        num_cpus=3,
        object_store_memory=80 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    yield
    ray.shutdown()


class Identity(torch.nn.Module):
    "A generator whose images are its latents."

    latent_dim = M

    def forward(self, z):
        return z


class Largest(torch.nn.Module):
    "The label is the largest of the first coordinates."

    def forward(self, x):
        return x[:, :CLASSES]


class Spread(torch.nn.Module):
    "An encoder that is sure to a tenth."

    def forward(self, x):
        return x, torch.full_like(x, -2.3)


class Mortal(Spread):
    "An encoder that kills its worker, as if the system had: once for each file that it can take."

    def __init__(self, folder):
        super().__init__()
        self.folder, self.home = Path(folder), os.getpid()

    def forward(self, x):
        for life in sorted(self.folder.glob("*.life")) if os.getpid() != self.home else ():
            life.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


def toy():
    "Networks of a known answer."
    return LatentModel(Identity(), Largest(), Spread())


def points(n=3000, seed=0):
    "Latents around three corners."
    noise = np.random.default_rng(seed)
    y = np.arange(n) % CLASSES
    return (noise.standard_normal((n, M)) + 3 * np.eye(M)[y]).astype(np.float32), y


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    "Three Parquet files with latents, labels and keys."
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, (z, y) = tmp_path_factory.mktemp("parquet"), points()
    for k in range(3):
        rows = slice(k * 1000, (k + 1) * 1000)
        codes = pa.FixedSizeListArray.from_arrays(pa.array(z[rows].ravel()), M)
        table = pa.table({"codes": codes, "kind": y[rows], "key": np.arange(3000)[rows]})
        pq.write_table(table, folder / f"{k}.parquet")
    return folder


def test_labelled_latents_of_parquet_files_give_the_basis_of_one_process(parquet):
    z, y = points()
    own = dict(column="codes", label="kind", classes=CLASSES, latents=True, workers=TWO)
    basis = fit_collection(parquet, **own)
    whole = from_rows(block_row({"z": z, "label": y}, CLASSES))
    torch.testing.assert_close(basis.moments_.sums, whole.sums, rtol=1e-12, atol=1e-9)
    expected = LatentBasis.from_statistics(whole)
    torch.testing.assert_close(basis.vectors_, expected.vectors_, rtol=1e-9, atol=1e-9)
    assert whole.draws == 3000 and basis.score(z, y) > 0.9


def test_images_of_numpy_files_are_encoded_labelled_and_summed(tmp_path):
    x, _ = points(900, seed=1)
    for k in range(4):
        np.save(tmp_path / f"{k}.npy", x[k * 225 : (k + 1) * 225])
    data = read_collection(tmp_path, workers=TWO)
    labelled = label_collection(data, LabelBatch(toy()), TWO)
    found = collection_statistics(labelled, CLASSES, M, fan_in=2)
    rows = LabelBatch(toy())({"data": x})
    direct = from_rows(block_row(rows, CLASSES))
    torch.testing.assert_close(found.moments, direct.moments, rtol=1e-6, atol=1e-4)
    assert found.counts.tolist() == direct.counts.tolist() and found.draws == 900


def test_files_to_files(parquet, tmp_path):
    z, _ = points()
    basis = LatentBasis().fit(torch.from_numpy(z), points()[1])
    out = transform_collection(parquet, tmp_path / "read", basis, column="codes", workers=TWO)
    rows = ray.data.read_parquet(out).to_pandas().sort_values("key")
    assert rows["key"].tolist() == list(range(3000)) and {"kind"} <= set(rows)
    np.testing.assert_allclose(np.stack(rows["amplitudes"]), basis.transform(z), atol=1e-5)
    assert rows["predicted"].tolist() == np.asarray(basis.predict(z)).tolist()
    assert basis.moments_ is not None  # the sent copy was another


def test_a_tar_of_pictures(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 5, 7), dtype=np.uint8)
    trace = tmp_path / "was-here"
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for k, picture in enumerate(pixels):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "PNG")
            for name, content in (
                (f"{k:03d}.png", file.getvalue()),
                (f"{k:03d}.cls", str(k % 2).encode()),
                (f"{k:03d}.pkl", f"cos\nsystem\n(S'touch {trace}'\ntR.".encode()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    data = read_collection(tmp_path / "set.tar", "png", "cls", workers=TWO)
    batch = data.take_batch(12)
    assert batch["data"].shape == (12, 1, 5, 7) and (batch["data"][:, 0] == pixels).all()
    assert batch["label"].tolist() == [k % 2 for k in range(12)]
    assert batch["pkl"][0].startswith(b"cos") and not trace.exists()


def test_errors_of_workers_are_one_line(parquet):
    own = dict(label="kind", classes=CLASSES, latents=True, workers=TWO)
    with pytest.raises(LSDError, match="no column 'data': expected one of"):
        fit_collection(parquet, **own)
    with pytest.raises(LSDError, match="expected 0 … 1") as e:  # raised inside a task
        fit_collection(parquet, column="codes", **{**own, "classes": 2})
    assert "\n" not in str(e.value)
    with pytest.raises(LSDError, match="give one of the two"):
        fit_collection(parquet, column="codes")


def test_workers_leave_room_to_read(parquet):
    "Otherwise everybody would wait for everybody, for ever."
    with pytest.raises(LSDError, match="3 workers take 3 of 3 cores"):
        start_ray(Workers(3))
    with pytest.raises(LSDError, match="accelerators"):
        start_ray(Workers(1, gpus=1))
    with pytest.raises(LSDError, match="expected count"):
        start_ray(Workers(0))
    assert start_ray(Workers(4, cpus=0.5)) is ray


def of_a_mortal_encoder(tmp_path, lives, restarts):
    "A basis of images, encoded by workers that are killed so many times."
    for k in range(lives):
        (tmp_path / f"{k:03d}.life").touch()
    for k, x in enumerate(np.split(points(900, seed=1)[0], 3)):
        np.save(tmp_path / f"{k}.npy", x)
    files = sorted(tmp_path.glob("*.npy"))
    models = LatentModel(Identity(), Largest(), Mortal(tmp_path))
    return fit_collection(files, models, workers=replace(TWO, restarts=restarts))


def test_a_killed_worker_changes_nothing(tmp_path):
    for name in ("killed", "alone"):
        (tmp_path / name).mkdir()
    killed = of_a_mortal_encoder(tmp_path / "killed", lives=2, restarts=3)
    assert not [*(tmp_path / "killed").glob("*.life")]  # it was
    alone = of_a_mortal_encoder(tmp_path / "alone", lives=0, restarts=0)
    assert killed.moments_.counts.tolist() == alone.moments_.counts.tolist()
    torch.testing.assert_close(killed.vectors_, alone.vectors_, rtol=1e-9, atol=1e-9)


def test_a_network_that_kills_every_worker_ends_in_one_line(tmp_path):
    with pytest.raises(LSDError, match="a worker was lost and did not come back") as e:
        of_a_mortal_encoder(tmp_path, lives=50, restarts=1)
    assert "\n" not in str(e.value)
