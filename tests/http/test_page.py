"""The pages: what they show, to whom, and that what is hostile in a tape does no harm."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
from httpx import AsyncClient, Response
from jinja2 import Environment

from tapescope import (
    AuditRule,
    BadSetting,
    NewEvent,
    NewTask,
    Reporter,
    Schedule,
    Task,
    TaskManager,
    read_firing,
)
from tapescope.http.access import Grant
from tapescope.http.api import ApiLimits, ApiServer, make_app
from tapescope.http.api.page.audit_view import view_rules
from tapescope.http.api.page.payloads import PAYLOAD
from tapescope.http.api.page.rendering import environment
from tapescope.http.api.search import LOOKED
from tapescope.http.api.state import LastAudit
from tapescope.http.api.trace_urls import fill_trace_url
from tapescope.http.cookies import COOKIE, Cookies
from tapescope.http.tokens import TokenFile
from tapescope.model.audit import NO_TASK, AuditReport, Violation
from tapescope.model.ops import KnownOp
from tapescope.model.wording import format_duration, shorten_id
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tests.http.client import HOST, asking
from tests.support.breaches import BREACHES, make_ended, run_round

OURS = {"Origin": HOST, "Content-Type": "application/x-www-form-urlencoded"}
"""What a browser says of a form on a page of ours."""
OWNER = "web-1:4711:5:ab"
"""A worker, as the rows of its tasks name it."""
HOSTILE = '<script>alert(1)</script>" onload="x\x1b[31m\u202e\x00'.replace("\x00", "\x9b")


@dataclass
class Seen(HTMLParser):
    """What a browser makes of a page: its words, and the tags with their attributes."""

    text: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list[Any])
    said: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note words."""
        self.said.append(data)

    @property
    def words(self) -> str:
        """All that is said, with single spaces."""
        return " ".join(" ".join(self.said).split())

    def find_all(self, tag: str, name: str) -> list[str]:
        """The values of an attribute of every tag of a kind."""
        return [value for kind, had in self.tags if kind == tag and (value := had.get(name))]


def see(answer: Response, status: int = 200) -> Seen:
    """A page, once it is sure that it may be shown: by its headers, and by what is in it."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    page = Seen(answer.text)
    for tag, attributes in page.tags:
        assert tag not in ("style", "iframe", "object", "base"), tag
        assert tag != "script" or (attributes.get("src") or "").startswith("/static/")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in ("href", "src", "action", "hx-get"):
            assert (attributes.get(name) or "/").startswith(("/", "#")), attributes
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", answer.text)
    return page


class Bench:
    """A manager with ops, and a browser at its pages."""

    def __init__(self, manager: TaskManager, client: AsyncClient, app: Any) -> None:
        self.manager = manager
        self.app = app
        self.client = client
        self.go_on = asyncio.Event()

    async def get(self, path: str, status: int = 200, **headers: str) -> Seen:
        """A page."""
        return see(await self.client.get(path, headers=headers), status)

    async def post(self, path: str, **fields: Any) -> Response:
        """Send a form of a page of ours."""
        return await self.client.post(path, data=fields, headers=OURS)

    async def submit(self, op: str, **params: Any) -> str:
        """Submit a task; gives its id."""
        return (await self.manager.submit(op, params=params)).task_id

    async def end(self, op: str, **params: Any) -> str:
        """Submit a task, and wait for its end."""
        handle = await self.manager.submit(op, params=params)
        await asyncio.wait([asyncio.ensure_future(handle.result())])
        return handle.task_id


@asynccontextmanager
async def browsing(
    url: str, *, tokens: TokenFile | None = None, work: bool = True
) -> AsyncGenerator[Bench]:
    """A manager that runs ``say``, ``fail`` and ``wait``, and a browser of this machine."""
    manager = TaskManager(url, work=work, drain=0)
    app = make_app(manager, tokens=tokens, limits=ApiLimits())
    async with asking(app) as client:
        bench = Bench(manager, client, app)

        @manager.op("say")
        async def say(report: Reporter, text: str = "hi") -> str:
            await report.log("warning", text)
            await report.emit("own", {text: text})
            return text

        @manager.op("fail", retries=0)
        async def fail(report: Reporter, text: str = "no") -> None:
            raise ValueError(text)

        @manager.op("wait")
        async def wait(report: Reporter) -> None:
            await report.progress("walk", 3, 4)
            await bench.go_on.wait()

        async with manager:
            yield bench


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    """A file of tokens that is not there yet."""
    return TokenFile(tmp_path / "tokens" / "tokens.json")


def make(tokens: TokenFile, name: str, *scopes: str) -> str:
    """A token with these scopes."""
    return tokens.add(name, map(Grant.parse, scopes), 0)


async def log_in(bench: Bench, token: str) -> str:
    """Trade a token for the cookie that the client keeps; gives the header that sets it."""
    answer = await bench.post("/login", token=token, next="/tasks")
    assert (answer.status_code, answer.headers["location"]) == (303, "/tasks")
    return answer.headers["set-cookie"]


# --- what is shown --------------------------------------------------------------------------------


async def test_what_is_hostile_in_a_tape_is_shown_and_does_nothing(served_url: str) -> None:
    """Every page of tasks that say HTML and control characters has them as text, escaped."""
    async with browsing(served_url) as bench:
        said = await bench.end("say", text=HOSTILE)
        failed = await bench.end("fail", text=f"{HOSTILE}\nsecond line")
        await bench.manager.submit("say", idempotency_key=HOSTILE, delay=900)
        task = await bench.get(f"/tasks/{said}")
        failure = await bench.get(f"/tasks/{failed}")
        for path in ("/", "/tasks", "/tasks?limit=2", "/ops/fail", "/workers", "/drops", "/audit"):
            await bench.get(path)
        wrong = await bench.get(f"/tasks?key={HOSTILE[:20]}")
        unknown = await bench.get("/tasks/%3Cscript%3Ealert(1)", 404)

    assert task.words.count("<script>alert(1)</script>") >= 4, "log, own event, result, params"
    assert r"\x1b[31m\u202e" in task.words
    assert "tape sound" in task.words
    assert "✓ succeeded" in task.words
    assert "ValueError" in failure.words
    assert "second line" in failure.words
    assert "raise ValueError(text)" in failure.words, "the traceback"
    assert HOSTILE[:20] in wrong.find_all("input", "value")
    assert "no task" in unknown.words.lower()


async def test_a_page_is_bounded_whatever_a_tape_has(sqlite_url: str) -> None:
    """A long text, a long tape and a large payload leave a page of some hundred kilobytes."""
    async with browsing(sqlite_url, work=False) as bench:
        store = bench.manager.store
        params = {"text": "<" * 200_000}
        task, _ = await store.create(NewTask(new_task_id(), "big", params))
        claim = await store.claim_if_pending(task, "me", 60)
        assert claim is not None
        large = [NewEvent("own", {"text": f"{n} " + "<" * 60_000}) for n in range(3)]
        await store.append(claim.attempt, [*large, *(NewEvent("own", n) for n in range(1_500))])
        task_id = claim.task.task_id
        answer = await bench.client.get(f"/tasks/{task_id}")
        first = await bench.client.get(f"/tasks/{task_id}?after=0")
        other, _ = await store.create(NewTask(new_task_id(), "wide"))
        claimed = await store.claim_if_pending(other, "me", 60)
        assert claimed is not None
        for _ in range(4):
            await store.append(claimed.attempt, [NewEvent("own", "<" * 60_000) for _ in range(50)])
        wide = await bench.client.get(f"/tasks/{other.task_id}")
        exported = await bench.client.get(f"/tasks/{task_id}/tape.ndjson")

    assert len(answer.content) < 400_000
    assert see(answer).find_all("li", "data-seq") == [str(n) for n in range(1_305, 1_505)]
    assert see(first).find_all("li", "data-seq") == [str(n) for n in range(1, 201)]
    assert len(first.content) < 400_000
    assert len(wide.content) < 1_000_000, "200 events of 60,000 characters each"
    assert f"{60_000 + 19 - PAYLOAD - 1} characters more" in see(first).words
    assert len(exported.text.splitlines()) == 1_504
    assert "<" * 60_000 in exported.text


async def test_filters_are_in_the_url_and_pages_go_on_by_key(sqlite_url: str) -> None:
    """Chips, filters and pages are links; every task is on one page; what is misspelt is told."""
    async with browsing(sqlite_url, work=False) as bench:
        store = bench.manager.store
        new = [NewTask(new_task_id(), "abc"[n % 3], queue="pqr"[n // 3]) for n in range(9)]
        tasks = [await store.create(one) for one in new]
        ids = [task.task_id for task, _ in tasks]
        await store.request_cancel(ids[0])
        found: list[str] = []
        path = "/tasks?limit=4&status=pending&since=1h"
        pages = 0
        while path:
            page = await bench.get(path)
            found += [text.removeprefix("t-") for text in page.find_all("tr", "id")]
            pages += 1
            path = next((had["href"] or "" for _, had in page.tags if had.get("rel") == "next"), "")
            assert not path or "status=pending" in path
        cancelled = await bench.get("/tasks?status=cancelled")
        b = await bench.get("/tasks?op=b")
        q = await bench.get("/tasks?queue=q")
        none = await bench.get("/tasks?until=7d")
        misspelt = await bench.get("/tasks?statu=failed", 422)
        bad = await bench.get("/tasks?status=fine", 422)

    assert pages == 2
    assert sorted(found) == sorted(ids[1:])
    assert f"t-{ids[0]}" in cancelled.find_all("tr", "id")
    assert len(cancelled.find_all("tr", "id")) == 1
    assert len(b.find_all("tr", "id")) == 3
    assert q.find_all("tr", "id") == [f"t-{one}" for one in ids[5:2:-1]]
    assert none.find_all("tr", "id") == []
    assert "statu" in misspelt.words
    assert "fine" in bad.words


async def test_a_text_is_looked_for_a_part_of_the_list_at_a_time(served_url: str) -> None:
    """In params, keys, tags and the words of a cancel; the pages of it have each task once."""
    async with browsing(served_url, work=False) as bench:
        store = bench.manager.store
        made = [
            NewTask(new_task_id(), "a", {"folder": "Größe"}),
            NewTask(new_task_id(), "b", idempotency_key="order-GRÖSSE"),
            NewTask(new_task_id(), "b", unique_key="größe"),
            NewTask(new_task_id(), "c"),
            NewTask(new_task_id(), "c", {"n": 1}),
        ]
        await asyncio.gather(*map(store.create, made))
        ids = [one.task_id for one in made]
        await store.request_cancel(ids[3], message="the größe is wrong")
        pages = [await bench.client.get("/v1/tasks", params={"text": "GRÖßE", "limit": 2})]
        cursor = pages[0].json()["next"]
        query = {"text": "GRÖßE", "limit": 2, "cursor": cursor}
        pages.append(await bench.client.get("/v1/tasks", params=query))
        shown = await bench.get("/tasks?text=gr%C3%B6ssE&op=a")
        none = await bench.get("/tasks?text=nowhere")
        bad = await bench.client.get("/v1/tasks?text=%20")
        traced = await bench.client.get(f"/tasks?trace={'AB' * 16}")
        wrong = await bench.get("/tasks?trace=abc", 422)

    found = [[task["task_id"] for task in page.json()["tasks"]] for page in pages]
    assert found == [ids[3:1:-1], ids[1::-1]]
    assert pages[1].json()["next"] is None
    assert shown.find_all("tr", "id") == [f"t-{ids[0]}"]
    assert "No task is like that." in none.words
    assert bad.status_code == 422
    assert traced.headers["location"] == f"/trace/{'ab' * 16}"
    assert "abc" in wrong.words


async def test_no_page_of_a_search_looks_at_all_tasks(sqlite_url: str) -> None:
    """It ends, says so, and leads on: what is old is found some pages later."""
    async with browsing(sqlite_url, work=False) as bench:
        store = bench.manager.store
        many = [NewTask(new_task_id(), "a", {"n": n}) for n in range(LOOKED + 100)]
        await asyncio.gather(*map(store.create, many))
        first = await bench.get('/tasks?text="n": 7}')
        path = next(had["href"] or "" for _, had in first.tags if had.get("rel") == "next")
        second = await bench.get(path)

    assert first.find_all("tr", "id") == []
    assert "None among those that were looked at; older ones may be there." in first.words
    assert f"of {LOOKED:,} tasks a page" in first.words
    assert second.find_all("tr", "id") == [f"t-{many[7].task_id}"]


async def test_a_task_shows_its_tags_its_parent_and_its_children(
    sqlite_url: str, tokens: TokenFile
) -> None:
    """As links to what they lead to; the list has a filter for either. Who may not see an op sees
    no child of it."""
    async with browsing(sqlite_url, work=False) as bench:
        store = bench.manager.store
        tagged = NewTask(new_task_id(), "a", tags=("größe:7", "red"))
        await store.create(tagged)
        news = [NewTask(new_task_id(), "ab"[n % 2], parent_id=tagged.task_id) for n in range(22)]
        for new in news:
            await store.create(new)
        page = await bench.get(f"/tasks/{tagged.task_id}")
        child = await bench.get(f"/tasks/{news[0].task_id}")
        leads = {href for href in page.find_all("a", "href") if "tag=" in href}
        by_tag = await bench.get(f"/tasks?tag={quote('größe:7')}")
        by_parent = await bench.get(f"/tasks?parent={tagged.task_id}")
        refused = await bench.get("/tasks?tag=two%20words", 422)
    token = tokens.add("ann", [Grant.parse("read:a")], 0)
    async with browsing(sqlite_url, tokens=tokens, work=False) as bench:
        await bench.post("/login", token=token, next="/tasks")
        narrow = await bench.get(f"/tasks/{tagged.task_id}")

    rows = [f"t-{new.task_id}" for new in news[::-1]]
    assert leads == {f"/tasks?tag={quote('größe:7')}", "/tasks?tag=red"}
    assert page.find_all("tr", "id") == rows[:20]
    assert f"/tasks?parent={tagged.task_id}" in page.find_all("a", "href")
    assert narrow.find_all("tr", "id") == rows[1:20:2]
    assert f"/tasks/{tagged.task_id}" in child.find_all("a", "href")
    assert "Children" not in child.words
    assert by_tag.find_all("tr", "id") == [f"t-{tagged.task_id}"]
    assert by_parent.find_all("tr", "id") == rows
    assert "1 to 64 letters" in refused.words


async def test_pages_say_when_a_task_expires(sqlite_url: str) -> None:
    """Of one that waits, till when; of one that has expired, that it has; of an op and a schedule,
    how long their tasks have."""
    async with browsing(sqlite_url, work=False) as bench:
        store = bench.manager.store
        waits = await bench.manager.submit("say", delay=60, expires_in=90)
        new = NewTask(new_task_id(), "say", run_at=1, expires_in=90)
        over, _ = await store.create(new)
        await store.end_expired()
        await store.schedules.add_if_absent(
            Schedule("nightly", "say", cron="0 3 * * *", expires_in=90)
        )
        await store.ops.register([KnownOp("late", expires_in=90)])
        await bench.manager.submit("late")
        pages = [
            (await bench.get(path)).words
            for path in (
                f"/tasks/{waits.task_id}",
                f"/tasks/{over.task_id}",
                "/schedules/nightly",
                "/ops/late",
            )
        ]

    assert "expires in 2" in pages[0]
    assert "after it was due, unless it had begun" in pages[1]
    assert "expired, " in pages[1]
    assert "no attempt began within the 90 s after it was due" in pages[1]
    assert "a task expires" in pages[2]
    assert "an expiry" in pages[3]


async def test_what_is_typed_leads_to_what_it_names(sqlite_url: str) -> None:
    """A whole id, the short one, a trace, an op; all else is a key."""
    async with browsing(sqlite_url, work=False) as bench:
        task, _ = await bench.manager.store.create(NewTask(new_task_id(), "resize"))
        task_id = task.task_id
        trace = "4BF92F3577B34DA6A3CE929D0E0E4736"
        typed = [task_id, f"{task_id[:13]}-{task_id[-6:]}", trace, "resize", "order/17 <a>", ""]
        led = [
            (await bench.client.get("/find", params={"q": text})).headers["location"]
            for text in typed
        ]

    assert led == [
        f"/tasks/{task_id}",
        f"/tasks/{task_id}",
        f"/trace/{trace.lower()}",
        "/ops/resize",
        "/tasks?key=order%2F17+%3Ca%3E",
        "/tasks",
    ]


async def test_late_events_are_shown_behind_the_final(served_url: str) -> None:
    """Refused events are on no tape: the page has them after it, with reason and how late."""
    async with browsing(served_url, work=False) as bench:
        task_id = (await make_ended(bench.manager.store))[0].task_id
        page = await bench.get(f"/tasks/{task_id}")
        drops = await bench.get("/drops")

    refused = [had for tag, had in page.tags if tag == "li" and "refused" in (had["class"] or "")]
    marks = [had for tag, had in page.tags if tag == "rect" and had.get("class") == "f-refused"]
    assert len(refused) == 2
    assert marks
    assert "refused: after terminal" in page.words
    assert "after the final" in page.words
    assert "late events refused and counted: 2" in page.words
    assert task_id in drops.words


async def test_a_tape_that_is_not_sound_is_said_to_be_so(sqlite_url: str) -> None:
    """The badge says what was checked: a gap, a final that is not there, a row that says else."""
    said: list[str] = []
    for rule in (AuditRule.MISSING_FINAL, AuditRule.SEQUENCE_GAP, AuditRule.OUTCOME_MISMATCH):
        async with browsing(sqlite_url, work=False) as bench:
            attempt, key = await make_ended(bench.manager.store)
            task_id = attempt.task_id
        statement = BREACHES[rule][0].format(key=key, task_id=task_id)
        await run_round(sqlite_url, statement)
        async with browsing(sqlite_url, work=False) as bench:
            page = await bench.get(f"/tasks/{task_id}")
            assert "TAPE NOT SOUND" in page.words
            said.append(page.words)

    assert "its last event is not a final" in said[0]
    assert "event 2 is missing" in said[1]
    assert "the row says failed, the final succeeded" in said[2]


async def test_an_audit_tells_of_each_rule(sqlite_url: str, tokens: TokenFile) -> None:
    """Rules that hold are told, too, and those that were not looked at; who reads sees the sum."""
    reader, narrow = make(tokens, "ann", "read"), make(tokens, "bob", "read:a")
    admin = make(tokens, "boss", "admin")
    async with browsing(sqlite_url, work=False) as bench:
        _, key = await make_ended(bench.manager.store)
    await run_round(sqlite_url, BREACHES[AuditRule.SEQUENCE_GAP][0].format(key=key))
    async with browsing(sqlite_url, tokens=tokens, work=False) as bench:
        await log_in(bench, reader)
        before = (await bench.get("/")).words
        await log_in(bench, admin)
        assert (await bench.post("/audit")).status_code == 303
        audit = (await bench.get("/audit")).words
        assert (await bench.post("/audit", thorough="on")).status_code == 303
        thorough = (await bench.get("/audit")).words
        await log_in(bench, reader)
        after = await bench.get("/")
        await log_in(bench, narrow)
        none = (await bench.get("/")).words

    assert "tapes not audited by this server yet" in before
    assert "sequence gap ✗ 1 violations Every tape is numbered" in audit
    assert (audit.count("✓ holds"), audit.count("not looked at")) == (len(AuditRule) - 3, 2)
    assert (thorough.count("✓ holds"), thorough.count("not looked at")) == (len(AuditRule) - 1, 0)
    assert "TAPES NOT SOUND 1 tapes, 1 violations" in after.words
    assert "/audit" not in after.find_all("a", "href")
    assert "tapes not audited" not in none
    assert "SOUND" not in none


def test_no_rule_is_said_to_hold_in_a_damaged_file() -> None:
    """The audit may have ended where the file could not be read: what it found, it found."""
    found = [
        Violation(AuditRule.FILE_DAMAGED, NO_TASK, "a page is broken"),
        Violation(AuditRule.BAD_ROW, "t", "no JSON"),
    ]
    rows = view_rules(LastAudit(0, AuditReport(3, tuple(found)), thorough=True))

    assert {row.rule for row in rows[:2]} == {AuditRule.FILE_DAMAGED, AuditRule.BAD_ROW}
    assert [row.rule for row in rows if row.checked] == []


async def test_a_link_leads_to_one_event_however_long_its_tape(served_url: str) -> None:
    """Each row has its own, in a page and in a stream; the page that it leads to has the row."""
    async with browsing(served_url, work=False) as bench:
        attempt, _ = await make_ended(bench.manager.store, logs=300)
        path = f"/tasks/{attempt.task_id}"
        page = await bench.get(path)
        link = find_links(page)[-3]
        led = await bench.get(link.partition("#")[0])
        row = read_rows(await bench.client.get(f"{path}/live?after=299"))[0]

    assert link == f"{path}?after=279#e-300"
    assert led.find_all("li", "id")[0] == "e-280"
    assert link.partition("#")[2] in led.find_all("li", "id")
    assert f'href="{link}"' in row[1]


def find_links(page: Seen) -> list[str]:
    """The links to single events."""
    return [href for href in page.find_all("a", "href") if "#e-" in href]


async def test_rows_come_live_and_go_on_where_they_ended(served_url: str) -> None:
    """A frame is the row that a page has; who comes back gets what follows, to the final."""
    async with browsing(served_url) as bench:
        task_id = await bench.end("say", text=f"{HOSTILE}\nline two")
        whole = read_rows(await bench.client.get(f"/tasks/{task_id}/live"))
        rest = read_rows(await bench.client.get(f"/tasks/{task_id}/live?after=2"))
        back = read_rows(
            await bench.client.get(f"/tasks/{task_id}/live", headers={"Last-Event-ID": "3"})
        )
        ended = await bench.client.get(f"/tasks/{task_id}/live?after=4")

    assert [seq for seq, _ in whole] == ["1", "2", "3", "4"]
    assert whole[2:] == rest
    assert whole[3:] == back
    assert ended.status_code == 204
    for seq, html in whole:
        row = Seen(html)
        assert row.find_all("li", "data-seq") == [seq]
        assert "script" not in {tag for tag, _ in row.tags}
    assert 'final"' in whole[-1][1]


def read_rows(answer: Response) -> list[tuple[str, str]]:
    """The ids and the rows of a stream, as an ``EventSource`` has them."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    rows: list[tuple[str, str]] = []
    for block in answer.text.split("\n\n"):
        lines = [line.partition(": ")[::2] for line in block.split("\n") if line]
        if ("event", "row") in lines:
            html = "\n".join(value for name, value in lines if name == "data")
            rows.append((next(value for name, value in lines if name == "id"), html))
            assert {name for name, _ in lines} == {"id", "event", "data"}
    return rows


# --- acts -----------------------------------------------------------------------------------------


async def test_tasks_are_submitted_cancelled_and_retried_with_forms(served_url: str) -> None:
    """Each form leads to a page that reads; a form that is sent twice submits once."""
    async with browsing(served_url) as bench:
        sent = [await bench.post("/submit", op="wait", params="{}", key="once") for _ in range(2)]
        path = sent[0].headers["location"]
        task_id = path.rpartition("/")[2]
        store = bench.manager.store
        await until(lambda: _has_events(bench, task_id, 2))
        runs = await bench.get(path)
        cancelled = await bench.post(f"{path}/cancel", message="<b>enough</b>")
        await asyncio.wait([asyncio.ensure_future(bench.manager.handle(task_id).result())])
        after = await bench.get(path)
        again = await bench.post(f"{path}/retry")
        new = again.headers["location"].rpartition("/")[2]
        await bench.manager.handle(new).cancel()
        row = await store.get(task_id)
        params = await bench.post("/submit", op="wait", params="[1]")

    assert [one.status_code for one in sent] == [303, 303]
    assert sent[1].headers["location"] == path
    assert runs.find_all("progress", "value") == ["3"]
    assert f"{path}/cancel" in runs.find_all("form", "action")
    assert cancelled.headers["location"] == path
    assert row.cancel is not None
    assert row.cancel.message == "<b>enough</b>"
    assert "<b>enough</b>" in after.words
    assert f"{path}/cancel" not in after.find_all("form", "action")
    assert new != task_id
    assert "a JSON object" in see(params, 422).words


async def _has_events(bench: Bench, task_id: str, n: int) -> bool:
    return (await bench.manager.tape(task_id, limit=1)).last_seq >= n


async def test_what_is_chosen_is_confirmed_and_then_done(sqlite_url: str) -> None:
    """The page before shows what is left out and why; one that fails stops no other."""
    async with browsing(sqlite_url, work=False) as bench:
        store = bench.manager.store
        ids = [(await store.create(NewTask(new_task_id(), "x")))[0].task_id for _ in range(3)]
        await store.request_cancel(ids[0])
        unknown = new_task_id()
        chosen = [*ids, unknown]
        asked = see(await bench.post("/tasks/confirm", act="cancel", id=chosen, back="/tasks?op=x"))
        done = await bench.post(
            "/tasks/bulk", act="cancel", id=[*ids[1:], unknown], message="all", back="/tasks?op=x"
        )
        list_ = await bench.get(done.headers["location"])
        left = [await store.get(task_id) for task_id in ids]
        away = await bench.post("/tasks/bulk", act="cancel", id=ids, back="//elsewhere.example")
        nothing = await bench.post("/tasks/confirm", act="cancel")

    assert asked.find_all("input", "value")[-2:] == ids[1:]
    assert "it has cancelled" in asked.words
    assert "required" in next(had for _, had in asked.tags if had.get("name") == "message")
    assert done.headers["location"] == "/tasks?op=x&did=cancel&done=2&refused=1"
    assert "2 cancels were requested" in list_.words
    assert [task.cancel and task.cancel.message for task in left] == ["", "all", "all"]
    assert see(away, 422)
    assert "1 to 200 tasks" in see(nothing, 422).words


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://elsewhere.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
async def test_a_form_of_another_site_does_nothing(
    sqlite_url: str, headers: dict[str, str]
) -> None:
    """Nor does one that says nothing of where it is from: the browser must name our page."""
    async with browsing(sqlite_url, work=False) as bench:
        task, _ = await bench.manager.store.create(NewTask(new_task_id(), "x"))
        path = f"/tasks/{task.task_id}"
        await bench.manager.schedules.add("nightly", "say", every=60)
        ops = bench.manager.store.ops
        await ops.tell(OWNER, ["say"], 60)
        answers = [
            await bench.client.post(place, data=fields, headers=headers)
            for place, fields in (
                (f"{path}/cancel", {"message": "no"}),
                ("/tasks/bulk", {"act": "cancel", "id": task.task_id}),
                ("/submit", {"op": "say"}),
                *((f"/schedules/nightly/{act}", {}) for act in ("pause", "resume", "trigger")),
                *((f"/ops/say/{act}", {"reason": "no"}) for act in ("pause", "resume")),
                *((f"/workers/{OWNER}/{act}", {"reason": "no"}) for act in ("drain", "undrain")),
                ("/audit", {}),
                ("/login", {"token": "x"}),
            )
        ]
        left = await bench.manager.store.get(task.task_id)
        schedule = await bench.manager.schedules.get("nightly")
        stopped = (*(await ops.list_paused()).pauses, await ops.find_drain(OWNER))
        count = len((await bench.manager.store.list()).tasks)

    assert {answer.status_code for answer in answers} == {403}
    assert left.cancel is None
    assert (count, schedule.paused) == (1, False)
    assert stopped == (None,)


# --- schedules ------------------------------------------------------------------------------------


async def test_schedules_are_shown_and_changed(served_url: str) -> None:
    """Next, last, its task and how late it was; paused, resumed and triggered by forms."""
    async with browsing(served_url, work=False) as bench:
        schedules, store = bench.manager.schedules, bench.manager.store
        task, _ = await store.create(NewTask(new_task_id(), "say"))
        await schedules.add("nightly", "say", cron="0 3 * * *", params={"text": HOSTILE})
        await store.schedules.change(
            "nightly",
            lambda row: replace(
                row, last_us=task.created_us - 7_000_000, last_task=task.task_id, next_us=1
            ),
        )
        rows = [Schedule("b", "lone", every=90, next_us=1, last_task="gone"), Schedule("c", "lone")]
        for row in rows:
            await store.schedules.add_if_absent(row)
        listed = await bench.get("/schedules")
        overview = await bench.get("/")
        shown = await bench.get("/schedules/nightly")
        damaged = await bench.get("/schedules/c")
        op = await bench.get("/ops/say")
        absent = await bench.get("/schedules/absent", 404)
        (key,) = [had["value"] for _, had in shown.tags if had.get("name") == "key"]
        paused = await bench.post("/schedules/nightly/pause")
        after = await bench.get(paused.headers["location"])
        one_left = await bench.get("/")
        row = await schedules.get("nightly")
        triggered = [await bench.post("/schedules/nightly/trigger", key=key) for _ in range(2)]
        made = await store.get(triggered[0].headers["location"].removeprefix("/tasks/"))
        resumed = await bench.post("/schedules/nightly/resume")
        again = await bench.get(resumed.headers["location"])

    assert listed.find_all("tr", "id") == ["s-b", "s-c", "s-nightly"]
    for said in (
        "overdue",
        format_duration(7.0),
        "one / allow",
        shorten_id(task.task_id),
        "0 3 * * *",
    ):
        assert said in listed.words, said
    assert "no longer kept" in listed.words
    assert "no worker fires, though it is time: b, nightly" in overview.words
    assert "though it is time: b" in one_left.words, "what is paused is not overdue"
    assert "/schedules/b" in one_left.find_all("a", "href")
    assert "damaged" in damaged.words
    assert f"/tasks/{task.task_id}" in shown.find_all("a", "href")
    assert "Pause …" in shown.words
    assert "<script>alert(1)</script>" in shown.words
    assert "/schedules/nightly" in op.find_all("a", "href")
    assert "no schedule" in absent.words
    assert paused.headers["location"] == "/schedules/nightly?did=pause"
    assert row.paused
    assert "It makes no tasks until it is resumed." in after.words
    assert "Resume …" in after.words
    assert "Pause …" not in after.words
    assert triggered[0].headers["location"] == triggered[1].headers["location"]
    firing = read_firing(made.idempotency_key)
    assert firing is not None
    assert (firing.schedule, firing.by_hand) == ("nightly", True)
    assert "Pause …" in again.words
    assert "Comes next" in again.words


async def test_pages_of_schedules_go_on_by_name(sqlite_url: str) -> None:
    """Every schedule is on one page."""
    async with browsing(sqlite_url, work=False) as bench:
        for n in range(60):
            row = Schedule(f"s{n:02}", "say", every=60)
            await bench.manager.store.schedules.add_if_absent(row)
        first = await bench.get("/schedules")
        (link,) = [had["href"] or "" for _, had in first.tags if had.get("rel") == "next"]
        rest = await bench.get(link)

    assert link == "/schedules?cursor=s49"
    assert [*first.find_all("tr", "id"), *rest.find_all("tr", "id")] == [
        f"s-s{n:02}" for n in range(60)
    ]


async def test_a_token_for_an_op_sees_its_schedules_and_their_buttons(
    sqlite_url: str, tokens: TokenFile
) -> None:
    """Others are not there; a pause takes ``admin``, and is refused all the same."""
    token = make(tokens, "ann", "read:say", "submit:say")
    async with browsing(sqlite_url, tokens=tokens, work=False) as bench:
        for name, op in (("mine", "say"), ("other", "fail")):
            await bench.manager.schedules.add(name, op, every=60)
        await log_in(bench, token)
        listed = await bench.get("/schedules")
        mine = await bench.get("/schedules/mine")
        await bench.get("/schedules/other", 404)
        acts = {
            (name, act): (await bench.post(f"/schedules/{name}/{act}")).status_code
            for name in ("mine", "other")
            for act in ("pause", "resume", "trigger")
        }

    assert listed.find_all("tr", "id") == ["s-mine"]
    assert "Trigger …" in mine.words
    assert "Pause …" not in mine.words
    assert acts == {
        **{(name, act): 403 for name in ("mine", "other") for act in ("pause", "resume")},
        ("mine", "trigger"): 303,
        ("other", "trigger"): 404,
    }


# --- ops and workers that are stopped -----------------------------------------------------------


async def test_an_op_is_paused_and_resumed_by_forms(served_url: str) -> None:
    """At once, with the reason that it asks for; the pages say so, and the other form is there."""
    async with browsing(served_url, work=False) as bench:
        await bench.submit("say")
        shown = await bench.get("/ops/say")
        paused = await bench.post("/ops/say/pause", reason=f" {HOSTILE} ")
        after = await bench.get(paused.headers["location"])
        polled = await bench.get("/ops/say")
        again = await bench.post("/ops/say/pause", reason="another")
        (kept,) = (await bench.manager.list_paused()).pauses
        tables = [await bench.get(path) for path in ("/", "/workers")]
        bad = await bench.post("/ops/no op/pause", reason="x")
        long = await bench.post("/ops/fail/pause", reason="é" * 1_000)
        resumed = await bench.post("/ops/say/resume")
        back = await bench.get(resumed.headers["location"])
        left = (await bench.manager.list_paused()).pauses

    reasons = [had for tag, had in shown.tags if tag == "input" and had.get("name") == "reason"]
    assert "Pause say" in shown.words
    assert ["required" in had for had in reasons] == [True]
    assert paused.headers["location"] == again.headers["location"] == "/ops/say?did=pause"
    for page in (after, polled):
        assert "<script>alert(1)</script>" in page.words
        assert "Resume …" in page.words
        assert "Pause …" not in page.words
    assert "No worker begins a task of it" in after.words
    assert "No worker runs it." not in polled.words, "it waits on purpose"
    assert kept.reason == HOSTILE
    assert [" paused " in page.words for page in tables] == [True, True]
    assert see(bad, 422)
    assert "reason" in see(long, 422).words
    assert resumed.headers["location"] == "/ops/say?did=resume"
    assert "Pause …" in back.words
    assert left == ()


async def test_workers_are_shown_and_drained(served_url: str) -> None:
    """Who works, who is silent and who drains, page by page; a worker's own page has its runs."""
    async with browsing(served_url, work=False) as bench:
        store = bench.manager.store
        hostile = HOSTILE.replace("/", "")
        for owner in (OWNER, f"{OWNER}c", hostile, *(f"x{n:02}" for n in range(55))):
            await store.ops.tell(owner, ["say"], 60)
        await store.ops.tell("silent", ["say"], 0.000001)
        task_id = await bench.submit("say")
        await store.claim_due("run:7:1:a", ["say"], 1, 30)
        listed = await bench.get("/workers")
        (link,) = [had["href"] or "" for _, had in listed.tags if had.get("rel") == "next"]
        rest = await bench.get(link)
        shown = await bench.get(f"/workers/{OWNER}")
        drained = await bench.post(f"/workers/{OWNER}/drain", reason="it leaks")
        after = await bench.get(drained.headers["location"])
        whole = await bench.get("/workers")
        drains = [await store.ops.find_drain(owner) for owner in (OWNER, f"{OWNER}c")]
        undrained = await bench.post(f"/workers/{OWNER}/undrain")
        back = await bench.get(undrained.headers["location"])
        left = await store.ops.find_drain(OWNER)
        odd = await bench.get(f"/workers/{quote(hostile, safe='')}")
        runner = await bench.get("/workers/run:7:1:a")
        unknown = await bench.get("/workers/web-1", 404)
        nobody = await bench.post("/workers/nobody/drain", reason="x")

    rows = [*listed.find_all("tr", "id"), *rest.find_all("tr", "id")]
    assert len([row for row in rows if row.startswith("k-")]) == 60
    assert len(set(rows)) == len(rows) - 1, "the ops are on both pages"
    assert "silent" in listed.words + rest.words
    assert "web-1:4711 ✓ works" in listed.words + rest.words
    assert "Drain web-1:4711" in shown.words
    assert drained.headers["location"] == f"/workers/{OWNER.replace(':', '%3A')}?did=drain"
    assert "It claims no more tasks." in after.words
    assert "it leaks" in after.words
    assert "Undrain …" in after.words
    assert "Drain …" not in after.words
    assert "it leaks" in whole.words
    assert [drain and drain.reason for drain in drains] == ["it leaks", None]
    assert "It claims tasks again." in back.words
    assert left is None
    assert "<script>alert(1)<script>" in odd.words
    assert f"/tasks/{task_id}" in runner.find_all("a", "href")
    assert "Drain" not in runner.words, "what runs a task of its own claims none"
    assert "no worker" in unknown.words
    assert see(nobody, 404)


async def test_a_token_sees_the_workers_that_it_may_stop_only_with_admin(
    sqlite_url: str, tokens: TokenFile
) -> None:
    """A reader has no form, and one for some ops no worker; each act is refused all the same."""
    narrow, reader = make(tokens, "ann", "read:say", "submit:say"), make(tokens, "bob", "read")
    told: dict[str, list[int]] = {}
    pages: list[Seen] = []
    async with browsing(sqlite_url, tokens=tokens, work=False) as bench:
        await bench.manager.store.ops.tell(OWNER, ["say"], 60)
        for name, token in (("narrow", narrow), ("reader", reader)):
            bench.client.cookies.clear()
            await log_in(bench, token)
            reads = [await bench.client.get(path) for path in ("/ops/say", f"/workers/{OWNER}")]
            acts = [
                await bench.post(path, reason="x")
                for path in (
                    *(f"/ops/say/{act}" for act in ("pause", "resume")),
                    *(f"/workers/{OWNER}/{act}" for act in ("drain", "undrain")),
                )
            ]
            told[name] = [one.status_code for one in (*reads, *acts)]
            pages += [await bench.get("/workers"), see(reads[0])]
        drain = await bench.manager.store.ops.find_drain(OWNER)
        pauses = (await bench.manager.list_paused()).pauses

    assert told == {"narrow": [200, 403, *[403] * 4], "reader": [200, 200, *[403] * 4]}
    assert ["Who works" in page.words for page in pages] == [False, False, True, False]
    assert ["Pause …" in page.words for page in pages] == [False] * 4
    assert (drain, pauses) == (None, ())


# --- who may see it -------------------------------------------------------------------------------

PAGES = {
    "/": "read",
    "/tasks": "read",
    "/tasks/{task_id}": "read",
    "/tasks/{task_id}/live": "read",
    "/tasks/{task_id}/tape.ndjson": "read",
    "/find": "read",
    "/ops/x": "read",
    "/schedules": "read",
    "/schedules/nightly": "read",
    "/workers": "read",
    "/workers/web-1:4711:5:ab": "read",
    "/trace/4bf92f3577b34da6a3ce929d0e0e4736": "read",
    "/drops": "read",
    "/audit": "admin",
    "/submit": "submit",
}
"""Each page, and the scope that it takes."""


async def fill_pages(bench: Bench) -> Task:
    """A task, a schedule and a worker, so that each page has what it shows."""
    task, _ = await bench.manager.store.create(NewTask(new_task_id(), "x"))
    await bench.manager.store.schedules.add_if_absent(Schedule("nightly", "x", every=60))
    await bench.manager.store.ops.tell(OWNER, ["x"], 60)
    return task


async def test_every_page_takes_the_right_token(sqlite_url: str, tokens: TokenFile) -> None:
    """Who is not known is led to the login, and back from there; who lacks a scope is told so."""
    right = {scope: make(tokens, f"right-{scope}", scope) for scope in ("read", "submit", "admin")}
    narrow = make(tokens, "narrow", "cancel")
    told: dict[str, list[int | str]] = {}
    async with browsing(sqlite_url, tokens=tokens, work=False) as bench:
        task = await fill_pages(bench)
        await bench.manager.store.request_cancel(task.task_id)
        for path, scope in PAGES.items():
            place = path.format(task_id=task.task_id)
            bench.client.headers.pop("Authorization", None)
            unknown = await bench.client.get(place)
            polled = await bench.client.get(place, headers={"HX-Request": "true"})
            told[path] = [unknown.headers["location"], polled.headers["hx-redirect"]]
            assert told[path][0] == f"/login?next={quote(place, safe='')}"
            for token in (narrow, right[scope]):
                bench.client.headers["Authorization"] = f"Bearer {token}"
                told[path].append((await bench.client.get(place)).status_code)

    assert {path: answers[2:] for path, answers in told.items()} == {
        path: [403, 303 if path == "/find" else 200] for path in PAGES
    }


async def test_what_is_prepared_is_made_by_no_request(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server compiles its templates, and looks at its routes, before it says that it is there."""

    def compile_late(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a template is compiled")

    environment.cache_clear()  # of earlier tests
    async with browsing(sqlite_url, work=False) as bench:
        task = await fill_pages(bench)
        await ApiServer(bench.app, "127.0.0.1", 0).prepare()
        monkeypatch.setattr(Environment, "compile", compile_late)
        paths = [path.format(task_id=task.task_id) for path in PAGES if not path.endswith("/live")]
        told = {path: (await bench.client.get(path)).status_code for path in [*paths, "/login"]}

    assert set(told.values()) == {200, 303}


async def _send_raw(app: Any, path: str) -> bytes:
    """The body that the application sends to ``HEAD``: a client drops it, and says nothing."""
    sent: list[bytes] = []
    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await never.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    scope = {
        "type": "http",
        "method": "HEAD",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)
    return b"".join(sent)


async def test_every_page_answers_head(sqlite_url: str) -> None:
    """As GET, without a body: for what looks whether a link is alive. A stream has no head."""
    told: dict[str, Any] = {}
    async with browsing(sqlite_url, work=False) as bench:
        task = await fill_pages(bench)
        paths = [path.format(task_id=task.task_id) for path in PAGES if not path.endswith("/live")]
        paths += ["/login", "/static/page.css", "/tasks/absent", "/tasks?statu=x"]
        for path in paths:
            whole, head = await bench.client.get(path), await bench.client.head(path)
            assert head.content == b"", path
            lengths = [int(one.headers.pop("content-length", "0")) for one in (whole, head)]
            assert (head.status_code, head.headers) == (whole.status_code, whole.headers), path
            assert abs(lengths[0] - lengths[1]) < 50, "an age may be longer by then"
            told[path] = head.status_code
            assert await _send_raw(bench.app, path.partition("?")[0]) == b"", path
        live = await bench.client.head(f"/tasks/{task.task_id}/live")

    assert set(told.values()) == {200, 303, 404, 422}
    assert live.status_code == 405


async def test_a_token_for_an_op_sees_that_op_and_its_buttons(
    sqlite_url: str, tokens: TokenFile
) -> None:
    """Others are not there; what may not be done has no button, and is refused all the same."""
    token = make(tokens, "ann", "read:a", "read:b", "cancel:b")
    async with browsing(sqlite_url, tokens=tokens, work=False) as bench:
        store = bench.manager.store
        ids = {op: (await store.create(NewTask(new_task_id(), op)))[0].task_id for op in "abc"}
        await log_in(bench, token)
        overview = await bench.get("/")
        listed = {op: await bench.client.get(f"/tasks?op={op}") for op in "abc"}
        first = await bench.get("/tasks")
        shown = {op: await bench.client.get(f"/tasks/{ids[op]}") for op in "abc"}
        found = {op: await bench.client.get(f"/find?q={shorten_id(ids[op])}") for op in "abc"}
        acts = {op: await bench.post(f"/tasks/{ids[op]}/cancel", message="x") for op in "abc"}
        bulk = await bench.post("/tasks/bulk", act="cancel", id=list(ids.values()), message="y")
        cancels = {op: (await store.get(ids[op])).cancel for op in "abc"}

    assert set(overview.find_all("tr", "id")) == {"o-a", "o-b"}
    assert [one.status_code for one in listed.values()] == [200, 200, 403]
    assert first.find_all("tr", "id") == [f"t-{ids['a']}"]
    assert [one.status_code for one in shown.values()] == [200, 200, 404]
    assert [ids[op] in one.headers["location"] for op, one in found.items()] == [True, True, False]
    assert "Cancel" not in see(shown["a"]).words
    assert "Cancel" in see(shown["b"]).words
    assert [one.status_code for one in acts.values()] == [403, 303, 404]
    assert bulk.headers["location"] == "/tasks?did=cancel&done=1&refused=2"
    assert cancels["a"] is cancels["c"] is None
    assert cancels["b"] is not None
    assert cancels["b"].by == "ann"


async def test_a_trace_is_linked_to_where_it_is_shown(sqlite_url: str) -> None:
    """By the template that who serves names, with ids that lead nowhere else; else by none."""
    template = "https://traces.example/explore?id={trace_id}&span={span_id}"
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    hrefs: list[list[str]] = []
    async with TaskManager(sqlite_url, work=False) as manager:
        task, _ = await manager.store.create(NewTask(new_task_id(), "x"))
        claim = await manager.store.claim_if_pending(task, "me", 60)
        assert claim is not None
        manager.store.attach_span(claim.attempt, trace, None, span)
        await manager.store.note_traces([claim.attempt])
        for trace_url in (template, None):
            async with asking(make_app(manager, trace_url=trace_url)) as client:
                for path in (f"/tasks/{task.task_id}", f"/trace/{trace}"):
                    page = Seen((await client.get(path)).text)
                    hrefs.append([href for href in page.find_all("a", "href") if "://" in href])

    assert hrefs == [
        [f"https://traces.example/explore?id={trace}&span={span}"],
        [f"https://traces.example/explore?id={trace}&span="],
        [],
        [],
    ]
    assert fill_trace_url(template, 'a"/../b', "&x=1") == (
        "https://traces.example/explore?id=a%22%2F..%2Fb&span=%26x%3D1"
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", "/trace/{trace_id}", "https://traces.example/", "https:///{trace_id}"),
        *("javascript:alert('{trace_id}')", "https://a b/{trace_id}", "https://x/{trace_id}{id}"),
        *("https://[x/{trace_id}", "https://x/{trace_id}\n", "https://x/{trace_id}" + "x" * 2_048),
    ],
)
def test_what_is_no_url_of_traces_is_refused(sqlite_url: str, text: str) -> None:
    """What would run a script, leads nowhere, or names no trace."""
    with pytest.raises(BadSetting, match=r"with \{trace_id\} in it"):
        make_app(TaskManager(sqlite_url, work=False), trace_url=text)


PAGES_OF_A_TAG: dict[str, tuple[int, int]] = {
    "/": (303, 303),  # to the tasks: its numbers are of ops
    "/tasks?tag={tag}": (200, 403),
    "/tasks/{task_id}": (200, 404),
    "/tasks/{task_id}/live": (204, 404),  # it has ended, as its reader has seen
    "/tasks/{task_id}/tape.ndjson": (200, 404),
    "/find?q={task_id}": (303, 303),  # to where a whole id leads, whether or not there is a task
    "/ops/say": (303, 303),  # to the tasks of the op that have the tag
    "/schedules": (200, 200),
    "/schedules/nightly-{tag}": (200, 404),
    "/workers": (403, 403),
    "/workers/web-1:4711:5:ab": (403, 403),
    "/trace/4bf92f3577b34da6a3ce929d0e0e4736": (200, 200),
    "/drops": (403, 403),
    "/audit": (403, 403),
    "/submit": (200, 200),
}
"""What a token of a tag is answered: of what has the tag, and of what has another one."""


async def test_a_token_of_a_tag_at_every_page(sqlite_url: str, tokens: TokenFile) -> None:
    """It sees the tasks of its tag and their buttons; no number, list or link tells of another."""
    token = make(tokens, "ann", "read:tag=a", "submit:tag=a", "cancel:tag=a")
    told: dict[str, list[int]] = {path: [] for path in PAGES_OF_A_TAG}
    async with browsing(sqlite_url, tokens=tokens, work=False) as bench:
        store = bench.manager.store
        ended: dict[str, str] = {}
        open_: dict[str, str] = {}
        for tag in "ab":
            for ids in (ended, open_):
                task, _ = await store.create(NewTask(new_task_id(), "say", tags=(tag,)))
                ids[tag] = task.task_id
            await store.request_cancel(ended[tag])
            await store.schedules.add_if_absent(
                Schedule(f"nightly-{tag}", "say", every=60, tags=(tag,))
            )
        await store.ops.tell(OWNER, ["say"], 60)
        await log_in(bench, token)
        for path, answers in told.items():
            for tag in "ab":
                where = path.format(task_id=ended[tag], tag=tag)
                headers = {"Last-Event-ID": "1"} if path.endswith("/live") else {}
                answers.append((await bench.client.get(where, headers=headers)).status_code)
        listed = await bench.get("/tasks")
        of_op = await bench.get("/tasks?op=say")
        task_page = await bench.get(f"/tasks/{open_['a']}")
        plans = await bench.get("/schedules")
        form = await bench.get("/submit")
        sent = [
            await bench.post("/submit", op="say", params="{}", tags=tags)
            for tags in ("b a", "b", "")
        ]
        bulk = await bench.post("/tasks/bulk", act="cancel", id=list(open_.values()), message="y")
        cancels = {tag: (await store.get(open_[tag])).cancel for tag in "ab"}
        made = await store.get(sent[0].headers["location"].rpartition("/")[2])
        overview = await bench.client.get("/")

    assert {path.partition("?")[0].removesuffix("-{tag}") for path in told} == {
        path.removesuffix("x") + "say" if path == "/ops/x" else path for path in PAGES
    }
    assert told == {path: list(answers) for path, answers in PAGES_OF_A_TAG.items()}
    assert overview.headers["location"] == "/tasks"
    assert set(listed.find_all("tr", "id")) == {f"t-{ended['a']}", f"t-{open_['a']}"}
    assert listed.find_all("tr", "id") == of_op.find_all("tr", "id")
    assert "a" in listed.find_all("input", "value"), "the filter says so"
    assert "b" not in [kind for kind, _ in listed.tags], "no number of a status is of a tag"
    assert not {"Overview", "Workers", "Drops"} & set(listed.words.split())
    assert "Cancel" in task_page.words
    assert "nightly-a" in plans.words
    assert "nightly-b" not in plans.words
    assert "a" in form.find_all("input", "value")
    assert [one.status_code for one in sent] == [303, 403, 403]
    assert made.tags == ("a", "b")
    assert bulk.headers["location"] == "/tasks?did=cancel&done=1&refused=1"
    assert cancels["a"] is not None
    assert cancels["b"] is None


async def test_a_cookie_stands_for_a_token_and_is_none(sqlite_url: str, tokens: TokenFile) -> None:
    """No script and no other site has it; without the browser's word it does nothing; the token
    that is revoked takes it along; and it outlives the server."""
    token = make(tokens, "ann", "admin")
    async with browsing(sqlite_url, tokens=tokens, work=False) as bench:
        wrong = await bench.post("/login", token="tapescope_wrong", next="/tasks")
        header = await log_in(bench, token)
        cookie = bench.client.cookies[COOKIE]
        reads = await bench.client.get("/v1/tasks")
        acts = [
            (await bench.client.post("/v1/audit", headers=headers)).status_code
            for headers in ({}, OURS, {"Sec-Fetch-Site": "cross-site"})
        ]
    async with browsing(sqlite_url, tokens=TokenFile(tokens.path), work=False) as bench:
        bench.client.cookies.set(COOKIE, cookie)
        later = await bench.client.get("/")
        bench.client.cookies.set(COOKIE, f"{cookie[:-1]}{'0' if cookie[-1] != '0' else '1'}")
        forged = await bench.client.get("/")
        bench.client.cookies.set(COOKIE, cookie)
        TokenFile(tokens.path).revoke("ann")
        make(TokenFile(tokens.path), "ann", "admin")
        revoked = await bench.client.get("/")
        out = await bench.post("/logout")

    assert see(wrong, 401).find_all("p", "role") == ["alert"]
    assert token not in header
    assert {"HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"} <= set(header.split("; "))
    assert reads.status_code == later.status_code == 200
    assert acts == [401, 200, 403]
    assert forged.status_code == revoked.status_code == 303
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert oct(tokens.path.with_suffix(".cookies").stat().st_mode)[-3:] == "600"


def test_a_cookie_ends_and_a_key_that_others_know_seals_none(tokens: TokenFile) -> None:
    """Its time is sealed, too; where the key cannot be kept a process has one of its own."""
    token = make(tokens, "a.b", "read")
    known = tokens.find_known(token)
    assert known is not None
    cookies = Cookies(tokens)
    cookie = cookies.make(known, 1_000)
    name, until_, seal = cookie.rsplit(".", 2)
    key = tokens.path.with_suffix(".cookies")
    key.chmod(0o644)

    assert name == "a.b"
    assert cookies.find(cookie, int(until_) - 1) is not None
    assert cookies.find(cookie, int(until_)) is None
    assert cookies.find(f"{name}.{int(until_) + 1}.{seal}", 1_000) is None
    assert Cookies(tokens).find(cookie, 1_000) is None, "another key"
    for bad in ("", ".", "..", "a.b", f"a.b.x.{seal}", f"a.b.{until_}.é", "a.b.9" * 400):
        assert cookies.find(bad, 1_000) is None


async def test_the_login_leads_to_no_other_site(sqlite_url: str, tokens: TokenFile) -> None:
    """Whatever a link to it says: then it leads to the overview."""
    token = make(tokens, "ann", "read")
    async with browsing(sqlite_url, tokens=tokens, work=False) as bench:
        led = [
            (await bench.post("/login", token=token, next=path)).headers["location"]
            for path in ("/tasks?op=a", "https://a.example", "//a.example", "/\\a.example", "/a b")
        ]

    assert led == ["/tasks?op=a", "/", "/", "/", "/"]


async def test_a_link_on_another_site_leads_here_by_a_page_of_ours(
    sqlite_url: str, tokens: TokenFile
) -> None:
    """The browser sends no strict cookie then: so it is had to ask again. Nothing else gets in."""
    make(tokens, "ann", "read")
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    async with browsing(sqlite_url, tokens=tokens, work=False) as bench:
        followed = await bench.client.get(
            "/tasks?op=a", headers={**link, "Sec-Fetch-Dest": "document"}
        )
        framed = await bench.client.get("/tasks", headers={**link, "Sec-Fetch-Dest": "iframe"})
        fetched = await bench.client.get("/tasks", headers={"Sec-Fetch-Site": "cross-site"})
        api = await bench.client.get("/v1/tasks", headers={**link, "Sec-Fetch-Dest": "document"})

    assert followed.status_code == 200
    assert '<meta http-equiv="refresh" content="0">' in followed.text
    assert "default-src 'none'" in followed.headers["content-security-policy"]
    assert [one.status_code for one in (framed, fetched, api)] == [403, 403, 403]


async def test_files_are_for_everybody_and_change_their_name(
    sqlite_url: str, tokens: TokenFile
) -> None:
    """The login needs them; a page names them with their hash, so they may be kept for good."""
    make(tokens, "ann", "read")
    async with browsing(sqlite_url, tokens=tokens, work=False) as bench:
        page = await bench.get("/login")
        names = [*page.find_all("script", "src"), *page.find_all("link", "href")]
        answers = [await bench.client.get(name) for name in names]
        others = [
            (await bench.client.get(f"/static/{name}")).status_code
            for name in ("htmx.LICENSE", "nothing.js", "..%2Fviews.py", "__init__.py")
        ]

    assert {name.partition("?")[0].rpartition("/")[2] for name in names} == {
        *("htmx.min.js", "idiomorph-ext.min.js", "page.js", "page.css", "icon.svg")
    }
    assert {one.status_code for one in answers} == {200}
    assert all("immutable" in one.headers["cache-control"] for one in answers)
    assert others == [404, 404, 404, 404]


async def test_pages_are_mounted_below_a_path(sqlite_url: str) -> None:
    """Every link has the path before it that a proxy or an application takes off."""
    from fastapi import FastAPI

    manager = TaskManager(sqlite_url, work=False)
    outer = FastAPI()
    outer.mount("/below", make_app(manager))
    async with manager, asking(outer) as client:
        page = Seen((await client.get("/below/")).text)
        found = await client.get("/below/find?q=x")
        links = [*page.find_all("a", "href"), *page.find_all("script", "src")]
        statuses = {
            (await client.get(link)).status_code for link in links if not link.startswith("#")
        }

    assert {link for link in links if not link.startswith(("/below/", "#"))} == set()
    assert statuses == {200}
    assert found.headers["location"] == "/below/tasks?key=x"


def test_scripts_of_others_are_as_they_were_published() -> None:
    """Each is of the package that the list names, byte for byte, and has its licence beside it."""
    folder = files("tapescope.http.api.page").joinpath("static")
    words = folder.joinpath("VENDORED.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `([\w.-]+\.js)` .*`([0-9a-f]{64})` \|$", words, re.M))
    scripts = {one.name for one in folder.iterdir() if one.name.endswith(".js")} - {"page.js"}

    assert scripts == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == digest
        assert folder.joinpath(f"{re.split('[.-]', name)[0]}.LICENSE").is_file()
