"""The configuration of Sphinx, which builds a site from the pages: `make docs`.

The source folder is the whole clone, so that model cards, CONTRIBUTING.md and CHANGELOG.md are
pages as well, and links between them also work on GitHub.
"""

import os
import pathlib
import re

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # autodoc imports the modules, and needs no GPU

from sphinx.addnodes import pending_xref

import ad_jax

ROOT = pathlib.Path(__file__).parents[1]

project = "ad_jax"
author = "The ad_jax authors"
project_copyright = author
version = release = ad_jax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/**", "ad_jax/weights/*.md", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = ["docs/_build"]

myst_heading_anchors = 4  # the same anchors as on GitHub

autodoc_default_options = {
    "members": True,
    "special-members": "__call__",
    "exclude-members": "from_tuple, items, keys, replace, to_tuple, values",  # chex's and Flax's
}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are listed once, in the docstring of their class
napoleon_attr_annotations = False  # the signature of the class has their types

highlight_language = "text"  # for blocks without a language: the output of commands

html_theme = "furo"
html_title = "ad_jax"
html_copy_source = False
html_extra_path = ["front"]  # its page leads to root_doc


def skip_fields(app, what, name, field, skip, options):
    """Whether autodoc leaves out a member: a tuple's fields are in the docstring of its class."""
    return skip or type(field).__name__ == "_tuplegetter"


def shorten(app, what, name, thing, options, signature, returns):
    """A signature without the arguments of every Flax module and without objects' addresses."""
    if signature:
        signature = re.sub(r", parent: .*", ")", signature)
        signature = re.sub(r"<[^(]*>", "...", signature)
    return signature, returns


def name_folders(app, doctree):
    """Replaces links to folders of the clone by their text, since folders have no pages."""
    here = (ROOT / app.env.docname).parent
    for link in list(doctree.findall(pending_xref)):
        if (here / link["reftarget"]).is_dir():
            link.replace_self(link.children)


def setup(app):
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-signature", shorten)
    app.connect("doctree-read", name_folders)
