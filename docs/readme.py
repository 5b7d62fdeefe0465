"""Make README.md from nbs/index.ipynb with nbdev's own processors, in memory.

(nbdev_readme would need Quarto.)

python docs/readme.py            write README.md
python docs/readme.py --check    fail if README.md is not what would be written

Text, Markdown and their outputs come over; a figure that a cell draws does not, because a README
can only show pictures that are files: save it below nbs/images/ and show it from a Markdown cell.
Relative links are rewritten from nbs/ to the repository's root.
"""

import posixpath
import re
import sys
from pathlib import Path

from nbdev.process import NBProcessor
from nbdev.processors import (
    clean_magics,
    filter_stream_,
    hide_,
    hide_line,
    populate_language,
    rm_export,
    rm_header_dash,
    strip_ansi,
)

ROOT = Path(__file__).resolve().parents[1]
PROCS = [
    populate_language,
    strip_ansi,
    hide_line,
    filter_stream_,
    rm_header_dash,
    rm_export,
    clean_magics,
    hide_,
]
NOTE = "<!-- Made from nbs/index.ipynb by docs/readme.py: edit the notebook, not this file. -->\n\n"


def from_root(target):
    "A link of nbs/index.ipynb as seen from the repository's root."
    if re.match(r"[a-z][a-z0-9+.-]*:|#|/", target, re.I):
        return target
    return posixpath.normpath(posixpath.join("nbs", target))


def relink(text):
    "Rewrite the relative links and pictures of a Markdown text; Quarto's `:::` lines go."
    text = re.sub(r"(\]\()([^)\s]+)", lambda m: m[1] + from_root(m[2]), text)
    text = re.sub(r'((?:src|href)=")([^"]+)', lambda m: m[1] + from_root(m[2]), text)
    return re.sub(r"^:::.*\n?", "", text, flags=re.M)


def fence(text, lang=""):
    "A code block, or nothing for an empty text."
    return f"```{lang}\n{text.strip()}\n```" if text.strip() else ""


def output(out):
    "One stored output as Markdown."
    if out.output_type == "stream":
        return fence("".join(out.text)) if out.name == "stdout" else ""
    data = out.get("data", {})
    if "text/markdown" in data:
        return relink("".join(data["text/markdown"]).strip())
    if any(kind.startswith("image/") for kind in data):
        return ""
    return fence("".join(data.get("text/plain", "")))


def code(cell):
    "A code cell and its outputs as a list of Markdown blocks, without what it says to leave out."
    said = {key.rstrip(":"): " ".join(value).lower() for key, value in cell.directives_.items()}
    if said.get("include") == "false":
        return []
    source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("#|"))
    blocks = [] if said.get("echo") == "false" else [fence(source, "python")]
    if said.get("output") == "false":
        return blocks
    return blocks + [output(out) for out in cell.get("outputs", [])]


def readme(
    path,  # a notebook
):  # its Markdown, one string
    "The README that belongs to a notebook."
    nb = NBProcessor(path, procs=PROCS, process=True).nb
    blocks = []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            blocks.append(relink(cell.source.strip()))
        elif cell.cell_type == "code":
            blocks += code(cell)
    return NOTE + "\n\n".join(block for block in blocks if block) + "\n"


def main():
    text, target = readme(ROOT / "nbs" / "index.ipynb"), ROOT / "README.md"
    if "--check" not in sys.argv[1:]:
        target.write_text(text, encoding="utf-8")
    elif not target.exists() or target.read_text(encoding="utf-8") != text:
        sys.exit(
            "README.md is not what nbs/index.ipynb gives: "
            "run `python docs/readme.py` and commit the result"
        )


if __name__ == "__main__":
    main()
