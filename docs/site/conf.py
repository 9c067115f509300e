"""The site: the pages of ``docs`` and those that they lead to, by Sphinx. ``make site`` builds it.

The sources are the Markdown that is read in the repository, as it stands. What a site has besides,
the tables of contents and the reference of the Python API, is made here, when a page is read.
"""

from __future__ import annotations

import re
from importlib import import_module
from inspect import isclass, isroutine
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tapescope_telemetry import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from sphinx.application import Sphinx

_ROOT: Final = Path(__file__).parents[2]
_INDEX: Final = "docs/index"
_API: Final = "docs/reference/api"
_INSIDE: Final = {
    "docs/architecture": "decisions/*",
    "docs/howto/write-a-store": "../../examples/journal_store/README",
    "docs/howto/fastapi": "../../examples/fastapi_app/README",
    "docs/howto/django": "../../examples/django_app/README",
    "docs/howto/sync": "../../examples/script/README",
    "docs/howto/temporal": "../../examples/temporal/README",
    "dashboards/README": "runbooks/*",
}
"""Pages that have others below them."""

project = "tapescope"
author = copyright = "The tapescope authors"  # Sphinx's name for it
version = release = __version__
root_doc = _INDEX
include_patterns = [
    "docs/**",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "dashboards/README.md",
    "dashboards/runbooks/*.md",
    "examples/*/README.md",
]
exclude_patterns = ["docs/site", "**/__pycache__"]
exclude_patterns += [".*", "build", "dist", "tests", "platform", "adapters", "telemetry", "bench"]
exclude_patterns += ["dashboards/grafana", "dashboards/prometheus", "dashboards/renderer"]
toc_object_entries = False  # each page has the whole table, and would be slow to write
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
suppress_warnings = ["misc.highlighting_failure"]  # Pygments reads no recording rule, and no DO
html_theme = "furo"
html_title = f"tapescope {__version__}"
html_extra_path = ["root"]
html_copy_source = False
html_show_sphinx = False


def list_contents(index: str) -> str:
    """The tables of contents that the index's own lists are, section by section."""
    tables: list[str] = []
    for part in re.split(r"^- \*\*", index, flags=re.MULTILINE)[1:]:
        caption, _, items = part.partition("**")
        pages = dict.fromkeys(re.findall(r"\]\(([a-z][^):#]*)\.md\)", items))
        tables.append(_make_table(pages, caption))
    project_pages = ["../README", "architecture", "../dashboards/README"]
    project_pages += ["../CHANGELOG", "../CONTRIBUTING", "../SECURITY"]
    return "".join([*tables, _make_table(project_pages, "The project")])


def list_modules(page: str) -> str:
    """What the docstrings of the modules of the page's table say."""
    parts: list[str] = []
    told: set[str] = set()
    for name in re.findall(r"^\| \[`([\w.]+)`\]", page, flags=re.MULTILINE):
        names: set[str] = set(import_module(name).__all__)
        parts += [f"\n## `{name}`\n", "```{eval-rst}", f".. automodule:: {name}", "   :members:"]
        parts += [f"   :exclude-members: {', '.join(sorted(names & told))}", ""]
        # What is an alias of a type has its docstring where it is made, and Sphinx looks here.
        aliases = sorted(one for one in names - told if not _is_told(import_module(name), one))
        parts += [f".. autodata:: {name}.{one}" for one in aliases] + ["```\n"]
        told |= names
    return "\n".join(parts)


def _is_told(module: ModuleType, name: str) -> bool:
    return name.startswith("__") or isroutine(found := getattr(module, name)) or isclass(found)


def _make_table(pages: Iterable[str], caption: str = "", *, glob: bool = False) -> str:
    options = [":hidden:", ":titlesonly:"]
    options += [f":caption: {caption}"] if caption else []
    options += [":glob:"] if glob else []
    return "\n".join(["\n```{toctree}", *options, "", *pages, "```\n"])


def add_to_page(_: Sphinx, name: str, text: list[str]) -> None:
    """What a page of the site has besides."""
    if name == _INDEX:
        text[0] += list_contents(text[0])
    elif name == _API:
        text[0] += list_modules(text[0])
    elif name in _INSIDE:
        text[0] += _make_table([_INSIDE[name]], glob=True)


def setup(app: Sphinx) -> None:
    """Sphinx calls it."""
    app.connect("source-read", add_to_page)
