"""The board "Tape integrity": does every tape end once, and is every event accounted for?"""

from __future__ import annotations

from dashboards import colours, settings
from dashboards.panels import (
    CHOSEN,
    Board,
    Chart,
    Limit,
    Query,
    Section,
    add_rates,
    describe_share,
    scope,
    sum_by,
    sum_growth,
    sum_rate,
)
from dashboards.promql import (
    ADAPTER,
    AUDIT_RULE,
    DROP_REASON,
    ERROR,
    EVENT_TYPE,
    GROUP,
    OP,
    SUBSCRIBER_KIND,
    TAPE_OUTCOME,
    Durations,
    match,
    pick,
)
from dashboards.recording import DROPPED, FAILED, name_ratio
from tapescope.model import FINAL
from tapescope_telemetry import names

__all__ = ["INTEGRITY"]

_NAMES = Durations()
_ONE_IS_TOO_MANY = (Limit(1, colours.BAD),)
_EVENTS = "suffix:events/s"


def _burn(metric: str, objective: float, window: int) -> str:
    ratio = pick(name_ratio(metric, window), *CHOSEN[:-1])
    return f"max by ({GROUP}) ({ratio}) / {1 - objective:.4g}"


_NOW = Section(
    "Now",
    (
        Chart(
            "stat",
            "Violations, 24 h",
            "Found by the audit; a violation that stays is found by every audit anew. Anything but"
            " 0 is an incident.",
            "short",
            (Query(sum_growth("", names.AUDIT_VIOLATIONS, window="24h")),),
            4,
            4,
            limits=_ONE_IS_TOO_MANY,
        ),
        Chart(
            "stat",
            "Unaccounted events",
            "Offered less stored, dropped and failed (invariant I7). Must be 0.",
            "short",
            (Query(f"max(abs({scope(names.EVENT_UNACCOUNTED)}))"),),
            5,
            4,
            limits=_ONE_IS_TOO_MANY,
        ),
        Chart(
            "stat",
            "Finals per finished task",
            "Must be 1 (invariants I1 and I2): finals that were stored, by tasks that ended, since"
            " the processes began. Only both moments of one scrape may differ, by a task.",
            "none",
            (
                Query(
                    sum_by(
                        "",
                        pick(
                            names.EVENT_APPENDED,
                            *CHOSEN,
                            match(EVENT_TYPE, FINAL),
                        ),
                    )
                    + " / "
                    + sum_by(
                        "",
                        pick(names.DURATION, *CHOSEN, part="_count"),
                    )
                ),
            ),
            5,
            4,
            decimals=4,
        ),
        Chart(
            "stat",
            "Dropped ratio",
            "Dropped events among those offered, over the range of the board.",
            "percentunit",
            (
                Query(
                    describe_share(
                        sum_growth("", names.EVENT_DROPPED, window="$__range"),
                        sum_growth("", names.EVENT_OFFERED, window="$__range"),
                    )
                ),
            ),
            5,
            4,
            limits=(Limit(1 - settings.DROP_OBJECTIVE, colours.LATE),),
            empty="No event was offered in this time.",
        ),
        Chart(
            "stat",
            "Since the last audit",
            "Since an audit last came to its end, whatever it found.",
            "s",
            (Query(f"time() - max(max by ({GROUP}) (" + scope(names.AUDIT_LAST_SUCCESS) + "))"),),
            5,
            4,
            limits=(Limit(settings.AUDIT_STALE_AGE, colours.BAD),),
            empty="No audit came to its end yet.",
        ),
    ),
)

_AUDIT = Section(
    "Audit",
    (
        Chart(
            "timeseries",
            "Violations by rule",
            "Of the interval. The rules are in the runbook TapescopeTapeIntegrityViolation.",
            "short",
            (Query(sum_growth(AUDIT_RULE, names.AUDIT_VIOLATIONS), f"{{{{{AUDIT_RULE}}}}}"),),
            height=12,
            stacked=True,
            shades=colours.BAD,
        ),
        Chart(
            "timeseries",
            "Tapes audited",
            "Tapes that the audit looked at in a second.",
            "suffix:tapes/s",
            (Query(sum_rate(ADAPTER, names.AUDIT_CHECKED), f"{{{{{ADAPTER}}}}}"),),
            height=12,
        ),
    ),
)

_DROPS = Section(
    "Dropped events",
    (
        Chart(
            "timeseries",
            "Drops by reason",
            "Late events of the interval, kept off the tape, counted and quarantined. The dots are"
            " exemplars: they lead to the run that was late.",
            "short",
            (
                Query(
                    sum_growth(DROP_REASON, names.EVENT_DROPPED),
                    f"{{{{{DROP_REASON}}}}}",
                    exemplar=True,
                ),
            ),
            stacked=True,
        ),
        Chart(
            "timeseries",
            "Drops by the tape's outcome",
            "How the tape had ended that the event came too late for; open: an old attempt's event"
            " for a tape that goes on. The dots are exemplars.",
            "short",
            (
                Query(
                    sum_growth(TAPE_OUTCOME, names.EVENT_DROPPED),
                    f"{{{{{TAPE_OUTCOME}}}}}",
                    exemplar=True,
                ),
            ),
            stacked=True,
        ),
        Chart(
            "table",
            "Top droppers",
            "Who was late most, over the range of the board.",
            "short",
            (
                Query(
                    "topk(10, "
                    + sum_growth(
                        f"{OP}, {DROP_REASON}, {EVENT_TYPE}",
                        names.EVENT_DROPPED,
                        window="$__range",
                    )
                    + " > 0)"
                ),
            ),
            decimals=0,
            empty="No event was dropped in this time.",
            columns=(
                (OP, "Op"),
                (DROP_REASON, "Reason"),
                (EVENT_TYPE, "Type"),
                ("Value", "Dropped"),
            ),
        ),
        Chart(
            "timeseries",
            "Burn rate of the error budgets",
            "1 spends the budget just in time; the alerts fire at"
            f" {settings.BURN_RATES[0].rate:g}, {settings.BURN_RATES[1].rate:g},"
            f" {settings.BURN_RATES[2].rate:g} and {settings.BURN_RATES[3].rate:g}.",
            "none",
            tuple(
                Query(
                    _burn(metric, objective, window),
                    f"{{{{namespace}}}} {{{{job}}}} {what} {_NAMES(window)}",
                )
                for metric, objective, what in (
                    (DROPPED, settings.DROP_OBJECTIVE, "drops"),
                    (FAILED, settings.FAILURE_OBJECTIVE, "failures"),
                )
                for window in (settings.BURN_RATES[0].short, settings.BURN_RATES[0].long)
            ),
            limits=tuple(
                Limit(pair.rate, colours.BAD if pair.severity == "critical" else colours.LATE)
                for pair in reversed(settings.BURN_RATES)
            ),
            axis="symlog",
            empty="Nothing was offered and nothing ended yet.",
        ),
    ),
)

_TAPES = Section(
    "Tapes",
    (
        Chart(
            "timeseries",
            "Appended by type",
            "Events that the database says it stored.",
            _EVENTS,
            (Query(sum_rate(EVENT_TYPE, names.EVENT_APPENDED), f"{{{{{EVENT_TYPE}}}}}"),),
            stacked=True,
        ),
        Chart(
            "timeseries",
            "Where offered events went",
            "Offered is stored and dropped and failed (invariant I7).",
            _EVENTS,
            (
                Query(sum_rate("", names.EVENT_OFFERED), "offered"),
                Query(sum_rate("", names.EVENT_APPENDED), "stored"),
                Query(sum_rate("", names.EVENT_DROPPED), "dropped"),
                Query(sum_rate("", names.EVENT_FAILED), "failed"),
            ),
        ),
        Chart(
            "timeseries",
            "Failed events by error",
            "Events of the interval that ended in an error at their caller.",
            "short",
            (Query(sum_growth(ERROR, names.EVENT_FAILED), f"{{{{{ERROR}}}}}"),),
            stacked=True,
            shades=colours.BAD,
            empty="No event failed at its caller.",
        ),
        Chart(
            "heatmap",
            "Tape length",
            "Events of a tape when it closed.",
            "short",
            (Query(add_rates(names.TAPE_LENGTH, ""), "{{le}}"),),
        ),
        Chart(
            "timeseries",
            "Followers",
            "Who follows a tape live.",
            "short",
            (
                Query(
                    sum_by(SUBSCRIBER_KIND, scope(names.SUBSCRIBERS)), f"{{{{{SUBSCRIBER_KIND}}}}}"
                ),
            ),
        ),
        Chart(
            "timeseries",
            "Lag of the slowest follower",
            "Events on the tape that it has not taken yet.",
            "short",
            (
                Query(
                    f"max by ({SUBSCRIBER_KIND}) ({scope(names.SUBSCRIBER_LAG)})",
                    f"{{{{{SUBSCRIBER_KIND}}}}}",
                ),
            ),
        ),
    ),
)

INTEGRITY = Board(
    "tapescope-integrity",
    "tapescope: tape integrity",
    "Does every tape end in exactly one final, and is every event accounted for?",
    (_NOW, _AUDIT, _DROPS, _TAPES),
)
