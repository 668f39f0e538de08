"""Issues of the user and of the package are recognised for a policy, and mistakes are told where they are made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

import prunella as pr
from prunella.guard.core import Unwanted
from prunella.testing import FaultyServer, words

STALE = {"id": "shop.stale", "pattern": "stale rates for \\w{3}", "remedy": "reload"}


def reload(error: Exception) -> bool:
    """Say that it is repaired."""
    return True


class Answer(Exception):
    """An HTTP error with a body, by its shape."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}")
        self.response = httpx2.Response(status, text=text)


# Which issue a failure is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "error", "issue", "remedy"),
    [
        ("shop", RuntimeError("the cache: stale rates for EUR"), "shop.stale", "reload"),
        ("shop", Answer(500, "stale rates for EUR"), "shop.stale", "reload"),
        ("shop", Unwanted({"ok": False, "error": "stale rates for EUR"}), "shop.stale", "reload"),
        ("shop", Unwanted(httpx2.Response(500, text="stale rates for EUR")), "shop.stale", "reload"),
        ("supabase", Answer(401, '{"message": "JWT expired"}'), "supabase.jwt-expired", "refresh_auth"),
        ("hubspot", Answer(401, "The OAuth token used to make this call expired 7 seconds ago."),
         "hubspot.token-expired", "refresh_auth"),
        ("hubspot-eu", Answer(401, "The OAuth token used to make this call expired 7 seconds ago."),
         "hubspot.token-expired", "refresh_auth"),
        ("shop", RuntimeError("could not extend file: No space left on device"), "postgresql.disk-full", "postgresql.disk-full"),
    ],
)  # fmt: skip
def test_failure_is_recognised(service: str, error: Exception, issue: str, remedy: str) -> None:
    """By its words, wherever they stand, at the service that it is about; a remedy may stand under an issue's own id."""
    remedies = {"reload": reload, "refresh_auth": reload, "postgresql.disk-full": reload}
    assert pr.known_issues([STALE], remedies=remedies).recognise(error, service) == (issue, remedy)


def test_issue_without_a_remedy_hides_no_other() -> None:
    """A louder one that nothing is bound to does not keep the one away that can be repaired."""
    loud = {"id": "shop.loud", "pattern": "stale rates", "severity": "CRITICAL"}
    known = pr.known_issues([loud, STALE], remedies={"reload": reload})
    assert known.recognise(RuntimeError("stale rates for EUR"), "shop") == ("shop.stale", "reload")


def test_conditions_count() -> None:
    """Service and kind of an entry are asked for, the kind as `classify` says it."""
    entry = {**STALE, "service": "shop", "kind": "network.timeout"}
    known = pr.known_issues([entry], remedies={"reload": reload})
    assert known.recognise(TimeoutError("stale rates for EUR"), "shop") is not None
    assert known.recognise(TimeoutError("stale rates for EUR"), "crm") is None
    assert known.recognise(RuntimeError("stale rates for EUR"), "shop") is None


def test_entry_takes_the_place_of_a_shipped_one() -> None:
    """Its words count; and without `builtin` only one's own are there."""
    own = {"id": "supabase.jwt-expired", "pattern": "token is over", "remedy": "refresh_auth"}
    known = pr.known_issues([own], remedies={"refresh_auth": reload})
    assert known.recognise(RuntimeError("JWT expired"), "supabase") is None
    assert known.recognise(RuntimeError("token is over"), "supabase") == ("supabase.jwt-expired", "refresh_auth")
    with pytest.raises(ValueError, match="no issue is repaired by 'refresh_auth'"):
        pr.known_issues([STALE], remedies={"reload": reload, "refresh_auth": reload}, builtin=False)


# Mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"entries": [{"id": "a"}, {"pattern": "b"}]}, ValueError, "entry 1 (a): pattern: is missing; write pattern: ...; entry 2: id: is"),
        ({"entries": [{**STALE, "pattern": "(a+)+b"}]}, ValueError, "entry 1 (shop.stale): pattern: a repeat stands"),
        ({"entries": [{**STALE, "sevrity": "LOW"}]}, ValueError, "unknown name; did you mean severity?"),
        ({"remedies": {"relaod": reload}}, ValueError, "no issue is repaired by 'relaod'; did you mean reload?"),
        ({"remedies": {"qqq": reload}}, ValueError, "no issue is repaired by 'qqq'; name an issue, or a remedy that"),
        ({"remedies": {"reload": "rm -rf"}}, TypeError, "remedies['reload'] must be a function of the failure, got 'rm -rf'"),
        ({"rest_s": 0}, ValueError, "rest_s must be seconds > 0, got 0"),
    ],
)  # fmt: skip
def test_mistakes_are_told(given: dict[str, Any], error: type[Exception], words: str) -> None:
    """All of a list at once, with the next step."""
    with pytest.raises(error) as raised:
        pr.known_issues(**{"entries": [STALE], "remedies": {"reload": reload}, **given})
    assert words in str(raised.value)


# With real HTTP -------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    """A service that plays scripts and keeps the books."""
    with FaultyServer() as one:
        yield one


EXPIRED = words.json(401, {"message": "JWT expired"})


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_client_refreshes_its_token_and_asks_again(server: FaultyServer, method: str) -> None:
    """A 401 that is known is no answer yet: the token is refreshed and the request sent anew, where it may be."""
    server.script("/rows", [EXPIRED, "ok"])
    with httpx2.Client(base_url=server.url, headers={"authorization": "Bearer old"}) as plain:

        def refresh(error: Exception) -> bool:
            plain.headers["authorization"] = "Bearer new"
            return True

        known = pr.known_issues(remedies={"refresh_auth": refresh})
        client = pr.http(plain, pr.policy("supabase", retry=pr.Retry(base_s=0), known=known))
        first = client.request(method, "/rows")
        second = client.request(method, "/rows")
    sent = [request.headers["authorization"] for request in server.ledger.requests]
    if method == "GET":
        assert (first.status_code, sent) == (200, ["Bearer old", "Bearer new", "Bearer new"])
    else:
        assert (first.status_code, second.status_code, sent) == (401, 200, ["Bearer old", "Bearer new"])


@pytest.mark.anyio
async def test_answer_that_stays_is_returned_as_it_is(server: FaultyServer) -> None:
    """What does not help leaves the client's own answer; one that is not known, or no error, is never touched."""
    server.script("/rows", [EXPIRED])
    server.script("/told", [words.json(200, {"message": "JWT expired"})])
    server.script("/other", [words.json(401, {"message": "no"})])

    async def refresh(error: Exception) -> bool:
        return True

    known = pr.known_issues(remedies={"refresh_auth": refresh})
    async with httpx2.AsyncClient(base_url=server.url) as plain:
        client = pr.http(plain, pr.policy("supabase", retry=pr.Retry(base_s=0), known=known))
        assert (await client.get("/rows")).json() == {"message": "JWT expired"}
        assert (await client.get("/other")).json() == {"message": "no"}
        assert (await client.get("/told")).json() == {"message": "JWT expired"}
    assert [request.path for request in server.ledger.requests] == ["/rows", "/rows", "/other", "/told"]
    assert [one["ineffective"] for one in known.standing()] == [1]


# The base install -----------------------------------------------------------------------------------------------------


def test_nothing_else_has_to_be_installed() -> None:
    """Known issues need the standard library only, and a policy without them does not load what they need."""
    code = """
import sys, json, prunella as pr
pr.policy("crm")
before = sorted(name for name in sys.modules if name.startswith("prunella.diagnosis"))
pr.known_issues(remedies={"refresh_auth": print})
theirs = {"yaml", "pydantic", "sqlalchemy", "typer", "re2"} & set(sys.modules)
print(json.dumps([before, sorted(theirs)]))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == [[], []]
