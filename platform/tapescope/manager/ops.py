"""Ops: what can be submitted by name, and run by any worker that knows the name.

An op is registered apart from any manager, store and event loop: at the top of a module, say. A
manager is given the registries whose ops it is to run; the op then knows where it is submitted.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    Protocol,
    TypedDict,
    Unpack,
    cast,
    overload,
)
from weakref import WeakMethod, WeakSet, ref

from typing_extensions import ParamSpec, TypeVar

from tapescope.errors import (
    BadParams,
    BadSetting,
    ManagerUnclear,
    OpTaken,
    ScheduleTaken,
    TapescopeError,
)
from tapescope.manager.declared_schedules import DeclaredSchedule, declare_schedule
from tapescope.manager.rate_limit import RateLimit
from tapescope.manager.submission import Submission, check_policy
from tapescope.model.ops import DEFAULT_RETRIES, KnownOp
from tapescope.model.schedules import ScheduleOrigin, ScheduleTimes
from tapescope.model.tasks import DEFAULT_QUEUE
from tapescope.run import TypedValues, check_factory, check_hooks, resolve_runner
from tapescope.store.validation import (
    check_count,
    check_expiry,
    check_op,
    check_priority,
    check_queue,
    check_retries,
    check_seconds,
)

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from tapescope.manager.handle import TaskHandle
    from tapescope.manager.hooks import SubmitHook
    from tapescope.run import Factory, RetryPolicy, RunHook, Runner
    from tapescope.run.reporter import Reporter, ThreadReporter

__all__ = ["Op", "OpCall", "OpSettings", "Ops", "OpsOfManager", "ResourceOp", "find_submission"]

P = ParamSpec("P", default=...)
R = TypeVar("R", default=Any)
R_co = TypeVar("R_co", covariant=True, default=Any)
C_co = TypeVar("C_co", covariant=True, default=Any)
V = TypeVar("V")
V_contra = TypeVar("V_contra", contravariant=True)


class OpSettings(TypedDict, total=False):
    """The settings of an op: see ``Ops.op``."""

    timeout: float | None
    stall_timeout: float | None
    retries: int | None
    retry: RetryPolicy | None
    priority: int
    queue: str
    expires_in: float | None
    max_waiting: int | None
    max_running: int | None
    max_concurrent: int | None
    rate_limit: RateLimit | None


class Op(Generic[P, R_co, C_co]):
    """A runner with a name: it can be submitted, and is called as the function that it was.

    Made by ``Ops.op`` and ``TaskManager.op``. ``P`` are the runner's parameters after the reporter,
    ``R_co`` is what a run of it gives, ``C_co`` what a call of the function gives: for an
    ``async def`` a coroutine.
    """

    known: KnownOp
    """Its name, and the defaults for a submit of it."""
    runner: Runner
    """The function, and where it runs."""
    max_running: int | None
    """How many of its tasks a manager runs at once; ``None`` for the manager's own limit."""

    def __init__(
        self,
        ops: Ops,
        known: KnownOp,
        function: Callable[..., Any],
        max_running: int | None,
        retry: RetryPolicy | None,
        stall_timeout: float | None,
        rate_limit: RateLimit | None = None,
        resource: Factory | None = None,
    ) -> None:
        """Raises ``BadRunner``."""
        given = 1 if resource is None else 2
        runner = replace(
            resolve_runner(function, given=given),
            retry=retry,
            stall_timeout=stall_timeout,
            types=TypedValues(function, given=given),
            resource=resource,
        )
        functools.update_wrapper(self, function, updated=())  # its name, its text, its signature
        self.known, self.runner, self.max_running = known, runner, max_running
        self._ops, self._rate_limit = ops, rate_limit

    def __repr__(self) -> str:
        return f"<Op {self.name!r}>"

    def __call__(self, report: Any, /, *args: P.args, **kwargs: P.kwargs) -> C_co:
        """Call the function: no task is made of that."""
        return cast("C_co", self.runner.call(report, *args, **kwargs))

    @property
    def name(self) -> str:
        """What its tasks have as their ``op``."""
        return self.known.op

    @property
    def timeout(self) -> float | None:
        """Seconds that an attempt may run, where the submit says nothing; ``None``: no limit."""
        return self.known.timeout

    @property
    def retries(self) -> int:
        """How often another attempt is made, where the submit says nothing."""
        return self.known.retries

    @property
    def priority(self) -> int:
        """What its tasks have, where the submit says nothing: the higher goes first."""
        return self.known.priority

    @property
    def max_concurrent(self) -> int | None:
        """How many of its tasks with one concurrency key run at once; ``None``: any number."""
        return self.known.max_concurrent

    @property
    def rate_limit(self) -> RateLimit | None:
        """How many attempts of its tasks with one concurrency key begin in any window, over the
        whole store; ``None``: any number."""
        return self._rate_limit

    @property
    def queue(self) -> str:
        """What its tasks have, where the submit says nothing: which workers take them."""
        return self.known.queue

    @property
    def expires_in(self) -> float | None:
        """Seconds from when a task is due within which its first attempt begins, or none does,
        where the submit says nothing; ``None``: no limit."""
        return self.known.expires_in

    @property
    def max_waiting(self) -> int | None:
        """How many of its tasks may wait when one more is submitted; ``None``: any number."""
        return self.known.max_waiting

    @property
    def retry(self) -> RetryPolicy | None:
        """When its attempts are made again; ``None`` for what is usual in the manager."""
        return self.runner.retry

    @property
    def stall_timeout(self) -> float | None:
        """Seconds in which its runner must report something; ``None``: no limit."""
        return self.runner.stall_timeout

    @property
    def resource(self) -> Factory | None:
        """What makes the resource that its runner is given; ``None`` where it has none."""
        return self.runner.resource

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R_co]:
        """Submit a task with these arguments of the runner, and return once it is stored.

        It goes to the manager that is open in this event loop and was given the op. For another
        manager, or with a delay, a key and so on: ``options``. Raises ``ManagerUnclear`` where
        there is none such manager, or there are several; ``BadParams`` for what is not the
        runner's; and what ``TaskManager.submit`` raises.
        """
        return await OpCall(self).submit(*args, **kwargs)

    @overload
    async def submit_many(
        self,
        submissions: Iterable[Submission[R]],
        *,
        return_exceptions: Literal[False] = False,
    ) -> list[TaskHandle[R]]: ...

    @overload
    async def submit_many(
        self, submissions: Iterable[Submission[R]], *, return_exceptions: Literal[True]
    ) -> list[TaskHandle[R] | TapescopeError]: ...

    async def submit_many(
        self, submissions: Iterable[Submission[R]], *, return_exceptions: bool = False
    ) -> Sequence[TaskHandle[R] | TapescopeError]:
        """Submit what ``bind`` made, in one flush of the store: see ``TaskManager.submit_many``."""
        manager = self.find_manager()
        if return_exceptions:
            return await manager.submit_many(list(submissions), return_exceptions=True)
        return await manager.submit_many(list(submissions))

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Submission[R_co]:
        """A task with these arguments, to be submitted with others. Raises ``BadParams``."""
        return OpCall(self).bind(*args, **kwargs)

    def options(
        self,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        retries: int | None = None,
        delay: float | None = None,
        run_at: datetime | None = None,
        connection: object | None = None,
        manager: Submits | None = None,
        priority: int | None = None,
        tags: Collection[str] = (),
        detached: bool = False,
        cancel_with_parent: bool = False,
        unique_key: str | None = None,
        concurrency_key: str | None = None,
        queue: str | None = None,
        expires_in: float | None = None,
    ) -> OpCall[P, R_co]:
        """The op with options of a submit, which are those of ``TaskManager.submit``.

        ``manager`` is where it is submitted, if not to the one that is open in this event loop.
        """
        return OpCall(
            self,
            timeout,
            idempotency_key,
            retries,
            delay,
            run_at,
            connection,
            manager,
            priority,
            tags,
            detached,
            cancel_with_parent,
            unique_key,
            concurrency_key,
            queue,
            expires_in,
        )

    def find_manager(self) -> Submits:
        """The one manager that is open in this event loop and has the op.

        Raises ``ManagerUnclear``.
        """
        found = [manager for manager in self._ops.find_managers() if manager.is_open]
        if len(found) != 1:
            raise ManagerUnclear(self.name, len(found))
        return found[0]

    def name_params(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments by their names, as a task has them. Raises ``BadParams``."""
        if not args:
            return kwargs
        parameters = self.runner.parameters
        if parameters is None:
            raise BadParams("Python cannot tell the names of the runner's parameters: give them")
        try:
            bound = parameters.signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise BadParams(str(error)) from error
        named: dict[str, Any] = {}
        for name, value in list(bound.arguments.items())[1:]:
            kind = parameters.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                raise BadParams(f"what the runner takes as *{name} has no names")
            named |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
        return named


class ResourceOp(Op[P, R_co, C_co], Generic[V_contra, P, R_co, C_co]):
    """An ``Op`` whose runner is given a resource after the reporter; ``P`` are those after it."""

    def __call__(  # type: ignore[override]  # a call needs the resource, a submit does not
        self, report: Any, resource: V_contra, /, *args: P.args, **kwargs: P.kwargs
    ) -> C_co:
        """Call the function, with a resource of the caller's: no task is made of that."""
        return cast("C_co", self.runner.call(report, resource, *args, **kwargs))


@dataclass(frozen=True, slots=True)
class OpCall(Generic[P, R_co]):
    """An op with options of a submit: made by ``Op.options``."""

    op: Op[P, R_co]
    timeout: float | None = None
    idempotency_key: str | None = None
    retries: int | None = None
    delay: float | None = None
    run_at: datetime | None = None
    connection: object | None = None
    manager: Submits | None = None
    priority: int | None = None
    tags: Collection[str] = ()
    detached: bool = False
    cancel_with_parent: bool = False
    unique_key: str | None = None
    concurrency_key: str | None = None
    queue: str | None = None
    expires_in: float | None = None

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R_co]:
        """Submit a task with these arguments of the runner: see ``Op.submit``."""
        manager = self.op.find_manager() if self.manager is None else self.manager
        return await manager.submit_bound(self.bind(*args, **kwargs), connection=self.connection)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Submission[R_co]:
        """A task with these arguments: see ``Op.bind``. ``connection`` and ``manager`` are not part
        of it."""
        return Submission(
            self.op.name,
            params=self.op.name_params(args, kwargs),
            timeout=self.timeout,
            idempotency_key=self.idempotency_key,
            retries=self.retries,
            delay=self.delay,
            run_at=self.run_at,
            priority=self.priority,
            tags=self.tags,
            detached=self.detached,
            cancel_with_parent=self.cancel_with_parent,
            unique_key=self.unique_key,
            concurrency_key=self.concurrency_key,
            queue=self.queue,
            expires_in=self.expires_in,
            types=self.op.runner.types,
        )


_NOT_OF_A_SCHEDULE: Final = (
    "runner",
    "idempotency_key",
    "delay",
    "run_at",
    "retry",
    "unique_key",  # overlap='skip' says it
    "concurrency_key",  # its tasks have that of their op
)


def find_submission(
    what: Op[..., Any, Any] | Submission | str, params: Mapping[str, Any] | None
) -> Submission:
    """What a schedule is to submit: an op, by itself or its name, or what ``Op.bind`` made.

    Raises ``BadSetting``, ``BadOp``, ``BadParams``.
    """
    if isinstance(what, str):
        return Submission(what, params={} if params is None else params).checked()
    if isinstance(what, Submission):
        submission = what
        if params is not None:
            raise BadSetting("params", params, "left out beside what 'bind' made")
    else:
        submission = what.options().bind(**({} if params is None else params))
    for name in _NOT_OF_A_SCHEDULE:
        if (value := getattr(submission, name)) is not None:
            raise BadSetting(name, value, "None in what a schedule submits")
    return submission.checked()


class Ops:
    """A registry of ops, which needs no manager, no store and no event loop.

    ``Ops(one, other)`` has what these have, and will have. ``TaskManager(url, ops=…)`` runs what
    its registries have; a registry may be given to any number of managers.

    ``around_run`` are hooks around each run of an op that the registry has, in whatever manager,
    and ``around_submit`` around each submit of one: async functions, the first one outermost. Those
    of a manager are around those of its registries, and those of a registry around those of the
    registries that it includes.
    """

    def __init__(
        self,
        *others: Ops,
        around_run: Sequence[RunHook] = (),
        around_submit: Sequence[SubmitHook] = (),
    ) -> None:
        """Raises ``OpTaken`` where two of them have different ops of one name, ``BadSetting``."""
        self._around_run: tuple[RunHook, ...] = check_hooks("around_run", around_run)
        self._around_submit: tuple[SubmitHook, ...] = check_hooks("around_submit", around_submit)
        self.around_runs = bool(self._around_run)
        """Whether a hook may be around the runs of any op that it has; plain, for it is asked of
        each run."""
        self.around_submits = bool(self._around_submit)
        """The same of submits."""
        self._included: tuple[Ops, ...] = ()
        self._ops: dict[str, Op] = {}
        self._schedules: dict[str, DeclaredSchedule] = {}
        self._parents: WeakSet[Ops] = WeakSet()
        """The registries that include this one."""
        for other in others:
            self.include(other)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self._ops)}>"

    def __iter__(self) -> Iterator[str]:
        """The names of its ops."""
        return iter(self._ops)

    def get(self, name: str) -> Op | None:
        """The op of this name, if it is registered here."""
        return self._ops.get(name)

    def all(self) -> Mapping[str, Op]:
        """Every op by its name."""
        return self._ops

    @overload
    def op(
        self, name: str, *, resource: None = None, **settings: Unpack[OpSettings]
    ) -> Registering: ...

    @overload
    def op(
        self,
        name: str,
        *,
        resource: Callable[[], AbstractAsyncContextManager[V]],
        **settings: Unpack[OpSettings],
    ) -> RegisteringWith[V]: ...

    def op(
        self,
        name: str,
        *,
        timeout: float | None = None,
        stall_timeout: float | None = None,
        retries: int | None = None,
        retry: RetryPolicy | None = None,
        priority: int = 0,
        queue: str = DEFAULT_QUEUE,
        expires_in: float | None = None,
        max_waiting: int | None = None,
        max_running: int | None = None,
        max_concurrent: int | None = None,
        rate_limit: RateLimit | None = None,
        resource: Factory | None = None,
    ) -> Registering | RegisteringWith[Any]:
        """Make the function below the runner of an op; the ``Op`` stands in its place.

        ``timeout`` (seconds of one attempt) and ``retries`` (3 by default) are for submits that
        leave theirs out; with no retry left, a killed worker is the end of the task. ``retry`` says
        more than ``retries``, in its place: which failures are retried, and when. A runner that
        reports nothing for ``stall_timeout`` seconds is stopped as one is whose ``timeout`` is
        over, with the code ``stalled``. ``priority``, from -9 to 9, is for submits that leave it
        out: of the tasks that are due a worker takes the higher first, then the longest due. So is
        ``queue``: workers that were given queues take the tasks of these alone; and
        ``expires_in``, the seconds after it is due within which a task begins, or ends as
        cancelled, with the reason ``expired``. While ``max_waiting`` of its tasks wait in the
        store, due or not, a submit is refused: ``OpFull``.
        ``max_running`` of its tasks run at once in a manager, and ``max_concurrent`` of those with
        one ``concurrency_key`` over the whole store: of all that are submitted without a key, too.
        With ``rate_limit=RateLimit(100, per=60)`` at most 100 of their attempts begin in any 60
        seconds, over the whole store; both may be given.

        ``resource`` makes an async context manager, without arguments: a manager that works on the
        op enters it once, and hands what it gives to each run, as the argument after the reporter.
        It is not a param of the task.

        Raises ``BadOp``, ``BadRunner``, ``BadSetting``, and ``OpTaken`` for the second runner of an
        op, here or in a registry that includes this one.
        """
        name = check_op(name)
        if timeout is not None:
            timeout = check_seconds("timeout", timeout, over_zero=True)
        if stall_timeout is not None:
            stall_timeout = check_seconds("stall_timeout", stall_timeout, over_zero=True)
        if retry is not None:
            retries = check_policy(retry, retries)
        retries = DEFAULT_RETRIES if retries is None else check_retries(retries)
        priority, queue = check_priority(priority), check_queue(queue)
        if expires_in is not None:
            expires_in = check_expiry(expires_in)
        if max_waiting is not None:
            max_waiting = check_count("max_waiting", max_waiting)
        if max_running is not None:
            max_running = check_count("max_running", max_running)
        if max_concurrent is not None:
            max_concurrent = check_count("max_concurrent", max_concurrent)
        if rate_limit is not None and not isinstance(rate_limit, RateLimit):  # pyright: ignore[reportUnnecessaryIsInstance]  # who calls may have no types
            raise BadSetting("rate_limit", rate_limit, "a RateLimit, as RateLimit(100, per=60)")
        if resource is not None:
            resource = check_factory(resource)

        def register(function: Callable[..., Any]) -> Op:
            known = KnownOp(
                *(name, timeout, retries, priority, max_concurrent, queue, max_waiting),
                expires_in,
                None if rate_limit is None else rate_limit.times,
                None if rate_limit is None else rate_limit.per_us,
            )
            of = (self, known, function, max_running, retry, stall_timeout, rate_limit, resource)
            op = Op(*of) if resource is None else ResourceOp[Any, ..., Any, Any](*of)
            self._add([op])
            return op

        return cast("Registering", register)

    def schedule(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        params: Mapping[str, Any] | None = None,
        **times: Unpack[ScheduleTimes],
    ) -> None:
        """Have a task made at each time of a schedule, once for all the workers of a store.

        ``what`` is an op, with its ``params``, or what ``Op.bind`` made of it. ``cron`` has five
        fields, read in ``time_zone``, a name of the IANA database; ``every`` is in seconds, 1 or
        more, and fires at its multiples since the Unix epoch. ``catch_up`` says what becomes of
        times that passed while no worker was there: ``skip``, ``one`` or ``all`` (``CatchUp``).
        ``overlap`` says whether a task is made while the one before has not ended: ``allow`` or
        ``skip``.

        Every worker that opens with this registry tells its store: what the code says replaces what
        the store had of this name, but a pause stays (docs/decisions/0074).

        Raises ``BadSetting``, ``BadOp``, ``BadParams``, and ``ScheduleTaken`` for a second schedule
        of one name, here or in a registry that includes this one.
        """
        submission = find_submission(what, params)
        if (registered := self.get(submission.op)) is not None:
            registered.runner.check(submission.params)
        declared = declare_schedule(name, submission, ScheduleOrigin.CODE, **times)
        self._add([], [declared], anew=True)

    @property
    def schedules(self) -> Mapping[str, DeclaredSchedule]:
        """Every schedule that was declared, by its name; another mapping once one is added."""
        return self._schedules

    def include(self, other: Ops) -> None:
        """Have all ops and schedules of another registry, now and later.

        Raises ``OpTaken`` where each has an op of one name, ``ScheduleTaken`` for a schedule, and
        then includes none.
        """
        self._add(list(other.all().values()), list(other.schedules.values()), included=other)

    def find_managers(self) -> list[Submits]:
        """The managers that were given this registry, or one that includes it."""
        found = [registry.manager for registry in self._find_all()]
        return [manager for manager in found if manager is not None]

    @property
    def manager(self) -> Submits | None:
        """The manager whose own registry this is."""
        return None

    def _find_all(self) -> list[Ops]:
        """This registry and all that have its ops."""
        found: list[Ops] = [self]
        for registry in found:
            found += [parent for parent in registry._parents if parent not in found]
        return found

    def _add(
        self,
        ops: Iterable[Op],
        schedules: Iterable[DeclaredSchedule] = (),
        *,
        anew: bool = False,
        included: Ops | None = None,
    ) -> None:
        """``anew`` says that the schedules are not the ones that a registry may have already;
        ``included`` is whose they are, where this registry is to have all that one has."""
        registries = self._find_all()
        named = {one.schedule.name: one for one in schedules}
        for name, declared in named.items():
            for registry in registries:
                had = registry._schedules.get(name)
                if had is not None and (anew or had is not declared):
                    raise ScheduleTaken(name)
        for op in ops:
            for registry in registries:
                taken = registry._ops.get(op.name)
                if taken is not None and taken is not op:
                    raise OpTaken(op.name, taken.runner.call, op.runner.call)
        if included is not None:
            included._parents.add(self)
            if included not in self._included:
                self._included = (*self._included, included)
        for registry in registries:
            if included is not None:
                registry.around_runs = registry.around_runs or included.around_runs
                registry.around_submits = registry.around_submits or included.around_submits
            # Made anew: another thread, that of a manager's loop, may stand in the midst of them.
            registry._ops = {**registry._ops, **{op.name: op for op in ops}}
            if named:
                registry._schedules = {**registry._schedules, **named}
            registry._note_added()

    def find_run_hooks(self, op: str) -> Sequence[RunHook]:
        """The hooks around a run of this op in a manager whose own registry this is, the outermost
        first; those of the registry alone for an op that it does not have."""
        return [hook for one in self._list_around(op) for hook in one._around_run]

    def find_submit_hooks(self, op: str) -> Sequence[SubmitHook]:
        """The same around a submit."""
        return [hook for one in self._list_around(op) for hook in one._around_submit]

    def _list_around(self, name: str) -> Sequence[Ops]:
        """This registry and those in it that have the op, each before those that it includes."""
        op = self._ops.get(name)
        if op is None:
            return (self,)
        inward = list[Ops]()
        seen = set[Ops]()

        def visit(registry: Ops) -> None:
            seen.add(registry)
            for inner in reversed(registry._included):
                if inner not in seen and inner._ops.get(name) is op:
                    visit(inner)
            inward.append(registry)

        visit(self)
        return inward[::-1]

    def _note_added(self) -> None:
        """Overridden by the registry of a manager."""


class OpsOfManager(Ops):
    """The ops that one manager runs: its own, and those of the registries it was given."""

    def __init__(
        self,
        manager: Submits,
        on_added: Callable[[], None],
        others: Iterable[Ops],
        around_run: Sequence[RunHook] = (),
        around_submit: Sequence[SubmitHook] = (),
    ) -> None:
        """``on_added`` is a method of the manager's, which this does not keep alive."""
        self._of = ref(manager)
        self._on_added = WeakMethod(on_added)
        super().__init__(*others, around_run=around_run, around_submit=around_submit)

    @property
    def manager(self) -> Submits | None:
        """The manager, while there is one."""
        return self._of()

    def _note_added(self) -> None:
        if (on_added := self._on_added()) is not None:
            on_added()


class Submits(Protocol):
    """What an op needs of the manager that it is submitted to."""

    @property
    def is_open(self) -> bool:
        """Whether it takes tasks, in this event loop."""
        ...

    async def submit_bound(
        self, submission: Submission[R], *, connection: object | None = None
    ) -> TaskHandle[R]:
        """``TaskManager.submit_bound``."""
        ...

    @overload
    async def submit_many(
        self,
        submissions: Sequence[Submission[R]],
        *,
        return_exceptions: Literal[False] = False,
    ) -> list[TaskHandle[R]]: ...

    @overload
    async def submit_many(
        self, submissions: Sequence[Submission[R]], *, return_exceptions: Literal[True]
    ) -> list[TaskHandle[R] | TapescopeError]: ...

    async def submit_many(
        self, submissions: Sequence[Submission[R]], *, return_exceptions: bool = False
    ) -> Sequence[TaskHandle[R] | TapescopeError]:
        """``TaskManager.submit_many``."""
        ...


class Registering(Protocol):
    """What ``Ops.op`` gives: called with a runner, it makes the ``Op``."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Reporter, P], Coroutine[Any, Any, R]], /
    ) -> Op[P, R, Coroutine[Any, Any, R]]: ...

    @overload
    def __call__(self, function: Callable[Concatenate[ThreadReporter, P], R], /) -> Op[P, R, R]: ...

    @overload
    def __call__(self, function: Callable[..., Any], /) -> Op: ...

    def __call__(self, function: Callable[..., Any], /) -> Op:
        """Make the op."""
        ...


class RegisteringWith(Protocol[V]):
    """What ``Ops.op`` gives with a ``resource``: ``V`` is what the resource gives to a runner."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Reporter, V, P], Coroutine[Any, Any, R]], /
    ) -> ResourceOp[V, P, R, Coroutine[Any, Any, R]]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[ThreadReporter, V, P], R], /
    ) -> ResourceOp[V, P, R, R]: ...

    def __call__(self, function: Callable[..., Any], /) -> ResourceOp[V, ..., Any, Any]:
        """Make the op."""
        ...
