"""Slots of concurrency keys, for parked tasks, in the transaction of a claim (decision 0103)."""

from __future__ import annotations

import sqlite3

from tapescope.store import DueOrder, encode
from tapescope_adapters._sql import Queries

__all__ = ["admit_parked", "has_look"]


def has_look(conn: sqlite3.Connection, sql: Queries, order: DueOrder, now: int) -> bool:
    """Whether a key of these ops may have a slot for a parked task."""
    asked = {"ops": encode(order.ops, "ops"), "now": now, "owner": order.owner}
    return bool(conn.execute(sql["has_look"], asked).fetchone()[0])


def admit_parked(conn: sqlite3.Connection, sql: Queries, order: DueOrder, now: int) -> None:
    """Give the free slots of the keys that are to be looked at to the tasks that go first, as many
    as the claim may take: these are due from now on."""
    asked = {"ops": encode(order.ops, "ops"), "now": now, "owner": order.owner}
    looks = conn.execute(sql["find_looks"], asked).fetchall()
    if not looks:
        return
    conn.execute(sql["forget_looks"], (encode(looks, "looks"),))
    left = order.limit
    for op, key in dict.fromkeys((op, key) for op, _, key in looks):
        name = {"op": op, "key": key}
        most, held = conn.execute(sql["count_slots"], name).fetchone()
        room = left + 1 if most is None else most - held
        if room <= 0:
            continue  # whatever frees a slot has the key looked at again
        found = conn.execute(
            sql["find_parked"], name | {"now": now, "limit": min(room, left + 1)}
        ).fetchall()
        ids = [task for (task,) in found[:left]]
        if ids:
            conn.execute(sql["admit_parked"], (encode(ids, "keys"),))
            left -= len(ids)
        if len(found) > len(ids):  # there is a slot for another one, and no place in this claim
            due_at = next(at for of, at, named in looks if (of, named) == (op, key))
            conn.execute(sql["look_again"], (op, due_at, key))
