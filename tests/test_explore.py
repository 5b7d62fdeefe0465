"""The knobs without a browser: widgets are objects, so a test moves them and looks at them."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lsd_nb import LatentBasis, LatentSpectralDecomposition, LSDError
from lsd_nb import explore as module
from lsd_nb.explore import explore
from lsd_nb.export import basis_to_json

pytest.importorskip("ipywidgets", reason="pip install 'lsd_nb[explore]'")
pytest.importorskip("anywidget", reason="pip install 'lsd_nb[explore]'")


class Pictures(nn.Module):
    "Latents (N, 4) → images (N, channels, 8, 8): each coordinate lights its quarter."

    latent_dim = 4

    def __init__(self, channels=1):
        super().__init__()
        self.channels = channels

    def forward(self, z):
        return (
            torch.tanh(z.view(-1, 1, 2, 2))
            .repeat_interleave(4, -1)
            .repeat_interleave(4, -2)
            .expand(-1, self.channels, -1, -1)
        )


def quarters(x):
    return torch.stack(
        [x[:, 0, i : i + 4, j : j + 4].mean((1, 2)) for i in (0, 4) for j in (0, 4)], 1
    )


def back(x):
    return torch.atanh(quarters(x).clamp(-0.999, 0.999))


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def lsd(request):
    images = Pictures(request.param)(
        3 * torch.eye(4).repeat(60, 1)
        + 0.3 * torch.randn(240, 4, generator=torch.Generator().manual_seed(0))
    )
    made = LatentSpectralDecomposition(
        Pictures(request.param),
        quarters,
        back,
        per_set=50,
        n_sets=1,
        method="lowdin",
        progress=False,
    ).fit(images)
    return made, images


def pixels(widget):
    return np.asarray(
        Image.open(io.BytesIO(widget.value)).convert("L").resize((8, 8), Image.Resampling.NEAREST),
        dtype=float,
    )


def test_every_knob_changes_the_picture(lsd):
    decomposition, images = lsd
    panel = explore(decomposition, images)
    seen = [panel.output.value]

    def moved():
        seen.append(panel.output.value)
        return seen[-1] != seen[-2]

    panel.pick.value = 1
    assert moved() and panel.label == 1
    panel.goal.value, panel.angle.value = 2, 60
    assert moved()
    turned = decomposition.rotate(images[1:2], path=[1, 2], steps=3)[0]
    assert torch.allclose(panel.image[0], turned[2], atol=1e-4), "the same rotation everywhere"
    panel.angle.value = 90
    assert moved()
    assert quarters(panel.image).argmax().item() == 2, (
        "turned by 90° the image shows the other label"
    )
    assert pixels(panel.output)[4:, :4].mean() > 200, "and that is what the widget shows"
    panel.angle.value = 0
    panel.vector.value = 3
    panel.amplitude.value = 1.0
    assert moved()
    panel.keep.value = 1
    assert moved() and int((panel.amplitudes.abs() > 1e-5).sum()) == 1
    assert len(panel.milliseconds) >= 6 and panel.text.value.startswith("largest amplitude: label")


def test_bars_have_the_colour_of_their_label(lsd):
    decomposition, images = lsd
    panel = explore(decomposition, images)
    assert panel.spectrum.value.count('class="bar"') == 4
    assert [colour for _, _, colour in panel.names] == list(module._COLOURS[:4])
    panel.keep.value = 2
    full = [bar for bar in panel.spectrum.value.split("<rect") if 'class="bar"' in bar]
    assert sum('height="0.0"' in bar for bar in full) == 2, "a bar that is not kept has no height"


def test_a_drawing_is_looked_at(lsd):
    decomposition, images = lsd
    panel = explore(decomposition, images)
    ink = np.zeros((112, 112))
    ink[8:100, 40:72] = 255
    before = panel.input.value
    panel.pad.ink = ink.flatten().astype(int).tolist()
    assert panel.input.value != before
    after = panel.input.value
    panel.pad.ink = [0] * 112**2
    assert panel.input.value == after, "an empty pad leaves the image"


def test_latents_serve_without_an_encoder():
    latents = 3 * torch.eye(4).repeat(20, 1)
    made = LatentSpectralDecomposition(
        Pictures(), quarters, latent_shape=4, per_set=20, n_sets=1, progress=False
    ).fit(latents, torch.arange(80) % 4)
    panel = explore(made, latents)
    panel.pick.value = 2
    assert panel.label == 2 and quarters(panel.image).argmax().item() == 2


def half_a_basis(images):
    "Two labels in four dimensions, set by set: what completes the basis has no label."
    made = LatentSpectralDecomposition(
        Pictures(), lambda x: quarters(x)[:, :2], back, per_set=20, n_sets=1, progress=False
    )
    return made.fit(images[quarters(images).argmax(1) < 2])


def test_vectors_without_a_label_are_grey_and_exported_as_null():
    images = Pictures()(3 * torch.eye(4).repeat(60, 1))
    made = half_a_basis(images)
    assert len(made.basis.labels_) >= 2 and made.basis.classes_.tolist() == [0, 1]
    panel = explore(made, images)
    assert [label for label, _, _ in panel.names[:2]] == [0, 1]
    assert {(label, colour) for label, _, colour in panel.names[2:]} <= {(None, "#999999")}
    panel.goal.value, panel.angle.value = 1, 90
    assert quarters(panel.image).argmax().item() == 1
    table = json.loads(basis_to_json(made.basis))
    assert table["labels"][:2] == [0, 1] and set(table["labels"][2:]) <= {None}
    assert table["sets"][:2] == [1, 1] and set(table["sets"][2:]) <= {0}
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    c = (z - torch.tensor(table["center"])) @ torch.tensor(table["analysis"]).T
    assert torch.allclose(c, torch.as_tensor(made.basis.transform(z)), atol=1e-5)


def test_what_the_basis_does_not_say_stays():
    images = Pictures()(torch.tensor([[3.0, 0, 1, 0], [0, 3, 1, 0]]).repeat(60, 1))
    made = half_a_basis(Pictures()(3 * torch.eye(4).repeat(60, 1)))
    panel = explore(made, images)
    before = panel.image
    panel.vector.value = 0
    panel.amplitude.value = 0.5
    assert (quarters(panel.image) - quarters(before)).abs()[0, 2] < 0.02, "the third quarter"


def test_the_page_without_a_kernel_gets_a_strip(lsd):
    panel = explore(*lsd)
    said = panel._repr_mimebundle_()
    said = said[0] if isinstance(said, tuple) else said
    assert "application/vnd.jupyter.widget-view+json" in said
    assert Image.open(io.BytesIO(base64.b64decode(said["image/png"]))).size[0] > 500


def test_without_the_packages_one_line_says_what_to_install(lsd, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "anywidget" else True)
    with pytest.raises(
        LSDError, match=r"anywidget must be installed: pip install 'lsd_nb\[explore\]'"
    ):
        explore(*lsd)


def test_the_package_imports_without_them():
    import subprocess
    import sys

    code = (
        "import sys; sys.modules.update(ipywidgets=None, anywidget=None, onnx=None); "
        "sys.modules.update(onnxruntime=None); import lsd_nb; print(lsd_nb.Explorer.__name__)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        == "Explorer"
    )


@pytest.mark.parametrize("reading", ["nearest", "signed", "absolute"])
def test_json_reads_what_the_basis_reads(reading):
    y = torch.arange(600) % 3
    noise = torch.randn(600, 5, generator=torch.Generator().manual_seed(0))
    z = noise + 3 * torch.eye(5)[y] + 2  # off the origin: a centre is needed
    published = reading == "absolute"
    basis = LatentBasis.as_published(n_sets=1) if published else LatentBasis(reading=reading)
    table = json.loads(basis_to_json(basis.fit(z, y)))
    c = (z - torch.tensor(table["center"])) @ torch.tensor(table["analysis"]).T
    assert torch.allclose(c, basis.transform(z), atol=1e-4)
    assert table["reading"] == reading and (table["readers"] is None) is (reading != "nearest")
    score, stand_for = c.abs() if published else c, list(range(len(c[0])))
    if reading == "nearest":
        rows, offsets = (torch.tensor(table["readers"][k]) for k in ("rows", "offsets"))
        score = (z - torch.tensor(table["center"])) @ rows.T + offsets
        stand_for = table["readers"]["vectors"]
    named = [table["labels"][stand_for[k]] for k in score.argmax(1).tolist()]
    assert named == basis.predict(z).tolist()
