"""A change may be asked for again under its key without being made again; and only of the version that was seen."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from prunella.core.retention import ANSWERS_S, Retention
from prunella.engine.retention import forget
from prunella.web.answers import Answers, Standing, Turn
from prunella.web.auth import Caller, Role
from web.conftest import INGEST, KEYS, Web

pytestmark = pytest.mark.anyio

EVENT = {"event_id": "e-1", "service_name": "crm", "http_status": 503}
WISH = {"name": "ci", "role": "VIEWER"}


async def made(web: Web) -> list[str]:
    """Return the names of all keys."""
    return [one["name"] for one in (await web.ask("GET", "/api/v1/keys", web.token(Role.ADMIN))).json()["items"]]


async def test_repeated_request_gets_its_answer_again(web: Web) -> None:
    """Same key, same request: the same answer with its mark, and one key was made; even the secret is told again."""
    token, key = web.token(Role.ADMIN), {"idempotency-key": "one"}
    first = await web.ask("POST", "/api/v1/keys", token, json=WISH, headers=key)
    again = await web.ask("POST", "/api/v1/keys", token, json=WISH, headers=key)
    assert (first.status_code, "idempotent-replayed" in first.headers) == (201, False)
    assert (again.status_code, again.headers["idempotent-replayed"], again.json()) == (201, "true", first.json())
    assert await made(web) == ["ci"]


async def test_secret_in_a_kept_answer_is_sealed(web: Web) -> None:
    """What was answered stands in the store encrypted: a key that was made can't be read there."""
    headers = {"idempotency-key": "one"}
    first = await web.ask("POST", "/api/v1/keys", web.token(Role.ADMIN), json=WISH, headers=headers)
    async with web.app.store.transaction() as tx:
        row = await tx.answers.get("ADMIN token cli", "one")
    assert row is not None
    assert first.json()["key"].encode() not in row["body"]


async def test_key_of_another_request_is_refused(web: Web) -> None:
    """Another body, address or method under a used key: 422, and nothing is made; another caller has keys of their own."""
    token, key = web.token(Role.ADMIN), {"idempotency-key": "one"}
    await web.ask("POST", "/api/v1/keys", token, json=WISH, headers=key)
    other = await web.ask("POST", "/api/v1/keys", token, json={**WISH, "name": "other"}, headers=key)
    elsewhere = await web.ask("POST", "/api/v1/pause", token, json=WISH, headers=key)
    assert (other.status_code, elsewhere.status_code) == (422, 422)
    assert "take a new key" in other.json()["detail"]
    bob = web.gatehouse.mint(Role.ADMIN, timedelta(hours=1), "bob")
    assert (await web.ask("POST", "/api/v1/keys", bob, json=WISH, headers=key)).status_code == 201
    assert await made(web) == ["ci", "ci"]


async def test_two_at_once_make_one(web: Web) -> None:
    """Of twenty with one key at the same moment one is carried out; the others get its answer, or 409 and when to ask."""
    token, key = web.token(Role.ADMIN), {"idempotency-key": "one"}
    wishes = [web.ask("POST", "/api/v1/keys", token, json=WISH, headers=key) for _ in range(20)]
    answers = await asyncio.gather(*wishes)
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert sum(answer.status_code == 201 and "idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 409)
    assert await made(web) == ["ci"]


async def test_request_that_died_gives_its_key_back(web: Web) -> None:
    """While one is under way its key is taken, as long as anybody waits; then whoever began it has died."""
    kept, ada = Answers(web.app.store, KEYS, web.clock), Caller("ada", Role.ADMIN)
    assert isinstance(await kept.begin(ada, "one", "a"), Turn)
    web.clock.advance(600)
    assert await kept.begin(ada, "one", "a") == Standing("a", 0, "", None)
    web.clock.advance(1)
    assert isinstance(await kept.begin(ada, "one", "a"), Turn)


async def test_callers_of_one_name_share_no_answers(web: Web) -> None:
    """Two keys may bear one name; what was answered to one, a secret perhaps, is not told to the other."""
    admin, same = web.token(Role.ADMIN), {"name": "deploy", "role": "ADMIN"}
    first, second = [(await web.ask("POST", "/api/v1/keys", admin, json=same)).json()["key"] for _ in range(2)]
    one = {"idempotency-key": "one"}
    told = await web.ask("POST", "/api/v1/keys", first, json=WISH, headers=one)
    other = await web.ask("POST", "/api/v1/keys", second, json=WISH, headers=one)
    assert (other.status_code, "idempotent-replayed" in other.headers) == (201, False)
    assert other.json()["key"] != told.json()["key"]


async def test_repeated_change_tells_its_version_again(web: Web) -> None:
    """The ETag comes with the kept answer, too; a change that is meant for another version is another request."""
    token, path, key = (
        web.token(Role.ADMIN),
        f"/api/v1/incidents/{await incident_of(web)}/ack",
        {"idempotency-key": "a"},
    )
    first = await web.ask("POST", path, token, headers=key)
    again = await web.ask("POST", path, token, headers=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"]
    assert (await web.ask("POST", path, token, headers=key | {"if-match": '"1"'})).status_code == 422


async def test_refused_request_gives_its_key_back(web: Web) -> None:
    """What was not done may be sent again, mended, under the same key: 4xx is no answer that is kept."""
    token, key = web.token(Role.ADMIN), {"idempotency-key": "one"}
    wrong = await web.ask("POST", "/api/v1/keys", token, json={"name": "ci"}, headers=key)
    right = await web.ask("POST", "/api/v1/keys", token, json=WISH, headers=key)
    assert (wrong.status_code, right.status_code) == (422, 201)


@pytest.mark.parametrize("key", ["", "x" * 201, "tab\tinside"])
async def test_key_that_is_none_is_refused(web: Web, key: str) -> None:
    """1 to 200 printable letters; who may not ask at all is told that, and nothing of the key."""
    headers = {"idempotency-key": key}
    assert (await web.ask("POST", "/api/v1/pause", web.token(Role.ADMIN), headers=headers)).status_code == 422
    assert (await web.ask("POST", "/api/v1/pause", web.token(Role.VIEWER), headers=headers)).status_code == 403
    assert (await web.ask("POST", "/api/v1/pause", headers=headers)).status_code == 401


async def test_kept_answer_is_forgotten_after_a_day(web: Web) -> None:
    """Within 24 h it is answered again, then done anew; retention deletes the row."""
    token, key = web.token(Role.ADMIN, ttl_s=10 * 86_400), {"idempotency-key": "one"}
    await web.ask("POST", "/api/v1/keys", token, json=WISH, headers=key)
    web.clock.advance(ANSWERS_S - 60)
    await forget(web.app.parts, Retention())
    await web.ask("POST", "/api/v1/keys", token, json=WISH, headers=key)
    assert await made(web) == ["ci"]
    web.clock.advance(120)
    gone = await forget(web.app.parts, Retention())
    assert gone["answers"] == 1
    await web.ask("POST", "/api/v1/keys", token, json=WISH, headers=key)
    assert await made(web) == ["ci", "ci"]


# Versions -------------------------------------------------------------------------------------------------------------


async def incident_of(web: Web) -> str:
    answer = await web.ask("POST", "/integration-self-heal", INGEST, json=EVENT, headers={"prefer": "respond-async"})
    return str(answer.json()["recovery_id"])


async def test_incident_is_changed_in_the_version_that_was_seen(web: Web) -> None:
    """With the ETag that was read the act is done and a new one told; with an old one 412, and nothing changes."""
    token, path = web.token(Role.ADMIN), f"/api/v1/incidents/{await incident_of(web)}"
    tag = (await web.ask("GET", path, token)).headers["etag"]
    done = await web.ask("POST", f"{path}/ack", token, headers={"if-match": tag})
    assert (done.status_code, done.headers["etag"] != tag) == (200, True)
    late = await web.ask("POST", f"{path}/escalate", token, headers={"if-match": tag})
    assert (late.status_code, late.headers["content-type"]) == (412, "application/problem+json")
    assert (await web.ask("GET", path, token)).json()["state"] != "escalated"
    assert (await web.ask("POST", f"{path}/ack", token, headers={"if-match": "*"})).status_code == 200
    tag = (await web.ask("GET", path, token)).headers["etag"]
    assert (await web.ask("POST", f"{path}/ack", token, headers={"if-match": f"W/{tag}"})).status_code == 200


async def test_answer_to_a_change_is_what_a_look_tells(web: Web) -> None:
    """Accounts of a service, and where an incident stands while its service is disabled: the same as a moment later."""
    token, incident = web.token(Role.ADMIN), await incident_of(web)
    await web.ask("PUT", "/api/v1/services/crm/credentials", token, json={"access_token": "at-1"})
    changed = await web.ask("POST", "/api/v1/services/crm/disable", token)
    assert changed.json() == (await web.ask("GET", "/api/v1/services/crm", token)).json()
    assert changed.json()["accounts"] != []
    acted = (await web.ask("POST", f"/api/v1/incidents/{incident}/ack", token)).json()
    looked = (await web.ask("GET", f"/api/v1/incidents/{incident}", token)).json()
    assert acted["status"] == "disabled"
    assert {name: looked[name] for name in acted} == acted


@pytest.mark.parametrize("tag", ['"-1"', '"abc"', '"99999999999999999999"', '"1", "2"', "²"])
async def test_tag_that_is_none_matches_nothing(web: Web, tag: str) -> None:
    """Whatever else is sent, no version is it."""
    token, path = web.token(Role.ADMIN), f"/api/v1/incidents/{await incident_of(web)}"
    answer = await web.client.post(
        f"{path}/ack", headers={b"if-match": tag.encode("latin-1"), b"authorization": f"Bearer {token}".encode()}
    )
    assert answer.status_code == 412


async def test_service_is_changed_in_the_version_that_was_seen(web: Web) -> None:
    """Two people who look at the same gate can't both change it."""
    token, path = web.token(Role.ADMIN), "/api/v1/services/crm"
    tag = (await web.ask("GET", path, token)).headers["etag"]
    first = await web.ask("POST", f"{path}/pause", token, headers={"if-match": tag})
    second = await web.ask("POST", f"{path}/disable", token, headers={"if-match": tag})
    assert (first.status_code, second.status_code) == (200, 412)
    assert (await web.ask("GET", path, token)).json()["gate"]["state"] == "paused"
