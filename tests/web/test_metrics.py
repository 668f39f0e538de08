"""What Prometheus sees: every metric named once, labels bounded, and boards and alerts that ask for nothing else."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from prunella.core.events import Event
from prunella.core.states import ApprovalState, OperationState
from prunella.web.metrics import OTHER, Metrics
from store.making import entry, operation
from web.conftest import INGEST, Web

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
BOARD = ROOT / "deploy" / "grafana" / "prunella.json"
RULES = ROOT / "deploy" / "prometheus" / "prunella.rules.yml"
DOCUMENT = ROOT / "docs" / "observability.md"
EVENT = {"event_id": "e-1", "service_name": "crm", "http_status": 503}


async def scrape(web: Web) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample by name and labels."""
    answer = await web.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(sample.name, frozenset(sample.labels.items())): sample.value for one in families for sample in one.samples}


def of(samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float | None:
    return samples.get((f"prunella_{name}", frozenset(labels.items())))


async def test_gauges_show_how_things_stand(web: Web) -> None:
    """Incidents by state, gates, operations, lag, messages, workers: from the tables, at the moment they are asked for."""
    await web.ask("POST", "/integration-self-heal", INGEST, json=EVENT, headers={"prefer": "respond-async"})
    now = web.clock.now()
    async with web.app.store.transaction() as tx:
        await tx.operations.add(
            [operation(n, service="crm", state=OperationState.WAITING, created_at=now) for n in range(3)]
        )
        await tx.audit.add([entry(1, at=now)])
    web.clock.advance(90)
    samples = await scrape(web)
    assert of(samples, "incidents_open", state="open") == 1
    assert of(samples, "incidents_open", state="escalated") == 0
    assert of(samples, "operations", service="crm", state="waiting") == 3
    assert of(samples, "operations", service="crm", state="dead") == 0
    assert (
        of(samples, "gate_state", service="crm", state="closed"),
        of(samples, "gate_state", service="crm", state="open"),
    ) == (1, 0)
    assert of(samples, "queue_lag_seconds") == 90
    assert (of(samples, "workers_alive"), of(samples, "store_up"), of(samples, "approvals_waiting")) == (1, 1, 0)
    assert of(samples, "audit_unsealed_entries") == 2
    assert of(samples, "signals_total", service="crm", outcome="failure", category="network") == 1
    assert any(name == "prunella_build_info" for name, _ in samples)


async def test_metrics_answer_while_the_database_is_away(web: Web, sqlite_path: Path) -> None:
    """What was counted is still told; what stands is not known, and no old figure stands in its place."""
    await web.ask("POST", "/integration-self-heal", INGEST, json=EVENT, headers={"prefer": "respond-async"})
    assert of(await scrape(web), "incidents_open", state="open") == 1
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as file:
        file.execute("ALTER TABLE incidents RENAME TO away")
    samples = await scrape(web)
    assert (of(samples, "store_up"), of(samples, "incidents_open", state="open")) == (0, None)
    assert math.isnan(of(samples, "queue_lag_seconds") or 0)
    assert of(samples, "signals_total", service="crm", outcome="failure", category="network") == 1


async def test_unknown_services_share_one_label(web: Web) -> None:
    """A sender that invents names makes no new series: a thousand names are one."""
    for number in range(1000):
        web.app.parts.listeners.emit(
            "signal.accepted", service=f"s{number}", outcome="failure", category="data", forced=False, detected_s=1.0
        )
        web.app.parts.listeners.emit("inbound.refused", source=f"s{number}", reason="x")
    samples = await scrape(web)
    assert of(samples, "signals_total", service=OTHER, outcome="failure", category="data") == 1000
    assert of(samples, "inbound_events_total", source=OTHER, fate="unsigned") == 1000
    assert len(samples) < 200


def test_times_are_told_where_they_are_known(web: Web) -> None:
    """Detect, act, verify and recover, each from its event; what was forced counts nowhere."""
    metrics = Metrics(["crm"], [], web.clock.now)
    told: list[tuple[str, dict[str, object]]] = [
        ("signal.accepted", {"outcome": "failure", "category": "network", "forced": False, "detected_s": 2.0}),
        ("run.started", {"remedy": "replay", "acted_s": 3.0}),
        ("run.started", {"remedy": "replay", "acted_s": None}),
        ("run.finished", {"remedy": "replay", "state": "verified"}),
        ("incident.resolved", {"category": "network", "took_s": 9.0, "forced": False}),
        ("incident.resolved", {"category": "network", "took_s": 9.0, "forced": True}),
    ]
    for name, fields in told:
        metrics.listen(Event(name, {"service": "crm", "incident": "i", **fields}))
        web.clock.advance(timedelta(seconds=4).total_seconds())
    page = metrics.page().decode()
    for line in (
        'prunella_detection_seconds_sum{service="crm"} 2.0',
        'prunella_action_seconds_sum{service="crm"} 3.0',
        'prunella_action_seconds_count{service="crm"} 1.0',
        'prunella_verification_seconds_sum{service="crm"} 4.0',
        'prunella_recovery_seconds_sum{category="network"} 9.0',
        'prunella_recovery_seconds_count{category="network"} 1.0',
        'prunella_incidents_resolved_total{category="network",service="crm"} 2.0',
    ):
        assert line in page, line


def test_remembered_ends_are_bounded(web: Web) -> None:
    """Incidents that are never resolved do not fill the memory."""
    metrics = Metrics(["crm"], [], web.clock.now)
    for number in range(10_100):
        fields = {"service": "crm", "incident": str(number), "remedy": "replay", "state": "failed"}
        metrics.listen(Event("run.finished", fields))
    assert len(metrics._ended) == 10_000


# Boards, alerts, document ---------------------------------------------------------------------------------------------


def series(web: Web) -> dict[str, set[str]]:
    """Return every series that can be asked for, with its labels."""
    metrics = Metrics(["crm"], ["x"], web.clock.now)
    found: dict[str, set[str]] = {}
    for collector in metrics.registry._collector_to_names:
        labels = set(getattr(collector, "_labelnames", ()))
        for name in metrics.registry._collector_to_names[collector]:
            found[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    found |= {name: set() for name in re.findall(r"^# TYPE (process_\w+)", metrics.page().decode(), re.MULTILINE)}
    return {name: labels for name, labels in found.items() if not name.endswith("_created")}


def unknown(expression: str, known: Mapping[str, set[str]]) -> list[str]:
    """Return what an expression asks for and does not exist: series, and labels of them."""
    wrong = []
    for name, inside in re.findall(r"\b((?:prunella|process)_\w+)(?:\{([^}]*)\})?", expression):
        if name not in known:
            wrong.append(name)
            continue
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside))
        wrong += [f"{name}{{{label}}}" for label in asked - known[name] - {"job", "instance"}]
    for inside in re.findall(r"\bby \(([^)]*)\)", expression):
        named = {one.strip() for one in inside.split(",")}
        all_ = set().union(*known.values()) | {"instance"}
        wrong += sorted(named - all_)
    return wrong


def queries() -> Iterator[tuple[str, str]]:
    """Return every expression of the board and of the alerts, with where it stands."""
    board = json.loads(BOARD.read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield f"board: {panel['title']}", target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield f"board: ${variable['name']}", variable["query"]
    for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]:
        yield f"alert: {rule['alert']}", rule["expr"]


def test_every_query_names_an_existing_metric(web: Web) -> None:
    """What a panel or an alert asks for is there, with the labels it is asked by; a wrong one is noticed."""
    known = series(web)
    found = list(queries())
    assert len(found) > 30
    assert {place: wrong for place, one in found if (wrong := unknown(one, known))} == {}
    assert unknown("sum by (sevice) (rate(prunella_signal_total[5m]))", known) == ["prunella_signal_total", "sevice"]
    assert unknown('prunella_signals_total{state="x"}', known) == ["prunella_signals_total{state}"]


def test_every_metric_stands_on_the_board_or_in_the_document(web: Web) -> None:
    """Nothing is counted that nobody is told of, and the document names nothing that is not there."""
    own = {name for name in series(web) if name.startswith("prunella_")}
    families = {
        re.sub(r"_(total|bucket|sum|count)$", "", name)
        if name.endswith(("_total", "_bucket", "_sum", "_count"))
        else name
        for name in own
    }
    documented = set(re.findall(r"^\| `(prunella_\w+)`", DOCUMENT.read_text(), re.MULTILINE))
    assert {re.sub(r"_total$", "", name) for name in documented} == families


def test_board_is_one_that_grafana_takes() -> None:
    """Panels have their own ids and places, no two of them overlap, and each asks the chosen source."""
    board: dict[str, Any] = json.loads(BOARD.read_text())
    panels = board["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for one in panels:
        place = one["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, one["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_alerts_say_what_is_wrong() -> None:
    """Each has a severity and a summary; names are told once."""
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    assert len({one["alert"] for one in rules}) == len(rules)
    assert all(one["labels"]["severity"] in ("warning", "critical") and one["annotations"]["summary"] for one in rules)


def test_states_in_queries_exist() -> None:
    """A state that an alert looks for is one that there is."""
    states = set(re.findall(r'state="(\w+)"', " ".join(one for _, one in queries())))
    known = {one.value for one in (*OperationState, *ApprovalState)}
    assert states - known == {"escalated", "disabled", "open", "verified"}
