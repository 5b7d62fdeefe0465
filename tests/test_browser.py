"""The site in a real browser (Debian's chromium, headless): every page, light and dark, wide and narrow, and the search."""
import functools, shutil, threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="the site needs the extra docs: pip install -e '.[dev,docs]' -c constraints.txt")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no browser: apt-get install chromium chromium-driver")
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"]

READY = "const done = arguments[0]; (window.MathJax?.startup?.promise ?? Promise.resolve()).then(() => done(true))"
LOOK = r"""
const text = node => { const copy = node.cloneNode(true); copy.querySelectorAll('pre, code, script, style, mjx-container').forEach(n => n.remove()); return copy.textContent };
const clear = c => { const [r, g, b, a] = c.match(/[\d.]+/g).map(Number); return a === 0 ? null : (r + g + b) / 765 };
const shade = n => { for (; n; n = n.parentElement) { const l = clear(getComputedStyle(n).backgroundColor); if (l !== null) return l } return 1 };
const article = document.querySelector('article') ?? document.body;
return {
  wide: document.scrollingElement.scrollWidth - document.documentElement.clientWidth,
  missing: [...document.images].filter(i => i.getAttribute('src') && !(i.complete && i.naturalWidth)).map(i => i.src),
  maths: [...article.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container')).map(m => m.textContent.slice(0, 80)),
  errors: [...document.querySelectorAll('mjx-merror, [data-mml-node="merror"]')].map(m => m.textContent),
  dollars: (text(article).match(/.{0,40}(\$|\\\(|\\\[).{0,40}/g) ?? []),
  page: shade(document.body), figures: [...article.querySelectorAll('img')].map(shade),
  ink: clear(getComputedStyle(article).color),
  elsewhere: performance.getEntriesByType('resource').map(e => e.name).filter(n => !/^(file:|data:|blob:|http:\/\/127\.0\.0\.1[:\/])/.test(n)),
};
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

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
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]: options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60); driver.set_script_timeout(60)
    yield driver
    driver.quit()

def screen(browser, width, scheme):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", dict(width=width, height=900, deviceScaleFactor=1, mobile=False))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(features=[dict(name="prefers-color-scheme", value=scheme)]))

def complaints(browser):
    return [f"console: {e['message']}" for e in browser.get_log("browser") if e["level"] == "SEVERE"]

def faults(browser, url, views):
    "What is wrong with a page: it is loaded once, and looked at in several widths and colour schemes."
    screen(browser, *views[0])
    browser.get(url)
    browser.execute_async_script(READY)
    found = []
    for width, scheme in views:
        screen(browser, width, scheme)
        saw = browser.execute_script(LOOK)
        for kind in ("missing", "maths", "errors", "dollars", "elsewhere"):
            if saw[kind]: found.append(f"{kind}: {saw[kind]}")
        if saw["wide"] > 0: found.append(f"{width} px: {saw['wide']} px too wide")
        if (saw["page"] < .5) != (scheme == "dark"): found.append(f"{scheme}: background {saw['page']:.2f}")
        if abs(saw["page"] - saw["ink"]) < .4: found.append(f"{scheme}: text can't be read on its background")
        if any(light < .9 for light in saw["figures"]): found.append(f"{scheme}: a figure on a dark background")
    return sorted(set(found)) + complaints(browser)

def pages(folder): return sorted(p.name for p in folder.glob("*.html"))

def test_every_page_from_a_server(browser, folder, server):
    views = [(w, s) for s in ("light", "dark") for w in (1280, 390)]
    found = {name: faults(browser, f"{server}/{name}", views) for name in pages(folder)}
    assert not any(found.values()), "\n" + "\n".join(f"{n}: {f}" for n, fs in found.items() for f in fs)

def test_every_page_from_a_folder(browser, folder):
    found = {name: faults(browser, (folder/name).as_uri(), [(1280, "dark"), (390, "light")]) for name in pages(folder) if name != "search.html"}
    assert not any(found.values()), "\n" + "\n".join(f"{n}: {f}" for n, fs in found.items() for f in fs)

def test_search_finds_the_chapter(browser, server):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait
    screen(browser, 1280, "light")
    browser.get(f"{server}/index.html")
    box = browser.find_element(By.CSS_SELECTOR, "input[name=q]")
    box.send_keys("quasi-eigenvector"); box.submit()
    hits = WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#search-results li a"))
    assert any("06_quasi_eigenvectors.html" in hit.get_attribute("href") for hit in hits)
    assert not complaints(browser)
