"""Settings of the documentation, built by `make docs`."""

import sys
from pathlib import Path

from latentjax import __version__

sys.path.insert(0, str(Path(__file__).parent))  # for mathml.py and zoo.py

project = "latentjax"
copyright = "the latentjax authors"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml", "zoo"]
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"latentjax {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
exclude_patterns = ["_build", "jupyter_execute", "templates"]

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_typehints = "description"
autodoc_member_order = "bysource"
