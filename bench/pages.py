"""Pages of a big store under load: ``python -m bench.pages``, with ``wrk`` (a Debian package).

Fills a store with 1,000,000 tasks and 5,000,000 events, past the guards and by a few statements,
serves it with ``tapescope serve``, and asks for each page over four connections without a pause.
Of lists and of a long tape the last page is asked for beside the first one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import asyncpg

from tapescope import find_store
from tests.support.services import running_postgres

_STEP: Final = 100_000
"""Microseconds from task to task."""
_LONG: Final = 100_000
"""Events of the one long tape, which is the first task's."""
_CONNECTIONS: Final = 4
_SCRIPT: Final = """
done = function(summary, latency, requests)
  local wrong = summary.errors
  io.write(string.format('FOUND {"p50": %f, "p99": %f, "rate": %f, "wrong": %d}\\n',
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    summary.requests / (summary.duration / 1e6),
    wrong.connect + wrong.read + wrong.write + wrong.status + wrong.timeout))
end
"""

_STATUS: Final = """CASE WHEN i % 50 = 0 THEN 'pending' WHEN i % 20 = 1 THEN 'failed'
    WHEN i % 20 = 2 THEN 'cancelled' ELSE 'succeeded' END"""
_FILL: Final = (
    """
    INSERT INTO tasks (task_id, op, status, attempt, owner, params, created_at, run_at, claimed_at,
                       finished_at, error_code)
    SELECT {id}, 'op' || (i % 20), status, CASE status WHEN 'pending' THEN 0 ELSE 1 END,
           CASE WHEN status <> 'pending' THEN 'w' || (i % 7) END, '{{"n":1}}', at,
           CASE status WHEN 'pending' THEN 4000000000000000 ELSE at END,
           CASE WHEN status <> 'pending' THEN at END, CASE WHEN status <> 'pending' THEN at + 9 END,
           CASE status WHEN 'failed' THEN 'exception' END
      FROM (SELECT i, {status} AS status, {begin} + i * {step} AS at FROM {series}) AS made
     ORDER BY i
    """,
    """
    INSERT INTO events (task, seq, attempt, offer, type, ts, body)
    SELECT id, s.seq, 1, s.seq, s.type, created_at + s.seq,
           CASE s.type WHEN 'final' THEN '{{"outcome":"' || status || '"}}' ELSE s.body END
      FROM tasks CROSS JOIN
           (SELECT 1 AS seq, 'task_started' AS type, '{{}}' AS body
            UNION ALL SELECT 2, 'log', '{{"level":"info","message":"the first part is done"}}'
            UNION ALL SELECT 3, 'log', '{{"level":"info","message":"the second part is done"}}'
            UNION ALL SELECT 4, 'progress', '{{"done":1,"total":1}}'
            UNION ALL SELECT 5, 'final', '') AS s
     WHERE status <> 'pending' AND id > 1
     ORDER BY id, s.seq
    """,
    """
    INSERT INTO events (task, seq, attempt, offer, type, ts, body)
    SELECT 1, i, 1, i, CASE i WHEN 1 THEN 'task_started' WHEN {long} THEN 'final' ELSE 'log' END,
           {begin} + i,
           CASE i WHEN 1 THEN '{{}}' WHEN {long} THEN '{{"outcome":"failed"}}'
                  ELSE '{{"level":"info","message":"a line"}}' END
      FROM {lines} ORDER BY i
    """,
)


async def fill(url: str, dsn: str | None, tasks: int) -> int:
    """So many tasks, and five events of each that has ended; gives when the first was created."""
    async with find_store(url):
        pass  # it makes the schema
    begin = time.time_ns() // 1_000 - tasks * _STEP
    given: dict[str, object] = {
        "begin": begin,
        "step": _STEP,
        "long": _LONG,
        "status": _STATUS,
    }
    if dsn is None:
        series = (
            "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
            "SELECT i FROM n)"
        )
        head = "printf('%012x', ({begin} + i * {step}) / 1000)".format_map(given)
        given["id"] = (
            f"substr({head}, 1, 8) || '-' || substr({head}, 9) || '-7000-8000-' || "
            "printf('%012x', i)"
        )
    else:
        series = "generate_series(1::bigint, {}) AS s(i)"
        head = "lpad(to_hex(({begin} + i * {step}) / 1000), 12, '0')".format_map(given)
        given["id"] = (
            f"(substr({head}, 1, 8) || '-' || substr({head}, 9) || '-7000-8000-' || "
            "lpad(to_hex(i), 12, '0'))::uuid"
        )
    given["series"], given["lines"] = series.format(tasks), series.format(_LONG)
    texts = [text.format_map(given) for text in _FILL]
    if dsn is None:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as file:
            file.execute("PRAGMA synchronous = OFF")
            found = file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            guards: list[tuple[str, str]] = found.fetchall()
            file.execute("BEGIN")
            for name, _ in guards:
                file.execute(f"DROP TRIGGER {name}")
            for text in [*texts, *(sql for _, sql in guards)]:
                file.execute(text)
            file.execute("COMMIT")
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return begin
    schema = url.partition("schema=")[2]
    conn = await asyncpg.connect(dsn, server_settings={"search_path": schema})
    try:
        await conn.execute("SET session_replication_role = replica; SET synchronous_commit = off")
        for text in texts:
            await conn.execute(text)
        for table in ("tasks", "events"):
            await conn.execute(f"VACUUM (ANALYZE) {table}")
        await conn.execute("CHECKPOINT")
    finally:
        await conn.close()
    return begin


def task_id(begin: int, nth: int) -> str:
    """The id of a task, from 1 on."""
    head = f"{(begin + nth * _STEP) // 1_000:012x}"
    return f"{head[:8]}-{head[8:]}-7000-8000-{nth:012x}"


def press(url: str, seconds: int, script: Path) -> dict[str, float]:
    """What ``wrk`` found of one page: milliseconds, requests a second, wrong answers."""
    done = subprocess.run(
        [
            *("wrk", "--threads", "1", "--connections", str(_CONNECTIONS)),
            *("--duration", f"{seconds}s", "--timeout", "30s", "--script", str(script), url),
        ],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.partition("FOUND ")[2])
    return found


def measure(url: str, begin: int, tasks: int, seconds: int, folder: Path) -> None:
    """Serve the store, and print a line for each page."""
    script = folder / "percentiles.lua"
    script.write_text(_SCRIPT, encoding="utf-8")
    log = folder / "server.log"
    with log.open("wb") as lines:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("tapescope"), "serve", "--store", url, "--port", "0"],
            stderr=lines,
            stdout=subprocess.DEVNULL,
        )
    try:
        while (
            base := re.search(r"http://[0-9.]+:[0-9]+", log.read_text(encoding="utf-8"))
        ) is None:
            if server.poll() is not None:
                sys.exit(log.read_text(encoding="utf-8"))
            time.sleep(0.05)
        at = base[0]
        one, old, long = (task_id(begin, nth) for nth in (tasks - 1, 503, 1))
        end = old  # where the last page begins: few tasks are older
        pages = {
            "API: tasks": ("/v1/tasks", f"/v1/tasks?cursor={end}"),
            "API: tasks of an op that failed": (
                "/v1/tasks?op=op1&status=failed",
                f"/v1/tasks?op=op1&status=failed&cursor={end}",
            ),
            "API: a task": (f"/v1/tasks/{one}", f"/v1/tasks/{old}"),
            "API: a tape": (f"/v1/tasks/{one}/tape", f"/v1/tasks/{old}/tape"),
            "API: 100 events of 100,000": (
                f"/v1/tasks/{long}/tape?limit=100",
                f"/v1/tasks/{long}/tape?limit=100&after_seq={_LONG - 100}",
            ),
            "page: tasks": ("/tasks", f"/tasks?cursor={end}"),
            "page: a task": (f"/tasks/{one}", f"/tasks/{old}"),
            "page: overview": ("/", "/"),
        }
        for name, paths in pages.items():
            found = [press(at + path, seconds, script) for path in paths]
            wrong = sum(one["wrong"] for one in found)
            print(
                f"  {name:<32} p50 {found[0]['p50']:6.1f} ms, p99 {found[0]['p99']:6.1f} ms, "
                f"{found[0]['rate']:6.0f} a second; last / first p50 "
                f"{found[1]['p50'] / found[0]['p50']:.2f}, p99 {found[1]['p99']:.1f} ms"
                + (f"; {wrong:.0f} WRONG" if wrong else ""),
                flush=True,
            )
    finally:
        server.terminate()
        server.wait(30)


def main() -> None:
    """Read the options, and measure each store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=10, help="of each page")
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    with tempfile.TemporaryDirectory(prefix="tapescope-bench-") as folder:
        print("sqlite")
        url = f"sqlite:///{Path(folder) / 'tasks.db'}"
        begin = asyncio.run(fill(url, None, chosen.tasks))
        measure(url, begin, chosen.tasks, chosen.seconds, Path(folder))
        print("postgresql")
        with running_postgres() as postgres:
            url = postgres.url()
            begin = asyncio.run(fill(url, postgres.dsn, chosen.tasks))
            measure(url, begin, chosen.tasks, chosen.seconds, Path(folder))


if __name__ == "__main__":
    main()
