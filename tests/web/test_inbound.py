"""What others send becomes signals: signed, in shapes of their own, once each, of the services they may speak of."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook

from prunella.core.events import Event
from prunella.core.records import Incident
from prunella.core.redact import Secret
from prunella.core.senders import Sender
from prunella.core.services import SecretRef
from prunella.web.auth import Role
from prunella.web.inbound.door import Door
from prunella.web.inbound.told import event_id_of, found_at
from web.conftest import INGEST, Web

pytestmark = pytest.mark.anyio

DATA = Path(__file__).parents[1] / "data" / "inbound"
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
CRM = Sender(name="", kind="", secrets=(Secret(SECRET), Secret(OLD)), service="crm", services=frozenset({"crm"}))
SENDERS = {
    "alerts": replace(CRM, kind="alertmanager"),
    "boards": replace(CRM, kind="grafana"),
    "errors": replace(CRM, kind="sentry"),
    "ci": replace(CRM, kind="github", scan=True),
    "partner": replace(CRM, kind="standard_webhooks"),
    "events": replace(CRM, kind="cloudevents"),
    "script": replace(CRM, kind="token"),
}
KINDS = {name: sender.kind for name, sender in SENDERS.items()}


@dataclass
class Inbound:
    """A prunella with senders, and what they would send."""

    web: Web
    seen: list[Event]

    def allow(self, **changed: Sender) -> None:
        """Let these in, beside the others."""
        named = {name: replace(one, name=name) for name, one in {**SENDERS, **changed}.items()}
        parts = self.web.app.parts
        self.web.api.state.door = Door(named, self.web.app.vault.reveal, parts.clock.now, parts.listeners)
        KINDS.update({name: one.kind for name, one in changed.items()})

    async def send(self, name: str, body: Any, *, secret: str = SECRET, **headers: str) -> httpx2.Response:
        """Send a body as its sender signs it; a text names a file."""
        raw = (DATA / body).read_bytes() if isinstance(body, str) else json.dumps(body).encode()
        signed = signature(KINDS[name], secret, raw, self.web)
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        headers = {"content-type": "application/json", **signed, **named}
        return await self.web.client.post(f"/api/v1/inbound/{name}", content=raw, headers=headers)

    async def incidents(self) -> list[Incident]:
        """Return all that are open, in the order of what they are about."""
        async with self.web.app.store.transaction() as tx:
            return sorted(await tx.incidents.open_of("crm"), key=lambda one: one.title.partition(" on ")[2])


def signature(kind: str, secret: str, raw: bytes, web: Web) -> dict[str, str]:
    """Sign as the makers of each kind document it."""
    made = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    if kind == "standard_webhooks":
        now = web.app.parts.clock.now()
        signed = Webhook(secret).sign("msg_1", now, raw.decode())
        return {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signed}
    if kind in ("sentry", "github", "grafana"):
        header = {"sentry": "sentry-hook-signature", "github": "x-hub-signature-256"}
        return {header.get(kind, "x-grafana-alerting-signature"): f"sha256={made}" if kind == "github" else made}
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture
def inbound(web: Web) -> Inbound:
    """Configure one sender of each kind."""
    seen: list[Event] = []
    web.app.parts.listeners.subscribe(seen.append)
    ready = Inbound(web, seen)
    ready.allow()
    return ready


FAILURES: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "alertmanager": ("alerts", "alertmanager_firing.json", {}),
    "grafana": ("boards", "grafana_firing.json", {}),
    "sentry error": ("errors", "sentry_error.json", {"sentry_hook_resource": "error"}),
    "sentry issue": ("errors", "sentry_issue_created.json", {"sentry_hook_resource": "issue"}),
    "sentry metric": ("errors", "sentry_metric_alert.json", {"sentry_hook_resource": "metric_alert"}),
    "github": ("ci", "github_failure.json", {"x_github_event": "workflow_run"}),
    "standard webhooks": ("partner", "standard_webhook.json", {}),
    "cloudevents": ("events", "cloudevent.json", {"content_type": "application/cloudevents+json"}),
    "token": ("script", "standard_webhook.json", {}),
}
TITLES = {
    "alertmanager": ["alert 4b1c88e0f2a9d371", "alert 9d02a7714ce65b08"],
    "grafana": ["alert c6eadffa33fcdf37"],
    "sentry error": ["issue 1170820242"],
    "sentry issue": ["issue 1170820242"],
    "sentry metric": ["metric alert 4"],
    "github": ["workflow Nightly sync on main"],
}


DEEP: Any = 1
for _ in range(200):
    DEEP = [DEEP]
HOSTILE: tuple[Any, ...] = (
    *(None, 0, "", [], [[]], True, float("nan"), float("inf"), 10**400, -1e308, DEEP),
    *("a\0b", "\ud800", "\x1b[2J", "[" * 5_000, '{"a": ' * 2_000, "<script>", "x" * 5_000, "NaN"),
    *({"": ""}, {"a\0": "b\0"}, ["a", 1, None, {}], {"\ud800": 1}, {"service_name": {}, "outcome": []}),
)
"""What stands where something else is expected."""


def wrapped(name: str, hostile: Any) -> Any:
    """Put something hostile into every place that a sender's shape has."""
    labels = {
        "labels": hostile,
        "annotations": hostile,
        "status": "firing",
        "startsAt": hostile,
        "valueString": hostile,
    }
    issue = {
        "id": hostile,
        "title": hostile,
        "metadata": hostile,
        "exception": {"values": [hostile]},
        "culprit": hostile,
    }
    run = dict.fromkeys(("id", "run_attempt", "name", "head_branch", "updated_at", "display_title"), hostile)
    facts = dict.fromkeys(
        (
            "event_id",
            "error_code",
            "error_message",
            "payload",
            "endpoint",
            "user_id",
            "headers",
            "occurred_at",
            "method",
        ),
        hostile,
    )
    shapes = {
        "alerts": {"alerts": [labels, {**labels, "labels": {"alertname": hostile}}, hostile]},
        "errors": {
            "action": "created",
            "data": {kind: {**issue, "issue_id": hostile} for kind in ("error", "issue", "event", "metric_alert")},
        },
        "ci": {"action": "completed", "workflow_run": {**run, "conclusion": "failure"}},
        "events": {"specversion": "1.0", "id": "1", "source": hostile, "type": "x", "time": hostile, "data": hostile},
        "partner": {"type": hostile, "timestamp": hostile, "data": facts},
        "script": facts,
    }
    return shapes[{"boards": "alerts"}.get(name, name)]


# What comes of it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", FAILURES)
async def test_failure_of_each_shape_opens_an_incident_once(inbound: Inbound, shape: str) -> None:
    """Each vendor's failure opens its incident, and delivered again it changes nothing."""
    name, body, headers = FAILURES[shape]
    first = await inbound.send(name, body, **headers)
    assert (first.status_code, first.json()["refused"]) == (202, [])
    opened = await inbound.incidents()
    assert sorted(one.title.partition(" on ")[2] for one in opened) == TITLES.get(shape, [""])
    assert {one["incident_id"] for one in first.json()["items"]} == {one.id for one in opened}
    again = await inbound.send(name, body, secret=OLD, **headers)
    assert [one["duplicate"] for one in again.json()["items"]] == [True] * len(opened)
    assert [one["incident_id"] for one in again.json()["items"]] == [
        one["incident_id"] for one in first.json()["items"]
    ]
    assert [one.count for one in await inbound.incidents()] == [1] * len(opened)


async def test_shapes_are_diagnosed_by_what_they_say(inbound: Inbound) -> None:
    """Words, classes and codes of vendors reach the diagnosis."""
    kinds = {}
    for shape, (name, body, headers) in FAILURES.items():
        answer = await inbound.send(name, body, **headers)
        async with inbound.web.app.store.transaction() as tx:
            incident = await tx.incidents.get(answer.json()["items"][0]["incident_id"])
        assert incident is not None
        kinds[shape] = incident.kind
    assert kinds == {
        "alertmanager": "network.timeout",
        "grafana": "network.server",
        "sentry error": "network.timeout",
        "sentry issue": "network.timeout",
        "sentry metric": "network.server",
        "github": "unclassified",
        "standard webhooks": "network.server",
        "cloudevents": "network.server",
        "token": "network.server",
    }


@pytest.mark.parametrize(
    ("name", "failed", "well", "headers"),
    [
        ("alerts", "alertmanager_firing.json", "alertmanager_resolved.json", {}),
        ("boards", "grafana_firing.json", "grafana_resolved.json", {}),
        ("errors", "sentry_issue_created.json", "sentry_issue_resolved.json", {"sentry_hook_resource": "issue"}),
        ("ci", "github_failure.json", "github_success.json", {"x_github_event": "workflow_run"}),
    ],
)
async def test_resolved_alert_resolves_its_own_incident_only(
    inbound: Inbound, name: str, failed: str, well: str, headers: Mapping[str, str]
) -> None:
    """What is over is proven for this alert, issue or workflow; another incident of the service stays open."""
    await inbound.send(name, failed, **headers)
    opened = await inbound.incidents()
    await inbound.send("partner", "standard_webhook.json")
    assert len(await inbound.incidents()) == len(opened) + 1
    inbound.web.clock.advance(60)
    assert (await inbound.send(name, well, **headers)).status_code == 202
    left = await inbound.incidents()
    assert opened[0].id not in {one.id for one in left}
    assert len(left) == len(opened)
    async with inbound.web.app.store.transaction() as tx:
        resolved = await tx.incidents.get(opened[0].id)
    assert resolved is not None
    assert resolved.resolved_at is not None


async def test_alert_that_fires_anew_is_a_new_event(inbound: Inbound) -> None:
    """The same alert with a new beginning is no repetition."""
    body = json.loads((DATA / "grafana_firing.json").read_text())
    await inbound.send("boards", body)
    await inbound.send("boards", "grafana_resolved.json")
    body["alerts"][0]["startsAt"] = "2026-01-01T12:00:00Z"
    again = await inbound.send("boards", body)
    assert [one["duplicate"] for one in again.json()["items"]] == [False]
    assert len(await inbound.incidents()) == 1


@pytest.mark.parametrize(
    ("name", "body", "headers"),
    [
        ("errors", "sentry_issue_assigned.json", {"sentry_hook_resource": "issue"}),
        ("errors", "sentry_issue_created.json", {"sentry_hook_resource": "error"}),
        ("errors", "sentry_issue_created.json", {}),
        ("ci", "github_ping.json", {"x_github_event": "ping"}),
        ("alerts", {"alerts": []}, {}),
        ("alerts", {"alerts": [{"status": "pending", "labels": {}, "fingerprint": "a"}]}, {}),
    ],
)
async def test_what_means_nothing_is_taken_and_put_aside(
    inbound: Inbound, name: str, body: Any, headers: Mapping[str, str]
) -> None:
    """A sender is not told to send it again, and nothing comes of it."""
    answer = await inbound.send(name, body, **headers)
    assert (answer.status_code, len(answer.json()["aside"]), answer.json()["items"]) == (202, 1, [])
    assert await inbound.incidents() == []


async def test_alert_brings_no_request_to_replay(inbound: Inbound) -> None:
    """There is nothing to send again: no operation waits, the incident stays open until it is proven well."""
    await inbound.send("boards", "grafana_firing.json")
    (incident,) = await inbound.incidents()
    async with inbound.web.app.store.transaction() as tx:
        assert await tx.operations.tally(incident.id) == {}


# Who may come in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", FAILURES)
async def test_unsigned_and_wrongly_signed_are_refused_alike(inbound: Inbound, shape: str) -> None:
    """No signature, another secret, a name that nobody has: one answer, word for word, and nothing is recorded."""
    name, body, headers = FAILURES[shape]
    wrong = await inbound.send(name, body, secret="whsec_" + base64.b64encode(b"x" * 32).decode(), **headers)
    raw = (DATA / body).read_bytes()
    unsigned = await inbound.web.client.post(f"/api/v1/inbound/{name}", content=raw)
    stranger = await inbound.web.client.post("/api/v1/inbound/nobody", content=raw, headers=wrong.request.headers)
    assert [one.status_code for one in (wrong, unsigned, stranger)] == [401, 401, 401]
    assert wrong.content == unsigned.content == stranger.content
    assert wrong.headers["content-type"] == "application/problem+json"
    assert await inbound.incidents() == []
    reasons = [event.fields["reason"] for event in inbound.seen if event.name == "inbound.refused"]
    assert reasons == ["not signed as it should be"] * 2 + ["no sender has this name"]


async def test_token_of_ours_is_no_signature(inbound: Inbound) -> None:
    """No role opens this door: an administrator's token is refused like anything else."""
    raw = (DATA / "standard_webhook.json").read_bytes()
    for token in (INGEST, inbound.web.token(Role.ADMIN)):
        headers = {"authorization": f"Bearer {token}"}
        for name in KINDS:
            answer = await inbound.web.client.post(f"/api/v1/inbound/{name}", content=raw, headers=headers)
            assert answer.status_code == 401, name


async def test_signature_is_checked_before_anything_is_read(inbound: Inbound) -> None:
    """What is no JSON is refused as unsigned, and only told to be no JSON where it is signed."""
    raw = b'{"alerts": ['
    unsigned = await inbound.web.client.post("/api/v1/inbound/boards", content=raw)
    assert unsigned.status_code == 401
    signed = signature("grafana", SECRET, raw, inbound.web)
    answer = await inbound.web.client.post("/api/v1/inbound/boards", content=raw, headers=signed)
    assert (answer.status_code, answer.json()["title"]) == (400, "The body is no JSON")
    raw = b"[1]"
    answer = await inbound.web.client.post(
        "/api/v1/inbound/boards", content=raw, headers=signature("grafana", SECRET, raw, inbound.web)
    )
    assert answer.status_code == 422


async def test_old_message_is_refused(inbound: Inbound) -> None:
    """A message that was recorded is worth nothing after five minutes."""
    raw = (DATA / "standard_webhook.json").read_bytes()
    headers = signature("standard_webhooks", SECRET, raw, inbound.web)
    for wait_s, status in ((299, 202), (2, 401)):
        inbound.web.clock.advance(wait_s)
        answer = await inbound.web.client.post("/api/v1/inbound/partner", content=raw, headers=headers)
        assert answer.status_code == status


async def test_secret_in_the_store_opens_and_a_missing_one_is_told_in_the_log(inbound: Inbound) -> None:
    """secret://NAME works; one that is not set leaves the others good, and the log says how to set it."""
    inbound.allow(boards=replace(SENDERS["boards"], secrets=(SecretRef("inbound/boards"),)))
    assert (await inbound.send("boards", "grafana_firing.json")).status_code == 401
    assert "prunella secret set inbound/boards" in str(inbound.seen[-1].fields["reason"])
    await inbound.web.ask(
        "PUT", "/api/v1/secrets/inbound/boards", inbound.web.token(Role.ADMIN), json={"value": SECRET}
    )
    assert (await inbound.send("boards", "grafana_firing.json")).status_code == 202


async def test_sender_reaches_only_its_services(inbound: Inbound) -> None:
    """What it says of another service is refused, with the rest taken; alone, it is answered with 422."""
    both = replace(SENDERS["alerts"], service="", services=frozenset({"crm", "mail"}))
    inbound.allow(alerts=both)
    body = json.loads((DATA / "alertmanager_firing.json").read_text())
    body["alerts"][1]["labels"]["service"] = "billing"
    answer = await inbound.send("alerts", body)
    assert (answer.status_code, len(answer.json()["items"])) == (202, 1)
    assert answer.json()["refused"][0]["why"] == "'billing' is no service that this sender may speak of"
    body["alerts"] = body["alerts"][1:]
    answer = await inbound.send("alerts", body)
    assert (answer.status_code, answer.json()["title"]) == (422, "None of this can be taken")
    del body["alerts"][0]["labels"]["service"]
    answer = await inbound.send("alerts", body)
    assert "names no service at labels.service" in answer.json()["errors"][0]["detail"]
    named = {"type": "x", "data": {"service_name": "billing", "error_message": "no"}}
    for name in ("partner", "script"):
        assert (await inbound.send(name, named)).status_code == 422


async def test_single_service_is_meant_whatever_labels_say(inbound: Inbound) -> None:
    """A sender of one service speaks of that one: a label of the same name may mean something else."""
    body = json.loads((DATA / "grafana_firing.json").read_text())
    body["alerts"][0]["labels"]["service"] = "checkout-frontend"
    assert len((await inbound.send("boards", body)).json()["items"]) == 1
    assert [one.service for one in await inbound.incidents()] == ["crm"]


async def test_senders_do_not_share_event_ids(inbound: Inbound) -> None:
    """What one sender sent cannot stand in the way of another's event with the same id."""
    for name in ("script", "other"):
        inbound.allow(other=SENDERS["script"])
        answer = await inbound.send(name, {"event_id": "e-1", "error_message": "503 Service Unavailable"})
        assert [one["duplicate"] for one in answer.json()["items"]] == [False]


# Configured places ----------------------------------------------------------------------------------------------------


async def test_fields_are_read_from_where_they_stand(inbound: Inbound) -> None:
    """Any body can be read: facts are found at their places, types say what is a failure, the rest is put aside."""
    inbound.allow(
        partner=replace(
            SENDERS["partner"],
            fields={"error_message": "data.error.text", "http_status": "data.error.codes.0", "error_code": "type"},
            failures=("order.failed", "payment.*"),
            successes=("order.synced",),
        )
    )
    for kind, aside in (("order.created", 1), ("order.failed", 0), ("payment.declined", 0), ("order.synced", 0)):
        body = {"type": kind, "data": {"error": {"text": "bad gateway", "codes": ["502"]}, "id": kind}}
        raw = json.dumps(body).encode()
        signed = Webhook(SECRET).sign(f"msg_{kind}", inbound.web.clock.now(), raw.decode())
        headers = {**signature("standard_webhooks", SECRET, raw, inbound.web), "webhook-id": f"msg_{kind}"}
        headers["webhook-signature"] = signed
        answer = await inbound.web.client.post("/api/v1/inbound/partner", content=raw, headers=headers)
        assert len(answer.json()["aside"]) == aside, answer.text
    async with inbound.web.app.store.transaction() as tx:
        found = await tx.signals.known(
            "inbound:partner", ["msg_order.failed", "msg_payment.declined", "msg_order.synced"]
        )
        failure = await tx.signals.failure(found["msg_order.failed"][1])
    assert len(found) == 3
    assert (failure.status, failure.code, failure.message) == (502, "order.failed", "bad gateway")


async def test_place_of_an_alert_is_read_too(inbound: Inbound) -> None:
    """Labels of an alert can hold the status."""
    inbound.allow(alerts=replace(SENDERS["alerts"], fields={"http_status": "labels.code"}))
    answer = await inbound.send("alerts", "alertmanager_firing.json")
    async with inbound.web.app.store.transaction() as tx:
        failure = await tx.signals.failure(answer.json()["items"][0]["signal_id"])
    assert failure.status == 503


async def test_fact_of_a_wrong_kind_is_refused_with_its_name(inbound: Inbound) -> None:
    """The sender learns which fact could not be taken."""
    answer = await inbound.send("script", {"http_status": 99, "error_message": "x"})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"pointer": "/http_status", "detail": "http_status: Input should be greater than or equal to 100"}
    ]


def test_places_and_ids() -> None:
    """Places lead through objects and lists; ids that an event may not have become a digest, each its own."""
    body = {"a": [{"b": 1}, "x"], "c": {"d": None}}
    found = [found_at(body, place) for place in ("a.0.b", "a.1", "a.2", "a.x", "c.d", "c.d.e", "z", "a.-1")]
    assert found == [1, "x", None, None, None, None, None, None]
    assert event_id_of("a", 1) == "a:1"
    digests = {event_id_of("a b"), event_id_of("é"), event_id_of("x" * 201), event_id_of("")}
    assert len(digests) == 4
    assert all(one.startswith("sha256:") and len(one) == 71 for one in digests)


# Scans ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SENDERS)
async def test_no_body_of_a_known_sender_is_a_fault_of_ours(large: Web, name: str) -> None:
    """Any JSON, of a wrong kind in any place, on PostgreSQL, too: taken, put aside or refused with why."""
    inbound = Inbound(large, [])
    inbound.allow()
    about = {
        "errors": [{"sentry_hook_resource": one} for one in ("error", "issue", "event_alert", "metric_alert")],
        "ci": [{"x_github_event": "workflow_run"}],
        "events": [{"content_type": "application/cloudevents+json"}, {"ce_specversion": "1.0", "ce_id": "%00"}],
    }.get(name, [{}])
    for hostile in HOSTILE:
        for headers in about:
            answer = await inbound.send(name, wrapped(name, hostile), **headers)
            assert answer.status_code in (202, 400, 422), (hostile, headers, answer.text)


async def test_half_of_a_character_is_taken_as_a_question_mark(inbound: Inbound) -> None:
    """Vendors cut texts without looking; for that no failure is lost."""
    body = {"event_id": "cut", "error_message": "boom \ud83d", "payload": {"a": "\udc00"}, "endpoint": "/a"}
    answer = await inbound.send("script", body)
    assert answer.json()["refused"] == []
    assert len(await inbound.incidents()) == 1


async def test_sender_that_may_asks_for_a_scan(inbound: Inbound) -> None:
    """A scheduled workflow signs {"mode": "scan"} and gets document B's answer; who may not, is told nothing new."""
    answer = await inbound.send("ci", {"mode": "scan", "limit": 5})
    assert (answer.status_code, answer.json()["processed_count"]) == (200, 0)
    refused = await inbound.send("errors", {"mode": "scan"})
    assert (refused.status_code, len(refused.json()["aside"])) == (202, 1)


# /api/v1/signals ------------------------------------------------------------------------------------------------------


async def test_signals_take_our_own_shape_once_with_the_other_door(web: Web) -> None:
    """202 with the incident; the same event at document B's door is a repetition."""
    event = {"event_id": "e-1", "service_name": "crm", "http_status": 503}
    answer = await web.ask("POST", "/api/v1/signals", INGEST, json=event)
    (item,) = answer.json()["items"]
    assert (answer.status_code, item["event_id"], item["duplicate"]) == (202, "e-1", False)
    other = await web.ask("POST", "/integration-self-heal", INGEST, json=event, headers={"prefer": "respond-async"})
    assert other.json()["recovery_id"] == item["incident_id"]
    wrong = await web.ask("POST", "/api/v1/signals", INGEST, json={"event_id": "e-2", "service": "crm"})
    assert {one["pointer"] for one in wrong.json()["errors"]} == {"/service_name", "/service"}


async def test_signals_take_cloudevents_structured_binary_and_in_batches(web: Web) -> None:
    """One event in all three modes is one signal (CloudEvents 1.0, HTTP binding 3.1 to 3.3)."""
    event = json.loads((DATA / "cloudevent.json").read_text())
    structured = {"content-type": "application/cloudevents+json; charset=utf-8"}
    batch = {"content-type": "application/cloudevents-batch+json"}
    binary = {f"ce-{name}": value for name, value in event.items() if name not in ("data", "datacontenttype")}
    binary |= {"content-type": "application/json", "ce-subject": "c%72m"}
    duplicates = []
    for headers, body in ((structured, event), (binary, event["data"]), (batch, [event, {**event, "id": "other"}])):
        answer = await web.ask("POST", "/api/v1/signals", INGEST, content=json.dumps(body), headers=headers)
        assert (answer.status_code, answer.json()["refused"]) == (202, []), answer.text
        duplicates.append([one["duplicate"] for one in answer.json()["items"]])
    assert duplicates == [[False], [True], [True, False]]
    text = {**binary, "ce-id": "text", "content-type": "text/plain"}
    answer = await web.ask("POST", "/api/v1/signals", INGEST, content="Connection refused", headers=text)
    async with web.app.store.transaction() as tx:
        failure = await tx.signals.failure(answer.json()["items"][0]["signal_id"])
    assert failure.message == "Connection refused"


async def test_signals_say_what_is_wrong_with_a_cloudevent(web: Web) -> None:
    """Every required attribute that is missing is named; other versions are not guessed at."""
    headers = {"content-type": "application/cloudevents+json"}
    bodies: list[Any] = [{"specversion": "1.0"}, {"specversion": "0.3", "id": "1", "source": "/", "type": "x"}, [1]]
    sent = [{"content": json.dumps(body), "headers": headers} for body in bodies]
    answers = [await web.ask("POST", "/api/v1/signals", INGEST, **one) for one in sent]
    assert [one.status_code for one in answers] == [422, 422, 422]
    assert [one["pointer"] for one in answers[0].json()["errors"]] == ["/id", "/source", "/type"]
    assert "'0.3' is not understood" in answers[1].text
    nameless = {"specversion": "1.0", "id": "1", "source": "/", "type": "x", "data": {}}
    answer = await web.ask("POST", "/api/v1/signals", INGEST, content=json.dumps(nameless), headers=headers)
    assert "names no service" in answer.text


async def test_database_that_is_away_means_that_nothing_was_taken(inbound: Inbound, sqlite_path: Path) -> None:
    """The sender is told to come again, not that all is well."""
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as file:
        file.execute("ALTER TABLE signals RENAME TO away")
    answer = await inbound.send("boards", "grafana_firing.json")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
