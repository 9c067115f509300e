"""``tapescope dashboards``: what a Grafana, a Prometheus and people read, written to a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dashboards.settings import DASHBOARDS_URL, RUNBOOKS_URL, TASK_PAGES_URL
from tests.cli.command import Tapescope

PACK = Path(__file__).parents[2] / "dashboards"
PARTS = ("grafana", "prometheus/rules", "alertmanager", "runbooks")


def read_files(folder: Path) -> dict[str, bytes]:
    """What is in the parts of a pack."""
    found = (path for part in PARTS for path in (folder / part).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_pack_is_written_as_it_is_here(tapescope: Tapescope, tmp_path: Path) -> None:
    """Each file, twice in a row, and no other."""
    for _ in range(2):
        done = tapescope.here("dashboards", "--to", str(tmp_path / "a" / "b"))
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"7 dashboards, the rules and ")

    written = read_files(tmp_path / "a" / "b")
    assert written == read_files(PACK)
    assert written == read_files(tmp_path / "a" / "b" / ".")


def test_links_lead_where_the_user_says(tapescope: Tapescope, tmp_path: Path) -> None:
    """No link of the examples is left, and boards and rules can still be read."""
    links = {
        "--grafana-url": (DASHBOARDS_URL, "https://g.example:3000/sub/"),
        "--runbooks-url": (RUNBOOKS_URL, "https://wiki.example/books"),
        "--tasks-url": (TASK_PAGES_URL, "https://tasks.example"),
    }
    options = [word for option, (_, url) in links.items() for word in (option, url)]
    done = tapescope.here("dashboards", "--to", str(tmp_path), *options)
    written = {name: text.decode() for name, text in read_files(tmp_path).items()}
    whole = "\n".join(written.values())

    assert done.returncode == 0
    for default, url in links.values():
        assert default not in whole
        assert url.rstrip("/") + "/" in whole
        assert url.rstrip("/") + "//" not in whole
    for name, text in written.items():
        if name.endswith(".json"):
            json.loads(text)
        elif name.endswith(".yml"):
            yaml.safe_load(text)


def test_what_a_user_has_changed_stays(tapescope: Tapescope, tmp_path: Path) -> None:
    """One file that differs, and nothing is written; with --overwrite all is."""
    board = tmp_path / "grafana" / "op.json"
    board.parent.mkdir()
    board.write_text("{}")
    refused = tapescope.here("dashboards", "--to", str(tmp_path))
    left = read_files(tmp_path)
    done = tapescope.here("dashboards", "--to", str(tmp_path), "--overwrite")

    assert refused.returncode == 1
    assert b"op.json is there, and differs\nNothing was written." in refused.stdout
    assert left == {"grafana/op.json": b"{}"}
    assert done.returncode == 0
    assert read_files(tmp_path) == read_files(PACK)


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "ftp://x.example", "https://", "https://a'b"]
)
def test_what_is_no_link_is_refused(tapescope: Tapescope, tmp_path: Path, url: str) -> None:
    """It would be put into rules and boards."""
    done = tapescope.here("dashboards", "--to", str(tmp_path), "--runbooks-url", url)

    assert done.returncode == 1
    assert b"--runbooks-url" in done.stderr
    assert read_files(tmp_path) == {}


def test_a_folder_that_cannot_be_is_an_error_of_one_line(
    tapescope: Tapescope, tmp_path: Path
) -> None:
    """A file is in its way."""
    (tmp_path / "grafana").write_text("")
    done = tapescope.here("dashboards", "--to", str(tmp_path))

    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"grafana" in done.stderr
