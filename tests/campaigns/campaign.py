"""The campaigns, drawn from one seed: `python tests/campaigns/campaign.py --minutes 3`.

Writes `results/robustness.json`: what came of every draw, and an example of each that broke a
promise. The short run is `test_campaigns.py`.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import campaign_arguments
import campaign_files
import campaign_numerics

from lsd_nb.core import atomic_write, run_record

CAMPAIGNS = {
    "files": (campaign_files.draw, list(campaign_files.LOADERS)),
    "arguments": (campaign_arguments.draw, list(campaign_arguments.CALLS)),
    "numerics": (campaign_numerics.draw, list(campaign_numerics.CHECKS)),
}
PROMISED = ("right", "refused", "plain")


def one(campaign: str, name: str, seed: int) -> tuple[str, str]:
    "One draw in a folder and a cache of its own: what came of it, and the details."
    rng, before = random.Random(f"{campaign}/{name}/{seed}"), os.environ.get("LSD_NB_CACHE")
    with tempfile.TemporaryDirectory(prefix="lsd_nb-fuzz-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["LSD_NB_CACHE"] = folder
        here = os.getcwd()
        os.chdir(folder)  # a name such as "x" is a file of this folder
        try:
            return CAMPAIGNS[campaign][0](name, Path(folder), rng)
        finally:
            os.chdir(here)
            os.environ.pop("LSD_NB_CACHE")
            if before is not None:
                os.environ["LSD_NB_CACHE"] = before


def run(campaign: str, draws: int, seed: int = 0, until: float = float("inf")) -> dict:
    "`draws` draws of each name, in turn; ends early when the clock says `until`."
    counts = {name: Counter() for name in CAMPAIGNS[campaign][1]}
    broken = {}
    for k in range(draws):
        for name, count in counts.items():
            if time.monotonic() > until:
                break
            outcome, text = one(campaign, name, seed + k)
            count[outcome] += 1
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


def main() -> None:
    "The long run."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="time for all campaigns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(CAMPAIGNS), default=None)
    options = parser.parse_args()
    chosen = [options.only] if options.only else list(CAMPAIGNS)
    started, found = time.monotonic(), {}
    for k, campaign in enumerate(chosen):
        until = started + 60 * options.minutes * (k + 1) / len(chosen)
        found[campaign] = run(campaign, 10**6, options.seed, until)
        said = {k: v for k, v in found[campaign].items() if k in ("draws", "outcomes")}
        print(campaign, said, file=sys.stderr)
        for name, texts in found[campaign]["broken"].items():
            print(f"  {name}", *texts.values(), sep="\n      ", file=sys.stderr)
    if options.only is None:
        header = run_record(options.seed, time.monotonic() - started, "cpu")
        out = Path(__file__).resolve().parents[2] / "results" / "robustness.json"
        header["without_an_example"] = campaign_arguments.WITHOUT_EXAMPLE
        text = json.dumps({"header": header, **found}, indent=1, ensure_ascii=False)
        atomic_write(out, text + "\n")


if __name__ == "__main__":
    main()
