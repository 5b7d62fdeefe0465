"""The knobs in a real JupyterLab and browser: run a cell, move a slider, see another picture."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from house import NOTEBOOKS, ROOT, notebook

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="needs selenium: pip install -e '.[dev,docs]' -c constraints.txt"
)
pytest.importorskip(
    "jupyterlab", reason="needs JupyterLab: pip install -e '.[dev,docs]' -c constraints.txt"
)
pytest.importorskip(
    "anywidget", reason="needs the extra explore: pip install -e '.[dev,docs]' -c constraints.txt"
)
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no browser: apt-get install chromium chromium-driver"
)

CODE = """
import torch
from torch import nn
from lsd_nb import LatentSpectralDecomposition

class Pictures(nn.Module):
    latent_dim = 4
    def forward(self, z):
        x = torch.tanh(z.view(-1, 1, 2, 2))
        return x.repeat_interleave(4, -1).repeat_interleave(4, -2)

corners = [(0, 0), (0, 4), (4, 0), (4, 4)]
quarters = lambda x: torch.stack([x[:, 0, i:i + 4, j:j + 4].mean((1, 2)) for i, j in corners], 1)
back = lambda x: torch.atanh(quarters(x).clamp(-.999, .999))
images = Pictures()(3 * torch.eye(4).repeat(60, 1) + .3 * torch.randn(240, 4))
options = dict(per_set=50, n_sets=1, method="lowdin", progress=False)
lsd = LatentSpectralDecomposition(Pictures(), quarters, back, **options).fit(images)
lsd.explore(images)
"""


def test_notebooks_open_with_the_kernel_of_the_environment():
    kernels = {
        path.stem: notebook(path)["metadata"].get("kernelspec", {}).get("name")
        for path in NOTEBOOKS
    }
    assert set(kernels.values()) == {"python3"}, kernels
    found = subprocess.run(
        [sys.executable, "-m", "jupyter", "kernelspec", "list", "--json"],
        capture_output=True,
        text=True,
    )
    spec = json.loads(found.stdout)["kernelspecs"]["python3"]
    assert Path(shutil.which(spec["spec"]["argv"][0]) or spec["spec"]["argv"][0]).resolve() == Path(
        sys.executable
    ).resolve() or spec["resource_dir"].startswith(sys.prefix)


@pytest.fixture
def lab(tmp_path):
    "The address of a JupyterLab with one notebook, for this machine alone."
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(CODE.strip())],
            metadata={
                "kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}
            },
        ),
        tmp_path / "knobs.ipynb",
    )
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    folders = {
        f"JUPYTER_{kind}_DIR": str(tmp_path / kind.lower()) for kind in ("CONFIG", "RUNTIME")
    } | {
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
    }
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        "--LabApp.expose_app_in_browser=True",
        f"--notebook-dir={tmp_path}",
    ]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env={**os.environ, **folders, "PYTHONPATH": str(ROOT)},
        )
        try:
            for _ in range(240):
                with socket.socket() as s:
                    if s.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert server.poll() is None, (tmp_path / "log").read_text()[-2000:]
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@needs_browser
def test_knobs_in_jupyterlab(lab, tmp_path):
    "Open the notebook, run it, move a slider, draw."
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
    from test_browser import FLAGS

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in [*FLAGS, "--window-size=1400,1000", f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    browser.set_page_load_timeout(180)
    try:

        def until(script, what, *args, seconds=90):
            return WebDriverWait(browser, seconds).until(
                lambda b: b.execute_script(script, *args), what
            )

        browser.get(f"{lab}/lab/tree/knobs.ipynb")
        until(
            "return document.querySelector('.jp-Notebook .jp-CodeCell .cm-content')",
            "the notebook opens",
        )
        browser.set_script_timeout(
            180
        )  # the page is asked, not watched: the kernel has answered before a cell is run
        browser.execute_async_script("""
            const done = arguments[0];
            const panel = [...jupyterapp.shell.widgets('main')].find(w => w.context);
            const context = panel.context;
            jupyterapp.shell.activateById(panel.id);
            context.ready
                .then(() => context.sessionContext.ready)
                .then(() => context.sessionContext.session.kernel.info)
                .then(() => done())""")
        # widgets may live in shadow trees
        browser.execute_script("""
            window.found = (what, from = document) => [
                ...from.querySelectorAll(what),
                ...[...from.querySelectorAll('*')].filter(e => e.shadowRoot)
                    .flatMap(e => found(what, e.shadowRoot))]""")
        browser.execute_script("jupyterapp.commands.execute('notebook:run-all-cells')")
        until(
            "return found('.jp-OutputArea img').length >= 2 && found('.lsd-pad').length",
            "the panel appears",
        )
        picture = "return found('.jp-OutputArea img').at(-1).src"
        text = "return found('.jp-OutputArea').map(e => e.innerText).join(' ')"
        assert (
            until("return found('.jp-OutputArea svg rect.bar').length", "the bars are drawn") == 4
        )
        before = browser.execute_script(picture)
        slider = browser.find_element(
            By.XPATH,
            "//label[starts-with(normalize-space(.), 'image')]"
            "/..//*[contains(@class, 'noUi-handle')]",
        )
        browser.execute_script(
            "arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", slider
        )
        ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
        until(f"{picture} !== arguments[0]", "another image is decoded", before)
        until(
            f"return ({text.removeprefix('return ')}).includes('reads the decoded image as 1')",
            "the text follows",
        )
        said = browser.execute_script(text)
        assert "largest amplitude: label 1" in said and "reads the decoded image as 1" in said, said
        before = browser.execute_script(picture)
        browser.execute_script("""
            const pad = found('.lsd-pad')[0], box = pad.getBoundingClientRect();
            const at = (kind, x, y) => pad.dispatchEvent(new PointerEvent(kind, {
                bubbles: true, pointerId: 1,
                clientX: box.left + x * box.width, clientY: box.top + y * box.height}));
            pad.setPointerCapture = () => {};
            at('pointerdown', .2, .2);
            at('pointermove', .5, .5);
            at('pointermove', .8, .2);
            at('pointerup', .8, .2);""")
        until(f"{picture} !== arguments[0]", "the drawing is decoded", before)
        took = [float(ms) for ms in re.findall(r"\((\d+) ms\)", browser.execute_script(text))]
        assert took and took[0] < 1000, took
        if os.environ.get("LSD_NB_SHOTS"):
            browser.save_screenshot(f"{os.environ['LSD_NB_SHOTS']}/lab.png")
        mine = [
            e["message"]
            for e in browser.get_log("browser")
            if e["level"] == "SEVERE" and "widget" in e["message"].lower()
        ]
        assert not mine, mine
    finally:
        browser.quit()
