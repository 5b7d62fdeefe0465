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
    text = "return document.getElementById('pg-label').textContent"
    assert "not a picture" in wait(browser, text, lambda t: "nothing" in t)
    complaints(browser)


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
