"""The site: Sphinx, MyST-NB and Furo on nbs/.

Nothing is executed and nothing is fetched, here or in the reader's browser.

sphinx-build -W -n --keep-going -c docs nbs _build/html
"""

import sys
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import bridge

settings = ConfigParser(delimiters=["="])
settings.read(HERE.parent / "settings.ini", encoding="utf-8")
settings = settings["DEFAULT"]

project, author, copyright = settings["title"], settings["author"], settings["copyright"]
version = release = settings["version"]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx_design",
    "sphinx_copybutton",
    "bridge",
]
exclude_patterns = [".*", "_*", "**/.ipynb_checkpoints"]
bridge_names = bridge.names(HERE.parent / "lsd_nb")

nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
nb_render_markdown_format = "myst"
nb_code_prompt_show, nb_code_prompt_hide = "Show source", "Hide source"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 76
add_module_names = False
toc_object_entries_show_parents = "hide"
viewcode_line_numbers = True
html_domain_indices = False  # every name is in the general index

mathjax_path = "tex-svg.js"
html_static_path = [
    str(HERE / "site.css"),
    str(
        Path(find_spec("sphinx-mathjax-offline").origin).parent
        / "static"
        / "mathjax"
        / mathjax_path
    ),
]
html_static_path += [str(HERE / name) for name in ("latent_files.js", "playground.js")]
html_static_path += bridge.plotly_script()
html_extra_path = (
    [str(HERE.parent / "_build" / "extra")]
    if (HERE.parent / "_build" / "extra" / "playground" / "state.json").exists()
    else []
)  # see playground.py
html_css_files = ["site.css"]
html_favicon = str(HERE / "favicon.svg")
html_theme = "furo"
html_title = project
html_sourcelink_suffix = ""
html_theme_options = {"navigation_with_keys": True}
html_show_sphinx = False
