"""Sphinx's settings. `build.py` copies this file next to the pages that it makes, and calls Sphinx there."""

import os
import sys
from pathlib import Path

from sphinxcontrib.katex import KaTeXServer

os.environ.pop("MPLBACKEND", None)  # the kernel would inherit it, and no figure would be shown
os.environ.setdefault("DDPM_BUDGET", "short")
os.environ.setdefault("TQDM_DISABLE", "1")  # a page shows results, not how long they took to come

sys.path.insert(0, str(Path(__file__).parent))

project = "ddpm"
author = "The ddpm authors"
copyright = "the ddpm authors, MIT license"
extensions = ["myst_nb", "sphinx_design", "sphinxcontrib.katex", "sidebyside"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

nb_execution_mode = os.environ.get("DDPM_SITE_EXECUTE", "cache")
nb_execution_cache_path = os.environ.get("DDPM_SITE_CACHE", "")
nb_execution_timeout = 900
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_code_prompt_show = "Show the reference solution"
nb_code_prompt_hide = "Hide the reference solution"

# Over a Unix socket the extension connects once, as soon as the file is there, and is refused if node does not listen
# yet, on a busy machine. Over a port it tries again until node answers.
KaTeXServer.start_server_process = KaTeXServer.start_network_socket
katex_prerender = True  # needs node, here only; the pages carry no JavaScript for their formulas
katex_css_path = "katex/katex.min.css"  # of the version that sphinxcontrib-katex brings: 0.16.22

html_theme = "furo"
html_title = "ddpm"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"sidebar_hide_name": False, "top_of_page_buttons": []}
pygments_style = "github-light-high-contrast"
pygments_dark_style = "github-dark-high-contrast"
suppress_warnings = ["mystnb.unknown_mime_type", "design.card_legacy"]
