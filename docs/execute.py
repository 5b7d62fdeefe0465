"""Execute the notebooks in place and clean them: the one way in which committed outputs are made.

python docs/execute.py                          all of nbs/, in order
python docs/execute.py 02_gan 03_classifier     only these
python docs/execute.py 02_gan --slow            with the cells marked `#| slow` (full training)

A cell marked `slow`, `notest` or `eval: false` is not run and keeps the outputs it has. A cell that
fails stops everything, and its notebook stays as it was.
"""

import argparse
import base64
import io
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbdev.clean import nbdev_clean
from nbdev.process import extract_directives
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"


def skipped(cell, slow):
    "True for a cell that is not to be run: its stored outputs stay."
    flags = extract_directives(cell, remove=False)
    if flags.get("eval:", [""])[0].lower() == "false":
        return True
    return "notest" in flags or ("slow" in flags and not slow)


def printed(cell):
    "The text a cell put out."
    return "".join(
        o.get("text", "") or o.get("data", {}).get("text/plain", "") + "\n"
        for o in cell.outputs
        if o.output_type != "error" and "image/png" not in o.get("data", {})
    )


def settle(cell):
    "Of an output that is a widget and a picture, keep the picture; a picture takes little room."
    for out in cell.get("outputs", []):
        data = out.get("data", {})
        if any(kind.startswith("image/") for kind in data):
            data.pop("application/vnd.jupyter.widget-view+json", None)
        if "image/png" in data:
            data["image/png"] = with_palette(data["image/png"])


def with_palette(png):
    "A PNG in base64, its colours reduced to 256: a third of the size, and no difference to see."
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    if image.mode == "P":
        return png
    file, opaque = io.BytesIO(), Image.new("RGB", image.size, "white")
    opaque.paste(image, mask=image.getchannel("A") if "A" in image.getbands() else None)
    opaque.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def execute(path, slow=False, show=False, keep=False, timeout=None):
    "Run one notebook in a fresh kernel in nbs/; if every cell went well, write and clean it."
    nb = nbformat.read(path, as_version=4)
    client = NotebookClient(
        nb,
        timeout=timeout,
        kernel_name="python3",
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    n = 0
    with client.setup_kernel():
        for i, cell in enumerate(nb.cells):
            if cell.cell_type != "code" or not cell.source.strip() or skipped(cell, slow):
                continue
            try:
                client.execute_cell(cell, i)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                sys.exit(
                    f"\n{error}\n{path.name}: code cell {i} failed; the notebook is left as it was"
                )
            n += 1
            if show:
                print(printed(cell), end="", flush=True)
    for cell in nb.cells:
        settle(cell)
    if not keep:
        new = path.with_name(f".{path.name}.tmp")
        nbformat.write(nb, new)
        os.replace(new, path)
        nbdev_clean(str(path))
    return n


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="notebooks, with or without .ipynb (default: all)")
    parser.add_argument("--slow", action="store_true", help="also run the cells marked #| slow")
    parser.add_argument("--show", action="store_true", help="print what the cells print")
    parser.add_argument("--keep", action="store_true", help="run only: leave the files as they are")
    parser.add_argument(
        "--timeout", type=int, default=None, help="seconds a cell may take (default: no limit)"
    )
    args = parser.parse_args()
    paths = [NBS / f"{Path(name).stem}.ipynb" for name in args.names] or sorted(
        NBS.glob("[!.]*.ipynb")
    )
    missing = [p.name for p in paths if not p.exists()]
    if missing:
        sys.exit(f"no such notebook in nbs/: {', '.join(missing)}")
    os.chdir(ROOT)
    os.environ.pop(
        "MPLBACKEND", None
    )  # another backend than the inline one would leave the notebooks without pictures
    for path in paths:
        print(f"{path.name} …", flush=True)
        start = time.time()
        n = execute(path, args.slow, args.show, args.keep, args.timeout)
        print(f"{path.name}: {n} cells in {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
