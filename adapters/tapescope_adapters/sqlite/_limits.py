"""Slots and starts of concurrency keys, for parked tasks, in the transaction of a claim (decisions
0103 and 0107)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Final

from tapescope.store import DueOrder, encode
from tapescope_adapters._sql import Queries

__all__ = ["admit_parked", "has_look"]

_KEYS: Final = 256
"""How many keys a claim looks at, and below of each op: none waits for the full keys of another."""
_KEYS_OF_OP: Final = 64


def has_look(conn: sqlite3.Connection, sql: Queries, order: DueOrder, now: int) -> bool:
    """Whether a key of these ops may have a slot for a parked task."""
    asked = {"ops": encode(order.ops, "ops"), "now": now, "owner": order.owner}
    return bool(conn.execute(sql["has_look"], asked).fetchone()[0])


def admit_parked(conn: sqlite3.Connection, sql: Queries, order: DueOrder, now: int) -> None:
    """Give the free slots of the keys that are to be looked at to the tasks that go first, as many
    as may begin now and the claim may take: these are due from now on. Key after key, while there
    is a place left. ``now`` was read in this transaction."""
    asked = {"ops": encode(order.ops, "ops"), "now": now, "owner": order.owner}
    left, looked = order.limit, Counter[str]()
    for _ in range(_KEYS):
        if left < 1 or (look := conn.execute(sql["find_look"], asked).fetchone()) is None:
            return
        op, key = look
        looked[op] += 1
        if looked[op] == _KEYS_OF_OP:
            asked["ops"] = encode([one for one in order.ops if looked[one] < _KEYS_OF_OP], "ops")
        name = {"op": op, "key": key}
        timed = name | {"now": now}
        conn.execute(sql["forget_looks"], timed)
        most, held, times = conn.execute(sql["count_slots"], name).fetchone()
        room = left + 1 if most is None else most - held
        if times is not None:
            conn.execute(sql["forget_starts"], timed)
            conn.execute(sql["mend_starts"], timed)
            (begun,) = conn.execute(sql["count_starts"], name).fetchone()
            room = min(room, times - begun)
        if room > 0:  # else whatever makes room has the key looked at again
            asked_for = timed | {"limit": min(room, left + 1)}
            found = conn.execute(sql["find_parked"], asked_for).fetchall()
            ids = [task for (task,) in found[:left]]
            if ids:
                conn.execute(sql["admit_parked"], (encode(ids, "keys"),))
                left -= len(ids)
            if len(found) > len(ids):  # there is room for another one, and no place in this claim
                conn.execute(sql["look_again"], timed)
        if times is not None:
            conn.execute(sql["look_at_window"], name)
