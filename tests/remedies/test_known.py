"""What is bound to a known issue is carried out with what was declared, and whatever it runs into is an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import pytest

from prunella.core.errors import InvalidInput
from prunella.core.redact import Secret
from prunella.core.services import Cache, OAuth, SecretRef, Service
from prunella.egress import Egress
from prunella.plugin import Outcome, RemedyFunction
from prunella.remedies.contract import Acts, Target
from prunella.remedies.http import Replay
from prunella.remedies.known import (
    Bindable,
    FunctionForIssue,
    InvalidateCache,
    Parameter,
    RefreshAuth,
    must_take,
    parameters_of,
)
from prunella.remedies.services import ConfiguredServices
from prunella.store.secrets import Vault
from prunella.store.sqlite import SqliteStore
from prunella.testing import FaultyServer, hang, html

if TYPE_CHECKING:
    from nowhere import Elsewhere  # type: ignore[import-not-found]

pytestmark = pytest.mark.anyio

FACTS = {"key": "incident-1", "incident": "incident-1", "service": "crm", "code": "E-17", "count": 3, "issue": "i-1"}
NOWHERE: Any = None
"""No services are configured."""


@pytest.fixture
def empties(caller: Egress, vault: Vault, store: SqliteStore) -> InvalidateCache:
    """Return the remedy on a real way out."""
    return InvalidateCache(Replay(caller, vault, store))


def target(service: Service, **given: Any) -> Target:
    """Return what a remedy of a known issue acts on."""
    at = Target(service=service, account="", incident_id="incident-1", idempotency_key="key-1", facts=FACTS)
    return replace(at, **given)


def function(body: Callable[..., Any], **how: Any) -> RemedyFunction:
    """Return a function of the user as `@remedy` registers it."""
    said = {"name": "mend", "idempotent": True, "reversible": False, "per": "row", "timeout_s": 5.0}
    return RemedyFunction(function=body, **{**said, **how})


async def outcome_of(store: SqliteStore, body: Callable[..., Any], *, out: Any = None, **given: Any) -> Outcome:
    """Call a function for an issue."""
    how = {name: given.pop(name) for name in ("per", "timeout_s") if name in given}
    bound = FunctionForIssue(function(body, **how), out, store.clock)
    return await bound.apply(target(Service(name="crm"), **given))


# A service forgets what it keeps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "GET"])
async def test_cache_is_emptied_as_configured(empties: InvalidateCache, server: FaultyServer, method: str) -> None:
    """One call: at the service's own host, with its credentials, method and path, without a body, under the key."""
    cache = Cache(path="/cache/all?deep=1", method=method)
    service = Service(
        name="crm", base_url=f"{server.url}/v1", cache=cache, bearer=Secret("t-1"), headers={"x-app": Secret("shop")}
    )
    outcome = await empties.apply(target(service))
    (request,) = server.ledger.requests
    assert outcome.ok and outcome.status == 200
    assert (request.method, request.path, request.query, request.body) == (method, "/v1/cache/all", "deep=1", b"")
    assert (request.headers["authorization"], request.headers["x-app"]) == ("Bearer t-1", "shop")
    assert request.headers["idempotency-key"] == "key-1"


async def test_emptied_cache_may_answer_what_it_likes(empties: InvalidateCache, server: FaultyServer) -> None:
    """What the service promises about its own replies is not asked of this one."""
    server.script("/cache", [html(200)])
    service = Service(name="crm", base_url=server.url, cache=Cache(path="/cache"), validate="json")
    assert (await empties.apply(target(service))).ok


async def test_cache_that_is_not_emptied_is_an_outcome(empties: InvalidateCache, server: FaultyServer) -> None:
    """A refusal is evidence, as every answer is; one that never comes timed out."""
    server.script("/cache", [503, hang(5)])
    service = Service(name="crm", base_url=server.url, cache=Cache(path="/cache"))
    refused = await empties.apply(target(service))
    silent = await empties.apply(target(replace(service, timeout_s=0.1)))
    assert (refused.ok, refused.status, refused.failure and refused.failure.status) == (False, 503, 503)
    assert (silent.ok, silent.timed_out) == (False, True)


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({"cache": Cache(path="https://elsewhere.test/cache")}, "host elsewhere.test is not its own; allowed: "),
        ({"cache": Cache(path="/cache"), "bearer": SecretRef("crm/token")}, "crm/token"),
        ({"cache": None}, "services.crm names no cache to empty; add cache: {path: /…}"),
    ],
    ids=["a foreign host", "a secret that is not stored", "no cache"],
)
async def test_cache_that_may_not_be_called_is_left_alone(
    empties: InvalidateCache, server: FaultyServer, service: Any, words: str
) -> None:
    """Nothing is sent, and why comes back as an outcome: the worker does not stumble over it."""
    outcome = await empties.apply(target(Service(name="crm", base_url=server.url, **service)))
    assert not outcome.ok
    assert words in outcome.detail
    assert not server.ledger.requests


def test_remedies_know_where_they_can_do_nothing(empties: InvalidateCache, store: SqliteStore) -> None:
    """A service without tokens or without a cache is told before anything is bound; of a function only its author knows."""
    bare = Service(name="crm")
    oauth = OAuth(token_url="https://crm.example/token", client_id="shop")
    mend: Bindable = FunctionForIssue(function(lambda ctx, failed: None), NOWHERE, store.clock)
    assert RefreshAuth().misfit(bare) == "services.crm has no oauth section, so there is nothing to refresh"
    assert empties.misfit(bare) == "services.crm names no cache to empty; add cache: {path: /…}"
    assert mend.misfit(bare) is None
    assert RefreshAuth().misfit(replace(bare, oauth=oauth)) is None
    assert empties.misfit(replace(bare, cache=Cache(path="/"))) is None
    assert isinstance(mend, Acts) and not isinstance(RefreshAuth(), Acts)  # that is done by the remedy it acts as
    assert (mend.words, mend.idempotent, mend.reversible) == ("run mend", True, False)


# Functions of the user ------------------------------------------------------------------------------------------------


async def test_function_is_told_what_failed_and_what_was_bound(
    store: SqliteStore, caller: Egress, vault: Vault, server: FaultyServer
) -> None:
    """Facts and typed parameters arrive, and it can call a configured service under the attempt's key."""
    told: list[Any] = []

    async def mend(ctx: Any, failed: Any, *, path: str, times: int = 1) -> Outcome:
        told.append((failed, path, times, ctx.attempt, ctx.incident_id))
        reply = await ctx.egress.request("crm", "POST", path, json={"code": failed["code"]})
        return Outcome.done(f"emptied: {reply.status}")

    desk = ConfiguredServices({"crm": Service(name="crm", base_url=server.url, bearer=Secret("t-1"))}, caller, vault)
    outcome = await outcome_of(store, mend, out=desk, parameters={"path": "/purge", "times": 2}, attempt=2)
    (request,) = server.ledger.requests
    assert told == [(FACTS, "/purge", 2, 2, "incident-1")]
    assert (outcome.ok, outcome.detail) == (True, "emptied: 200")
    assert (request.path, request.json(), request.headers["idempotency-key"]) == ("/purge", {"code": "E-17"}, "key-1")


async def test_function_for_batches_is_told_a_list(store: SqliteStore) -> None:
    """One that takes several findings gets its one failure as a list, in a thread where it is no coroutine."""
    told: list[Any] = []

    def mend(ctx: Any, failed: Any) -> None:
        told.append(failed)
        failed[0].clear()  # it is a copy: others are told the same

    at = target(Service(name="crm"))
    bound = FunctionForIssue(function(mend, per="batch"), NOWHERE, store.clock)
    assert (await bound.apply(at)).ok and (await bound.apply(at)).ok
    assert (len(told), at.facts["code"]) == (2, "E-17")


async def test_function_that_hangs_fails_in_its_time(store: SqliteStore) -> None:
    """What does not end is left behind."""

    async def hangs(ctx: Any, failed: Any) -> None:
        await asyncio.Event().wait()

    outcome = await outcome_of(store, hangs, timeout_s=0.02)
    assert (outcome.ok, outcome.timed_out, outcome.detail) == (False, True, "mend did not end within 0.02 s")


async def raises(ctx: Any, failed: Any) -> None:
    raise RuntimeError("no cache at Authorization: Bearer abcdef0123456789abcdef")


async def nonsense(ctx: Any, failed: Any) -> Any:
    return True


async def writes(ctx: Any, failed: Any) -> Outcome:
    return Outcome.changed(stock=0, visible=False)


async def queries(ctx: Any, failed: Any) -> None:
    await ctx.database.execute("DELETE FROM orders")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (raises, "mend raised RuntimeError: no cache at"),
        (nonsense, "mend returned bool; a remedy returns Outcome.changed"),
        (writes, "mend wants to change stock, visible, and what failed is no row; return Outcome.done(...)"),
        (queries, "mend raised LookupError: "),
    ],
)
async def test_whatever_a_function_does_is_an_outcome(store: SqliteStore, body: Any, words: str) -> None:
    """An exception, nonsense and rows that are not there are failures with their reason, without secrets."""
    outcome = await outcome_of(store, body)
    assert not outcome.ok
    assert outcome.detail.startswith(words)
    assert "abcdef" not in outcome.detail


async def test_parameters_that_do_not_fit_are_an_outcome(store: SqliteStore) -> None:
    """A function that changed since it was bound fails, and nothing else does."""
    outcome = await outcome_of(store, lambda ctx, failed, *, path: None, parameters={"way": "/"})
    assert outcome.detail.startswith("mend raised TypeError: ")


# What may be bound ----------------------------------------------------------------------------------------------------


def every_form(  # type: ignore[no-untyped-def]
    ctx: Elsewhere,
    failed: Elsewhere,
    text: str,
    whole: int = 1,
    *,
    number: float,
    switch: "bool" = True,  # noqa: UP037, the form is what is looked at
    maybe: Optional[int] = None,  # noqa: UP045, the form is what is looked at
    perhaps: str | None = None,
    noted: Annotated[int, "seconds"] = 1,
    either: int | str = 1,
    chosen: Literal["a", "b"] = "a",
    nested: list[str] = (),  # type: ignore[assignment]
    unknown: Elsewhere = None,
    anything=None,
    **more: str,
) -> None:
    """Take what a function may take."""


class Mender:
    """An object that can be called."""

    def __call__(self, ctx: Any, failed: Any, *, path: str) -> None:
        """Mend."""


def test_parameters_are_read_from_the_signature() -> None:
    """Every form of annotation, as text too; one that can't be resolved does not hide the others."""
    found = {name: (one.type, one.required) for name, one in parameters_of(function(every_form)).items()}
    assert found == {
        "text": (str, True),
        "whole": (int, False),
        "number": (float, True),
        "switch": (bool, False),
        "maybe": (int, False),
        "perhaps": (str, False),
        "noted": (int, False),
        "either": (None, False),
        "chosen": (None, False),
        "nested": (None, False),
        "unknown": (None, False),
        "anything": (None, False),
    }


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (Mender(), ["path"]),
        (lambda ctx, failed: None, []),
        (lambda ctx, *failed, path: None, ["path"]),
        (lambda *args, **kwargs: None, []),
        (lambda: None, []),
        (dict, []),
        (max, []),
    ],
    ids=["an object", "nothing else", "many failures", "anything", "nothing at all", "a class", "no signature"],
)
def test_odd_functions_have_the_parameters_that_they_declare(body: Any, names: list[str]) -> None:
    """Whatever was registered: reading it never keeps prunella from starting."""
    assert list(parameters_of(function(body))) == names


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (str, ["", "a"], [1, True, None, ["a"]]),
        (int, [0, -7], [True, 1.0, "1", None]),
        (float, [0, 1.5], [True, "1", None]),
        (bool, [True, False], [0, 1, "true", None]),
        (None, ["a", 1, 1.5, True], [None, ["a"], {"a": 1}]),
    ],
)
def test_values_fit_the_types_they_are_declared_with(kind: Any, good: list[Any], bad: list[Any]) -> None:
    """As JSON has them: true is no whole number, 1.0 neither, and a whole number is a number."""
    parameter = Parameter(type=kind, required=True)
    assert [value for value in good if not parameter.fits(value)] == []
    assert [value for value in bad if parameter.fits(value)] == []


@pytest.mark.parametrize(
    ("given", "pointer", "words"),
    [
        (
            {"path": "/", "speed": 1},
            "/parameters",
            "mend takes no parameter 'speed'; it takes path (text), times (whole",
        ),
        (
            {"times": 2},
            "/parameters",
            "mend needs path; it takes path (text), times (whole number), hard (true or false)",
        ),
        ({"path": 7}, "/parameters/path", "mend: path is '7'; it must be text"),
        ({"path": "/", "times": True}, "/parameters/times", "mend: times is 'True'; it must be whole number"),
        ({"path": "/", "hard": 1}, "/parameters/hard", "mend: hard is '1'; it must be true or false"),
        ({"path": ["x" * 500]}, "/parameters/path", f'mend: path is "[\'{"x" * 58}"; it must be text'),
    ],
)
def test_parameters_that_are_not_taken_are_refused(
    store: SqliteStore, given: dict[str, Any], pointer: str, words: str
) -> None:
    """With what is wrong, what it takes, and where it stands in the request."""

    def mend(ctx: Any, failed: Any, *, path: str, times: int = 1, hard: bool = False) -> None:
        """Mend."""

    bound = FunctionForIssue(function(mend), NOWHERE, store.clock)
    must_take(bound, {"path": "/", "times": 2, "hard": True})
    with pytest.raises(InvalidInput) as refused:
        must_take(bound, given)
    assert refused.value.pointer == pointer
    assert str(refused.value).startswith(words)


def test_what_comes_along_takes_no_parameters() -> None:
    """A binding of it that hands something over is a mistake, and is said."""
    must_take(RefreshAuth(), {})
    with pytest.raises(InvalidInput, match="refresh_auth takes no parameter 'path'; it takes none"):
        must_take(RefreshAuth(), {"path": "/"})
