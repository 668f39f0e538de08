"""How long the server takes for the dashboard's pages on PostgreSQL, with a long history behind it.

100,000 incidents of a month, 1,000,000 signals and 300,000 attempts, filled by SQL. Asked through ASGI, so what is
measured is the server's time: the session, every query, the rendering. What the figures of a week cost when they are
read anew, which happens twice a minute at most, stands apart. Floor: a database with nothing in it.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import httpx2
import psycopg

from bench import places
from bench.harness import Options, Report, Row, Spread, percentile
from prunella.app import App, open_app
from prunella.core.redact import Secret
from prunella.engine.effects import Recent
from prunella.settings import Settings
from prunella.web.auth import Gatehouse, Role
from prunella.web.server import create

_INCIDENTS = 100_000
_SIGNALS_PER_INCIDENT = 10
_ASKED = 20
_PAGES = (
    ("overview", "/", 200.0),
    ("recovery rates of a week", "/rates?span=7d", 500.0),
    ("incidents", "/incidents", 300.0),
    ("incidents, open", "/incidents?state=open_any", 300.0),
    ("incidents of a service that recovered", "/incidents?service=s7&state=resolved", 300.0),
    ("one incident", "/incidents/i-99999", 300.0),
    ("statistics of a week", "/statistics?span=7d", 200.0),
    ("metrics of a week (API)", "/api/v1/metrics/self-healing?days=7", 200.0),
)
_ANEW = ("figures of a week, read anew", "figures", 400.0)
_FILL = """
INSERT INTO prunella.incidents (id, service, account, fingerprint, signal_id, title, category, kind, confidence,
  because, advice, severity, level, state, version, count, attempts, wave, first_seen, last_seen, action_taken,
  regressed, forced, refresh_failed, resolved_at)
SELECT 'i-' || n, 's' || n % 40, '', 'f' || n, 'g-' || n || '-0', 's' || n % 40 || ': Service unavailable',
  (ARRAY['network', 'network', 'auth', 'rate_limit', 'data'])[1 + n % 5],
  (ARRAY['network.server', 'network.server', 'auth.expired', 'rate_limit.window', 'data.invalid'])[1 + n % 5], 0.95,
  'status 503', 'The request is sent again.', 'MEDIUM', 'L0',
  CASE WHEN n % 97 = 0 THEN 'escalated' WHEN n > %(all)s - 40 THEN 'open' ELSE 'resolved' END, 0, 10, 2, 1,
  now() - (%(all)s - n) * interval '26 seconds', now() - (%(all)s - n) * interval '26 seconds', 'replayed the request',
  false, false, false,
  CASE WHEN n % 97 = 0 OR n > %(all)s - 40 THEN NULL
    ELSE now() - (%(all)s - n) * interval '26 seconds' + n % 90 * interval '1 second' END
FROM generate_series(1, %(all)s) AS n;
INSERT INTO prunella.signals (id, source, event_id, service, account, outcome, incident_id, occurred_at, received_at,
  category, kind, failure, forced)
SELECT 'g-' || n || '-' || m, 'events', 'g-' || n || '-' || m, 's' || n % 40, '', 'failure', 'i-' || n,
  now() - (%(all)s - n) * interval '26 seconds', now() - (%(all)s - n) * interval '26 seconds', 'network',
  'network.server', '{"service": "crm", "status": 503, "message": "Service unavailable"}', false
FROM generate_series(1, %(all)s) AS n, generate_series(0, %(each)s - 1) AS m;
INSERT INTO prunella.runs (id, incident_id, operation_id, service, procedure, remedy, state, attempt, idempotency_key,
  worker, started_at, ended_at, status, detail)
SELECT 'r-' || n || '-' || m, 'i-' || n, 'o-' || n, 's' || n % 40, 'recover.network',
  CASE WHEN m = 0 AND n % 5 = 2 THEN 'refresh_token' ELSE 'replay' END,
  CASE WHEN m = 2 AND n % 97 > 0 OR m = 0 AND n % 5 = 2 THEN 'verified' ELSE 'failed' END, m + 1, 'k-' || n, 'worker',
  now() - (%(all)s - n) * interval '26 seconds' + m * interval '1 second',
  now() - (%(all)s - n) * interval '26 seconds' + m * interval '1 second' + interval '300 milliseconds', 503, ''
FROM generate_series(1, %(all)s) AS n, generate_series(0, 2) AS m;
INSERT INTO prunella.audit (id, at, actor, action, target, incident_id, reason, details)
SELECT '0-' || lpad(n::text, 9, '0') || '-' || m, now(), 'prunella', 'incident.resolved', 's' || n % 40, 'i-' || n,
  'the replayed request was answered', '{}'
FROM generate_series(1, %(all)s) AS n, generate_series(0, 1) AS m;
INSERT INTO prunella.audit (id, at, actor, action, target, incident_id, reason, details)
SELECT '1-' || n, now() - (%(all)s - n) * interval '26 seconds', 'prunella',
  CASE WHEN n % 97 = 0 THEN 'incident.escalated' ELSE 'gate.opened' END, 's' || n % 40,
  CASE WHEN n % 97 = 0 THEN 'i-' || n END, 'no success within 24 hours', '{}'
FROM generate_series(1, %(all)s) AS n WHERE n % 97 < 2;
"""


def run(options: Options) -> Report:
    """Ask each page some times, empty and full."""
    incidents = options.amount(_INCIDENTS)
    with places.places() as place:
        url = place.database("postgresql")
        empty = asyncio.run(_measure(url))
        _fill(url, incidents)
        full = asyncio.run(_measure(url))
    rows = [
        Row(
            what=name,
            unit="ms (95 % of the answers)",
            floor=Spread.of([percentile(empty[path], 0.95)]) if path in empty else None,
            ours=Spread.of([percentile(full[path], 0.95)]),
            target=f"at most {most_ms:.0f} ms",
            met=percentile(full[path], 0.95) <= most_ms,
        )
        for name, path, most_ms in (*_PAGES, _ANEW)
    ]
    notes = [f"{incidents:,} incidents, {incidents * _SIGNALS_PER_INCIDENT:,} signals; {_ASKED} answers each"]
    return Report("dashboard: the server's time for a page", rows, notes)


def _fill(url: str, incidents: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _FILL.split(";\n"):
            if statement.strip():
                amounts = {"all": incidents, "each": _SIGNALS_PER_INCIDENT}
                psycopg.ClientCursor(connection).execute(statement.replace("% ", "%% ").encode(), amounts)
        connection.execute("VACUUM ANALYZE")


async def _measure(url: str) -> dict[str, list[float]]:
    settings = Settings(database_url=url, secret_key=Secret(places.KEY), requests_per_s=10_000)
    async with open_app(settings) as app:
        web = create(app)
        gatehouse: Gatehouse = web.state.gatehouse
        sent = {"authorization": f"Bearer {gatehouse.mint(Role.ADMIN, timedelta(hours=1))}"}
        transport = httpx2.ASGITransport(app=web)
        async with httpx2.AsyncClient(transport=transport, base_url="http://prunella", headers=sent) as client:
            took_ms = {path: await _ask(client, path) for _, path, _ in _PAGES}
        return took_ms | {_ANEW[1]: await _read_anew(app)}


async def _read_anew(app: App) -> list[float]:
    took_ms = []
    for _ in range(_ASKED):
        begun = time.perf_counter()
        await Recent(app.parts).of(7)
        took_ms.append(1000 * (time.perf_counter() - begun))
    return took_ms


async def _ask(client: httpx2.AsyncClient, path: str) -> list[float]:
    took_ms = []
    for number in range(_ASKED + 2):
        begun = time.perf_counter()
        answer = await client.get(path)
        if answer.status_code not in (200, 404):
            raise RuntimeError(f"{path} answered {answer.status_code}: {answer.text[:300]}")
        if number > 1:  # the first ones compile templates and statements
            took_ms.append(1000 * (time.perf_counter() - begun))
    return took_ms
