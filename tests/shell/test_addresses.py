"""Whatever address a caller or an operator gives, and however it is spelled: nobody who is not meant is called."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from flows.running import eventually
from prunella.testing import words
from shell.conftest import Shell

pytestmark = pytest.mark.slow
TURNS = 200
_OURS = ("/open", "/jwks", "/chat", "/hook", "/bomb", "/quiet", "/noisy", "/turned")
_UNTOUCHED = """SELECT 1 FROM operations WHERE service IN ({names}) AND state <> 'dead'
    AND incident_id NOT IN (SELECT incident_id FROM runs WHERE ended_at IS NOT NULL)"""


def endpoints(shell: Shell) -> list[str]:
    """Return endpoints of an event that all lead to the canary, past it, or back into this host."""
    port = urlsplit(shell.canary.url).port
    hosts = (
        "127.0.0.2",
        "127.2",
        "0x7f.2",
        "2130706434",
        "017700000002",
        "[::ffff:127.0.0.2]",
        "127.0.0.2.",
        "127。0。0。2",
    )
    own = urlsplit(shell.world.url).netloc
    tricks = (
        f"http://{own}@127.0.0.2:{port}/x",
        f"http://127.0.0.2:{port}\\@{own}/x",
        f"http://127.0.0.2:{port}#@{own}/x",
        f"HTTP://127.0.0.2:{port}/x",
        f"//127.0.0.2:{port}/x",
        f"/\\127.0.0.2:{port}/x",
        f"@127.0.0.2:{port}/x",
        f"http:/127.0.0.2:{port}/x",
        f"http:127.0.0.2:{port}/x",
        f" http://127.0.0.2:{port}/x",
        f"http://127.0.0.2:{port}\t/x",
        f"\r\nhost: 127.0.0.2:{port}\r\n\r\n",
        f"gopher://127.0.0.2:{port}/x",
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://0/",
    )
    return [f"http://{host}:{port}/x" for host in hosts] + list(tricks)


def test_endpoint_of_an_event_leads_to_no_other_host(shell: Shell) -> None:
    """Twenty-six spellings in an event that is replayed: refused, or sent to the service itself; the canary hears nothing."""
    told = endpoints(shell)
    names = ", ".join(f"'open{number}'" for number in range(len(told)))
    for number, endpoint in enumerate(told):
        shell.reported(f"open{number}", 1, http_status=503, error_message="Service unavailable", endpoint=endpoint)
    eventually(lambda: not shell.up.rows(_UNTOUCHED.format(names=names)))
    assert shell.canary.ledger.requests == []
    paths = [one.path for one in shell.world.ledger.requests]
    assert [path for path in paths if not path.startswith(_OURS)] == []


def test_host_that_a_service_names_is_no_leave_to_call_it(shell: Shell) -> None:
    """`hosts` lists where requests belong, not what may be private: the connection is refused, and the reason is shown."""
    address = f"{shell.canary.url}/sly"
    told = shell.reported("sly", 1, http_status=503, error_message="Service unavailable", endpoint=address)
    eventually(lambda: "allow_hosts" in str(shell.incident(told)) or shell.canary.ledger.requests != [])
    assert shell.canary.ledger.requests == []


def test_service_at_a_private_address_is_never_called(shell: Shell) -> None:
    """Base address, health, token URL and cache of services that are wired to the canary in seven spellings: no call."""
    for name in shell.traps:
        tokens = {"access_token": "at", "refresh_token": "rt", "expires_in": 1}
        assert shell.ask("PUT", f"/api/v1/services/{name}/credentials", json=tokens).status_code == 200
        shell.reported(name, 1, http_status=401, error_code="invalid_token", error_message="expired", endpoint="/x")
        shell.reported(name, 2, http_status=503, error_message="Service unavailable", endpoint="/y")
        shell.ask("POST", f"/api/v1/services/{name}/probe")
    eventually(lambda: all(_tried(shell, name) for name in shell.traps))
    assert shell.canary.ledger.requests == []


def _tried(shell: Shell, name: str) -> bool:
    return bool(shell.up.rows(f"SELECT 1 FROM runs WHERE service = '{name}' AND ended_at IS NOT NULL"))


def test_redirect_is_never_followed(shell: Shell) -> None:
    """A service that sends a replay on to the canary: it does not go, and takes no token there."""
    shell.world.script("/open38", [words.redirect(f"{shell.canary.url}/stolen")])
    told = shell.reported(
        "open38", "redirect", http_status=503, error_message="Service unavailable", endpoint="/orders"
    )
    eventually(lambda: bool(shell.up.rows(f"SELECT 1 FROM runs WHERE incident_id = '{told}' AND ended_at IS NOT NULL")))
    assert shell.canary.ledger.requests == []


@pytest.mark.parametrize("channel", ["mail", "pager"])
def test_channel_that_opens_its_own_connections_is_held_to_the_same_rule(shell: Shell, channel: str) -> None:
    """Mail, and whatever Apprise speaks, to an address that nobody allowed: refused with the reason, nobody is called."""
    answer = shell.ask("POST", f"/api/v1/channels/{channel}/test")
    assert shell.canary.ledger.requests == []
    assert answer.status_code == 502, answer.text
    assert "egress.allow_hosts" in answer.text


@pytest.mark.parametrize(
    ("channel", "turns", "arrive"), [("turning", TURNS, TURNS // 4), ("turning_pager", 20, 15)]
)  # who takes one address after the other reaches the right one of a mixture, and was still not let out to the other
def test_name_that_turns_leads_nobody_astray(shell: Shell, channel: str, turns: int, arrive: int) -> None:
    """Its answer flips, or mixes, at every lookup: whatever is reached is who is meant, and the others are refused."""
    shell.world.script("/turned", [words.json(200, {"ok": True}, {"Connection": "close"})])  # each looks it up anew
    answers = [shell.ask("POST", f"/api/v1/channels/{channel}/test").status_code for _ in range(turns)]
    assert shell.canary.ledger.requests == []
    assert (answers.count(200), answers.count(502)) == (arrive, turns - arrive)


@pytest.mark.parametrize(
    "entry", ["http://127.0.0.1", "*", "*.internal", "127.0.0.1/8/8", "user@host", "host/path", "127.0.0.1:0x50"]
)
def test_allowance_that_could_mean_more_is_refused_at_the_start(shell: Shell, entry: str) -> None:
    """What stands in `egress.allow_hosts` is a host, a host with its port, or a range; anything else doesn't start."""
    file = shell.up.folder / "allow.yaml"
    file.write_text(f"egress: {{allow_hosts: ['{entry}']}}\n")
    told = shell.up.cli("-c", str(file), "config", "check", check=False)
    assert "allow.yaml:1" in told, told
