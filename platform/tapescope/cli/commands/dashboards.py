"""``tapescope dashboards``: the boards, rules and runbooks of this version, as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import click

import tapescope_telemetry
from tapescope.cli._output import print_line
from tapescope.errors import BadSetting
from tapescope.model.addresses import is_link

__all__ = ["dashboards"]

_PARTS: Final = ("grafana", "prometheus/rules", "alertmanager", "runbooks")
"""Of the pack, what a Grafana, a Prometheus, an Alertmanager and people read."""
_GRAFANA: Final = "https://grafana.example"
_RUNBOOKS: Final = "https://runbooks.example/tapescope"
_TASK_PAGES: Final = "http://127.0.0.1:8080"


@click.command("dashboards")
@click.option(
    "--to",
    "folder",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the files go: it is made where it is not there.",
)
@click.option(
    "--grafana-url", metavar="URL", help="Your Grafana: an alert links to its board there."
)
@click.option(
    "--runbooks-url",
    metavar="URL",
    help="Where your team reads the runbooks: an alert links to its own, URL/ALERT.md.",
)
@click.option(
    "--tasks-url",
    metavar="URL",
    help="Your 'tapescope serve': a board links to its page of a trace, URL/trace/TRACE_ID.",
)
@click.option(
    "--overwrite", is_flag=True, help="Write also over files that are there and are others."
)
def dashboards(
    *,
    folder: Path,
    grafana_url: str | None,
    runbooks_url: str | None,
    tasks_url: str | None,
    overwrite: bool,
) -> int:
    """Write dashboards, rules and runbooks to a folder.

    Give grafana/ to Grafana, prometheus/rules/ to Prometheus as rule_files, and fill in the
    receivers of alertmanager/. A file that you have changed is not written over, unless you say so:
    then nothing is written, and the exit status is 1.
    """
    given = {
        _GRAFANA: ("--grafana-url", grafana_url),
        _RUNBOOKS: ("--runbooks-url", runbooks_url),
        _TASK_PAGES: ("--tasks-url", tasks_url),
    }
    links = {
        default: _check_url(option, url)
        for default, (option, url) in given.items()
        if url is not None
    }
    pack = dict(_read_pack(links))
    try:
        changed = [name for name, text in pack.items() if _is_another(folder / name, text)]
        if changed and not overwrite:
            for name in changed:
                print_line(f"{folder / name} is there, and differs")
            print_line("Nothing was written. Give another folder, or --overwrite.")
            return 1
        for name, text in pack.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.BadParameter(
            f"{error.filename}: {error.strerror}", param_hint="--to"
        ) from error
    boards = sum(name.startswith("grafana/") and name.endswith(".json") for name in pack)
    runbooks = sum(name.startswith("runbooks/") for name in pack)
    print_line(f"{boards} dashboards, the rules and {runbooks} runbooks are in {folder}")
    return 0


def _check_url(option: str, url: str) -> str:
    """Without a slash at its end. Raises ``BadSetting``."""
    if not is_link(url) or set(url) & set("'{}$"):  # signs of YAML, and of templates
        raise BadSetting(option, url, "a URL of http or https, as in https://wiki.example/tasks")
    return url.rstrip("/")


def _is_another(path: Path, text: str) -> bool:
    return path.exists() and path.read_bytes() != text.encode()


def _read_pack(links: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each file by its place below the folder, with links of one's own for those of the examples"""
    pack = _find_pack()
    for part in _PARTS:
        for name, file in _walk(pack.joinpath(part), part):
            text = file.read_text(encoding="utf-8")
            for default, url in links.items():
                text = text.replace(default, url)
            yield name, text


def _walk(folder: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _walk(entry, f"{name}/{entry.name}")
        else:
            yield f"{name}/{entry.name}", entry


def _find_pack() -> Traversable:
    """In a clone it is where it is made; a wheel has it beside the packages."""
    clone = Path(tapescope_telemetry.__file__).parents[2] / "dashboards"
    return clone if (clone / "build.py").is_file() else files("tapescope_dashboards")
