"""The web site of the course, which `make site` builds with Sphinx.

`sources.py` writes the pages into a folder that git ignores, and Sphinx reads it.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import colab
import extras
import sources


def setup(app):
    app.connect("builder-inited", sources.write_sources)
    app.connect("autodoc-process-docstring", sources.link_the_lesson)
    app.connect("html-page-context", extras.add_buttons, priority=900)
    app.connect("build-finished", extras.write_extras)


project = "course_vit"
author = copyright = "the course_vit authors"
language = "en"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]

nb_execution_mode = "off"
nb_code_prompt_show = "Show the solution"
nb_code_prompt_hide = "Hide the solution"
nb_ipywidgets_js = {}  # there are no widgets, and their scripts would be fetched
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_heading_slug_func = "pages.slug"

default_role = "code"  # docstrings write `n d` between single backticks
autodoc_inherit_docstrings = False  # what nn.Module says is not about the course
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

# One file of MathJax instead of a folder of 24 MB, and without its menu, which would
# make every formula a stop of the Tab key.
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}
mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax"

html_title = "Build a Vision Transformer"
html_theme = "sphinx_book_theme"
html_baseurl = colab.URLS["Documentation"]
html_static_path = ["static", str(mathjax / mathjax_path)]
html_favicon = "static/icon.svg"
html_css_files = ["course.css"]
html_js_files = [("course.js", {"defer": "defer"})]
html_copy_source = False
html_domain_indices = False
html_context = {"default_mode": "auto"}
html_sidebars = {"**": ["search-button-field.html", "sbt-sidebar-nav.html"]}
html_theme_options = {
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search is on the left
    "use_download_button": False,
    "use_fullscreen_button": False,
}
