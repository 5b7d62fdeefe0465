"""The campaigns, drawn from one seed: `python tests/campaigns/campaign.py --minutes 30`.

Writes `results/robustness.json`: what came of every draw, and an example of each that broke a
promise. `--only NAME` renews its part, `--add` adds to it. The short run is `test_campaigns.py`.
"""

import argparse
import importlib
import json
import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

from lsd_nb.core import atomic_write, run_record

# module `campaign_NAME`, with `NAMES` and `draw`; its share of the time
CAMPAIGNS = {"files": 1, "arguments": 1, "numerics": 1, "references": 1, "kills": 3}
START = time.monotonic()
# files of a draw in memory where there is such a folder: `fsync` is then no work
SHARED = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
PROMISED = ("right", "refused", "plain")


def module(campaign: str) -> ModuleType:
    "Imported when it is needed: the programs that `kills` starts import this file too."
    sys.path[:0] = [str(Path(__file__).resolve().parents[1])] * ("trainer" not in sys.modules)
    return importlib.import_module(f"campaign_{campaign}")


def one(campaign: str, name: str, seed: int) -> tuple[str, str]:
    "One draw in a folder and a cache of its own: what came of it, and the details."
    rng, before = random.Random(f"{campaign}/{name}/{seed}"), os.environ.get("LSD_NB_CACHE")
    place = SHARED if campaign != "kills" else None
    temporary = tempfile.TemporaryDirectory(prefix="lsd_nb-fuzz-", dir=place)
    with temporary as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["LSD_NB_CACHE"] = folder
        here = os.getcwd()
        os.chdir(folder)  # a name such as "x" is a file of this folder
        try:
            return module(campaign).draw(name, Path(folder), rng)
        finally:
            os.chdir(here)
            os.environ.pop("LSD_NB_CACHE")
            if before is not None:
                os.environ["LSD_NB_CACHE"] = before


def run(
    campaign: str, draws: int, seed: int = 0, until: float = float("inf"), names: tuple = ()
) -> dict:
    "`draws` draws of each name, in turn; ends early when the clock says `until`."
    counts = {name: Counter() for name in names or module(campaign).NAMES}
    broken = {}
    for k in range(draws):
        for name, count in counts.items():
            if time.monotonic() > until:
                break
            outcome, text = one(campaign, name, seed + k)
            count[outcome] += 1
            if campaign == "kills":  # each takes a while
                print(f"{time.monotonic() - START:.0f} s, {outcome}: {text}", file=sys.stderr)
            if outcome not in PROMISED:
                broken.setdefault(f"{name}: {outcome}", {}).setdefault(kind_of(text), text)
    total = sum(counts.values(), Counter())
    return {
        "draws": total.total(),
        "outcomes": dict(sorted(total.items())),
        "by_name": {k: dict(sorted(v.items())) for k, v in counts.items()},
        "broken": broken,
    }


def kind_of(text: str) -> str:
    "Draws that broke a promise in the same way: the same type of error."
    return next((word for word in text.split(": ") if word.endswith("Error")), "")


def summed(a: Any, b: Any) -> Any:
    "The counts of two runs together; of what can't be added, the second."
    if isinstance(a, dict) and isinstance(b, dict):
        return {**a, **{k: summed(a.get(k), v) for k, v in b.items()}}
    return a + b if type(a) is type(b) is int else b


def without(counts: dict, names: tuple) -> dict:
    "The counts of a campaign without some names: what was mended is drawn again."
    by_name = {k: v for k, v in counts.get("by_name", {}).items() if k not in names}
    total = sum(map(Counter, by_name.values()), Counter())
    broken = {k: v for k, v in counts.get("broken", {}).items() if k.rpartition(": ")[0] in by_name}
    found = {"by_name": by_name, "broken": broken, "outcomes": dict(sorted(total.items()))}
    return {**counts, **found, "draws": total.total()} if counts else {}


def main() -> None:
    "The long run."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="time for all campaigns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(CAMPAIGNS), default=None)
    parser.add_argument("--names", nargs="*", default=(), help="of one campaign; else all of it")
    parser.add_argument("--add", action="store_true", help="add to the counts of the file")
    parser.add_argument("--again", action="store_true", help="add, in place of what NAMES had")
    options = parser.parse_args()
    chosen = [options.only] if options.only else list(CAMPAIGNS)
    out = Path(__file__).resolve().parents[2] / "results" / "robustness.json"
    for campaign in chosen:
        started = time.monotonic()
        share = CAMPAIGNS[campaign] / sum(CAMPAIGNS[c] for c in chosen)
        until = started + 60 * options.minutes * share
        found = run(campaign, 10**6, options.seed, until, tuple(options.names))
        header = run_record(options.seed, time.monotonic() - started, "cpu")
        said = {k: v for k, v in found.items() if k in ("draws", "outcomes")}
        more = getattr(module(campaign), "more", dict)()
        print(campaign, said, more, file=sys.stderr)
        for name, texts in found["broken"].items():
            print(f"  {name}", *texts.values(), sep="\n      ", file=sys.stderr)
        written = json.loads(out.read_text()) if out.exists() else {}  # others may run beside
        written = {k: v for k, v in written.items() if k in CAMPAIGNS}
        before = written.get(campaign, {}) if options.add or options.again else {}
        before = without(before, tuple(options.names)) if options.again else before
        headers = [*before.pop("headers", []), header]
        written[campaign] = {"headers": headers, **summed(before, {**found, **more})}
        atomic_write(out, json.dumps(written, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
