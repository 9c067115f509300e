"""Random environments: whatever ``tapescope run`` is started in, its command runs as without it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import slow
from tests.cli.forking import enter

SEED = int(os.environ.get("TAPESCOPE_TEST_SEED", "11"))
RUNS = int(os.environ.get("TAPESCOPE_TEST_RUNS", "2000"))
FEW, FORKED = 11, 200
_FORKING = Path(__file__).with_name("forking.py")

TELL = """
import json, os, sys
read = lambda name: open(f"/proc/self/{name}", "rb").read().decode("latin-1").split("\\0")[:-1]
with open(sys.argv[1], "w") as file:
    json.dump({"environ": read("environ"), "arguments": read("cmdline")[7:]}, file)
sys.exit(int(sys.argv[2]))
"""
"""Says in the file of its first argument what it was given, and ends with the status of its second.
"""

OTEL = {
    "OTEL_SDK_DISABLED": ["true", "TRUE ", "1", "no", ""],
    "OTEL_TRACES_EXPORTER": ["none", "otlp", "console", "OTLP", "jaeger", "otlp,none", ",", ""],
    "OTEL_METRICS_EXPORTER": ["none", "prometheus", "console", "nonsense", ""],
    "OTEL_LOGS_EXPORTER": ["none", "console", "nonsense", ""],
    "OTEL_EXPORTER_OTLP_PROTOCOL": ["grpc", "http/protobuf", "HTTP/Protobuf", "http/json", "x"],
    "OTEL_EXPORTER_OTLP_HEADERS": ["a=b", "a=%0Ab", "=", ",,", "ü=ü", "Authorization=Bearer%20x"],
    "OTEL_EXPORTER_OTLP_TIMEOUT": ["1", "abc", "-1", "5s", ""],
    "OTEL_EXPORTER_OTLP_COMPRESSION": ["gzip", "foo", ""],
    "OTEL_EXPORTER_OTLP_CERTIFICATE": ["/nowhere", ""],
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": ["delta", "cumulative", "bad"],
    "OTEL_RESOURCE_ATTRIBUTES": ["a=b", "=", "a", "a=b,,c", "\udcff=1", "service.name=%ff"],
    "OTEL_SERVICE_NAME": ["", "x", "ü", "\udcff"],
    "OTEL_TRACES_SAMPLER": ["always_off", "traceidratio", "parentbased_traceidratio", "bogus"],
    "OTEL_TRACES_SAMPLER_ARG": ["0.5", "half", "-1", ""],
    "OTEL_BSP_MAX_QUEUE_SIZE": ["1", "0", "-1", "many"],
    "OTEL_BSP_SCHEDULE_DELAY": ["1", "0", "x"],
    "OTEL_METRIC_EXPORT_INTERVAL": ["1", "0", "-1", "abc"],
    "OTEL_PROPAGATORS": ["tracecontext", "none", "nonsense", "tracecontext,b3"],
    "OTEL_PYTHON_CONTEXT": ["contextvars_context", "nonsense"],
    "OTEL_PYTHON_ID_GENERATOR": ["random", "nonsense"],
    "OTEL_PYTHON_TRACER_PROVIDER": ["sdk_tracer_provider", "nonsense"],
    "OTEL_PYTHON_METER_PROVIDER": ["sdk_meter_provider", "nonsense"],
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": ["otel", "nonsense", "*"],
    "OTEL_ATTRIBUTE_COUNT_LIMIT": ["1", "-1", "x"],
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": ["0", "x"],
    "OTEL_LOG_LEVEL": ["debug", "x"],
    "OTEL_METRICS_EXEMPLAR_FILTER": ["always_on", "bad"],
}
OTHERS = {
    "LC_ALL": ["", "C", "POSIX", "C.UTF-8", "en_US.UTF-8", "de_DE.ISO-8859-1", "xx", "\udcff"],
    "LC_CTYPE": ["", "C", "POSIX", "C.UTF-8", "UTF-8", "xx"],
    "LANG": ["", "C", "C.UTF-8", "xx_YY", "en_US"],
    "HOME": ["", "/proc", "/proc/at/all", "relative", "/dev/null"],
    "TERM": ["", "dumb", "xterm", "nonsense", "\udcfe"],
    "TZ": ["", ":nowhere", "Europe/Berlin", "UTC+99", "\udcff"],
    "COLUMNS": ["", "0", "-1", "7", "x", "99999999999"],
    "LINES": ["", "0", "x"],
    "NO_COLOR": ["", "1"],
    "FORCE_COLOR": ["", "1"],
    "TMPDIR": ["", "/proc/none", "/proc"],
    "USER": ["", "nobody", "\udcff"],
    "XDG_STATE_HOME": ["", "/proc/none", "/proc", "relative"],
    "XDG_DATA_HOME": ["", "/proc", "relative"],
    "XDG_RUNTIME_DIR": ["", "/proc/none"],
    "PYTHONUTF8": ["0", "1"],
    "PYTHONIOENCODING": ["ascii", "latin-1", "utf-8:strict"],
    "PYTHONOPTIMIZE": ["1", "2"],
    "PYTHONDEVMODE": ["1"],
    "PYTHONASYNCIODEBUG": ["1"],
    "PYTHONUNBUFFERED": ["1"],
    "PYTHONWARNINGS": ["ignore", "default", "always"],
    "TAPESCOPE_LOG_FORMAT": ["", "text", "json", "xml"],
    "TAPESCOPE_LOG_LEVEL": ["", "debug", "loud"],
    "TAPESCOPE_CANCEL_STATUS": ["", "error", "unset", "bad"],
    "TAPESCOPE_MESSAGING_ATTRIBUTES": ["", "on", "off", "bad"],
    "TAPESCOPE_BAGGAGE": ["", "on", "off", "bad"],
    "BAGGAGE": ["", "a=b", "=", "\udcff=\udcff", "x=" + "y" * 9_000],
    "TAPESCOPE_TRACE_MODE": ["", "link", "parent", "bad"],
    "TRACEPARENT": ["", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x", "00-0-0-0"],
    "TRACESTATE": ["", "a=b", "\udcff"],
    "_": ["/usr/bin/x", ""],
    "BASH_FUNC_x%%": ["() { :; }"],
    "\udcfe": ["\udcff"],
}
STORES = ["{}/t.db", "{}/no/such/folder/t.db", "/proc/t.db"]
BAD_STORES = [
    "",
    "nonsense",
    "mysql://u:p@h/d",
    "sqlite://",
    "postgresql://[",
    "sqlite:///{}/\n.db",
]
OURS = ("TRACEPARENT", "TRACESTATE")
"""What the wrapper sets or takes away, as documented."""


@dataclass(frozen=True)
class Case:
    """One environment."""

    env: dict[str, str]
    arguments: tuple[str, ...]
    status: int
    closed: tuple[int, ...]
    """Standard streams that are closed at the start."""
    extra: int
    """How many more descriptors are open."""
    folder_is_gone: bool


def draw(chance: random.Random, folder: Path) -> Case:
    """A random environment."""
    env = {"PATH": os.environ["PATH"]}
    for values, share in ((OTEL, chance.choice((0.0, 0.1, 0.4))), (OTHERS, 0.25)):
        env |= {
            name: chance.choice(choices)
            for name, choices in values.items()
            if chance.random() < share
        }
    if chance.random() < 0.7:
        env["TAPESCOPE_STORE"] = "sqlite:///" + chance.choice(STORES).format(folder)
    else:
        env["TAPESCOPE_STORE"] = chance.choice(BAD_STORES).format(folder)
    if not env.get("HOME", "").startswith(
        "/"
    ):  # then it is the home of whoever runs this, where nothing may be left
        for name in ("XDG_STATE_HOME", "XDG_DATA_HOME"):
            if not env.get(name, "").startswith("/"):
                env[name] = str(folder)
    arguments = tuple(
        os.fsdecode(bytes(chance.choice(range(1, 256)) for _ in range(chance.choice((0, 1, 9)))))
        for _ in range(chance.randrange(4))
    )
    return Case(
        env,
        (*arguments, *chance.choice(((), ("--",), ("-h",), ("--store", "x"), ("",)))),
        chance.choice((0, 0, 1, 3, 124, 125, 126, 127, 130, 143, 255)),
        tuple(fd for fd in (0, 1, 2) if chance.random() < 0.05),
        chance.choice((0, 0, 3)),
        chance.random() < 0.1,
    )


Start = Callable[[Case, Path, Sequence[str]], tuple[int, bytes, bytes]]
"""Runs ``tapescope run`` with these arguments; its status, stdout and stderr."""


def start_process(case: Case, folder: Path, arguments: Sequence[str]) -> tuple[int, bytes, bytes]:
    """A process of its own, from its first instruction on."""

    def prepare() -> None:
        enter(case.folder_is_gone, case.closed)

    extra = [os.open(os.devnull, os.O_RDONLY) for _ in range(case.extra)]
    try:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("tapescope")), *arguments],
            cwd=folder,
            env=case.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=extra,
            preexec_fn=prepare,
            timeout=60,
            check=False,
        )
    finally:
        for fd in extra:
            os.close(fd)
    return done.returncode, done.stdout, done.stderr


@contextmanager
def forking() -> Generator[Start]:
    """Processes that are forked off one that has loaded all: what the interpreter does with its
    environment when it starts is not in it, and it is quicker."""
    with subprocess.Popen(
        [sys.executable, str(_FORKING)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        told, answers = server.stdin, server.stdout

        def start(case: Case, folder: Path, arguments: Sequence[str]) -> tuple[int, bytes, bytes]:
            order = {
                "folder": str(folder),
                "env": [[as_latin(name), as_latin(value)] for name, value in case.env.items()],
                "arguments": [as_latin(one) for one in arguments],
                "folder_is_gone": case.folder_is_gone,
                "closed": case.closed,
                "extra": case.extra,
            }
            told.write(json.dumps(order).encode() + b"\n")
            told.flush()
            status = int(answers.readline())
            return status, (folder / "stdout").read_bytes(), (folder / "stderr").read_bytes()

        yield start
        told.close()


def differences(case: Case, folder: Path, start: Start) -> list[str]:
    """Run it; in what it differs from the command alone."""
    folder.mkdir()
    seen = folder / "seen"
    program = [sys.executable, "-I", "-S", "-c", TELL, str(seen), str(case.status)]
    status, stdout, stderr = start(case, folder, ["run", "--", *program, *case.arguments])
    found: list[str] = []
    told: Any = json.loads(seen.read_text()) if seen.exists() else None
    if told is None:
        found.append("the command did not run")
    else:
        got = dict(entry.partition("=")[::2] for entry in told["environ"])
        given = {as_latin(name): as_latin(value) for name, value in case.env.items()}
        changed = {
            name: (given.get(name), got.get(name))
            for name in given.keys() | got.keys()
            if given.get(name) != got.get(name) and name not in OURS
        }
        if changed:
            found.append(f"environment: {changed}")
        if told["arguments"] != [as_latin(one) for one in case.arguments]:
            found.append(f"arguments: {told['arguments']}")
    if status != case.status:
        found.append(f"status {status}")
    if stdout:
        found.append(f"stdout: {stdout!r}")
    said = stderr.decode(errors="replace")
    shown = any(name.endswith("_EXPORTER") and "console" in case.env[name] for name in case.env)
    if not shown and ("Traceback" in said or said.count("\n") > 6):
        found.append("more than a line on stderr")
    shutil.rmtree(folder)
    return [f"{case}:\n    {one}\n    {said}" for one in found]


def as_latin(text: str) -> str:
    """The bytes of an argument or a variable, each as one character."""
    return os.fsencode(text).decode("latin-1")


@pytest.mark.parametrize(
    ("part", "environments"), [(0, FEW), *(slow(part, (FORKED - FEW) // 3) for part in (1, 2, 3))]
)
def test_a_command_runs_in_any_environment(tmp_path: Path, part: int, environments: int) -> None:
    """Its status, its arguments, its environment are what they would be, and stdout is its own."""
    chance = random.Random(f"{SEED}-{part}")
    found: list[str] = []
    with forking() as start:
        for number in range(environments):
            folder = tmp_path / str(number)
            found += differences(draw(chance, folder), folder, start)

    assert not found, "\n".join(found)


@pytest.mark.environments
@pytest.mark.timeout(0)
def test_a_new_process_runs_its_command_in_any_environment(tmp_path: Path) -> None:
    """The same from the interpreter's first instruction on, locale and all; many times."""
    chance = random.Random(SEED)
    cases = [(draw(chance, tmp_path / str(n)), tmp_path / str(n)) for n in range(RUNS)]
    found: list[str] = []
    with ThreadPoolExecutor(2) as threads:
        running = [
            threads.submit(differences, case, folder, start_process) for case, folder in cases
        ]
        for one in running:
            found += one.result()
    print(f"{RUNS} environments, seed {SEED}: {len(found)} differences")

    assert not found, "\n".join(found)
