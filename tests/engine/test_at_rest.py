"""What was handed over lies sealed in the database, in every state that an operation can be in."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from prunella.app import App, wire
from prunella.core.records import Failure, Operation, Request, Signal
from prunella.core.services import Service
from prunella.core.states import OperationState
from prunella.egress import Egress
from prunella.engine import bulk, operations
from prunella.settings import Settings
from prunella.store.backlog import Wanted
from prunella.store.contract import Store
from prunella.store.secrets import Keys
from prunella.testing.leaks import find_secrets

pytestmark = pytest.mark.anyio
CANARIES = ("ada.lovelace@canary.example", "Zq7canaryXw93vLk2", "4711081599321", "canary street 12")
BYSTANDER = "canary-of-the-event-id"
"""What may stand in the open: the look sees it, so it would see the others."""


@pytest.fixture
async def app(store: Store) -> AsyncIterator[App]:
    """Wire a prunella on a real store; nothing runs by itself."""
    egress = Egress(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    settings = Settings(services={"crm": Service(name="crm", base_url="https://crm.invalid")})
    yield wire(settings, store, egress, Keys([b"k" * 32]))
    await egress.close()


@pytest.fixture
def dump(database_url: str) -> Callable[[], bytes]:
    """Return everything that lies in the database: the files of SQLite, each table of PostgreSQL as COPY writes it."""

    def files() -> bytes:
        path = Path(make_url(database_url).database or "")
        return b"".join(one.read_bytes() for one in sorted(path.parent.glob(f"{path.name}*")))

    def tables() -> bytes:
        query = (
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        with psycopg.connect(database_url, autocommit=True) as connection:
            found = []
            for schema, table in connection.execute(query).fetchall():
                statement = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(schema, table))
                with connection.cursor().copy(statement) as copied:
                    found += [bytes(block) for block in copied]
        return b"".join(found)

    return files if database_url.startswith("sqlite") else tables


def signal(app: App, number: int) -> Signal:
    """Return an event whose request holds a canary in every place that people put secrets into."""
    email, key, card, street = CANARIES
    now = app.store.clock.now()
    return Signal(
        id=app.parts.ids.new(),
        source="webhook",
        event_id=f"{BYSTANDER}-{number}",
        service="crm",
        occurred_at=now,
        received_at=now,
        failure=Failure(service="crm", status=503, message="Service Unavailable", operation="POST /orders"),
        request=Request(
            method="POST",
            endpoint=f"/orders?access_token={key}",
            payload={"email": email, "lines": [{"card": int(card), "ship_to": {"street": street}}], "key": key},
        ),
    )


async def in_every_state(app: App) -> None:
    """Hand one over for each state, and bring it there."""
    for number, state in enumerate(OperationState):
        receipt = await app.intake.accept(signal(app, number))
        async with app.store.transaction() as tx:
            one = await tx.operations.of_signal(receipt.signal_id)
            assert one is not None
            await tx.operations.save(replace(one, state=state, last_error=f"was {state.value}"), one.state)


async def test_nothing_of_a_payload_lies_open_in_any_state(app: App, dump: Callable[[], bytes]) -> None:
    """After intake, and after people replayed, cancelled and quarantined them: no value in any table or file."""
    await in_every_state(app)
    assert find_secrets(dump(), CANARIES) == []
    found = await bulk.estimate(app.parts, "replay", Wanted(states=(OperationState.DEAD,)))
    how: dict[str, Any] = {"made_at": found.made_at, "digest": found.digest, "name": "again", "by": "ada"}
    await bulk.carry_out(app.parts, "replay", Wanted(states=(OperationState.DEAD,)), **how)
    for wish in ("quarantine", "cancel"):
        for one in (await waiting(app))[:1]:
            await operations.act(app.parts, one.id, wish, by="ada", reason=f"password={CANARIES[1]}")
    raw = dump()
    assert find_secrets(raw, CANARIES) == []
    assert BYSTANDER.encode() in raw


async def test_look_sees_what_lies_open(app: App, dump: Callable[[], bytes]) -> None:
    """With a seal that seals nothing every canary is found: the look above can fail."""
    parts = replace(app.parts, seal=lambda text, _: text)
    opened = replace(app, intake=type(app.intake)(parts))
    await in_every_state(opened)
    assert {leak.secret for leak in find_secrets(dump(), CANARIES)} == {f"{one[:3]}..." for one in CANARIES}


async def waiting(app: App) -> list[Operation]:
    """Return what waits."""
    async with app.store.transaction() as tx:
        return await tx.operations.list(most=9, state="waiting")
