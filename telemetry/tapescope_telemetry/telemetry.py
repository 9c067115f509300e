"""``Telemetry``: everything tapescope tells, through the providers it was given."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Literal, get_args
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.metrics import MeterProvider, Observation
from opentelemetry.trace import TracerProvider

from tapescope.model import LoopName, TracedAttempt
from tapescope_telemetry._version import __version__
from tapescope_telemetry.chosen import global_meter_provider, or_silent
from tapescope_telemetry.errors import BadTelemetrySetting
from tapescope_telemetry.failures import FailureMarker
from tapescope_telemetry.guard import read_errors
from tapescope_telemetry.instruments import NO_CONTEXT, Tally, make_meter, observe
from tapescope_telemetry.labels import LabelCaps, LabelSets
from tapescope_telemetry.managers import ManagerMeter
from tapescope_telemetry.messages import MessageMeter
from tapescope_telemetry.names import (
    EVENT_APPENDED,
    EVENT_FAILED,
    EVENT_OFFERED,
    EVENT_UNACCOUNTED,
    LOOP_ERRORS,
    SCHEMA_URL,
    SCOPE_NAME,
    TELEMETRY_ERRORS,
)
from tapescope_telemetry.schedules import ScheduleMeter
from tapescope_telemetry.spans import (
    UNTRACED_SUBMIT,
    Caller,
    RunSpan,
    SubmitSpan,
    UntracedRun,
    is_traced,
    start_cancel,
    start_run,
)
from tapescope_telemetry.stores import StoreInstruments, StoreMeter
from tapescope_telemetry.tasks import TaskMeter

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

    from tapescope_telemetry.engines import EngineMeter
    from tapescope_telemetry.serving import ServerMeter

__all__ = [
    "Baggage",
    "CancelStatus",
    "ExceptionTexts",
    "MessagingAttributes",
    "Telemetry",
    "TraceMode",
]

TraceMode = Literal["link", "child"]
CancelStatus = Literal["unset", "error"]
ExceptionTexts = Literal["told", "hidden"]
MessagingAttributes = Literal["off", "on"]
Baggage = Literal["off", "on"]


class Telemetry:
    """The spans and metrics of tapescope, on injected providers; ``None`` means the global ones.

    Made with the global ones, it follows the API: silent until the application sets a provider, and
    from then on it tells what happened before as well, as far as plain tallies know it.

    The metrics belong to the meter provider: two of these on one provider share them, because the
    SDK keeps one instrument a name and would never read the second one's tallies.

    ``trace_mode="child"`` makes a first attempt the child of its submit, where ``"link"`` makes it
    a new root that is linked to it; a retry is a linked root in both.

    ``cancel_status="error"`` gives a cancelled run's span the status ERROR, for a backend that only
    knows two ends; it has no ``error.type`` even then, and the metrics stay as they are.

    ``exception_texts="hidden"`` keeps what a runner's exception says out of spans and logs: they
    have its class and its frames.

    ``messaging_attributes="on"`` adds what OpenTelemetry's convention for messaging has of a task
    to the spans of submits and runs, for a backend that knows queues by it.

    ``baggage="on"`` stores the submitter's baggage with the task, and hands it to the runner and to
    the commands that it starts, where it is on at both. It may hold secrets, and whoever reads the
    store's tables can read it; neither a span nor a metric nor a log of ours has it.
    """

    _shared: ClassVar[Telemetry | None] = None
    _shared_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        trace_mode: TraceMode = "link",
        cancel_status: CancelStatus = "unset",
        exception_texts: ExceptionTexts = "told",
        messaging_attributes: MessagingAttributes = "off",
        baggage: Baggage = "off",
    ) -> None:
        _check("trace_mode", trace_mode, TraceMode)
        _check("cancel_status", cancel_status, CancelStatus)
        _check("exception_texts", exception_texts, ExceptionTexts)
        _check("messaging_attributes", messaging_attributes, MessagingAttributes)
        _check("baggage", baggage, Baggage)
        self.hides_exception_texts: Final = exception_texts == "hidden"
        """Whether spans and logs have an exception by its type and its frames alone."""
        self._tracer = or_silent(
            lambda: trace.get_tracer(
                SCOPE_NAME, __version__, tracer_provider, schema_url=SCHEMA_URL
            ),
            trace.NoOpTracer,
        )
        self._metrics = _Metrics.of(meter_provider)
        self._failures = FailureMarker(logger_provider, cancel_is_error=cancel_status == "error")
        self._untraced_run: Final = UntracedRun(self._failures)
        self._as_child = trace_mode == "child"
        self._as_message = messaging_attributes == "on"
        self._carries_baggage = baggage == "on"

    @classmethod
    def shared(cls) -> Telemetry:
        """The one on the global providers, made when first asked for."""
        with cls._shared_lock:
            if cls._shared is None:
                cls._shared = cls()
            return cls._shared

    @classmethod
    def share(cls, telemetry: Telemetry | None) -> Telemetry | None:
        """Have ``shared`` give this one from now on (``None``: a new one); gives the one before."""
        with cls._shared_lock:
            before, cls._shared = cls._shared, telemetry
            return before

    @property
    def tasks(self) -> TaskMeter:
        """What managers count."""
        return self._metrics.tasks

    @property
    def messages(self) -> MessageMeter:
        """What becomes of the messages to tasks."""
        return self._metrics.messages

    @property
    def schedules(self) -> ScheduleMeter:
        """What becomes of the firing times of schedules."""
        return self._metrics.schedules

    @property
    def managers(self) -> ManagerMeter:
        """The signs of life of managers."""
        return self._metrics.managers

    @property
    def engines(self) -> EngineMeter:
        """What engines bring, and what they have not taken yet: made when first asked for."""
        return self._metrics.engines()

    @property
    def server(self) -> ServerMeter:
        """What servers of the HTTP API count: made when first asked for."""
        return self._metrics.server()

    def store(self, adapter: str) -> StoreMeter:
        """What the stores of this adapter count: always the same object for the same adapter."""
        return self._metrics.store(adapter)

    def loop_failed(self, loop: LoopName) -> None:
        """A background loop met a defect, and goes on. Any thread may call this."""
        self._metrics.loop_errors.add(1, loop)

    def submit_span(
        self,
        op: str,
        task_id: str,
        adapter: str,
        *,
        schedule: tuple[str, str] | None = None,
        tags: Sequence[str] = (),
        parent_id: str | None = None,
    ) -> SubmitSpan:
        """``submit {op}``, a child of the caller's span: to be entered with ``with``, at once.

        ``schedule`` is the name and the firing time of the schedule that makes the task, and
        ``parent_id`` the task whose runner submits it.
        """
        if not self.makes_spans and not is_traced():
            return UNTRACED_SUBMIT
        parts = self._tracer, self._failures, op, task_id, adapter
        return SubmitSpan(
            *parts,
            as_message=self._as_message,
            carries_baggage=self._carries_baggage,
            schedule=schedule,
            tags=tags,
            parent_id=parent_id,
        )

    @property
    def makes_spans(self) -> bool:
        """Whether a span may be recorded: there is a tracer that is not one of the silent API's."""
        if isinstance(self._tracer, trace.ProxyTracer):
            # Not the API's own question: it looks through the environment each time.
            return getattr(trace, "_TRACER_PROVIDER", self._tracer) is not None
        return not isinstance(self._tracer, trace.NoOpTracer)

    def start_run_span(
        self,
        op: str,
        task_id: str,
        attempt: int,
        owner: str,
        trace_context: str | None,
        run_before: TracedAttempt | None = None,
        *,
        queue_wait: float | None = None,
        timeout: float | None = None,
        retries_left: int | None = None,
        function: str | None = None,
        engine: str | None = None,
    ) -> RunSpan:
        """``run {op}``, linked to the submit that ``trace_context`` names, no link if malformed,
        and to the run of the attempt before.

        ``queue_wait`` and ``timeout`` are in seconds; ``function`` is the runner's qualified name,
        ``engine`` what brought the task.
        """
        if trace_context is None and run_before is None and not self.makes_spans:
            return self._untraced_run
        return start_run(
            self._tracer,
            self._failures,
            op=op,
            task_id=task_id,
            attempt=attempt,
            owner=owner,
            trace_context=trace_context,
            as_child=self._as_child,
            run_before=run_before,
            queue_wait=queue_wait,
            timeout=timeout,
            retries_left=retries_left,
            function=function,
            engine=engine,
            as_message=self._as_message,
            carries_baggage=self._carries_baggage,
        )

    def start_rescue_span(
        self,
        op: str,
        task_id: str,
        attempt: int,
        owner: str,
        trace_context: str | None,
        lost_run: TracedAttempt | None = None,
    ) -> RunSpan:
        """``rescue {op}``: ``attempt``, whose run is ``lost_run``, was taken from ``owner``, which
        is dead or silent."""
        return start_run(
            self._tracer,
            self._failures,
            op=op,
            task_id=task_id,
            attempt=attempt,
            owner=owner,
            trace_context=trace_context,
            as_child=False,
            run_before=lost_run,
            rescue=True,
        )

    def start_cancel_span(
        self, op: str, task_id: str, attempt: int, trace_context: str | None, asked_in: Caller
    ) -> RunSpan:
        """``cancel {op}``: a cancel that was requested in ``asked_in`` has ended a task of which no
        attempt runs; a child of the canceller's span, linked to the submit."""
        if not self.makes_spans:
            return self._untraced_run
        return start_cancel(
            self._tracer,
            self._failures,
            op=op,
            task_id=task_id,
            attempt=attempt,
            trace_context=trace_context,
            asked_in=asked_in,
        )


class _Metrics:
    """The meters of one meter provider."""

    _by_provider: ClassVar[WeakKeyDictionary[MeterProvider, _Metrics]] = WeakKeyDictionary()
    _of_globals: ClassVar[_Metrics | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, provider: MeterProvider | None) -> None:
        provider_used = global_meter_provider() if provider is None else provider
        meter = make_meter(provider_used)
        caps = LabelCaps()
        self._zeros_due = provider is None
        self._meter: Final = meter
        self._caps: Final = caps
        self._server: ServerMeter | None = None
        self._engines: EngineMeter | None = None
        self._stores: dict[str, StoreMeter] = {}
        self._stores_lock: Final = threading.Lock()
        self._offered_labels = LabelSets(EVENT_OFFERED)
        self._appended_labels = LabelSets(EVENT_APPENDED)
        self._failed_labels = LabelSets(EVENT_FAILED)
        # First, so that zeros which are due are there when the others are read.
        observe(meter, EVENT_OFFERED, self._read_offered)
        observe(meter, EVENT_APPENDED, self._read_appended)
        observe(meter, EVENT_FAILED, self._read_failed)
        observe(meter, EVENT_UNACCOUNTED, self._read_unaccounted)
        self._error_labels = LabelSets(TELEMETRY_ERRORS)
        observe(meter, TELEMETRY_ERRORS, self._read_telemetry_errors)
        self.loop_errors: Final = Tally(meter, LOOP_ERRORS)
        for loop in LoopName:
            self.loop_errors.add(0, loop)
        self._on = StoreInstruments(meter, caps)
        self.managers: Final = ManagerMeter(meter)
        self.schedules: Final = ScheduleMeter(meter, caps)
        self.messages: Final = MessageMeter(meter, caps)
        self.tasks: Final = TaskMeter(meter, caps, self._expect_drops)

    @classmethod
    def of(cls, provider: MeterProvider | None) -> _Metrics:
        """The metrics on this provider, made when first asked for."""
        with cls._lock:
            if provider is None:
                # The global provider may be one that is known already: its metrics are these.
                known = cls._by_provider.get(global_meter_provider())
                if known is not None:
                    return known
                if cls._of_globals is None:
                    cls._of_globals = cls(None)
                return cls._of_globals
            found = cls._by_provider.get(provider)
            if found is None and provider is global_meter_provider():
                found = cls._of_globals
            if found is None:
                found = cls._by_provider[provider] = cls(provider)
            return found

    def server(self) -> ServerMeter:
        """The meter of servers, made when first asked for."""
        with self._stores_lock:
            if self._server is None:
                from tapescope_telemetry.serving import ServerMeter  # few processes serve

                self._server = ServerMeter(self._meter)
            return self._server

    def engines(self) -> EngineMeter:
        """The meter of engines, made when first asked for."""
        with self._stores_lock:
            if self._engines is None:
                from tapescope_telemetry.engines import EngineMeter  # few workers have one

                self._engines = EngineMeter(self._meter, self._caps)
            return self._engines

    def store(self, adapter: str) -> StoreMeter:
        """The meter of this adapter, with the drops of every op seen so far at zero."""
        with self._stores_lock:
            meter = self._stores.get(adapter)
            if meter is None:
                meter = self._stores[adapter] = StoreMeter(adapter, self._on)
                for op in self.tasks.seen_ops():
                    meter.expect(op)
            return meter

    def _expect_drops(self, op: str) -> None:
        for store in self._all_stores():
            store.expect(op)

    def _all_stores(self) -> list[StoreMeter]:
        with self._stores_lock:
            return list(self._stores.values())

    def _read_offered(self) -> Iterable[Observation]:
        if self._zeros_due:
            # A collection proves that a real provider is there. The zeros that were counted before
            # it came went nowhere; to count them twice changes nothing.
            self._zeros_due = False
            self.tasks.repeat_zeros()
            for store in self._all_stores():
                store.repeat_zeros()
        return [
            Observation(store.ledger.offered, self._offered_labels(store.adapter))
            for store in self._all_stores()
        ]

    def _read_appended(self) -> Iterable[Observation]:
        return [
            Observation(count, self._appended_labels(event_type, store.adapter))
            for store in self._all_stores()
            for event_type, count in store.ledger.stored_by_type().items()
        ]

    def _read_failed(self) -> Iterable[Observation]:
        # The contract's row has no adapter: two observations of one label set would not add up.
        totals: dict[tuple[str, str], int] = {}
        for store in self._all_stores():
            for key, count in store.ledger.failed_by_type().items():
                totals[key] = totals.get(key, 0) + count
        return [Observation(n, self._failed_labels(*key)) for key, n in totals.items()]

    def _read_unaccounted(self) -> Iterable[Observation]:
        return [
            Observation(store.ledger.unaccounted, self._offered_labels(store.adapter))
            for store in self._all_stores()
        ]

    def _read_telemetry_errors(self) -> Iterable[Observation]:
        return [
            Observation(count, self._error_labels(source), NO_CONTEXT)
            for source, count in read_errors().items()
        ]


def _check(name: str, value: str, choices: object) -> None:
    allowed: tuple[str, ...] = get_args(choices)
    if value not in allowed:
        raise BadTelemetrySetting(name, value, " or ".join(map(repr, allowed)))
