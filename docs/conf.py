"""The documentation site: `pip install -e ".[docs]"`, then `sphinx-build -W docs docs/_build`.

Nothing is fetched while it is built or read: fonts are the reader's own, the search index is a file beside the pages.
"""

from importlib.util import find_spec

import exprmetric

project = "exprmetric"
author = "The exprmetric authors"
project_copyright = author
release = exprmetric.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build"]
default_role = "py:obj"  # docstrings write `name` as Markdown does

html_theme = "furo"
html_title = f"exprmetric {release}"
html_copy_source = html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_heading_anchors = 3
myst_links_external_new_tab = False

# The order in which a class's parts stand in its file is the order in which they are read.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
# A base install builds the site too. The classes of exprmetric.torch then stand there without their base classes.
autodoc_mock_imports = [name for name in ("torch", "timm", "torchmetrics") if find_spec(name) is None]
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def _plain(app, context, lines):  # type: ignore[no-untyped-def]
    """Help texts are no reStructuredText: their asterisks are asterisks."""
    lines[:] = [line.replace("*", "\\*") for line in lines]


def setup(app):  # type: ignore[no-untyped-def]
    for part in ("description", "options"):
        app.connect(f"sphinx-click-process-{part}", _plain)
