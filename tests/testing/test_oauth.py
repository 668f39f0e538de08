"""The token endpoint rotates, punishes reuse, and can fail like a real one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote_plus

import httpx2
import pytest

from prunella.testing import FaultyServer, TokenEndpoint, words

SECRET = "client-secret-/+ü"


@pytest.fixture
def oauth(server: FaultyServer) -> TokenEndpoint:
    return server.oauth("/oauth/token", client_id="app", client_secret=SECRET)


def refresh(client: httpx2.Client, held: str, **changed: str) -> httpx2.Response:
    form = {"grant_type": "refresh_token", "refresh_token": held, "client_id": "app", "client_secret": SECRET}
    return client.post("/oauth/token", data={**form, **changed})


def call(client: httpx2.Client, access_token: str) -> httpx2.Response:
    return client.post("/crm/contacts", headers={"Authorization": f"Bearer {access_token}"}, json={"name": "Ada"})


def test_refresh_rotates_and_keeps_working(oauth: TokenEndpoint, client: httpx2.Client) -> None:
    """Every refresh brings a new pair; a careful client goes on for ever."""
    held = oauth.grant().refresh_token
    seen = {held}
    for _ in range(5):
        reply = refresh(client, held)
        assert reply.status_code == 200
        assert (reply.json()["token_type"], reply.json()["expires_in"]) == ("Bearer", 3600)
        assert oauth.accepts(reply.json()["access_token"])
        held = reply.json()["refresh_token"]
        seen.add(held)
    assert len(seen) == 6
    assert (oauth.refreshes, oauth.reuses, oauth.broken) == (5, 0, 0)


def test_reuse_revokes_the_family(oauth: TokenEndpoint, client: httpx2.Client) -> None:
    """An old refresh token presented again kills all tokens of its account, and only of that one."""
    mine, other = oauth.grant(), oauth.grant()
    fresh = refresh(client, mine.refresh_token).json()
    reply = refresh(client, mine.refresh_token)
    assert (reply.status_code, reply.json()) == (400, {"error": "invalid_grant"})
    assert not oauth.accepts(fresh["access_token"])
    assert refresh(client, fresh["refresh_token"]).json() == {"error": "invalid_grant"}
    assert (oauth.refreshes, oauth.reuses, oauth.broken) == (1, 1, 1)
    assert oauth.accepts(other.access_token)


def test_lenient_endpoint_forgives_a_second_use_for_a_while(server: FaultyServer, client: httpx2.Client) -> None:
    """`reuse_s` counts from the first use, and holds for tokens that were used: the lost pair's never was."""
    oauth = server.oauth("/oauth/token", client_id="app", client_secret=SECRET, reuse_s=60)
    held = oauth.grant().refresh_token
    lost = refresh(client, held).json()["refresh_token"]
    assert refresh(client, held).status_code == 200
    assert (oauth.refreshes, oauth.forgiven, oauth.reuses, oauth.broken) == (2, 1, 0, 0)
    assert refresh(client, lost).json() == {"error": "invalid_grant"}
    assert (oauth.forgiven, oauth.reuses, oauth.broken) == (1, 1, 1)


def test_concurrent_refreshes_are_caught(server: FaultyServer, client: httpx2.Client) -> None:
    """Two workers that refresh with one token: the slow endpoint lets both in, and the account is lost."""
    oauth = server.oauth("/oauth/token", client_id="app", client_secret=SECRET, delay_s=0.1)
    held = oauth.grant().refresh_token
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda _: refresh(client, held).status_code, range(2)))
    assert sorted(replies) == [200, 400]
    assert (oauth.refreshes, oauth.reuses, oauth.broken) == (1, 1, 1)
    assert server.ledger.in_flight_max == 2


def test_lost_reply_after_rotation_costs_the_account(
    server: FaultyServer, oauth: TokenEndpoint, client: httpx2.Client
) -> None:
    """The reply that is lost took the only good token with it; trying again with the old one is a reuse."""
    server.script("/oauth/token", ["lost_reply", "ok"])
    held = oauth.grant().refresh_token
    with pytest.raises(httpx2.ReadError):
        refresh(client, held)
    assert refresh(client, held).json() == {"error": "invalid_grant"}
    assert (oauth.refreshes, oauth.broken) == (1, 1)


def test_scripted_failure_rotates_nothing(server: FaultyServer, oauth: TokenEndpoint, client: httpx2.Client) -> None:
    """A 503 of the token endpoint is no refresh: the token stays good."""
    server.script("/oauth/token", [503, words.json(200, {"odd": 1}), "reset", "ok"])
    held = oauth.grant().refresh_token
    assert refresh(client, held).status_code == 503
    assert refresh(client, held).json() == {"odd": 1}
    with pytest.raises(httpx2.ReadError):
        refresh(client, held)
    assert oauth.refreshes == 0
    assert refresh(client, held).status_code == 200


@pytest.mark.parametrize(
    ("changed", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "other"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"refresh_token": "rt-unknown"}, 400, "invalid_grant"),
    ],
)
def test_wrong_requests_are_refused(
    changed: dict[str, str], status: int, error: str, oauth: TokenEndpoint, client: httpx2.Client
) -> None:
    """Each mistake gets the error of RFC 6749 section 5.2 and uses up nothing."""
    held = oauth.grant().refresh_token
    reply = refresh(client, held, **changed)
    assert (reply.status_code, reply.json()["error"]) == (status, error)
    assert refresh(client, held).status_code == 200


@pytest.mark.parametrize("left_out", ["grant_type", "refresh_token"])
def test_missing_parameter_is_an_invalid_request(left_out: str, oauth: TokenEndpoint, client: httpx2.Client) -> None:
    """A parameter that is missing is named as such."""
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "app", "client_secret": SECRET}
    del form[left_out]
    assert client.post("/oauth/token", data=form).json() == {"error": "invalid_request"}


def test_client_may_authenticate_by_basic(oauth: TokenEndpoint, client: httpx2.Client) -> None:
    """Basic works with form-encoded parts (RFC 6749 section 2.3.1), and rubbish in it is refused."""
    form = {"grant_type": "refresh_token", "refresh_token": oauth.grant().refresh_token}
    rubbish = client.post("/oauth/token", data=form, headers={"Authorization": "Basic ***"})
    assert (rubbish.status_code, rubbish.json()) == (401, {"error": "invalid_client"})
    assert client.post("/oauth/token", data=form, auth=("app", quote_plus(SECRET))).status_code == 200


def test_public_client_has_no_secret(server: FaultyServer, client: httpx2.Client) -> None:
    """Without a client secret the id alone is asked for."""
    oauth = server.oauth("/public/token", client_id="app")
    form = {"grant_type": "refresh_token", "refresh_token": oauth.grant().refresh_token, "client_id": "app"}
    assert client.post("/public/token", data=form).status_code == 200


def test_protected_path_wants_a_valid_token(server: FaultyServer, oauth: TokenEndpoint, client: httpx2.Client) -> None:
    """None, a wrong, an expired and a revoked token get 401 and do nothing; a valid one passes."""
    server.protect("/crm", oauth)
    first = oauth.grant()
    assert call(client, first.access_token).status_code == 200
    refused = [client.post("/crm/contacts"), call(client, "at-wrong")]
    oauth.expire()
    refused.append(call(client, first.access_token))
    second = refresh(client, first.refresh_token).json()
    assert call(client, second["access_token"]).status_code == 200
    oauth.revoke()
    refused.append(call(client, second["access_token"]))
    assert [reply.status_code for reply in refused] == [401] * 4
    assert {reply.headers["www-authenticate"] for reply in refused} == {'Bearer error="invalid_token"'}
    assert refresh(client, second["refresh_token"]).json() == {"error": "invalid_grant"}
    assert oauth.broken == 0
    assert server.ledger.effects == 2


def test_access_token_expires_by_itself(server: FaultyServer) -> None:
    """`expires_in` is real."""
    oauth = server.oauth("/oauth/token", client_id="app", expires_in=0)
    assert not oauth.accepts(oauth.grant().access_token)


def test_tokens_in_their_right_places_are_no_leak(
    server: FaultyServer, oauth: TokenEndpoint, client: httpx2.Client
) -> None:
    """Authorization headers and token requests may hold secrets; the same token in a chat message is a leak."""
    server.chat("/slack")
    pair = oauth.grant()
    call(client, pair.access_token)
    refresh(client, pair.refresh_token)
    assert server.leaks() == []
    client.post("/slack", json={"text": f"401 for {pair.access_token}"})
    assert [(leak.spelling, leak.where) for leak in server.leaks()] == [("plain", "request 2, POST /slack: body")]
