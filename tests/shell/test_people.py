"""What only a person with the right role may do, done by others, twice, by a look alone, or about something else."""

from __future__ import annotations

from typing import Any

import pytest

from flows.running import INGEST, eventually
from shell.conftest import HIDE, Shell, body

pytestmark = pytest.mark.slow


def proposed(shell: Shell, *rows: int, procedure: str = HIDE, table: str = "products") -> dict[str, Any]:
    """Let a plan about these products be proposed; return it as it waits."""
    values = ", ".join(f"({number}, 0, 1)" for number in rows)
    shell.database.run(f"DELETE FROM {table}", f"INSERT INTO {table} VALUES {values}")
    ran = shell.ask("POST", f"/api/v1/procedures/{procedure}/run", "OPERATIONS")
    assert ran.status_code == 200, ran.text
    (plan,) = shell.ask("GET", f"/api/v1/approvals?state=waiting&procedure={procedure}").json()["items"]
    found: dict[str, Any] = plan
    return found


def answered(shell: Shell, plan: dict[str, Any], digest: str, role: str = "OPERATIONS", how: str = "approve") -> int:
    """Answer a plan; return the status."""
    sent = {"digest": digest} if how == "approve" else {"reason": "no"}
    return shell.ask("POST", f"/api/v1/approvals/{plan['id']}/{how}", role, json=sent).status_code


def state_of(shell: Shell, plan: dict[str, Any]) -> str:
    """Return a plan's state."""
    return str(shell.ask("GET", f"/api/v1/approvals/{plan['id']}").json()["state"])


def test_plan_is_approved_as_it_was_seen_by_who_may_and_once(shell: Shell) -> None:
    """Looks approve nothing, no other role and no other plan's digest does; a changed plan needs a new answer."""
    first = proposed(shell, 1)
    pages = [
        f"/approvals/{first['id']}",
        f"/approvals/{first['id']}/approve",
        f"/api/v1/approvals/{first['id']}/approve",
    ]
    looks = [shell.ask(method, page, "ADMIN").status_code for page in pages for method in ("GET", "HEAD", "OPTIONS")]
    assert max(looks) < 500
    by_query = shell.ask("POST", f"/api/v1/approvals/{first['id']}/approve?digest={first['digest']}")
    assert by_query.status_code == 422
    assert [answered(shell, first, first["digest"], role) for role in ("VIEWER", "APPLICATION")] == [403, 403]
    by_token = shell.ask(
        "POST",
        f"/api/v1/approvals/{first['id']}/approve",
        None,
        headers={"x-internal-token": INGEST},
        json={"digest": first["digest"]},
    )
    assert by_token.status_code == 403
    assert [
        answered(shell, first, digest) for digest in ("0" * 32, first["digest"][:-1], first["digest"].upper() + "x")
    ] == [409] * 3
    assert state_of(shell, first) == "waiting"
    second = proposed(shell, 1, 2)
    assert second["digest"] != first["digest"]
    assert answered(shell, first, first["digest"]) == 409
    assert answered(shell, second, first["digest"]) == 409
    assert (state_of(shell, first), state_of(shell, second)) == ("superseded", "waiting")
    assert shell.database.rows("SELECT count(*) FROM products WHERE visible = 0") == [(0,)]
    assert [answered(shell, second, second["digest"]) for _ in range(3)] == [200, 409, 409]
    assert answered(shell, second, second["digest"], how="reject") == 409


def test_world_that_changed_after_the_plan_is_left_as_it_is(shell: Shell) -> None:
    """Rows that came in between, or changed: what was approved is not done on any of them; the new plan asks anew."""
    plan = proposed(shell, 11, 12, procedure="hide-goods", table="goods")
    shell.database.run("INSERT INTO goods VALUES (13, 0, 1)", "UPDATE goods SET stock = 5 WHERE id = 12")
    assert answered(shell, plan, plan["digest"]) == 200
    eventually(lambda: state_of(shell, plan) != "approved")
    assert state_of(shell, plan) == "superseded"
    assert shell.database.rows("SELECT count(*) FROM goods WHERE visible = 0") == [(0,)]
    (anew,) = shell.ask("GET", "/api/v1/approvals?state=waiting&procedure=hide-goods").json()["items"]
    _must_be_anothers(shell, anew)


def _must_be_anothers(shell: Shell, plan: dict[str, Any]) -> None:
    """Let a plan be ada's: she can't approve it, whichever way she comes; bea can."""
    shell.up.change(f"UPDATE approvals SET proposed_by = 'cli:ada' WHERE id = '{plan['id']}'")
    path = f"/api/v1/approvals/{plan['id']}/approve"
    told = {
        name: shell.ask("POST", path, None, json={"digest": plan["digest"]}, headers=bearer(shell.token(sub=name)))
        for name in ("ada", "cli:ada", "bea")
    }
    assert {name: one.status_code for name, one in told.items()} == {"ada": 422, "cli:ada": 422, "bea": 200}


def bearer(token: str) -> dict[str, str]:
    """Return a token as it is shown."""
    return {"authorization": f"Bearer {token}"}


def _acts(shell: Shell) -> list[tuple[str, str]]:
    """Return every change of known issues that the document knows."""
    paths = shell.ask("GET", "/openapi.json").json()["paths"]
    return [
        (method.upper(), path.replace("{issue_id}", "safe.issue"))
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/api/v1/known-issues") and method != "get"
    ]


def test_known_issues_are_changed_by_operations_alone(shell: Shell) -> None:
    """Every act that the document knows, by a viewer, an application, an integration and nobody: 403, 403, 403, 401."""
    made = shell.ask("POST", "/api/v1/known-issues", json={"id": "safe.issue", "pattern": "the safe is open"})
    assert made.status_code == 201, made.text
    before = shell.up.rows("SELECT * FROM known_issues")
    acts = _acts(shell)
    assert len(acts) >= 9
    for method, path in acts:
        told = [shell.ask(method, path, role, json={}).status_code for role in ("VIEWER", "APPLICATION", None)]
        told.append(shell.ask(method, path, None, json={}, headers={"authorization": f"Bearer {INGEST}"}).status_code)
        assert told == [403, 403, 401, 403], (method, path)
    assert shell.up.rows("SELECT * FROM known_issues") == before


_BINDINGS: tuple[dict[str, Any], ...] = (
    {"remedy": "os.system", "parameters": {"command": "id"}},
    {"remedy": "__import__", "parameters": {}},
    {"remedy": "hurts'; DROP TABLE known_issues; --", "parameters": {}},
    {"remedy": "replay", "parameters": {}},
    {"remedy": "warm_up", "parameters": {}},
    {"remedy": "warm_up", "parameters": {"node": "n1", "shell": "id"}},
    {"remedy": "warm_up", "parameters": {"node": 7}},
    {"remedy": "warm_up", "parameters": {"node": "n1", "times": "7"}},
    {"remedy": "warm_up", "parameters": {"node": "n1", "times": True}},
    {"remedy": "warm_up", "parameters": {"node": "n1", "times": 1.5}},
    {"remedy": "warm_up", "parameters": {"node": "n" * 501}},
    {"remedy": "warm_up", "parameters": {"node": "a\0b"}},
    {"remedy": "warm_up", "parameters": {"node": {"a": 1}}},
    {"remedy": "warm_up", "parameters": {"node": "n1", "times": 10**30}},
    {"remedy": "warm_up", "parameters": {f"p{number}": 1 for number in range(60)}},
    {"remedy": "warm_up", "parameters": {"__class__": "x", "node": "n1"}},
    {"remedy": "warm_up", "parameters": {"ctx": "x", "node": "n1"}},
    {"remedy": "warm_up", "parameters": {"node": "n1"}, "level": "L9"},
    {"remedy": "warm_up", "parameters": {"node": "n1"}, "trusted": True},
    {"remedy": "warm_up", "parameters": {"node": "n1"}, "by": "prunella"},
)


def test_remedy_is_bound_with_what_it_declares_alone(shell: Shell) -> None:
    """What is not registered, not declared, of another type or too much: 422 with a pointer, and nothing is bound."""
    shell.ask("POST", "/api/v1/known-issues", json={"id": "bound.issue", "pattern": "the node is cold"})
    taken = []
    for wish in _BINDINGS:
        answer = shell.ask("POST", "/api/v1/known-issues/bound.issue/bind", json=wish)
        if answer.status_code != 422 or "errors" not in answer.json():
            taken.append((wish, answer.status_code, answer.text[:200]))
    assert taken == []
    assert shell.ask("GET", "/api/v1/known-issues/bound.issue").json()["remedies"] == []
    good = {"remedy": "warm_up", "parameters": {"node": "n1"}, "reason": "it helps"}
    assert shell.ask("POST", "/api/v1/known-issues/bound.issue/bind", json=good).status_code == 200


@pytest.mark.parametrize(
    "name", ["remedies", "remedy", "bind", "trusted", "level", "state", "origin", "promoted", "pattern_fn"]
)
def test_pack_says_what_is_known_and_never_what_is_done(shell: Shell, name: str) -> None:
    """A pack that binds a remedy, trusts it or sets its level is refused whole, good entries and all."""
    value = [{"remedy": "warm_up", "parameters": {"node": "n1"}, "level": "L0", "trusted": True}]
    text = f"- {{id: pack.good, pattern: quite harmless words}}\n- {{id: pack.bad, pattern: other words, {name}: {body(value).decode()}}}\n"
    answer = shell.ask("POST", "/api/v1/known-issues/import", json={"text": text, "replace": True})
    assert answer.status_code == 422, answer.text
    assert shell.up.rows("SELECT id FROM known_issues WHERE id LIKE 'pack.%'") == []
