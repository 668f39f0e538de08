"""Canaries in every field that takes words or secrets: after a storm of events none of them sings in any sink."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from flows.canaries import BYSTANDER, HELD, Cage, caged, decoded, story
from prunella.testing.leaks import find_secrets
from shell.planted import FILE

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # aiosmtpd is of 2024

EVENTS = int(os.environ.get("PRUNELLA_CANARY_EVENTS", "40"))
"""How many; `make leaks` sends a thousand."""
CANARIES_MIN = 30
READ = (
    "/api/v1/incidents", "/api/v1/operations", "/api/v1/services", "/api/v1/secrets", "/api/v1/known-issues",
    "/api/v1/known-issues/candidates", "/api/v1/known-issues/export", "/api/v1/notifications", "/api/v1/audit",
    "/api/v1/approvals", "/api/v1/procedures", "/api/v1/statistics", "/api/v1/keys", "/metrics", "/readyz",
    "/api/v1/audit/verify", "/", "/incidents", "/operations", "/services", "/known-issues", "/known-issues/candidates",
    "/notifications", "/approvals", "/procedures", "/audit", "/statistics", "/settings",
)  # fmt: skip


def sinks_of(cage: Cage, stored: bytes) -> dict[str, bytes]:
    """Return what came out, by where."""
    up, postbox = cage.up, cage.postbox
    sinks: dict[str, bytes] = {"database": stored, "log": (up.folder / "up.log").read_bytes()}
    sinks["stdout"] = "".join(up.lines).encode()
    for path in READ:
        sinks[path] = up.client.get(path, headers=up.as_role("ADMIN")).content
    for incident in up.get("/api/v1/incidents", limit=20)["items"]:
        for path in (f"/api/v1/incidents/{incident['id']}", f"/incidents/{incident['id']}"):
            sinks[path] = up.client.get(path, headers=up.as_role("ADMIN")).content
        sinks.setdefault("prunella explain", up.cli("explain", incident["id"], check=False).encode())
    sinks["/known-issues/bare.refused"] = up.client.get(
        "/known-issues/bare.refused", headers=up.as_role("ADMIN")
    ).content
    for plan in up.get("/api/v1/approvals", role="ADMIN")["items"]:
        for path in (f"/api/v1/approvals/{plan['id']}", f"/approvals/{plan['id']}"):
            sinks[path] = up.client.get(path, headers=up.as_role("ADMIN")).content
    for name in ("hook", "pager", "teams"):
        sinks[f"messages by {name}"] = b"\n".join(one.body for one in up.shop.ledger.requests if HELD[name] in one.path)
    sinks["mail"] = b"\n".join(decoded(one) for one in postbox.envelopes)
    sinks |= {f"answer to {name}": answer.content for name, answer in cage.answers.items()}
    assert all(sinks[name] for name in ("messages by hook", "messages by pager", "messages by teams", "mail"))
    assert any(path.startswith("/approvals/") for path in sinks)
    assert len(sinks) > len(READ) + 5
    return sinks


def sung(cage: Cage, sinks: dict[str, bytes]) -> dict[str, set[str]]:
    """Return which canaries were found where, by name."""
    found: dict[str, set[str]] = {}
    for name, secret in cage.canaries().items():
        for where, content in sinks.items():
            for leak in find_secrets(content, [secret]):
                found.setdefault(name, set()).add(f"{where} ({leak.spelling})")
    return found


def dump_of(url: str) -> bytes:
    """Return what lies in the database: SQLite's files with the log of writes, or every table and PostgreSQL's WAL."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        files = [one for one in sorted(path.parent.glob(f"{path.name}*")) if not one.name.endswith(".key")]
        return b"".join(one.read_bytes() for one in files)
    query = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    found = []
    with psycopg.connect(url, autocommit=True) as connection:
        for schema, table in connection.execute(query).fetchall():
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(schema, table))) as copied:
                found += [bytes(block) for block in copied]
        for (name,) in connection.execute("SELECT name FROM pg_ls_waldir()").fetchall():
            row = connection.execute("SELECT pg_read_binary_file('pg_wal/' || %s)", (name,)).fetchone()
            found += [bytes(row[0]).rstrip(b"\0")] if row else []
    return b"".join(found)


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.skipif(EVENTS < 1000, reason="make leaks"))]
)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: Callable[[], AbstractContextManager[str]]
) -> Iterator[str]:
    """Return an empty database; PostgreSQL in the long form only."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'p.db'}"
    else:
        with new_database() as url:
            yield url


def test_no_canary_sings_in_any_sink(place: str, tmp_path: Path) -> None:
    """Events, echoes of services and words of people: no secret in dump, WAL, log, answers, pages, messages, exports."""
    with caged(tmp_path, place) as cage:
        story(cage, EVENTS)
        stored = dump_of(place)
        assert BYSTANDER.encode() in stored
        sinks, canaries = sinks_of(cage, stored), cage.canaries()
        assert len(canaries) >= CANARIES_MIN
        print(f"{len(canaries)} canaries, {EVENTS} events, {len(sinks)} sinks")
        found = sung(cage, sinks)
        assert found == {}, "\n".join(f"{name}: {sorted(where)}" for name, where in found.items())


def test_every_canary_would_sing(tmp_path: Path) -> None:
    """With nothing taken out of words and nothing sealed, each of them is found somewhere: none sits out of hearing."""
    (tmp_path / FILE).write_text("open_words open_rows")
    url = f"sqlite:///{tmp_path / 'p.db'}"
    with caged(tmp_path, url, PLANTED=str(tmp_path)) as cage:
        story(cage, 30)  # one for each secret that an event holds
        silent = set(cage.canaries()) - set(sung(cage, sinks_of(cage, dump_of(url))))
        assert not silent, " ".join(sorted(silent))
