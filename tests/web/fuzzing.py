"""Ask every route as everybody, with what its document allows and with what it forbids: `make fuzz-api CASES=20000`.

Cases come from schemathesis; half of them name things that are there. Every answer has to be one that the document
names, to the shape, and none may be a fault of our own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode

from prunella.core.redact import Secret
from prunella.core.services import Health, Service
from prunella.engine.people import INCIDENT_ACTS
from prunella.guard.place import DatabasePlace
from prunella.settings import Settings
from prunella.store import migrations
from prunella.web.auth import Role
from prunella.web.limits import Limits
from web.documented import Documented
from web.market import HIDE, Market, filled, market

INGEST = "ingest-token-0123456789"
SERVICE = Service(name="crm", base_url="https://crm.invalid", health=Health(path="/health"))
_SHOWS = ("authorization", "x-internal-token", "cookie")


@dataclass
class Found:
    """What came of the cases."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(self.statuses.items()))
        return f"{self.cases:,} cases, {self.statuses[500]} server errors, {len(self.troubles)} undocumented answers ({statuses})"


@asynccontextmanager
async def target(folder: Path) -> AsyncIterator[Market]:
    """A prunella with something of everything to ask for."""
    url = f"sqlite:///{folder / 'prunella.db'}"
    migrations.upgrade(url)
    place = DatabasePlace(url)
    wanted = Settings(services={"crm": SERVICE}, ingest_tokens=(Secret(INGEST),))
    with filled(f"sqlite:///{folder / 'shop.db'}") as shop:
        async with market(shop, folder / "prunella.db", wanted, place) as wired:
            wired.api.state.limits = Limits(wired.app.parts.clock.monotonic, 1e9, 1e9)
            await _fill(wired)
            yield wired
    place.close()


async def fuzz(wired: Market, *, cases: int, chance: int, only: str = "") -> Found:
    """Send at least so many cases, spread evenly over all operations below `only`, and judge the answers.

    Some operations have less to vary, and some cases no client could send: what is missing is drawn anew from the others.
    """
    document = wired.api.openapi()
    known, judge, found = await _known(wired), Documented(document), Found()
    read = schemathesis.openapi.from_dict(dict(document)).get_all_operations()
    operations: list[Any] = [one.ok() for one in read]  # type: ignore[union-attr]
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    asked = [(one, mode) for one in operations if one.path.startswith(only) for mode in modes]
    rng = random.Random(chance)
    while found.cases < cases and asked:
        each = -(-(cases - found.cases) // len(asked))
        varied = []
        for operation, mode in asked:
            drawn = _drawn(operation, mode, each, chance)
            for case in drawn:
                await _send_as_somebody(wired, case, known, judge, found, rng)
            if len(drawn) == each:
                varied.append((operation, mode))
        asked, chance = varied, chance + 1
    return found


async def _send_as_somebody(
    wired: Market, case: Any, known: dict[str, Sequence[str]], judge: Documented, found: Found, rng: random.Random
) -> None:
    """Send one case, half of the time about something that is there, mostly as who may."""
    if case.path_parameters and rng.random() < 0.5:
        named = {name: rng.choice(known.get(name, ["crm"])) for name in case.path_parameters}
        case.path_parameters = {**case.path_parameters, **named}
    allowed = judge.roles(case.method, case.operation.path) or list(Role)
    role = Role(rng.choice(allowed)) if rng.random() < 0.7 else rng.choice((*Role, None))
    await _send(wired, case, role, judge, found)


def _drawn(operation: Any, mode: GenerationMode, count: int, chance: int) -> list[Any]:
    """Draw cases of an operation; none where nothing can be wrong with it."""
    drawn: list[Any] = []

    @seed(chance)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def draw(case: Any) -> None:
        drawn.append(case)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            draw()
        except Exception as error:
            if "unsatisfiable" not in f"{type(error).__name__} {error}".lower():
                raise
    return drawn[:count]


async def _send(wired: Market, case: Any, role: Role | None, judge: Documented, found: Found) -> None:
    """Send one case as somebody, and judge the answer."""
    try:
        sent = requests.Request(**_request(case)).prepare()
    except (requests.RequestException, UnicodeError, ValueError):
        return  # no client could send it
    headers = [
        (name.encode("latin-1", "ignore"), value if isinstance(value, bytes) else value.encode("latin-1", "ignore"))
        for name, value in sent.headers.items()
        if name.lower() not in _SHOWS
    ]
    if role is not None:
        headers.append((b"authorization", f"Bearer {token(wired, role)}".encode()))
    headers.append((b"prefer", b"respond-async"))  # nothing heals here, so nothing is worth waiting for
    body: Any = sent.body
    answer = await wired.client.request(case.method, str(sent.url), headers=headers, content=body)
    kind = answer.headers.get("content-type", "").partition(";")[0]
    said = answer.json() if kind.endswith("json") else None
    trouble = judge.trouble(case.method, case.operation.path, answer.status_code, kind, said)
    found.cases += 1
    found.statuses[answer.status_code] += 1
    roles = judge.roles(case.method, case.operation.path)
    if answer.status_code >= 500 and trouble is None and case.operation.path != "/readyz":
        trouble = "a server error"
    refused, stranger = (
        answer.status_code in (401, 403),
        roles is not None and (role is None or role.value not in roles),
    )
    if roles is not None and refused is not stranger and not _before_anybody_is_asked(sent, answer.status_code):
        trouble = f"{answer.status_code} for {role}"
    if trouble is not None:
        shown = [one for one in headers if one[0].lower() in (b"idempotency-key", b"if-match", b"content-type")]
        found.troubles.append(
            f"{trouble} as {role} {shown}: {case.method} {sent.url:.300} {body!r:.300}: {answer.text:.300}"
        )


def _before_anybody_is_asked(sent: requests.PreparedRequest, status: int) -> bool:
    """Tell whether it came to no route: too large to be read at all, or a name of several lines, which nothing has."""
    return status == 413 or (status == 404 and "\n" in unquote(urlsplit(str(sent.url)).path))


def _request(case: Any) -> dict[str, Any]:
    kwargs = case.as_transport_kwargs(base_url="http://prunella")
    kwargs.pop("timeout", None)
    return {name: value for name, value in kwargs.items() if value is not None and name != "cookies"}


def token(wired: Market, role: Role) -> str:
    """Return a token of a role."""
    if role is Role.INGEST:
        return INGEST
    return wired.tokens.setdefault(role, wired.gatehouse.mint(role, timedelta(hours=9)))


async def _fill(wired: Market) -> None:
    """Let there be incidents, operations, plans, attempts, notices and keys."""
    for number in range(6):
        wired.order(number)
    event = {"service_name": "crm", "http_status": 503, "endpoint": "/contacts", "payload": {"a": 1}}
    for number in range(4):
        body = {**event, "event_id": f"e-{number}", "error_message": f"trouble {number}", "user_id": f"u-{number}"}
        headers = {"authorization": f"Bearer {INGEST}", "prefer": "respond-async"}
        await wired.client.post("/integration-self-heal", json=body, headers=headers)
    await wired.post(f"/api/v1/procedures/{HIDE}/run", {})
    await wired.post("/api/v1/self-healing/heal/1", {})
    await wired.ask("POST", "/api/v1/keys", Role.ADMIN, json={"name": "ci", "role": "VIEWER"})


async def _known(wired: Market) -> dict[str, Sequence[str]]:
    """Return what path parameters may name."""
    known: dict[str, Sequence[str]] = {"name": ["crm", HIDE, "stuck-order"], "entity": ["order"]}
    known["order_id"] = [str(number) for number in range(7)]
    for name, path in (
        ("incident_id", "incidents"),
        ("operation_id", "operations"),
        ("approval_id", "approvals"),
        ("run_id", "runs"),
        ("key_id", "keys"),
        ("issue_id", "known-issues?limit=5"),
    ):
        items = (await wired.ask("GET", f"/api/v1/{path}", Role.ADMIN)).json()["items"]
        known[name] = [one["id"] for one in items] or ["none"]
    told = (await wired.get("/api/v1/notifications?all=true"))["items"]
    known["notification_id"] = [one["notification_id"] for one in told] or ["none"]
    known["act"] = [*INCIDENT_ACTS, "replay", "cancel", "pause", "resume", "disable", "enable"]
    return known


async def _main(cases: int, chance: int) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        async with target(Path(folder)) as wired:
            return await fuzz(wired, cases=cases, chance=chance)


if __name__ == "__main__":
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--cases", type=int, default=20_000)
    reader.add_argument("--seed", type=int, default=1)
    options = reader.parse_args()
    came = asyncio.run(_main(options.cases, options.seed))
    print(came)
    print(json.dumps(came.troubles[:20], indent=1, ensure_ascii=False))
    sys.exit(bool(came.troubles) or came.cases < options.cases)
