"""The site in a real browser (headless chromium): each page, light, dark, wide, narrow; search."""

import functools
import json
import shutil
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from house import ROOT

sys.path.insert(0, str(ROOT / "docs"))
webdriver = pytest.importorskip(
    "selenium.webdriver",
    reason="the site needs the extra docs: pip install -e '.[dev,docs]' -c constraints.txt",
)
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no browser: apt-get install chromium chromium-driver"
)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
]

READY = """
const done = arguments[0];
(window.MathJax?.startup?.promise ?? Promise.resolve()).then(() => done(true))
"""
LOOK = r"""
const text = node => {
  const copy = node.cloneNode(true);
  const code = copy.querySelectorAll('pre, code, script, style, mjx-container');
  code.forEach(n => n.remove());
  return copy.textContent;
};
const clear = c => {
  const [r, g, b, a] = c.match(/[\d.]+/g).map(Number);
  return a === 0 ? null : (r + g + b) / 765;
};
const shade = n => {
  for (; n; n = n.parentElement) {
    const l = clear(getComputedStyle(n).backgroundColor);
    if (l !== null) return l;
  }
  return 1;
};
const article = document.querySelector('article') ?? document.body;
return {
  wide: document.scrollingElement.scrollWidth - document.documentElement.clientWidth,
  missing: [...document.images]
    .filter(i => i.getAttribute('src') && !(i.complete && i.naturalWidth)).map(i => i.src),
  maths: [...article.querySelectorAll('.math')]
    .filter(m => !m.querySelector('mjx-container')).map(m => m.textContent.slice(0, 80)),
  errors: [...document.querySelectorAll('mjx-merror, [data-mml-node="merror"]')]
    .map(m => m.textContent),
  raw: (text(article).match(/.{0,40}(\$|\\\(|\\\[|\|\s*:?-{3}).{0,40}/g) ?? []),
  page: shade(document.body), figures: [...article.querySelectorAll('img')].map(shade),
  ink: clear(getComputedStyle(article).color),
  elsewhere: performance.getEntriesByType('resource').map(e => e.name)
    .filter(n => !/^(file:|data:|blob:|http:\/\/127\.0\.0\.1[:\/])/.test(n)),
};
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def folder(site):
    path, run = site
    assert run.returncode == 0, run.stderr[-3000:]
    return path


@pytest.fixture(scope="module")
def server(folder):
    served = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


def screen(browser, width, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        dict(width=width, height=900, deviceScaleFactor=1, mobile=False),
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        dict(features=[dict(name="prefers-color-scheme", value=scheme)]),
    )


def complaints(browser):
    return [
        f"console: {e['message']}" for e in browser.get_log("browser") if e["level"] == "SEVERE"
    ]


STATE = "const d = document.getElementById('lsd-playground')?.dataset; return d && {...d}"


def wait(browser, script, good, seconds=60):
    "The value of a script, as soon as it is good."
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, seconds).until(
        lambda b: good(b.execute_script(script)), f"never came: {script}"
    )
    return browser.execute_script(script)


def settled(browser, script, seconds=30):
    "The value of a script that has been the same for half a second: no update is on its way."
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        now = browser.execute_script(script)
        if now == last:
            return now
        last = now
        time.sleep(0.5)
    raise AssertionError(f"never came to rest: {script}")


def faults(browser, url, views):
    "What is wrong with a page, which is loaded once and looked at in several widths and colours."
    screen(browser, *views[0])
    browser.get(url)
    browser.execute_async_script(READY)
    if url.endswith("/playground.html"):
        wait(browser, STATE, lambda d: d["state"] != "loading")
    found = []
    for width, scheme in views:
        screen(browser, width, scheme)
        saw = browser.execute_script(LOOK)
        for kind in ("missing", "maths", "errors", "raw", "elsewhere"):
            if saw[kind]:
                found.append(f"{kind}: {saw[kind]}")
        if saw["wide"] > 0:
            found.append(f"{width} px: {saw['wide']} px too wide")
        if (saw["page"] < 0.5) != (scheme == "dark"):
            found.append(f"{scheme}: background {saw['page']:.2f}")
        if abs(saw["page"] - saw["ink"]) < 0.4:
            found.append(f"{scheme}: text can't be read on its background")
        if any(light < 0.9 for light in saw["figures"]):
            found.append(f"{scheme}: a figure on a dark background")
    return sorted(set(found)) + complaints(browser)


def pages(folder):
    return sorted(p.name for p in folder.glob("*.html"))


def test_every_page_from_a_server(browser, folder, server):
    views = [(w, s) for s in ("light", "dark") for w in (1280, 390)]
    found = {name: faults(browser, f"{server}/{name}", views) for name in pages(folder)}
    assert not any(found.values()), "\n" + "\n".join(
        f"{n}: {f}" for n, fs in found.items() for f in fs
    )


def test_every_page_from_a_folder(browser, folder):
    found = {
        name: faults(browser, (folder / name).as_uri(), [(1280, "dark"), (390, "light")])
        for name in pages(folder)
        if name != "search.html"
    }
    assert not any(found.values()), "\n" + "\n".join(
        f"{n}: {f}" for n, fs in found.items() for f in fs
    )


def test_search_finds_the_chapter(browser, server):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    screen(browser, 1280, "light")
    browser.get(f"{server}/index.html")
    box = browser.find_element(By.CSS_SELECTOR, "input[name=q]")
    box.send_keys("quasi-eigenvector")
    box.submit()
    hits = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, "#search-results li a")
    )
    assert any("06_quasi_eigenvectors.html" in hit.get_attribute("href") for hit in hits)
    assert not complaints(browser)


# ---- the playground


def draw(browser, *strokes):
    "Draw on the pad with the mouse, point by point; coordinates from 0 to 1."
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    browser.find_element(By.ID, "pg-clear").click()
    pad = browser.find_element(By.ID, "pg-pad")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", pad)
    w, h = pad.size["width"], pad.size["height"]
    for stroke in strokes:
        hand = ActionChains(browser, duration=10)
        places = [(round((x - 0.5) * w), round((y - 0.5) * h)) for x, y in stroke]
        hand.move_to_element_with_offset(pad, *places[0]).click_and_hold()
        for place in places[1:]:
            hand.move_to_element_with_offset(pad, *place)
        hand.release().perform()


def turn(browser, knob, value):
    "Move a slider or choose from a list, as a hand would."
    before = int(browser.execute_script(STATE)["updates"])
    browser.execute_script(
        "const k = document.getElementById(arguments[0]); k.value = arguments[1];"
        "for (const e of ['input', 'change']) k.dispatchEvent(new Event(e, {bubbles: true}))",
        f"pg-{knob}",
        value,
    )
    return wait(browser, STATE, lambda d: int(d["updates"]) > before)


DIGITS = {
    "0": [
        [
            (0.5, 0.15),
            (0.32, 0.25),
            (0.27, 0.5),
            (0.32, 0.75),
            (0.5, 0.85),
            (0.68, 0.75),
            (0.73, 0.5),
            (0.68, 0.25),
            (0.5, 0.15),
        ]
    ],
    "1": [[(0.5, 0.15), (0.5, 0.85)]],
    "7": [[(0.25, 0.2), (0.75, 0.2), (0.6, 0.5), (0.48, 0.85)]],
}


@pytest.mark.parametrize("width", [1280, 390])
def test_playground_reads_and_turns_what_is_drawn(browser, server, width):
    screen(browser, width, "light")
    browser.get(f"{server}/playground.html")
    assert wait(browser, STATE, lambda d: d["state"] != "loading")["state"] == "ready", (
        "run `python docs/playground.py` where npm reaches its registry"
    )
    for digit, strokes in DIGITS.items():
        before = int(browser.execute_script(STATE)["updates"])
        draw(browser, *strokes)
        seen = wait(browser, STATE, lambda d, before=before: int(d["updates"]) > before)
        assert (seen["label"], seen["read"]) == (digit, digit), (
            "the spectrum names the drawing, and so does the classifier"
        )
        picture = browser.execute_script("return document.getElementById('pg-out').toDataURL()")
        for goal in ("3", "8"):
            turn(browser, "goal", goal)
            assert turn(browser, "angle", 90)["read"] == goal, f"a {digit} turned to {goal}"
        assert (
            browser.execute_script("return document.getElementById('pg-out').toDataURL()")
            != picture
        )
        assert turn(browser, "angle", 0)["read"] == digit
        assert turn(browser, "keep", 4)["kept"] == "4"
        assert turn(browser, "keep", 100)["kept"] == "100"
    took = sorted(float(turn(browser, "angle", k)["milliseconds"]) for k in range(1, 22))
    assert took[0] < 100, f"the fastest of {len(took)} updates took {took[0]:.0f} ms"
    assert not complaints(browser)


def test_playground_computes_what_python_does(browser, server):
    import playground
    import torch

    from lsd_nb import LatentBasis, LatentSpectralDecomposition, load_dataset, load_pretrained
    from lsd_nb.decomposition import rotation_frames
    from lsd_nb.explore import knobs, turned

    table = json.loads((playground.FOLDER / "basis.json").read_text())
    lsd = LatentSpectralDecomposition(*load_pretrained("mnist", device="cpu"), progress=False)
    rows = [torch.tensor(table[k]) for k in ("vectors", "labels", "sets")]
    lsd.basis = LatentBasis.from_means(*rows, method="lowdin", set_weight=float("inf"))
    data = load_dataset(progress=False).test
    code = lsd.encode(data.images[(data.labels == 4).nonzero()[0]])
    label = lsd.basis.predict(code).tolist()[0]
    kept = knobs(torch.as_tensor(lsd.basis.transform(code))[0], 30)
    z = torch.as_tensor(lsd.basis.inverse_transform(kept[None]))
    parts = lsd.models, lsd.basis, z, [label, 9]
    way = rotation_frames(*parts)
    expected = lsd.decode(turned(way, 50.0))[0, 0]
    screen(browser, 1280, "light")
    browser.get(f"{server}/playground.html")
    wait(browser, STATE, lambda d: d["state"] == "ready")
    before = int(browser.execute_script(STATE)["updates"])
    browser.execute_script("document.querySelectorAll('#pg-examples button')[4].click()")
    assert wait(browser, STATE, lambda d: int(d["updates"]) > before)["label"] == str(label)
    turn(browser, "keep", 30)
    turn(browser, "goal", 9)
    turn(browser, "angle", 50)
    grey = browser.execute_script(
        "const pad = document.getElementById('pg-out').getContext('2d');"
        "const p = pad.getImageData(0, 0, 28, 28).data;"
        "return Array.from({length: 784}, (_, i) => p[4 * i])"
    )
    apart = (torch.tensor(grey).view(28, 28) - (expected + 1) * 127.5).abs()
    assert apart.max() <= 8 and apart.mean() <= 0.5, "page and package turn to different images"
    alone = lsd.decode(turned(rotation_frames(*parts, polish=0), 50.0))[0, 0]
    apart = (torch.tensor(grey).view(28, 28) - (alone + 1) * 127.5).abs()
    assert apart.mean() > 1, "the page descends too"


def test_the_address_brings_image_and_knobs_back(browser, server):
    screen(browser, 1280, "light")
    browser.get("about:blank")  # another test may have left this page open
    browser.get(f"{server}/playground.html#digit=4&keep=30&goal=9&angle=90")
    seen = wait(browser, STATE, lambda d: d["state"] == "ready")
    assert (seen["label"], seen["read"]) == ("4", "9"), seen
    picture = "return document.getElementById('pg-out').toDataURL()"
    first, address = browser.execute_script(picture), browser.current_url
    assert "digit=4" in address and "angle=90" in address and "keep=30" in address
    draw(browser, *DIGITS["1"])
    wait(browser, "return location.hash", lambda h: "image=" in h)
    (drawn, part) = settled(browser, f"{picture} + ' ' + location.hash").split()
    address = f"{server}/playground.html{part}"
    assert drawn != first
    browser.get("about:blank")
    browser.get(address)
    wait(browser, STATE, lambda d: d["state"] == "ready")
    assert settled(browser, picture) == drawn, "a drawing is in the address too"
    browser.execute_script("location.hash = 'digit=3'")
    pasted = wait(browser, STATE, lambda d: d and d["state"] == "ready" and d["label"] == "3")
    assert pasted["kept"] == "100", "an address pasted over another one"
    for broken in ("digit=99", "image=%%%", "image=AAAA", "keep=x&angle=y"):
        browser.get("about:blank")
        browser.get(f"{server}/playground.html#{broken}")
        seen = wait(browser, STATE, lambda d: d["state"] != "loading")
        assert (seen["state"], seen["label"]) == ("ready", "7"), broken
    assert not complaints(browser)


def test_a_picture_is_read(browser, server, tmp_path):
    from PIL import Image, ImageDraw
    from selenium.webdriver.common.by import By

    page = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(page).line([(150, 30), (150, 170)], fill="black", width=14)
    page.save(tmp_path / "one.png")
    (tmp_path / "none.png").write_text("no picture")
    screen(browser, 1280, "light")
    browser.get(f"{server}/playground.html")
    before = int(wait(browser, STATE, lambda d: d["state"] == "ready")["updates"])
    browser.find_element(By.ID, "pg-file").send_keys(str(tmp_path / "one.png"))
    seen = wait(browser, STATE, lambda d: int(d["updates"]) > before)
    assert (seen["label"], seen["read"]) == ("1", "1"), "dark strokes on white paper"
    browser.find_element(By.ID, "pg-file").send_keys(str(tmp_path / "none.png"))
    assert said(browser) == "none.png: is not a picture."
    assert browser.execute_script(STATE)["label"] == "1", "what was there stays"
    complaints(browser)


def said(browser):
    "The page's line about the last file, as soon as there is one."
    text = "return document.getElementById('pg-error')?.textContent"
    return wait(browser, text, bool)


def opened(browser, url, width=1280):
    "The playground, ready, not as another test left it."
    screen(browser, width, "light")
    browser.get("about:blank")
    browser.get(url)
    assert wait(browser, STATE, lambda d: d["state"] != "loading")["state"] == "ready"


@pytest.fixture(scope="module")
def some():
    "150 latents, some of them read wrong, their labels, and the page's basis in Python."
    import playground
    import torch

    from lsd_nb import LatentBasis

    table = json.loads((playground.FOLDER / "basis.json").read_text())
    rows = [torch.tensor(table[k]) for k in ("vectors", "labels", "sets")]
    basis = LatentBasis.from_means(*rows, method="lowdin", set_weight=float("inf"))
    noise = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 9, (150,), generator=noise)  # there is no 9
    z = torch.randn(150, table["latent_dim"], generator=noise) + 0.4 * rows[0][labels]
    return z, labels, basis


def write_latents(path, z, labels=None):
    "A file of latents, of the kind that its name says."
    import numpy as np

    z = np.asarray(z)
    if path.suffix == ".npz":
        arrays = {"latents": z} if labels is None else {"latents": z, "labels": labels}
        save = np.savez_compressed if "small" in path.stem else np.savez
        save(path, **arrays)
    elif path.suffix == ".npy":
        np.save(path, np.asfortranarray(z))
    else:
        rows = z if labels is None else np.column_stack([labels, z])
        head = "" if labels is None else ",".join(["label", *(f"z{k}" for k in range(z.shape[1]))])
        np.savetxt(path, rows, "%.7g", "," if labels is not None else " ", header=head, comments="")
    return path


DROP = """
const box = document.getElementById('lsd-playground');
const bytes = Uint8Array.from(atob(arguments[1]), b => b.charCodeAt(0));
const dropped = new DataTransfer();
dropped.items.add(new File([bytes], arguments[0]));
box.dispatchEvent(new DragEvent('drop', {dataTransfer: dropped, bubbles: true, cancelable: true}));
"""


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["a.csv", "plain.txt", "a.npz", "small.npz", "a.npy"])
def test_latents_of_a_file_are_read_as_python_reads_them(
    browser, server, some, tmp_path, name, width
):
    import base64

    import torch
    from selenium.webdriver.common.by import By

    z, labels, basis = some
    given = name not in ("plain.txt", "a.npy")
    path = write_latents(tmp_path / name, z, labels if given else None)
    opened(browser, f"{server}/playground.html", width)
    loaded = "return performance.getEntriesByType('resource').length"
    before = browser.execute_script(loaded)
    if name == "a.npz":
        content = base64.b64encode(path.read_bytes()).decode()
        browser.execute_script(DROP, name, content)
    else:
        browser.find_element(By.ID, "pg-file").send_keys(str(path))
    seen = wait(browser, STATE, lambda d: "mean" in d)
    assert browser.execute_script(loaded) == before, "nothing is asked of any server"
    read = torch.as_tensor(basis.predict(z))
    assert seen["latents"] == "150"
    assert seen["reads"].split() == [str(int((read == k).sum())) for k in range(10)]
    right = int((read == labels).sum())
    assert 100 < right < 150 and seen["right"] == (str(right) if given else "")
    mean = torch.as_tensor(basis.transform(z)).abs().mean(0)
    shown = torch.tensor([float(v) for v in seen["mean"].split()])
    assert (shown - mean).abs().max() < 2e-5
    group = labels if given else read
    browser.execute_script(
        "const s = document.getElementById('pg-many-of'); s.value = 3;"
        "s.dispatchEvent(new Event('change'))"
    )
    shown = torch.tensor([float(v) for v in browser.execute_script(STATE)["mean"].split()])
    only = torch.as_tensor(basis.transform(z[group == 3])).abs().mean(0)
    assert (shown - only).abs().max() < 2e-5, "the latents of one label"
    text = browser.find_element(By.ID, "pg-many").text
    assert (f"{right} of 150 latents are read right" in text) == given
    assert browser.execute_script(LOOK)["wide"] <= 0
    assert not complaints(browser)


def bad_files(z):
    "Name, content, and a part of the line that the page says."
    import io

    import numpy as np

    def npz(**arrays):
        out = io.BytesIO()
        np.savez(out, **arrays)
        return out.getvalue()

    def csv(rows):
        return "\n".join(",".join(str(v) for v in row) for row in rows).encode()

    z = np.asarray(z)[:4]
    holed = z.copy()
    holed[2, 5] = np.nan
    yield "a.csv", csv(z[:, :99]), "line 1: 99 columns, expected 100, or 101 with a label last"
    yield "a.csv", csv([*z, z[0, :7]]), "line 5: 7 columns"
    yield "a.csv", csv(holed), 'line 3: "nan" is not a finite number'
    yield "a.csv", csv([["one", *z[0, 1:]]]), 'line 1: "one" is not a finite number'
    yield "a.csv", csv(np.column_stack([z, z[:, 0]])), "is none of 0, 1, 2"
    yield "a.csv", csv([["label", *range(99)], *z]), "100 columns with the label, expected 101"
    yield "a.csv", b"", "is empty"
    yield "a.csv", b"\x89\x01\x02 garbage\nmore", "expected 100"
    yield "a.csv", b"0\n" * 33_000_000, "has 66 MB, at most 64 are read here"
    yield "a.npz", npz(z=np.zeros((20_001, 100), "f4")), "20,001 latents, at most 20,000"
    yield "a.npz", npz(z=np.zeros((90_000, 100), "f8")), "has 73 MB, at most 64"
    yield "a.npz", npz(images=z.reshape(4, 10, 10)), "no 2-D array: images (4 × 10 × 10)"
    yield "a.npz", npz(y=np.arange(3)), "no 2-D array: y (3)"
    yield "a.npz", npz(z=z[:, :64]), "z (4 × 64): expected latents (N × 100)"
    yield "a.npz", npz(a=z, b=z), "several could be the latents"
    yield "a.npz", npz(z=holed), "z, row 3: NaN is not a finite number"
    yield "a.npz", npz(z=z[:0]), "holds no latent"
    yield "a.npz", npz(z=z, y=np.arange(3)), "y (3) and 4 latents: expected a label for each"
    yield "a.npz", npz(z=z, y=np.array([1, 2, 3, 12])), "y, row 4: the label 12 is none of 0"
    yield "a.npz", npz(z=z.astype(complex)), "numbers of the type <c16"
    yield "a.npz", npz(z=z)[:-30], "is no complete npz file"
    yield "a.npz", csv(z), "is no npz file"
    yield "a.npy", b"\x93NUMPY\x01\x00", "no array of numpy"


def test_a_file_that_is_no_latents_is_one_line(browser, server, some, tmp_path):
    from selenium.webdriver.common.by import By

    opened(browser, f"{server}/playground.html")
    label = browser.execute_script(STATE)["label"]
    for k, (name, content, words) in enumerate(bad_files(some[0])):
        path = tmp_path / str(k) / name
        path.parent.mkdir()
        path.write_bytes(content)
        browser.execute_script("document.getElementById('pg-error').textContent = ''")
        browser.find_element(By.ID, "pg-file").send_keys(str(path))
        line = said(browser)
        assert words in line and line.startswith(f"{name}: ") and "\n" not in line, (k, line)
    seen = browser.execute_script(STATE)
    assert seen["label"] == label and "latents" not in seen, "the page is as it was"
    turn(browser, "keep", 30)
    assert not complaints(browser)


def press(browser, x, y):
    "Click on the plane at a place between 0 and 1 of its width and height."
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    plane = browser.find_element(By.ID, "pg-plane")
    still = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})"
    browser.execute_script(still, plane)
    w, h = plane.size["width"], plane.size["height"]
    before = int(browser.execute_script(STATE)["updates"])
    hand = ActionChains(browser, duration=10)
    hand.move_to_element_with_offset(plane, round((x - 0.5) * w), round((y - 0.5) * h))
    hand.click().perform()
    return wait(browser, STATE, lambda d: int(d["updates"]) > before)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_plane_of_two_labels(browser, server, some, tmp_path, width):
    import torch
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    z, _, basis = some
    opened(browser, f"{server}/playground.html#digit=4&across=4&up=9", width)
    place = [int(((basis.labels_ == k) & (basis.sets_ == 1)).nonzero()[0]) for k in (4, 9)]
    picture = "return document.getElementById('pg-out').toDataURL()"
    first = browser.execute_script(picture)
    seen = press(browser, (66 + 54 * 2.5) / 452, (8 + 54 * 0.5) / 440)  # amplitudes 0 and 0.6
    assert (seen["point"], seen["label"], seen["read"]) == ("0.000 0.600", "9", "9")
    other = browser.execute_script(picture)
    assert other != first, "a click decodes another image"
    browser.find_element(By.ID, "pg-plane").send_keys(Keys.ARROW_RIGHT)
    wait(browser, STATE, lambda d: d["point"] == "0.150 0.600")
    browser.find_element(By.ID, "pg-plane").send_keys(Keys.ARROW_LEFT)
    wait(browser, STATE, lambda d: d["point"] == "0.000 0.600")
    assert settled(browser, picture) == other, "back to the same code"
    address = browser.current_url
    assert "code=" in address and "across=4" in address and "up=9" in address
    opened(browser, address, width)
    assert browser.execute_script(STATE)["point"] == "0.000 0.600"
    assert settled(browser, picture) == other, "the address holds the code"
    turn(browser, "across", 9)
    axes = [f"return document.getElementById('pg-{axis}').value" for axis in ("across", "up")]
    assert [browser.execute_script(a) for a in axes] == ["9", "0"], "two labels, never one twice"
    turn(browser, "across", 4)
    browser.find_element(By.ID, "pg-file").send_keys(str(write_latents(tmp_path / "a.npz", z)))
    wait(browser, STATE, lambda d: "mean" in d)
    dots = wait(browser, "return document.querySelectorAll('.pg-dot').length", lambda n: n > 0)
    assert dots == 150
    before = int(browser.execute_script(STATE)["updates"])
    browser.execute_script(
        "document.querySelector('.pg-dot[data-n=\"70\"]')"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    seen = wait(browser, STATE, lambda d: int(d["updates"]) > before)
    turn(browser, "up", 9)
    amplitudes = torch.as_tensor(basis.transform(z[70:71]))[0, place].tolist()
    shown = [float(v) for v in browser.execute_script(STATE)["point"].split()]
    assert seen["label"] == str(int(basis.predict(z[70:71])[0]))
    assert max(abs(a - b) for a, b in zip(shown, amplitudes, strict=True)) < 1e-3
    for broken in ("code=AAAA", "code=%%%", "across=4&up=4", "across=x&up=12", "goal=12"):
        opened(browser, f"{server}/playground.html#{broken}", width)
        assert browser.execute_script(STATE)["label"] == "7", broken
    assert not complaints(browser)


def test_playground_from_a_file_says_how_to_serve_it(browser, folder):
    screen(browser, 1280, "light")
    browser.get((folder / "playground.html").as_uri())
    assert wait(browser, STATE, lambda d: d["state"] != "loading")["state"] == "file"
    assert "http.server" in browser.execute_script(
        "return document.getElementById('lsd-playground').innerText"
    )
    assert not complaints(browser)


def test_playground_without_its_files_says_so(browser, folder, tmp_path):
    for p in folder.iterdir():
        if p.name != "playground":
            (tmp_path / p.name).symlink_to(p)
    served = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path))
    )
    threading.Thread(target=served.serve_forever, daemon=True).start()
    browser.get(f"http://127.0.0.1:{served.server_port}/playground.html")
    assert wait(browser, STATE, lambda d: d["state"] != "loading")["state"] == "failed"
    assert "make docs" in browser.execute_script(
        "return document.getElementById('lsd-playground').innerText"
    )
    served.shutdown()
    complaints(browser)


# ---- interactive figures


def test_a_plotly_figure_is_drawn_without_a_network(browser, figure):
    browser.get((figure / "index.html").as_uri())
    wait(
        browser, "return document.querySelectorAll('.plotly-box .main-svg').length", lambda n: n > 0
    )
    assert not browser.execute_script(LOOK)["elsewhere"] and not complaints(browser)
