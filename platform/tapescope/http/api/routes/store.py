"""The store as a whole: its numbers, its traces, its audit."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Path, Query, Request, Response

from tapescope.http.access import Scope
from tapescope.http.api import schemas
from tapescope.http.api.routes.openapi import BODY, problems, takes
from tapescope.http.api.routes.requests import Admin, Reader, make_router, read_body, reply
from tapescope.http.api.state import acting, state_of
from tapescope.http.api.task_acts import need_ops
from tapescope.model.json_shapes import audit_shape, backlog_shape, traced_shape
from tapescope.store.validation import check_trace_id

__all__ = ["router"]

router = make_router()


_TRACED: Final = 10_000
"""Attempts of one trace that are shown."""


@router.get("/stats", response_model=schemas.Stats, responses=problems(), tags=["store"])
async def get_stats(
    request: Request,
    caller: Reader,
    max_age: Annotated[
        float, Query(ge=0, le=60, description="Seconds: numbers of this age are good enough.")
    ] = 7.5,
) -> Response:
    """What waits and what runs, by op: the same numbers from every process of the store.

    Rates are those of the last minutes, as far as this server has seen them. It takes a token for
    an op.
    """
    need_ops(caller)
    state = state_of(request)
    backlog = await state.manager.store.backlog.read(max_age=max_age)
    state.trend.note(backlog)
    rates = state.trend.find_rates()
    shape = backlog_shape(backlog)
    ops = [
        one | {"rates": None if rates is None else rates.shape(one["op"])}
        for one in shape["ops"]
        if caller.may(Scope.READ, one["op"])
    ]
    return reply(shape | {"rates_over": None if rates is None else rates.over, "ops": ops})


@router.get(
    "/traces/{trace_id}", response_model=schemas.Attempts, responses=problems(), tags=["store"]
)
async def get_trace(
    request: Request,
    caller: Reader,
    trace_id: Annotated[str, Path(examples=["4bf92f3577b34da6a3ce929d0e0e4736"])],
) -> Response:
    """The attempts whose run spans are in a trace."""
    found = await state_of(request).manager.store.find_traced(
        check_trace_id(trace_id), limit=_TRACED
    )
    attempts = [traced_shape(one) for one in found if caller.may(Scope.READ, one.op, one.tags)]
    return reply({"attempts": attempts})


@router.post(
    "/audit",
    response_model=schemas.Audit,
    responses=problems(*BODY),
    openapi_extra=takes(schemas.AuditBody),
    tags=["store"],
)
async def audit(request: Request, caller: Admin) -> Response:
    """Check every tape of the store. One at a time; it may take long."""
    body = await read_body(request, schemas.AuditBody, required=False)
    state = state_of(request)
    with acting(request, caller, "audit", "of the store") as became:
        report = await state.audit(
            thorough=body.thorough, grace=body.grace, rows_per_second=body.rows_per_second
        )
        became.append(f"{report.checked} tapes, {len(report.violations)} violations")
    return reply(audit_shape(report))
