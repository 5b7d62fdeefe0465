"""`lsd.explore()` without a browser: its widgets are objects, so a test moves them and looks at what they show."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lsd_nb import LatentSpectralDecomposition, LSDError
from lsd_nb import explore as module

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
    panel = decomposition.explore(images)
    seen = [panel.output.value]

    def moved():
        seen.append(panel.output.value)
        return seen[-1] != seen[-2]

    panel.pick.value = 1
    assert moved() and panel.start.value == 1
    panel.goal.value, panel.angle.value = 2, 40
    assert moved()
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
    assert moved() and int((panel.amplitudes != 0).sum()) == 1
    assert len(panel.milliseconds) >= 6 and panel.text.value.startswith("largest amplitude: label")


def test_bars_have_the_colour_of_their_label(lsd):
    decomposition, images = lsd
    panel = decomposition.explore(images)
    assert panel.spectrum.value.count('class="bar"') == 4
    assert [colour for _, _, colour in panel.names] == module._COLOURS[:4]
    panel.keep.value = 2
    assert panel.spectrum.value.count('height="0.0" fill="#') == 2, (
        "a bar that is not kept has no height"
    )


def test_a_drawing_is_looked_at(lsd):
    decomposition, images = lsd
    panel = decomposition.explore(images)
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
    panel = made.explore(latents)
    panel.pick.value = 2
    assert panel.start.value == 2 and quarters(panel.image).argmax().item() == 2


def test_the_page_without_a_kernel_gets_a_strip(lsd):
    panel = lsd[0].explore(lsd[1])
    said = panel._repr_mimebundle_()
    said = said[0] if isinstance(said, tuple) else said
    assert "application/vnd.jupyter.widget-view+json" in said
    assert Image.open(io.BytesIO(base64.b64decode(said["image/png"]))).size[0] > 500


def test_without_the_packages_one_line_says_what_to_install(lsd, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "anywidget" else True)
    with pytest.raises(
        LSDError, match=r"anywidget must be installed: pip install 'lsd_nb\[explore\]'"
    ):
        lsd[0].explore(lsd[1])


def test_the_package_imports_without_them():
    import subprocess
    import sys

    code = "import sys; sys.modules.update(ipywidgets=None, anywidget=None, onnx=None, onnxruntime=None); import lsd_nb; print(lsd_nb.Explorer.__name__)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        == "Explorer"
    )
