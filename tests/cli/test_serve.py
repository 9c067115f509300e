"""``tapescope serve`` and ``tapescope token``: the server as a process, and who may use it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tapescope.http.tokens import TokenFile
from tests.cli.command import Tapescope, slow

APP = """
from __future__ import annotations

import asyncio

from tapescope import Ops, Reporter

ops = Ops()


@ops.op("double")
async def double(report: Reporter, n: int) -> int:
    return 2 * n


@ops.op("wait")
async def wait(report: Reporter) -> None:
    await report.log("info", "here")
    await asyncio.sleep(3_600)
"""


@contextmanager
def served(
    tapescope: Tapescope, *arguments: str
) -> Generator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A server on a free port, once it answers, and a client of it."""
    with tapescope.started("serve", "--port", "0", *arguments) as process:
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        assert " on http://127.0.0.1:" in said, said
        with httpx.Client(base_url=said.split()[-1], timeout=30) as client:
            yield process, client


@pytest.fixture
def program(tapescope: Tapescope, tmp_path: Path) -> Tapescope:
    """The command line in a folder with an app."""
    (tmp_path / "shop.py").write_text(APP)
    tapescope.folder = tmp_path
    return tapescope


def test_a_signal_ends_streams_with_a_reason_and_gives_tasks_back(program: Tapescope) -> None:
    """An app's ops are run; after SIGTERM the task waits for another worker, and status 0."""
    with served(program, "--app", "shop:ops", "--drain", "0") as (process, client):
        made = client.post("/v1/tasks", json={"op": "double", "params": {"n": 21}})
        result = client.get(f"{made.headers['Location']}/result?wait=30").json()
        path = client.post("/v1/tasks", json={"op": "wait"}).headers["Location"]
        told = ""
        with client.stream("GET", f"{path}/stream") as stream:
            for text in stream.iter_text():
                told += text
                if "event: log" in told and process.poll() is None and "error" not in told:
                    process.send_signal(signal.SIGTERM)
        metrics = process.wait(60)
    row = program.json("show", path.rpartition("/")[2])

    assert result["result"] == 42
    assert '"error":"Draining"' in told
    assert metrics == 0
    assert row["status"] == "pending"


@pytest.mark.slow
def test_a_second_signal_skips_the_drain(program: Tapescope) -> None:
    """The first lets running tasks go on for long; the second ends them, with status 0."""
    with served(program, "--app", "shop:ops", "--drain", "600") as (process, client):
        path = client.post("/v1/tasks", json={"op": "wait"}).headers["Location"]
        client.get(f"{path}/tape?after_seq=1&wait=30")
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        for line in process.stderr:
            if b"Draining: " in line:
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)

    assert process.returncode == 0
    assert program.json("show", path.rpartition("/")[2])["status"] == "pending"


@pytest.mark.slow
def test_two_signals_at_once_close_the_server(program: Tapescope) -> None:
    """The second may come before the drain has begun: what runs is given back all the same."""
    with served(program, "--app", "shop:ops", "--drain", "600") as (process, client):
        path = client.post("/v1/tasks", json={"op": "wait"}).headers["Location"]
        client.get(f"{path}/tape?after_seq=1&wait=30")
        for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
            process.send_signal(number)
        process.communicate(timeout=60)

    assert process.returncode == 0
    assert program.json("show", path.rpartition("/")[2])["status"] == "pending"


@pytest.mark.slow
def test_a_store_is_served_without_an_app_and_with_tokens(tapescope_on: Tapescope) -> None:
    """What is there is read and cancelled; the token's name is on the tape and in the log alone."""
    task_id = tapescope_on.json("submit", "resize")["task_id"]
    token = tapescope_on.here("token", "add", "ann", "--scope", "admin").stdout.decode().strip()
    with served(tapescope_on) as (process, client):
        refused = client.get("/v1/tasks")
        client.headers["Authorization"] = f"Bearer {token}"
        listed = client.get("/v1/tasks").json()
        scraped = client.get("/metrics").text
        client.post(f"/v1/tasks/{task_id}/cancel", json={"message": "enough"})
        audit = client.post("/v1/audit").json()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    row = tapescope_on.json("show", task_id)

    assert refused.status_code == 401
    assert [one["task_id"] for one in listed["tasks"]] == [task_id]
    assert "tapescope_store_operation_duration_seconds" in scraped
    assert audit["violations"] == []
    assert (row["status"], row["cancel"]["by"]) == ("cancelled", "ann")
    assert f"cancel of task {task_id} by ann from 127.0.0.1: cancelled".encode() in said
    assert token.encode() not in said
    assert process.returncode == 0


def test_a_url_of_traces_that_means_nothing_serves_nobody(tapescope: Tapescope) -> None:
    """A link that would run a script is refused before anything is opened."""
    done = tapescope.here("serve", "--trace-url", "javascript:alert('{trace_id}')", "--port", "0")

    assert done.returncode == 1
    assert b"--trace-url" in done.stderr
    assert b"https://traces.example/trace/{trace_id}" in done.stderr


def test_another_address_takes_tokens(tapescope: Tapescope, tmp_path: Path) -> None:
    """Without a token it does not start; nor with a file that was named and is not there."""
    open_to_all = tapescope.here("serve", "--host", "0.0.0.0", "--port", "0")
    tapescope.here("token", "add", "ann", "--scope", "read")
    tapescope.here("token", "revoke", "ann")
    none_left = tapescope.here("serve", "--host", "0.0.0.0", "--port", "0")
    missing = tapescope.here("serve", "--tokens", str(tmp_path / "none.json"))

    for done in (open_to_all, none_left):
        assert done.returncode == 1
        assert b"this machine's own" in done.stderr
        assert b"tapescope token add NAME" in done.stderr
    assert missing.returncode == 1
    assert b"'tapescope token add' makes it" in missing.stderr


def test_a_port_that_is_taken_is_said(tapescope: Tapescope) -> None:
    """With the option to change, before the store is opened."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = tapescope("serve", "--port", str(port))

    assert done.returncode == 1
    assert f"The API cannot be served on 127.0.0.1 port {port}: ".encode() in done.stderr
    assert b"Choose another --port; 0 takes a free one." in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--port", "0"),
        ("serve", "--port", "0", "--app", "shop:ops"),
        ("worker", "--app", "shop:ops"),
    ],
)
def test_an_engine_that_means_nothing_serves_nobody(
    arguments: Sequence[str], program: Tapescope
) -> None:
    """``TAPESCOPE_ENGINE`` is of a server with an app, too: its submits would else miss it."""
    done = program(*arguments, env={"TAPESCOPE_ENGINE": "nowhere://127.0.0.1"})

    assert done.returncode == 1
    assert b"nowhere" in done.stderr.splitlines()[0], done.stderr


def test_a_token_is_made_listed_and_revoked(tapescope: Tapescope, tmp_path: Path) -> None:
    """It is printed once, alone on stdout; the file and the list do not have it."""
    file = tmp_path / "tokens.json"
    named = ("--tokens", str(file))
    scopes = ("--scope", "read", "--scope", "submit:resize", "--scope", "cancel:tag=team:a")
    made = tapescope.here("token", "add", "ann", *scopes, *named)
    token = made.stdout.decode().strip()
    again = tapescope.here("token", "add", "ann", *scopes, *named)
    listed = tapescope.json("token", "list", *named)
    screen = tapescope.screen("token", "list", *named)
    revoked = tapescope.here("token", "revoke", "ann", *named)
    unknown = tapescope.here("token", "revoke", "ann", *named)
    none = tapescope.here("token", "list", *named)

    assert re.fullmatch(r"tapescope_[A-Za-z0-9_-]{43}", token)
    assert made.stderr == (
        "tapescope: ann may read, submit:resize, cancel:tag=team:a; the hash of the token is in "
        f"{file}\n".encode()
    )
    assert (again.returncode, b"one that no token has yet" in again.stderr) == (2, True)
    assert [(one["name"], one["scopes"]) for one in listed["tokens"]] == [
        ("ann", ["cancel:tag=team:a", "read", "submit:resize"])
    ]
    assert "ann   cancel:tag=team:a, read, submit:resize" in screen.text
    assert token not in screen.text + str(listed) + file.read_text()
    assert (revoked.returncode, unknown.returncode) == (0, 1)
    assert b"there is no token in" in none.stderr
    assert TokenFile(file).required


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "ann"), b"--scope"),
        (("add", "ann", "--scope", "write"), b"--scope: 'write' must be read, submit"),
        (("add", "a b", "--scope", "read"), b"NAME: 'a b' must be 1 to 64 of letters"),
        ((), b"Make, list and revoke the tokens"),
        slow(("show",), b"No such command 'show'"),
    ],
)
def test_a_token_that_means_nothing_is_not_made(
    tapescope: Tapescope, arguments: tuple[str, ...], says: bytes
) -> None:
    """One line with the argument's name, status 2, and no file."""
    done = tapescope.here("token", *arguments)

    assert (done.returncode, says in done.stderr) == (2, True), done
    assert not list(Path(tapescope.env["HOME"]).rglob("tokens.json"))
