"""The guards of the HTTP API: who is answered, how much is taken in, and how a stream ends."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import TAPESCOPE, Edit, Guard, row

_HTTP: Final = f"{TAPESCOPE}/http"
_GUARD: Final = f"{_HTTP}/api/guard.py"
_SCHEDULES: Final = f"{_HTTP}/api/schedule_acts.py"
_STOPS: Final = f"{_HTTP}/api/stop_acts.py"
_ROUTES: Final = f"{_HTTP}/api/routes"
_REQUESTS: Final = f"{_ROUTES}/requests.py"
_TASKS: Final = f"{_ROUTES}/tasks.py"
_MANY_TASKS: Final = f"{_ROUTES}/many.py"
_ACTS: Final = f"{_HTTP}/api/task_acts.py"
_STREAM: Final = f"{_HTTP}/api/stream.py"
_STATE: Final = f"{_HTTP}/api/state.py"
_SERVER: Final = f"{_HTTP}/api/server.py"
_TOKENS: Final = f"{_HTTP}/tokens.py"
_CALLERS: Final = f"{_HTTP}/access.py"
_COOKIES: Final = f"{_HTTP}/cookies.py"
_SEARCH: Final = f"{_HTTP}/api/search.py"
_PAGE: Final = f"{_HTTP}/api/page"

_ACCESS: Final = "tests/http/test_access.py"
_API: Final = "tests/http/test_api.py"
_OF_SCHEDULES: Final = "tests/http/test_schedules.py"
_OF_STOPS: Final = "tests/http/test_stops.py"
_SUBMITS: Final = "tests/http/test_submits.py"
_METERED: Final = "tests/http/test_server_metrics.py"
_BATCH: Final = "tests/http/test_batch.py"
_MANY: Final = "tests/http/test_many.py"
_PAGES: Final = "tests/http/test_page.py"
_COOKIE: Final = f"{_PAGES}::test_a_cookie_stands_for_a_token_and_is_none"
_COOKIE_ENDS: Final = f"{_PAGES}::test_a_cookie_ends_and_a_key_that_others_know_seals_none"
_HOSTILE: Final = f"{_PAGES}::test_what_is_hostile_in_a_tape_is_shown_and_does_nothing"
_BOUNDED: Final = f"{_PAGES}::test_a_page_is_bounded_whatever_a_tape_has"
_FOREIGN: Final = f"{_PAGES}::test_a_form_of_another_site_does_nothing"
_NARROW: Final = f"{_PAGES}::test_a_token_for_an_op_sees_that_op_and_its_buttons"
_STREAMS: Final = "tests/http/test_stream.py"
_HERE: Final = f"{_ACCESS}::test_without_tokens_this_machine_alone_is_answered"
_OF_A_TAG: Final = f"{_ACCESS}::test_a_token_of_a_tag_at_every_route"
_OF_KEYS: Final = f"{_ACCESS}::test_a_key_leads_a_token_to_no_task_of_another_tag"
_PAGES_OF_A_TAG: Final = f"{_PAGES}::test_a_token_of_a_tag_at_every_page"
_OF_TREES: Final = "tests/client/test_commands.py::test_a_narrow_token_sees_a_tree_as_far_as_it_may"
_REVOKED: Final = f"{_ACCESS}::test_a_token_that_is_revoked_is_so_at_once"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "http.limits",
        "A page and a wait over the limits of the server are refused",
        Edit(_REQUESTS, "        Depends(_refuse_over_limits),\n", ""),
        f"{_API}::test_a_page_and_a_wait_are_within_the_servers_limits",
    ),
    row(
        "http.page_unasked",
        "Who asks for no number gets no more than one page may have",
        Edit(
            _REQUESTS,
            "    return min(limit, state_of(request).limits.page)\n",
            "    return limit\n",
        ),
        f"{_API}::test_a_page_and_a_wait_are_within_the_servers_limits",
    ),
    row(
        "http.host",
        "Without tokens a page cannot reach us by a name of its own (DNS rebinding)",
        Edit(_GUARD, "    return is_loopback(host)", "    return True"),
        _HERE,
    ),
    row(
        "http.client",
        "Without tokens another machine is not answered",
        Edit(_GUARD, "client is not None and not is_loopback(client[0])", "False"),
        _HERE,
    ),
    row(
        "http.forwarded",
        "Without tokens nobody is answered for whom a proxy asks",
        Edit(_GUARD, "any(name in headers for name in _FORWARDED)", "False"),
        _HERE,
    ),
    row(
        "http.origin",
        "A page of another site is not answered",
        Edit(_GUARD, "        if is_cross_origin(headers):\n", "        if False:\n"),
        _HERE,
    ),
    row(
        "http.tokens_for_good",
        "A file of tokens that is lost opens no door",
        Edit(
            _TOKENS,
            "self._seen = self._seen or self.path.exists()",
            "self._seen = self.path.exists()",
        ),
        _REVOKED,
    ),
    row(
        "http.tokens_anew",
        "A token that is revoked is so at once",
        Edit(_TOKENS, " or self._last.stamp != stamp"),
        _REVOKED,
    ),
    row(
        "http.tokens_own",
        "A file that others may write makes no token",
        Edit(_TOKENS, "if stat.st_mode & 0o022:", "if False:"),
        f"{_ACCESS}::test_a_file_that_others_may_write_is_not_trusted",
    ),
    row(
        "http.scope",
        "Each route takes its scope",
        Edit(_STATE, "if not caller.has(scope):", "if False:"),
        f"{_ACCESS}::test_every_route_takes_the_right_token",
    ),
    row(
        "http.scope_of_op",
        "A token for some ops reaches no task of another",
        Edit(
            _ACTS,
            "    if caller.may(scope, task.op, task.tags):\n        return\n",
            "    return\n",
        ),
        f"{_ACCESS}::test_a_scope_may_name_an_op",
        _OF_A_TAG,
    ),
    row(
        "http.scope_of_tag",
        "A scope of a tag is not one of every op",
        Edit(
            _CALLERS,
            "if one.scope is Scope.ADMIN or (one.scope is scope and one.tag is None)",
            "if one.scope in (scope, Scope.ADMIN)",
        ),
        _OF_A_TAG,
    ),
    row(
        "http.scope_of_either",
        "A grant of an op and of a tag is none",
        Edit(_CALLERS, "if self.op is not None and self.tag is not None:", "if False:"),
        f"{_ACCESS}::test_a_scope_is_written_as_it_is_read",
    ),
    row(
        "http.list_of_tag",
        "A token for tags lists one of them, and no more",
        Edit(
            _ACTS,
            "    if caller.may(scope, op, () if tag is None else (tag,)):\n        return\n",
            "    if not caller.find_ops(scope):\n        return\n",
        ),
        _OF_A_TAG,
    ),
    row(
        "http.list_of_parent",
        "Of a task's children a narrow token sees those that it is for",
        Edit(
            _TASKS,
            "sees=lambda task: caller.may(Scope.READ, task.op, task.tags)",
            "sees=lambda task: True",
        ),
        _OF_TREES,
    ),
    row(
        "http.list_of_parent_next",
        "Where a page of children goes on tells of none that is not seen",
        Edit(_TASKS, "if text is None and sees_all:", "if text is None:"),
        f"{_ACCESS}::test_a_list_tells_nothing_of_children_that_a_token_may_not_see",
    ),
    row(
        "http.choose_named",
        "A token for an op cancels and retries many of that op, and no others",
        Edit(_MANY_TASKS, "    need_named(caller, scope, body.op, body.tag)\n", ""),
        f"{_MANY}::test_a_token_reaches_what_it_is_for",
    ),
    row(
        "http.choose_condition",
        "A cancel of many without a condition is none of all",
        Edit(_MANY_TASKS, "    if not conditions:\n", "    if False:\n"),
        f"{_MANY}::test_what_chooses_nothing_is_refused",
    ),
    row(
        "http.choose_bounded",
        "An act on many has so many at most",
        Edit(_MANY_TASKS, "if body.limit > state.limits.batch:", "if False:"),
        f"{_MANY}::test_what_chooses_nothing_is_refused",
    ),
    row(
        "http.choose_between",
        "What is between two pages is left out of no act on many",
        Edit(_SEARCH, " if task.task_id >= reached}", "}"),
        f"{_MANY}::test_pages_of_two_lists_are_one",
    ),
    row(
        "http.retry_many_once",
        "A retry of many that is asked for again makes each once",
        Edit(_ACTS, 'None if key is None else f"{key}/{task_id}"', "None"),
        f"{_MANY}::test_all_that_failed_are_submitted_again_once",
    ),
    row(
        "http.retry_many_waits",
        "Each task of a retry of many waits among the submits",
        Edit(_ACTS, "submits.waits(tasks=len(tasks))", "submits.waits()"),
        f"{_MANY}::test_too_many_retries_wait_for_none",
    ),
    row(
        "http.search_bounded",
        "A page of a search looks at so many tasks, and no more",
        Edit(_SEARCH, "before, limit, LOOKED))", "before, limit))"),
        f"{_PAGES}::test_no_page_of_a_search_looks_at_all_tasks",
    ),
    row(
        "http.told_by_op",
        "What is told by op is not told to a token for tags",
        Edit(_ACTS, "    if caller.find_ops(Scope.READ) == frozenset():", "    if False:"),
        _OF_A_TAG,
    ),
    row(
        "http.metrics_by_op",
        "Metrics are not told to a token for tags",
        Edit(
            f"{_HTTP}/api/app.py",
            "            need_ops(await state.admit(request, Scope.READ))\n",
            "            await state.admit(request, Scope.READ)\n",
        ),
        _OF_A_TAG,
    ),
    row(
        "http.found_by_key",
        "A key tells a token of no task of another tag",
        Edit(
            _ACTS,
            "    if not handle.created and not await _may_find(request, caller, op, handle.task_id):",
            "    if False:",
        ),
        _OF_KEYS,
    ),
    row(
        "http.conflict_of_key",
        "A key tells a token of no task with other params, and of no open one, of another tag",
        Edit(
            _ACTS,
            "        if not await _may_find(request, caller, op, error.task_id):",
            "        if False:",
        ),
        _OF_KEYS,
    ),
    row(
        "http.traced_of_tag",
        "A token for tags sees no attempt of another's task",
        Edit(
            f"{_ROUTES}/store.py",
            "for one in found if caller.may(Scope.READ, one.op, one.tags)]",
            "for one in found]",
        ),
        f"{_ACCESS}::test_a_token_of_a_tag_sees_the_attempts_of_its_tag",
    ),
    row(
        "http.traces_of_op",
        "A token for some ops sees no traces of another's task",
        Edit(
            _TASKS,
            "    await reach(request, caller, Scope.READ, task_id)\n"
            "    manager = state_of(request).manager\n"
            "    found = await manager.store.read_traced",
            "    manager = state_of(request).manager\n    found = await manager.store.read_traced",
        ),
        f"{_ACCESS}::test_a_scope_may_name_an_op",
    ),
    row(
        "http.cancel_lost",
        "A cancel ends a task whose owner is lost",
        Edit(_ACTS, "                    await rescue_lost(store)\n", "                    pass\n"),
        "tests/http/test_api.py::test_a_cancel_takes_a_task_from_a_lost_owner",
    ),
    row(
        "http.arguments_own",
        "The arguments of an error that is the server's own are not told",
        Edit(
            f"{_HTTP}/api/problems.py",
            "None if row.detail else _find_arguments(error)",
            "_find_arguments(error)",
        ),
        "tests/http/test_problems.py::test_an_error_tells_what_its_text_is_made_of",
    ),
    row(
        "http.submit_of_op",
        "A token for some ops submits no other",
        Edit(
            _ACTS,
            "    if caller.may(Scope.SUBMIT, op, tags):\n        return\n    named",
            "    if True:\n        return\n    named",
        ),
        f"{_ACCESS}::test_a_scope_may_name_an_op",
        _OF_A_TAG,
    ),
    row(
        "http.submits_bounded",
        "So many tasks wait to be submitted, and no more",
        Edit(_STATE, "if self.waiting and self.waiting + tasks > self.most:", "if False:"),
        f"{_SUBMITS}::test_one_submit_too_many_is_told_when_to_ask_again",
    ),
    row(
        "http.submits_alone",
        "A batch of more than may wait is not refused for ever",
        Edit(_STATE, "if self.waiting and self.waiting + tasks", "if self.waiting + tasks"),
        f"{_SUBMITS}::test_a_batch_counts_each_of_its_tasks",
    ),
    row(
        "http.submits_of_batch",
        "Each task of a batch counts",
        Edit(_ACTS, "submits.waits(len(tasks))", "submits.waits()"),
        f"{_SUBMITS}::test_a_batch_counts_each_of_its_tasks",
    ),
    row(
        "http.pauses_listed",
        "A token for some ops lists no pause of another",
        Edit(_STOPS, "        return caller.may(Scope.READ, one.op)\n", "        return True\n"),
        f"{_OF_STOPS}::test_what_a_narrow_token_sees_of_pauses_is_bounded",
    ),
    row(
        "http.visible_bounded",
        "A page looks at so many rows that its caller may not see",
        Edit(f"{_HTTP}/api/visible.py", "if after is None or left <= 0:", "if after is None:"),
        f"{_OF_STOPS}::test_what_a_narrow_token_sees_of_pauses_is_bounded",
        f"{_OF_SCHEDULES}::test_what_a_narrow_token_cannot_see_is_bounded",
    ),
    row(
        "http.workers_listed",
        "A token for some ops lists no worker, which is of many",
        Edit(_STOPS, "    return caller.may(Scope.READ)\n", "    return True\n"),
        f"{_OF_STOPS}::test_who_may_stop_what",
    ),
    row(
        "http.pause_admin",
        "To pause an op takes admin, by a route",
        Edit(
            f"{_ROUTES}/ops.py",
            "async def post_op_pause(request: Request, caller: Admin,",
            "async def post_op_pause(request: Request, caller: Reader,",
        ),
        f"{_OF_STOPS}::test_who_may_stop_what",
    ),
    row(
        "http.drain_admin",
        "To drain a worker takes admin, by a form",
        Edit(
            f"{_PAGE}/workers.py",
            """    caller = await enter(request, Scope.ADMIN)
    form = """,
            """    caller = await enter(request)
    form = """,
        ),
        f"{_PAGES}::test_a_token_sees_the_workers_that_it_may_stop_only_with_admin",
    ),
    row(
        "client.resume_told",
        "A resume whose reply was lost says what it ended",
        Edit(
            f"{TAPESCOPE}/cli/_source.py",
            "        return ended or before  #",
            "        return ended  #",
        ),
        "tests/client/test_stops.py::test_a_resume_says_what_it_ended_whatever_was_lost",
    ),
    row(
        "http.schedule_of_op",
        "A token for some ops triggers no schedule of another",
        Edit(
            _SCHEDULES,
            "        if not caller.may(Scope.SUBMIT, op, schedule.tags):\n",
            "        if False:\n",
        ),
        f"{_OF_SCHEDULES}::test_who_may_change_what",
    ),
    row(
        "http.schedule_seen",
        "A token for some ops sees no schedule of another",
        Edit(
            _SCHEDULES,
            "    if not caller.may(Scope.READ, schedule.op, schedule.tags):\n",
            "    if False:\n",
        ),
        f"{_OF_SCHEDULES}::test_who_may_change_what",
    ),
    row(
        "http.schedules_listed",
        "A token for some ops lists no schedule of another",
        Edit(
            _SCHEDULES, "return caller.may(Scope.READ, one.op, one.tags) and op in", "return op in"
        ),
        f"{_OF_SCHEDULES}::test_every_schedule_is_on_one_page",
    ),
    row(
        "http.schedule_unknown_op",
        "A schedule of an op that nobody registered is not triggered over HTTP",
        Edit(_SCHEDULES, "        if not await manager.knows_op(op):\n", "        if False:\n"),
        f"{_OF_SCHEDULES}::test_an_op_that_nobody_registered_is_not_triggered",
    ),
    row(
        "http.schedule_admin",
        "A change of a schedule takes the scope admin",
        Edit(
            f"{_ROUTES}/schedules.py",
            "async def pause(request: Request, caller: Admin,",
            "async def pause(request: Request, caller: Reader,",
        ),
        f"{_ACCESS}::test_every_route_takes_the_right_token",
    ),
    row(
        "http.page_schedule_admin",
        "A form that pauses a schedule takes the scope admin",
        Edit(
            f"{_PAGE}/schedules.py",
            "caller = await enter(request, Scope.ADMIN)\n    await read_form(request)\n"
            "    schedule = await pause_schedule",
            "caller = await enter(request)\n    await read_form(request)\n"
            "    schedule = await pause_schedule",
        ),
        f"{_PAGES}::test_a_token_for_an_op_sees_its_schedules_and_their_buttons",
    ),
    row(
        "http.page_schedule_form",
        "A form of another site pauses no schedule",
        Edit(
            f"{_PAGE}/schedules.py",
            "    await read_form(request)\n    schedule = await pause_schedule",
            "    schedule = await pause_schedule",
        ),
        _FOREIGN,
    ),
    row(
        "http.page_head",
        "HEAD of a page has no body",
        Edit(
            f"{_PAGE}/page_route.py",
            'return _Head(whole) if request.method == "HEAD" else whole',
            "return whole",
        ),
        f"{_PAGES}::test_every_page_answers_head",
    ),
    row(
        "http.route_label",
        "A metric has the template of a route, never its path",
        Edit(_GUARD, "route or (path if path in _PLAIN else None)", "path"),
        f"{_METERED}::test_requests_are_told_by_the_template_of_their_route",
    ),
    row(
        "http.stream_measured",
        "A stream is measured to its head, and not to its end",
        Edit(_STREAM, "[AT_READERS_PACE] = True", "[AT_READERS_PACE] = False"),
        f"{_METERED}::test_a_stream_and_a_wait_do_not_spoil_the_histogram",
    ),
    row(
        "http.wait_measured",
        "What a client asks to wait for is not the server's time",
        Edit(_GUARD, ' - scope["state"].get(WAITED, 0.0)'),
        f"{_METERED}::test_a_stream_and_a_wait_do_not_spoil_the_histogram",
    ),
    row(
        "http.refused_counted",
        "A request that the server refuses by itself is counted",
        Edit(_GUARD, "            self._state.note_refusal(error)\n"),
        f"{_METERED}::test_refused_requests_are_counted_by_why",
    ),
    row(
        "http.stream_end",
        "A stream that was told to its end says so",
        Edit(_STREAM, "                self._end = StreamEnd.FINAL\n"),
        f"{_METERED}::test_a_stream_and_a_wait_do_not_spoil_the_histogram",
    ),
    row(
        "http.no_head_counted",
        "Who is hung up on for want of a request is counted",
        Edit(_SERVER, "        self.meter.aborted(ConnectionAbort.NO_HEAD)\n"),
        f"{_METERED}::test_who_idles_and_who_reads_nothing_is_counted",
    ),
    row(
        "http.page_overdue",
        "The overview says which schedules no worker fires",
        Edit(f"{_PAGE}/overview.py", "[*lost, *needs, *overdue, *late]", "[*lost, *needs, *late]"),
        f"{_PAGES}::test_schedules_are_shown_and_changed",
    ),
    row(
        "http.act_span",
        "What reads makes no span",
        Edit(
            f"{_HTTP}/api/app.py",
            'return scope.get("method") not in ("POST", "DELETE") or not can_trace(scope["headers"])',
            'return not can_trace(scope["headers"])',
        ),
        f"{_METERED}::test_an_acts_span_is_the_parent_of_its_submit",
    ),
    row(
        "http.batch_bounded",
        "A submit of many has so many at most",
        Edit(_MANY_TASKS, "if not 1 <= len(body.tasks) <= most:", "if not body.tasks:"),
        f"{_BATCH}::test_what_is_no_batch_is_refused_whole",
    ),
    row(
        "http.batch_store",
        "A store that is away is no fault of one of many",
        Edit(_ACTS, "if isinstance(one, BaseException) and not _is_of_caller(one):", "if False:"),
        f"{_BATCH}::test_a_store_that_is_away_is_a_problem_of_the_whole",
    ),
    row(
        "http.stream_asks_again",
        "A stream ends when its token is revoked",
        Edit(_STREAM, "await self._still_may()", "pass"),
        f"{_ACCESS}::test_a_stream_ends_when_its_token_is_revoked",
    ),
    row(
        "http.body",
        "No body over the limit is taken in",
        Edit(
            _REQUESTS,
            "                if len(body) > limits.body_bytes:\n                    raise too_large\n",
        ),
        "tests/http/test_api.py::test_a_body_without_an_end_is_not_taken_in",
    ),
    row(
        "http.query",
        "A filter that is misspelt shows nothing",
        Edit(_REQUESTS, "        Depends(_refuse_unknown_query),\n"),
        "tests/http/test_api.py::test_what_cannot_be_is_refused_as_a_problem",
    ),
    row(
        "http.inside_hidden",
        "The server's own faults are in its log alone",
        Edit(f"{_HTTP}/api/problems.py", "row.detail or str(error)", "str(error)"),
        "tests/http/test_problems.py::test_a_fault_of_the_server_is_not_shown",
    ),
    row(
        "http.seat_left",
        "A reader that goes leaves its place to another",
        Edit(
            _STREAM,
            "            meter.stream_ended(self._end)\n            self._state.seats.leave()\n",
            "            meter.stream_ended(self._end)\n",
        ),
        f"{_STREAMS}::test_there_are_so_many_streams_and_no_more",
    ),
    row(
        "http.reader",
        "A reader that does not read is found",
        Edit(_STREAM, "asyncio.timeout(self._within)", "asyncio.timeout(None)"),
        f"{_STREAMS}::test_a_reader_that_does_not_read_is_disconnected",
    ),
    row(
        "http.reader_cut",
        "It is hung up on",
        Edit(_STREAM, "            abort()\n", ""),
        f"{_STREAMS}::test_a_reader_that_does_not_read_is_disconnected",
    ),
    row(
        "http.head",
        "Who sends no request is hung up on",
        Edit(
            _SERVER,
            "        super().connection_made(transport)\n        self._await_head()\n",
            "        super().connection_made(transport)\n",
        ),
        "tests/http/test_server.py::test_who_sends_no_request_is_hung_up_on",
    ),
    row(
        "page.escaped",
        "What a tape says is text on a page, whatever it looks like",
        Edit(f"{_PAGE}/rendering.py", "autoescape=True", "autoescape=False"),
        _HOSTILE,
    ),
    row(
        "page.printable",
        "No character of a tape turns a line of a page around, or hides in it",
        Edit(
            f"{_PAGE}/payloads.py",
            '(make_printable(line.rstrip("\\r").expandtabs(4)) for',
            '(line.rstrip("\\r").expandtabs(4) for',
        ),
        _HOSTILE,
    ),
    row(
        "page.payload_bound",
        "A payload of any size leaves a page that a browser can show",
        Edit(
            f"{_PAGE}/payloads.py",
            "left_out = max(0, len(text) - most)",
            "left_out, most = 0, len(text)",
        ),
        _BOUNDED,
    ),
    row(
        "page.payloads_bound",
        "Any number of large payloads leaves a page that a browser can show",
        Edit(f"{_PAGE}/event_rows.py", "max(FEW, min(left, PAYLOAD))", "PAYLOAD"),
        _BOUNDED,
    ),
    row(
        "page.rows_bound",
        "A tape of any length leaves a page that a browser can show",
        Edit(f"{_PAGE}/task_view.py", "= ends.events[-_ROWS:]", "= ends.events"),
        _BOUNDED,
    ),
    row(
        "page.form_origin",
        "A form is taken from a page of ours alone",
        Edit(f"{_PAGE}/page_route.py", "if not is_same_origin(request.headers):", "if False:"),
        _FOREIGN,
    ),
    row(
        "page.cookie_origin",
        "A cookie acts for a page of ours alone",
        Edit(
            _STATE,
            'if request.method not in ("GET", "HEAD") and not is_same_origin(request.headers):',
            "if False:",
        ),
        _COOKIE,
    ),
    row(
        "page.cookie_seal",
        "A cookie that is forged is nobody's",
        Edit(
            _COOKIES,
            "if known is None or not hmac.compare_digest(",
            "if known is None or False and not hmac.compare_digest(",
        ),
        _COOKIE,
    ),
    row(
        "page.cookie_digest",
        "A token that is revoked takes its cookies along",
        Edit(_COOKIES, "{head}.{known.digest}", "{head}"),
        _COOKIE,
    ),
    row(
        "page.cookie_end",
        "A cookie ends",
        Edit(_COOKIES, " or int(until) <= now:", ":"),
        _COOKIE_ENDS,
    ),
    row(
        "page.cookie_key",
        "A key that others may read seals no cookie",
        Edit(_COOKIES, "if path.stat().st_mode & 0o077:", "if False:"),
        _COOKIE_ENDS,
    ),
    row(
        "page.login_next",
        "The login leads to no other site",
        Edit(
            f"{_PAGE}/acts.py",
            'if not plain or not path.startswith("/") or path.startswith("//"):',
            "if False:",
        ),
        f"{_PAGES}::test_the_login_leads_to_no_other_site",
    ),
    row(
        "page.link",
        "Only who follows a link gets in from another site, and to a page",
        Edit(
            _GUARD,
            'if is_navigation(headers) and scope["method"] == "GET" and not _is_of_api(scope):',
            "if True:",
        ),
        f"{_PAGES}::test_a_link_on_another_site_leads_here_by_a_page_of_ours",
    ),
    row(
        "page.task_scope",
        "A page shows no task of an op that its reader may not see",
        Edit(
            f"{_PAGE}/views.py",
            "    if not caller.may(Scope.READ, task.op, task.tags):\n"
            "        raise UnknownTask(task_id)\n",
        ),
        _NARROW,
        _PAGES_OF_A_TAG,
    ),
    row(
        "page.list_of_tag",
        "The list shows a token for tags one of them, and no more",
        Edit(f"{_PAGE}/views.py", "    _narrow(caller, query)\n"),
        _PAGES_OF_A_TAG,
    ),
    row(
        "page.no_counts_of_ops",
        "The list has no numbers of ops for who may not read all of an op",
        Edit(f"{_PAGE}/views.py", "sums=None if by_tag else", "sums="),
        _PAGES_OF_A_TAG,
    ),
    row(
        "page.trace_url",
        "A link to a trace runs no script",
        Edit(
            f"{TAPESCOPE}/model/addresses.py",
            'parts.scheme in ("http", "https") and bool(parts.hostname)',
            "True",
        ),
        f"{_PAGES}::test_what_is_no_url_of_traces_is_refused",
    ),
    row(
        "page.trace_ids",
        "An id of a trace leads nowhere else",
        Edit(f"{_HTTP}/api/trace_urls.py", 'quote(trace_id, safe="")', "trace_id"),
        f"{_PAGES}::test_a_trace_is_linked_to_where_it_is_shown",
    ),
    row(
        "page.find_scope",
        "What is typed leads to no task of another op, and does not tell its id",
        Edit(f"{_PAGE}/views.py", " or await _may_see(state, caller, ids[0])", " or ids"),
        _NARROW,
    ),
    row(
        "page.act_scope",
        "A form cancels nothing that its sender may not cancel",
        Edit(_ACTS, "        await reach(request, caller, Scope.CANCEL, task_id)\n"),
        _NARROW,
    ),
)
