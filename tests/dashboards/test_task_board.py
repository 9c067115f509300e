"""The board of one task: each of its questions, put to a real PostgreSQL store."""

from __future__ import annotations

import json

import asyncpg
import pytest

from dashboards.task import ASKED, NOBODY, QUESTIONS, SqlQuestion
from tapescope import Reporter, TaskManager
from tests.dashboards.pack import read_board
from tests.support.services import Postgres


async def work(report: Reporter) -> None:
    await report.log("info", "half of it")


async def test_every_question_is_answered_by_a_store(
    postgres_url: str, postgres_server: Postgres
) -> None:
    """The row, the tape and the late events of a task, by its id; nothing for another id."""
    async with TaskManager(postgres_url) as manager:
        task = await manager.submit("resize", work)
        await task.result()
    _, _, schema = postgres_url.partition("schema=")
    connection = await asyncpg.connect(postgres_server.dsn, server_settings={"search_path": schema})
    try:
        rows = {
            question.title: await connection.fetch(question.sql.replace(ASKED, f"'{task.task_id}'"))
            for question in QUESTIONS
        }
        nothing = [
            await connection.fetch(question.sql.replace(ASKED, f"'{NOBODY}'"))
            for question in QUESTIONS
        ]
    finally:
        await connection.close()

    (row,) = rows["Task"]
    assert (row["op"], row["status"], row["retries left"]) == ("resize", "succeeded", 0)
    assert [event["type"] for event in rows["Tape"]] == ["task_started", "log", "final"]
    assert json.loads(rows["Tape"][1]["body"])["message"] == "half of it"
    assert rows["Late events"] == []
    assert nothing == [[]] * len(QUESTIONS)


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.title for question in QUESTIONS])
def test_a_question_stands_on_the_board(question: SqlQuestion) -> None:
    """Each is a table that asks the chosen database, and says why it is empty."""
    panels = {panel["title"]: panel for panel in read_board("task")["panels"]}
    panel = panels[question.title]

    assert panel["datasource"]["uid"] == "${database}"
    assert panel["fieldConfig"]["defaults"]["noValue"].endswith(".")
    assert panel["targets"][0]["rawSql"] == question.sql
