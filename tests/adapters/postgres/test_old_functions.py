"""Functions that an upgrade leaves beside the newer ones of the same name: they harm nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tapescope.model.tape import Outcome
from tapescope.model.tasks import CancelReason, ErrorInfo, NewTask
from tapescope.store.validation import new_task_id
from tapescope_adapters.postgres import PostgresStore
from tests.adapters.postgres.test_names import find_open_functions
from tests.support.hostile_names import hostile_pools
from tests.support.postgres_sessions import schema_of, session, start_task

if TYPE_CHECKING:
    from tests.support.postgres_sessions import Session

OF_VERSION_4: Final = """
CREATE OR REPLACE FUNCTION cancelled_final(
    reason text, message text, who text, at bigint, error json
) RETURNS text
LANGUAGE sql STABLE
RETURN CASE WHEN error IS NULL
       THEN json_build_object(
           'outcome', 'cancelled',
           'cancel', json_build_object('reason', reason, 'message', message, 'by', who,
                                       'requested_at', at))
       ELSE json_build_object(
           'outcome', 'cancelled', 'error', error,
           'cancel', json_build_object('reason', reason, 'message', message, 'by', who,
                                       'requested_at', at)) END::text;

CREATE OR REPLACE FUNCTION cancel_task(
    x_task_id uuid, x_reason text, x_message text, x_by text, x_ts bigint, x_body text
) RETURNS json
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    t     tasks%ROWTYPE;
    state text;
    last  record;
BEGIN
    SELECT * INTO t FROM tasks WHERE task_id = x_task_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT coalesce(max(e.seq), 0) AS seq, coalesce(max(e.offer), 0) AS offer INTO last
      FROM (SELECT e.seq, e.offer FROM events e WHERE e.task = t.id ORDER BY e.seq DESC LIMIT 1) e;
    IF t.status NOT IN ('pending', 'running') THEN
        state := 'terminal';
    ELSIF t.cancel_requested_at IS NOT NULL THEN
        state := 'already_recorded';
    ELSE
        state := 'recorded';
        UPDATE tasks
           SET cancel_reason = x_reason, cancel_message = x_message, cancel_by = x_by,
               cancel_requested_at = x_ts
         WHERE id = t.id
        RETURNING * INTO t;
        IF t.status = 'pending' THEN
            state := 'cancelled';
            last.seq := last.seq + 1;
            INSERT INTO events (task, seq, attempt, offer, type, ts, body)
            VALUES (t.id, last.seq, t.attempt, foreign_offer(last.offer), 'final', x_ts, x_body);
        END IF;
    END IF;
    RETURN json_build_array(state, t.op, t.owner, t.attempt, t.cancel_reason, t.cancel_message,
                            t.cancel_by, t.cancel_requested_at, last.seq);
END $$;
"""
"""What 0005_cancel_role.sql gave more arguments, as version 4 of the schema had it."""

BROKEN: Final = """
CREATE OR REPLACE FUNCTION cancelled_final(
    reason text, message text, who text, at bigint, error json
) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''called''; END';
CREATE OR REPLACE FUNCTION cancel_task(
    x_task_id uuid, x_reason text, x_message text, x_by text, x_ts bigint, x_body text
) RETURNS json LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''called''; END';
"""

LEFT: Final = ("cancel_task", "cancelled_final")


async def plant(raw: Session, schema: str) -> None:
    """As a migration did."""
    async with raw.transaction():
        await raw.execute(f"SET LOCAL search_path = {schema}, pg_temp")
        await raw.execute(OF_VERSION_4)


@pytest.mark.unmade  # by the role of the pools
async def test_what_an_upgrade_leaves_is_called_by_nothing_and_leads_nowhere(
    postgres_url: str,
) -> None:
    """No verb calls one of them, they find names as ours do, and the audit has nothing to say."""
    schema = schema_of(postgres_url)
    async with (
        hostile_pools(postgres_url) as make,
        session(postgres_url) as raw,
        PostgresStore(pool=await make(), schema=schema) as store,
    ):
        await plant(raw, schema)
        overloads = await raw.fetch(
            "SELECT proname, count(*) FROM pg_proc WHERE pronamespace = $1::regnamespace"
            " AND proname = ANY ($2) GROUP BY 1 ORDER BY 1",
            schema,
            LEFT,
        )
        open_ones = await find_open_functions(raw, schema)
        page = await store.maintenance.audit()
        await raw.execute(BROKEN)
        pending, _ = await store.create(NewTask(new_task_id(), "x"))
        await store.request_cancel(pending.task_id, CancelReason.USER)
        given_up, lost = await start_task(store), await start_task(store)
        for claim in (given_up, lost):
            await store.request_cancel(claim.task.task_id, CancelReason.USER)
        answer = await store.retry_later(given_up.attempt, ErrorInfo("x"), 0)
        rescued = await store.leases.rescue_expired(dead_owners=[lost.attempt.owner])
        ended = await store.get(pending.task_id)

    assert [tuple(row) for row in overloads] == [(name, 2) for name in LEFT]
    assert open_ones == []
    assert page.violations == ()
    assert ended.status.terminal
    assert answer.outcome is Outcome.CANCELLED
    assert [one.result.value for one in rescued] == ["cancelled"]


async def test_an_old_call_ends_a_task_as_one_of_ours(postgres_url: str) -> None:
    """The guards hold for it: one final, and a second cancel finds the first."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        await plant(raw, schema_of(postgres_url))
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        call = (
            "SELECT cancel_task($1::text::uuid, 'user', 'stop', 'me', 1,"
            " cancelled_final('user', 'stop', 'me', 1, NULL))"
        )
        states = [str(await raw.fetchval(call, task.task_id)) for _ in range(2)]
        answer = await store.request_cancel(task.task_id, CancelReason.USER)
        tape = await store.read_tape(task.task_id)
        page = await store.maintenance.audit()

    assert [state.split(",")[0] for state in states] == ['["cancelled"', '["terminal"']
    assert (answer.state.value, tape.final_seq, page.violations) == ("terminal", 1, ())
