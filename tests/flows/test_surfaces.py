"""What people and their tools touch: health, metrics, pages, resources, the command line."""

from __future__ import annotations

import json

import pytest

from flows.running import Up, event, eventually

pytestmark = pytest.mark.slow


def test_health_and_metrics_answer(up: Up, service: str) -> None:
    """Given a running engine: alive, ready, and counting what it heals apart from its own failures."""
    up.heal(event(service))
    assert up.client.get("/livez").json() == {"status": "ok"}
    ready = up.client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert ready.json()["checks"] == dict.fromkeys(("stopping", "database", "schema", "worker"), "ok")
    metrics = up.client.get("/metrics").text
    assert f'prunella_signals_total{{category="network",outcome="failure",service="{service}"}} 1.0' in metrics
    assert f'prunella_incidents_resolved_total{{category="network",service="{service}"}} 1.0' in metrics
    assert "prunella_own_failures_total" in metrics
    assert "prunella_recovery_seconds_bucket" in metrics


def test_openapi_names_the_documented_route(up: Up) -> None:
    """Given /openapi.json, document B's route is in it."""
    assert "/integration-self-heal" in up.client.get("/openapi.json").json()["paths"]


def test_pages_need_a_session_and_a_link_gives_one(up: Up, service: str) -> None:
    """Given no session, the page shows how to get one; the link of `prunella token` opens it."""
    answer = up.heal(event(service))
    assert up.client.get("/").status_code == 401
    link = up.cli("token", "--role", "VIEWER", "--link").strip()
    path = link[link.index("/login") :]
    opened = up.client.get(path)
    assert opened.status_code == 303
    assert "HttpOnly" in opened.headers["set-cookie"]
    cookie = {"cookie": opened.headers["set-cookie"].split(";")[0]}
    page = up.client.get("/", headers=cookie)
    assert service in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "What happened" in up.client.get(f"/incidents/{answer['recovery_id']}", headers=cookie).text
    up.client.cookies.clear()


def test_command_line_tells_the_same_story(up: Up, service: str) -> None:
    """Given an incident, `incidents`, `explain` and the API agree."""
    answer = up.heal(event(service))
    listed = json.loads(up.cli("incidents", "--service", service, "--json"))
    assert [one["id"] for one in listed["items"]] == [answer["recovery_id"]]
    told = up.cli("explain", answer["recovery_id"])
    assert "incident.resolved" in told
    assert "verified" in told
    assert "no incidents" in up.cli("incidents", "--service", "nobody-knows")
    assert "looked at" in up.cli("scan")


def test_explain_diagnoses_a_text_without_an_engine(up: Up) -> None:
    """Given the text of an error, explain says what it is."""
    told = json.loads(up.cli("explain", "connection reset by peer", "--code", "ECONNRESET", "--json"))
    assert (told["category"], told["kind"]) == ("network", "network.connection")


def test_token_prints_nothing_else(up: Up) -> None:
    """Given `prunella token`, standard output is the token alone, and it works."""
    token = up.cli("token", "--role", "ADMIN", "--ttl", "5m")
    assert token.count("\n") == 1
    assert up.client.get("/api/v1/secrets", headers={"authorization": f"Bearer {token.strip()}"}).status_code == 200


def test_secrets_go_in_and_never_come_out(up: Up) -> None:
    """Given a stored secret, its name is listed and its value is nowhere."""
    up.cli("secret", "set", "crm/signing", given="swordfish-4711-xyz\n")
    assert "crm/signing" in up.cli("secret", "list").split()
    assert b"swordfish" not in b"".join(bytes(row[0]) for row in up.rows("SELECT value_sealed FROM secrets"))
    up.cli("secret", "rm", "crm/signing")
    assert "there is no secret" in up.cli("secret", "rm", "crm/signing", check=False)


def test_person_acts_on_an_incident(up: Up, service: str) -> None:
    """Given an incident that rests, a person can acknowledge, suppress and retry it; each act is in its timeline."""
    up.shop.script(f"/{service}/orders", [422, "ok"])
    answer = up.heal(event(service))
    path = f"/api/v1/incidents/{answer['recovery_id']}"
    assert up.act("POST", f"{path}/ack", {"reason": "on it"}, "OPERATIONS").json()["acknowledged_by"] == "cli"
    assert up.act("POST", f"{path}/suppress", {}, "OPERATIONS").json()["state"] == "suppressed"
    actions = [entry["action"] for entry in up.get(path)["timeline"]]
    assert actions[-2:] == ["incident.ack", "incident.suppress"]


def test_pause_is_a_persons_and_holds(up: Up, service: str) -> None:
    """Given a paused service, nothing is sent, no success lifts it, and resume lets the backlog go."""
    assert (
        up.act("POST", f"/api/v1/services/{service}/pause", {"reason": "migration"}).json()["gate"]["state"] == "paused"
    )
    answer = up.heal(event(service), prefer="respond-async")

    def held() -> str:
        return str(up.get(f"/api/v1/incidents/{answer['recovery_id']}")["held_reason"] or "")

    eventually(lambda: held() != "")
    assert answer["status"] == "pending"
    up.heal({"event_id": f"{service}-good", "service_name": service, "outcome": "success"})
    up.scan()
    assert not [one for one in up.shop.ledger.requests if one.path.startswith(f"/{service}/orders")]
    assert "paused by" in held()
    assert "migration" in held()
    assert up.act("POST", f"/api/v1/services/{service}/resume").json()["gate"]["state"] == "closed"
    up.shop.wait_for(lambda: any(one.path == f"/{service}/orders" for one in up.shop.ledger.requests), 10)


def test_cursor_walks_through_every_incident_once(up: Up) -> None:
    """Given pages of two, the cursor meets every incident exactly once."""
    for number in range(5):
        up.heal(event("paged", number, endpoint=None, payload=None, error_code=f"E{number}X"), prefer="respond-async")
    seen: list[str] = []
    cursor = None
    while True:
        page = up.get("/api/v1/incidents", service="paged", limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 5


def test_documents_views_show_the_same_facts(up: Up, service: str) -> None:
    """Given a healed event, document B's table names show it."""
    answer = up.heal(event(service))
    query = f"SELECT status, failure_category FROM system_integrity_events WHERE id = '{answer['recovery_id']}'"
    assert up.rows(query) == [("resolved", "network")]
    assert up.rows(f"SELECT status FROM integration_events WHERE service_name = '{service}'") == [("error",)]
    assert ("verified",) in up.rows(f"SELECT status FROM healing_logs WHERE target = '{service}'")
