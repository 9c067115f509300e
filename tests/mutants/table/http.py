"""The guards of the HTTP API: who is answered, how much is taken in, and how a stream ends."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import TAPESCOPE, Edit, Guard, row

_HTTP: Final = f"{TAPESCOPE}/http"
_GUARD: Final = f"{_HTTP}/api/guard.py"
_ROUTES: Final = f"{_HTTP}/api/routes.py"
_STREAM: Final = f"{_HTTP}/api/stream.py"
_STATE: Final = f"{_HTTP}/api/state.py"
_SERVER: Final = f"{_HTTP}/api/server.py"
_TOKENS: Final = f"{_HTTP}/tokens.py"

_ACCESS: Final = "tests/http/test_access.py"
_STREAMS: Final = "tests/http/test_stream.py"
_HERE: Final = f"{_ACCESS}::test_without_tokens_this_machine_alone_is_answered"
_REVOKED: Final = f"{_ACCESS}::test_a_token_that_is_revoked_is_so_at_once"

GUARDS: Final[tuple[Guard, ...]] = (
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
        Edit(_GUARD, "        if _is_cross_origin(headers):\n", "        if False:\n"),
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
        Edit(_STATE, "if caller.find_ops(scope) == frozenset():", "if False:"),
        f"{_ACCESS}::test_every_route_takes_the_right_token",
    ),
    row(
        "http.scope_of_op",
        "A token for some ops reaches no task of another",
        Edit(_ROUTES, "    if caller.may(scope, task.op):\n        return\n", "    return\n"),
        f"{_ACCESS}::test_a_scope_may_name_an_op",
    ),
    row(
        "http.submit_of_op",
        "A token for some ops submits no other",
        Edit(_ROUTES, "if not caller.may(Scope.SUBMIT, body.op):", "if False:"),
        f"{_ACCESS}::test_a_scope_may_name_an_op",
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
            _ROUTES,
            "                if len(body) > limits.body_bytes:\n                    raise too_large\n",
        ),
        "tests/http/test_api.py::test_a_body_without_an_end_is_not_taken_in",
    ),
    row(
        "http.query",
        "A filter that is misspelt shows nothing",
        Edit(_ROUTES, "        Depends(_refuse_unknown_query),\n"),
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
            "        finally:\n            self._state.seats.leave()\n",
            "        finally:\n",
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
)
