"""The guards of the client: what is given once, what is asked again, and where a token goes."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import TAPESCOPE, Edit, Guard, row

_CLIENT: Final = f"{TAPESCOPE}/client"
_VERBS: Final = f"{_CLIENT}/verbs.py"
_WIRE: Final = f"{_CLIENT}/wire.py"
_ADDRESS: Final = f"{_CLIENT}/address.py"
_PROBLEMS: Final = f"{_CLIENT}/problems.py"

_OF_SCHEDULES: Final = "tests/client/test_schedules.py"
_FOLLOWING: Final = "tests/client/test_following.py"
_TESTS: Final = "tests/client/test_client.py"
_GAP: Final = f"{_FOLLOWING}::test_an_event_that_is_missing_is_an_error"
_CUT: Final = f"{_FOLLOWING}::test_a_connection_that_is_cut_anywhere_loses_nothing"
_NO_STREAM: Final = f"{_FOLLOWING}::test_a_stream_that_is_none_is_an_error_in_the_end"
_SECRET: Final = f"{_TESTS}::test_no_repr_and_no_error_shows_the_token"
_LOST_REPLY: Final = f"{_TESTS}::test_a_submit_whose_reply_was_lost_submits_once"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "client.many_known",
        "The tasks that were submitted before the server was lost are known",
        Edit(
            f"{TAPESCOPE}/client/verbs.py",
            "                outcomes += [error] * sum(map(len, parts[number:]))\n"
            "                break\n",
            "                raise\n",
        ),
        "tests/client/test_client.py::test_what_was_submitted_before_the_server_was_lost_is_known",
    ),
    row(
        "client.gap",
        "An event that is missing is an error (I9)",
        Edit(_VERBS, "if event.seq != seen + 1:", "if False:"),
        _GAP,
    ),
    row(
        "client.end",
        "An empty answer is no end of a tape",
        Edit(_VERBS, "                        await self._check_end(task_id, seen)\n", ""),
        _NO_STREAM,
    ),
    row(
        "client.once",
        "An event that was given is not given again (I9)",
        Edit(_VERBS, "if event.seq <= seen:", "if False:"),
        _GAP,
    ),
    row(
        "client.resumes",
        "A follower goes on after the last event that it gave",
        Edit(_VERBS, '"Last-Event-ID": str(seen)', '"Last-Event-ID": str(after_seq)'),
        _GAP,
    ),
    row(
        "client.gives_up",
        "A server that ends every stream at once is given up in the end",
        Edit(_VERBS, "now - opened > _LASTED", "now >= opened"),
        _NO_STREAM,
    ),
    row(
        "client.schedule_added",
        "A schedule that a try with a lost reply has added is no other one's",
        Edit(_VERBS, "(read_schedule(s), tries.maybe_done or bool", "(read_schedule(s), bool"),
        f"{_OF_SCHEDULES}::test_what_is_asked_again_is_done_once",
    ),
    row(
        "client.schedule_removed",
        "A schedule that a try with a lost reply has removed is no error",
        Edit(
            _VERBS,
            "            if not tries.maybe_done:\n                raise\n",
            "            raise\n",
        ),
        f"{_OF_SCHEDULES}::test_what_is_asked_again_is_done_once",
    ),
    row(
        "client.schedule_taken",
        "A schedule that is there already is an error where nothing was lost",
        Edit(_VERBS, "    maybe_done = False\n", "    maybe_done = True\n"),
        f"{_OF_SCHEDULES}::test_a_client_says_what_the_manager_says",
    ),
    row(
        "client.many_answered",
        "Many tasks have as many answers",
        Edit(_VERBS, "    if len(rows) != n:\n", "    if False:\n"),
        f"{_TESTS}::test_an_answer_to_many_that_is_none_is_said",
    ),
    row(
        "client.many_refused",
        "One of many that was refused is raised",
        Edit(_VERBS, "    if raising:\n", "    if False:\n"),
        f"{_TESTS}::test_one_of_many_that_is_refused_is_raised",
    ),
    row(
        "client.key",
        "A submit has a key of its own, so that it may be sent again",
        Edit(
            _VERBS,
            '    if given is None:\n        return f"client-{uuid.uuid4().hex}"\n',
            '    if given is None:\n        return ""\n',
        ),
        _LOST_REPLY,
    ),
    row(
        "client.plain_http",
        "A token goes over no network in clear",
        Edit(_ADDRESS, "if token and not (secure or local or plain_http):", "if False:"),
        _SECRET,
    ),
    row(
        "client.token_hidden",
        "No repr has the token",
        Edit(_ADDRESS, "field(default=None, repr=False)", "field(default=None)"),
        _SECRET,
    ),
    row(
        "client.token_text",
        "A token that ends the header is refused before an error shows it",
        Edit(_ADDRESS, "if token and _TOKEN.fullmatch(token) is None:", "if False:"),
        _SECRET,
    ),
    row(
        "client.redirect",
        "A redirect is not followed",
        Edit(_WIRE, '"follow_redirects": False', '"follow_redirects": True'),
        f"{_TESTS}::test_a_token_is_sent_nowhere_else",
    ),
    row(
        "client.proxy",
        "What goes to this machine goes through no proxy",
        Edit(_WIRE, '"trust_env": not self.address.is_local', '"trust_env": True'),
        f"{_TESTS}::test_a_token_goes_through_no_proxy_to_this_machine",
    ),
    row(
        "client.slow_body",
        "An answer that drips has an end",
        Edit(
            _VERBS,
            "if self.wire.monotonic() > until:\n                    raise Broken",
            "if False:\n                    raise Broken",
        ),
        f"{_TESTS}::test_an_answer_that_drips_has_an_end",
    ),
    row(
        "client.retry_after",
        "A Retry-After is kept to",
        Edit(_VERBS, "return max(asked or 0.0, self.choose())", "return self.choose()"),
        f"{_TESTS}::test_a_retry_after_is_kept_to",
    ),
    row(
        "client.same_error",
        "An error is made again only where it says the same",
        Edit(
            _PROBLEMS,
            "same = isinstance(error, TapescopeError) and str(error) == problem.detail",
            "same = True",
        ),
        f"{_TESTS}::test_an_error_of_another_version_is_told_by_its_text",
    ),
    row(
        "client.path",
        "What is not an id leads nowhere else",
        Edit(_VERBS, "    if not is_task_id(task_id):\n", "    if False:\n"),
        f"{_FOLLOWING}::test_what_cannot_be_followed_is_the_error_of_a_handle",
    ),
    row(
        "client.fork",
        "A forked child uses no connection of its parent",
        Edit(_WIRE, "self._http is None or self._pid != os.getpid()", "self._http is None"),
        f"{_TESTS}::test_a_forked_child_has_connections_of_its_own",
    ),
    row(
        "client.loop",
        "A call that blocks holds no event loop up",
        Edit(_WIRE, "if not self._block_loop and _is_in_loop():", "if False:"),
        f"{_FOLLOWING}::test_a_reader_that_goes_early_leaves_nothing_open",
    ),
)
