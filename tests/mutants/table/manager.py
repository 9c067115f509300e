"""The guards of a manager, its services, and what it does for a store."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import MANAGER, TAPESCOPE, Edit, Guard, row

_MANAGER: Final = f"{MANAGER}/manager.py"
_POOL: Final = f"{MANAGER}/pool.py"
_BEAT: Final = f"{MANAGER}/heartbeat.py"
_THREAD: Final = f"{MANAGER}/lease_thread.py"
_WORKER: Final = f"{MANAGER}/worker.py"
_MAINTAINER: Final = f"{TAPESCOPE}/maintenance/maintainer.py"
_AUDITOR: Final = f"{TAPESCOPE}/maintenance/auditor.py"

_SHUTDOWN: Final = "tests/manager/test_shutdown.py"
_SUBMIT: Final = "tests/manager/test_submit.py"
_LEASES: Final = "tests/manager/test_leases.py"
_WORKERS: Final = "tests/manager/test_workers.py"
_HOMES: Final = "tests/manager/test_homes.py"
_FOLLOWS: Final = "tests/manager/test_follow.py"
_LOOPS: Final = "tests/manager/test_loops.py"
_PROCESS: Final = "tests/manager/test_process.py"
_LIFE: Final = "tests/manager/test_service_lifecycle.py"
_CLOSED: Final = "tests/manager/test_closed_loops.py"
_MAINTENANCE: Final = "tests/maintenance/test_maintainer.py"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "manager.hook_op",
        "A hook around a submit moves the task to no other op",
        Edit(_MANAGER, "            if last.op != submission.op:\n", "            if False:\n"),
        "tests/manager/test_submit_hooks.py::test_bad_input_is_refused_before_a_hook_and_behind_it",
    ),
    row(
        "manager.resource_first",
        "A worker opens what its ops need before it takes a task",
        Edit(_MANAGER, "            await self._open_resources()\n"),
        "tests/manager/test_resources.py::test_a_resource_that_cannot_be_opened_keeps_a_worker_from_opening",
    ),
    row(
        "manager.resource_shield",
        "What was opened is closed before an opening that failed is told of",
        Edit(_MANAGER, "        await wait_shielded(closing)\n"),
        "tests/manager/test_resources.py::test_a_resource_that_cannot_be_opened_keeps_a_worker_from_opening",
    ),
    row(
        "manager.resource_last",
        "What was opened for the runners is closed with the manager",
        Edit(_MANAGER, "        await self._settings.resources.aclose()\n"),
        "tests/manager/test_resources.py::test_a_resource_is_opened_once_and_closed_behind_its_runs",
    ),
    row(
        "manager.open_once",
        "Two who open a manager at once open it once",
        Edit(
            _MANAGER,
            "            if self._opened:  # by another call, meanwhile\n                return self\n",
        ),
        "tests/manager/test_resources.py::test_two_who_open_at_once_open_one_manager",
    ),
    row(
        "manager.close_shield",
        "A close that is cancelled ends what it has begun",
        Edit(
            _MANAGER,
            "            await wait_shielded(closer)\n            await await_child(closer)\n            raise",
            "            raise",
        ),
        "tests/manager/test_shutdown.py::test_a_cancelled_close_skips_the_drain_and_ends_what_it_began[memory]",
        on="memory",
    ),
    row(
        "manager.close_hurries",
        "A close that is cancelled skips the drain",
        Edit(_MANAGER, "            self._skip_drain()\n"),
        "tests/manager/test_shutdown.py::test_a_cancelled_close_skips_the_drain_and_ends_what_it_began[memory]",
        on="memory",
    ),
    row(
        "manager.close_says_lost",
        "A close says that a final could not be written",
        Edit(
            _MANAGER, "        if first and pool.lost is not None:\n            raise pool.lost\n"
        ),
        "tests/run/test_store_away.py::test_a_final_that_cannot_be_written_is_reported_as_lost",
        on="memory",
    ),
    row(
        "manager.home",
        "A manager that was forked, or is of another loop, says so to who uses it",
        Edit(
            _MANAGER,
            "        if self._home is not None:\n            self._home.check()\n",
            "        pass\n",
        ),
        "tests/manager/test_process.py::test_a_forked_child_may_not_use_the_manager",
        on="memory",
    ),
    row(
        "manager.pool_home",
        "A handle says so, too",
        Edit(_POOL, "        if self.home is not None:\n            self.home.check()\n"),
        "tests/manager/test_homes.py::test_a_manager_says_that_it_is_used_in_another_loop[memory]",
        on="memory",
    ),
    row(
        "manager.unseen_cancelled",
        "Tasks of a submit_many that was cancelled do not run unseen",
        Edit(
            _MANAGER,
            "                    self._pool.spawn(partial(self._cancel_unseen, submit))\n",
            "                    pass\n",
        ),
        "tests/manager/test_submit.py::test_a_cancelled_submit_many_leaves_nothing_pending[memory]",
        on="memory",
    ),
    row(
        "manager.closed_takes_none",
        "A manager that closes takes no task",
        Edit(
            _MANAGER,
            "        if self._closed or not self._opened:\n            raise ManagerClosed\n",
        ),
        "tests/manager/test_shutdown.py::test_the_drain_lets_tasks_finish[memory]",
        on="memory",
    ),
    row(
        "manager.wait_is_told",
        "No manager is ready while its store is away, however long its heartbeat has patience",
        Edit(
            _BEAT,
            "        if waited < _MOMENT:\n            return None\n",
            "        return None\n",
        ),
        "tests/adapters/test_probes.py::test_a_heartbeat_that_waits_says_so[sqlite-deleted]",
    ),
    row(
        "manager.lag_context",
        "What measures how late the loop is keeps nothing of who opened the manager",
        Edit(
            f"{MANAGER}/loop_lag.py",
            "call_later(_EVERY, self._look, context=contextvars.Context())",
            "call_later(_EVERY, self._look)",
        ),
        "tests/manager/test_signs_of_life.py::test_a_timer_is_in_no_callers_context",
        on="memory",
    ),
    # --- the pool ---------------------------------------------------------------------------------
    row(
        "pool.spawn_context",
        "What a manager begins beside its runs, and the cancel of an orphan, is in no caller's span",
        Edit(
            f"{TAPESCOPE}/shielded.py",
            "work(), name=name, context=contextvars.Context()",
            "work(), name=name",
        ),
        "tests/store/test_contexts.py::test_the_cancel_of_an_orphan_is_in_no_callers_context",
        on="memory",
    ),
    row(
        "pool.idle_shield",
        "Who waits for the pool, and is cancelled, ends no other's wait",
        Edit(_POOL, "await asyncio.shield(self._idle)", "await self._idle"),
        "tests/manager/test_shutdown.py::test_a_cleanup_may_report_during_shutdown[memory]",
        on="memory",
    ),
    row(
        "pool.admitted_once",
        "A task that is admitted twice runs once",
        Edit(_POOL, "        if known is not None:\n            return known.completion\n"),
        "tests/manager/test_submit.py::test_an_idempotent_resubmit_runs_once[memory]",
        on="memory",
    ),
    row(
        "pool.loses_lease",
        "I5: a run whose lease another owner has is stopped",
        Edit(
            _POOL,
            "                run.lose_lease()\n            elif attempt in busy",
            "                pass\n            elif attempt in busy",
        ),
        "tests/manager/test_leases.py::test_a_lost_lease_stops_the_run[memory]",
        on="memory",
    ),
    row(
        "pool.unanswered_lapses",
        "I5: where no heartbeat is answered, leases that are over are lost",
        Edit(
            _POOL,
            "        for run in tuple(self._runs.values()):\n            run.lapse(at)\n",
            "        pass\n",
        ),
        "tests/run/test_store_away.py::test_a_lease_that_is_over_by_our_own_clock_is_lost",
        on="memory",
    ),
    row(
        "pool.heartbeat_cancels",
        "A cancel whose notification was lost costs a heartbeat at most",
        Edit(
            _POOL,
            "        for task_id, request in leases.cancels:\n            self.deliver_cancel(task_id, request)\n",
        ),
        "tests/manager/test_leases.py::test_a_cancel_comes_with_the_heartbeat[memory]",
        on="memory",
    ),
    row(
        "pool.slot_once",
        "The slot of a fenced run is freed once",
        Edit(
            _POOL,
            "        if run.started and not run.fenced:\n            self._free_slot(run)\n        if run.completion",
            "        if run.started:\n            self._free_slot(run)\n        if run.completion",
        ),
        "tests/manager/test_lent_slots.py::test_who_is_fenced_with_its_slot_lent_frees_it_once",
        on="memory",
    ),
    row(
        "pool.zombies_bounded",
        "No task starts while there are as many zombies as are allowed",
        Edit(_POOL, "if len(self._zombies) < self._max_zombies:", "if True:"),
        "tests/manager/test_workers.py::test_zombies_keep_a_worker_from_claiming",
        on="memory",
    ),
    row(
        "pool.stopped_anyway",
        "A shutdown stops the runners although the store is away",
        Edit(
            _POOL,
            "anyway = asyncio.get_running_loop().call_later(_RECORD_WITHIN, run.cancel, request)",
            "anyway = asyncio.get_running_loop().call_later(1e6, run.cancel, request)",
        ),
        "tests/run/test_store_away.py::test_a_shutdown_without_a_store_still_stops_the_runners",
        on="memory",
    ),
    row(
        "pool.drain_too_late",
        "A close waits for no task that is due only after the drain",
        Edit(
            _POOL, "self._drain_until is not None and run.task.run_us > self._drain_until", "False"
        ),
        "tests/manager/test_shutdown.py::test_the_drain_does_not_wait_for_what_is_due_after_it[memory]",
        on="memory",
    ),
    row(
        "pool.followers_end",
        "Who follows a task that does not end here does not outlive the manager",
        Edit(_POOL, "        self._followers[changes] = task_id\n"),
        "tests/manager/test_follow.py::test_a_follower_ends_when_its_manager_closes[memory]",
        on="memory",
    ),
    row(
        "pool.runner_follows_on",
        "A runner may wait for another task in the drain",
        Edit(_POOL, "        if find_current_run() is not None:\n            return changes\n"),
        "tests/manager/test_follow.py::test_a_runner_may_wait_for_another_task_in_the_drain[memory]",
        on="memory",
    ),
    row(
        "pool.listens_for_cancels",
        "A process that runs a task hears of its cancel",
        Edit(_POOL, "            self.store.listen_for_cancels(self.owner, self.deliver_cancel)\n"),
        "tests/run/test_cancel_table.py::test_cancel_into_a_cooperative_thread[memory]",
        on="memory",
    ),
    # --- heartbeat and lease thread ---------------------------------------------------------------
    row(
        "heartbeat.lapses",
        "I5: where a heartbeat of this loop fails, leases that are over are lost",
        Edit(_BEAT, "            holder.lapse(holder.store.clock.monotonic())\n"),
        "tests/run/test_store_away.py::test_a_lease_that_is_over_by_our_own_clock_is_lost",
        on="memory",
    ),
    row(
        "heartbeat.rescues",
        "The tasks of a dead process are rescued",
        Edit(
            _BEAT, "self._find_ended, self._rescue, self._follow", "self._find_ended, self._follow"
        ),
        "tests/manager/test_leases.py::test_what_waited_for_a_killed_process_is_ended[sqlite]",
    ),
    row(
        "leases.claiming_too",
        "The lease of a claim whose attempt has not begun is extended, too",
        Edit(
            _THREAD,
            "[*(attempt.task_id for attempt in attempts), *claiming]",
            "[attempt.task_id for attempt in attempts]",
        ),
        "tests/manager/test_leases.py::test_a_blocked_loop_keeps_what_it_has_just_claimed[sqlite]",
    ),
    # --- what its owner lets go -------------------------------------------------------------------
    row(
        "pool.shutdown_lets_go",
        "What waits, and whose cancel the store refuses when its manager closes, is let go",
        Edit(_POOL, "run.waiting and await let_go(self.store, run.task, self.owner)", "False"),
        "tests/manager/test_let_go.py::test_a_shutdown_whose_cancel_is_refused_lets_go",
        on="memory",
    ),
    row(
        "identity.retired",
        "What a closed manager could not end is not its living process's for a day",
        Edit(f"{MANAGER}/identity.py", "if owner in _retired:", "if False:"),
        "tests/manager/test_let_go.py::test_what_a_closed_manager_left_is_its_successors_to_end",
        on="memory",
    ),
    # --- any loop ---------------------------------------------------------------------------------
    row(
        "loop.keep_alive",
        "A defect ends no background loop",
        Edit(
            f"{TAPESCOPE}/service.py",
            "except Exception as error:  # noqa: BLE001  # whatever it is, the next round may go well",
            "except ZeroDivisionError as error:",
        ),
        f"{_LOOPS}::test_loop_survives_what_it_meets[watch]",
        on="memory",
    ),
    row(
        "loop.gone_loop",
        "What a loop of ours meets in a closed event loop is no defect",
        Edit(
            f"{TAPESCOPE}/service.py",
            "            if loop.is_closed():\n                return  # it ends with its loop\n",
        ),
        _CLOSED,
        on="memory",
        held_by="store.watch_gone_loop",
    ),
    row(
        "loop.dead",
        "A process with a loop that has ended is not ready",
        Edit(f"{TAPESCOPE}/service.py", "        self.vitals.die()\n", "        pass\n"),
        f"{_LOOPS}::test_process_with_a_dead_loop_is_not_ready",
        on="memory",
    ),
    row(
        "loop.counted",
        "A defect is counted each time",
        Edit(f"{TAPESCOPE}/service.py", "        self._count(self.loop)\n"),
        f"{_LOOPS}::test_loop_survives_what_it_meets[watch]",
        on="memory",
    ),
    row(
        "loop.told_once",
        "A defect of each round is told once a minute",
        Edit(f"{TAPESCOPE}/service.py", "        if now < self._tell_at:\n            return\n"),
        f"{_LOOPS}::test_loop_survives_what_it_meets[watch]",
        on="memory",
    ),
    row(
        "heartbeat.defect_alone",
        "A defect in one step of a heartbeat is not the others'",
        Edit(
            _BEAT,
            "except Exception as error:  # noqa: BLE001  # a defect of one step is not the others'",
            "except ZeroDivisionError as error:",
        ),
        f"{_LOOPS}::test_what_one_step_of_a_heartbeat_meets_is_not_the_others[defect]",
        on="memory",
    ),
    row(
        "heartbeat.step_alone",
        "What the store refuses to one step is not the others'",
        Edit(_BEAT, "failure = failure or self._warn(error)", "failure = self._warn(error); break"),
        f"{_LOOPS}::test_what_one_step_of_a_heartbeat_meets_is_not_the_others[refused]",
        on="memory",
    ),
    row(
        "leases.defect",
        "A defect of one renewal ends no lease",
        Edit(
            _THREAD,
            "        except Exception as error:  # noqa: BLE001  # as above\n",
            "        except ZeroDivisionError as error:\n",
        ),
        f"{_LOOPS}::test_loop_survives_what_it_meets[extend_leases]",
        on="memory",
        held_by="leases.defect_of_thread",
    ),
    row(
        "leases.defect_of_thread",
        "A defect of the thread that renews ends no lease",
        Edit(
            _THREAD,
            "            except Exception as error:  # noqa: BLE001  # a defect of ours must not end every lease\n",
            "            except ZeroDivisionError as error:\n",
        ),
        f"{_LOOPS}::test_loop_survives_what_it_meets[extend_leases]",
        on="memory",
        held_by="leases.defect",
    ),
    row(
        "leases.gone_loop",
        "The thread that renews leases ends with the loop whose leases they are",
        Edit(
            _THREAD,
            "if holder is None or managers_loop is None or managers_loop.is_closed():",
            "if holder is None or managers_loop is None:",
        ),
        "tests/adapters/test_lease_renewers.py::test_a_closed_loop_ends_its_heartbeats",
        on="memory",
    ),
    row(
        "lent.cancelled_returns",
        "A run that is cancelled while its slot is lent has it again at once",
        Edit(
            f"{MANAGER}/lent_slots.py",
            "            if run not in self._waits:\n                self._return(run, at_once=True)\n            raise\n",
            "            raise\n",
        ),
        "tests/manager/test_lent_slots.py",
        on="memory",
    ),
    row(
        "ops.unclear",
        "An op that more than one open manager has is submitted to none of them",
        Edit(f"{MANAGER}/ops.py", "if len(found) != 1:", "if not found:"),
        "tests/manager/test_op_registries.py",
        on="memory",
    ),
    row(
        "pool.exit_at_shutdown",
        "A process that is told to end while its manager closes waits for no waiting task",
        Edit(
            _POOL,
            "            run.give_up_waiting(None)  # its process is to end, and its task is rescued\n            raise\n",
            "            raise\n",
        ),
        "tests/run/test_never_begun.py::test_an_exit_in_the_midst_of_a_close_does_not_keep_it_from_its_end",
        on="memory",
    ),
    # --- the worker -------------------------------------------------------------------------------
    row(
        "worker.adopt_defect",
        "A defect at the start of one claimed task keeps no other one from its start",
        Edit(
            _WORKER,
            "except Exception as error:  # noqa: BLE001  # its lease ends, and it is rescued",
            "except ZeroDivisionError as error:",
        ),
        f"{_LOOPS}::test_a_claimed_task_that_cannot_be_started_keeps_no_other_from_it",
        on="memory",
    ),
    row(
        "worker.op_limit",
        "An op has no more runs at once than its own limit",
        Edit(
            _WORKER,
            "most if limit is None else max(0, min(most, limit - self._pool.taken_of(name)))",
            "most",
        ),
        f"{_WORKERS}::test_an_op_has_a_limit_of_its_own[memory]",
        on="memory",
    ),
    row(
        "worker.slots_back",
        "Slots for which nothing was due are given back",
        Edit(_WORKER, "                pool.give_back(slots - taken)\n", "                pass\n"),
        _WORKERS,
        on="memory",
    ),
    row(
        "worker.claim_at_stop",
        "The tasks of a claim under way at a shutdown are given back",
        Edit(
            _WORKER,
            "            await asyncio.wait([self._loop_task], timeout=_STOP_WITHIN)\n",
            "            pass\n",
        ),
        "tests/manager/test_worker_store_away.py",
        _SHUTDOWN,
        on="memory",
    ),
    row(
        "worker.gone_loop",
        "What a worker leaves in a closed loop ends in silence",
        Edit(
            _WORKER,
            "if not listening.get_loop().is_closed():  # else it ends with its loop",
            "if True:",
        ),
        "tests/manager/test_closed_loops.py",
        on="memory",
        held_by="loop.gone_loop",
    ),
    row(
        "pool.gone_loop",
        "What a run leaves in a closed loop begins no other one",
        Edit(_POOL, " or (self.home is not None and self.home.is_gone)"),
        "tests/manager/test_closed_loops.py",
        on="memory",
    ),
    row(
        "pool.slot_in_gone_loop",
        "A slot that is given back in a closed loop starts nothing",
        Edit(
            _POOL,
            "        if self.home is not None and self.home.is_gone:\n"
            "            return  # what waits here ends with its loop\n",
        ),
        "tests/manager/test_closed_loops.py",
        on="memory",
    ),
    # --- the maintainer ---------------------------------------------------------------------------
    row(
        "maintainer.resigns",
        "Another process may lead at once when the leader ends",
        Edit(_MAINTAINER, "        if self._candidate:  # also", "        if False:  # also"),
        f"{_MAINTENANCE}::test_stop_resigns_on_a_real_store",
    ),
    row(
        "maintainer.rate",
        "The audit reads no more rows a second than it may",
        Edit(_MAINTAINER, "await self._pause(rows / self._rate)", "await self._pause(0)"),
        f"{_MAINTENANCE}::test_audit_keeps_to_its_rate",
        on="memory",
    ),
    row(
        "maintainer.store_away",
        "A store that is away is no defect of a maintenance, which is tried again",
        Edit(
            _MAINTAINER,
            "            except TapescopeError as error:\n                _log.warning(",
            "            except ZeroDivisionError as error:\n                _log.warning(",
        ),
        f"{_MAINTENANCE}::test_store_away_is_warned_of_and_tried_again",
        on="memory",
    ),
    row(
        "maintainer.one_leads",
        "Who is not the leader audits nothing, and prunes nothing",
        Edit(_MAINTAINER, "        if term is None:\n            raise _NotLeaderError\n"),
        f"{_MAINTENANCE}::test_one_of_many_is_the_leader",
        on="memory",
    ),
    row(
        "maintainer.forgets",
        "A leader that was not one in between leaves to the other what that one has audited",
        Edit(_MAINTAINER, "                self._auditor.forget()", "                pass"),
        f"{_MAINTENANCE}::test_who_leads_again_leaves_to_the_other_what_it_has_audited",
        on="memory",
    ),
    row(
        "maintainer.renews",
        "A leader that audits or prunes for long renews its leadership, or stops",
        Edit(_MAINTAINER, "> _LEASE / 3:", "> 1e9:"),
        f"{_MAINTENANCE}::test_a_leader_that_prunes_for_long_leads_on",
        on="memory",
    ),
    row(
        "maintainer.prune_interval",
        "A store is pruned as often as it is set, whoever leads",
        Edit(
            _MAINTAINER,
            '        if not term.is_due("pruned", retention.every):\n            return\n',
        ),
        f"{_MAINTENANCE}::test_a_prune_is_seldom_and_leaves_the_store_to_the_others",
        on="memory",
    ),
    row(
        "maintainer.prune_pause",
        "A prune leaves the store to the others for four fifths of the time",
        Edit(_MAINTAINER, "await self._pause(_PRUNE_PAUSE * (clock.monotonic() - began))", "pass"),
        f"{_MAINTENANCE}::test_a_prune_is_seldom_and_leaves_the_store_to_the_others",
        on="memory",
    ),
    # --- tasks that begin with their creation ------------------------------------------------------
    row(
        "manager.slot_given_back",
        "A slot that is kept for a task is free again where the task was not made",
        Edit(
            _MANAGER,
            "                            pool.unreserve(task_id)\n",
            "                            pass\n",
        ),
        f"{_SUBMIT}::test_a_submit_that_fails_gives_its_slot_back",
        on="memory",
    ),
    row(
        "manager.begins_in_a_slot",
        "A task is claimed with its creation only where a slot is free",
        Edit(
            _POOL,
            "        if not self.reserve(1):\n            return False\n",
            "        self._free -= 1\n",
        ),
        f"{_SUBMIT}::test_a_task_that_can_begin_is_created_and_claimed_at_once",
        on="memory",
    ),
    row(
        "manager.begins_renewed",
        "The lease of a task that is being created and claimed is extended: its answer may be late",
        Edit(_POOL, "        self._beginning.add(task_id)\n"),
        f"{_SUBMIT}::test_a_submit_cancelled_in_its_flush_leaves_nothing_running",
        on="memory",
    ),
    row(
        "manager.begins_heard",
        "The cancel of a task that began with its creation is heard at once",
        Edit(
            _POOL,
            "        self._listen_for_cancels()  # before there is a task whose cancel might be missed\n",
        ),
        f"{_SUBMIT}::test_a_task_that_began_with_its_creation_hears_its_cancel",
        on="memory",
    ),
    row(
        "manager.begins_unkeyed",
        "A task with an idempotency key, which another submit may have made, is not claimed with its creation",
        Edit(_MANAGER, "        and submission.idempotency_key is None\n"),
        f"{_SUBMIT}::test_a_task_that_can_begin_is_created_and_claimed_at_once",
        on="memory",
    ),
)
