"""A running prunella with a canary in every field that takes words or secrets, and what makes them come back."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from aiosmtpd.smtp import SMTP, AuthResult, Envelope
from standardwebhooks import Webhook

from databases.shop import opened
from flows.running import INGEST, KEY, Up, configuration, event, eventually, running
from notify.test_email import Postbox
from prunella.testing import FaultyServer
from prunella.testing.words import json as in_json

HELD = {
    "client_secret": "hcs-clientsecret-4uCKxH0Zq7",
    "bearer": "hbr-bearer-bW8fYtQe2Rk",
    "header": "hhd-header-vN5pLs7XcDa",
    "hook": "hhk-hook-path-0gHjKl3MnB",
    "signing": "whsec_aGVsZC1zaWduaW5nLXNlY3JldC1aUTc5WG1K",
    "access": "hac-access-T1yUiOpAsDf",
    "refresh": "hrf-refresh-QwErTy6GhJk",
    "pager": "hpg-pager-path-MnBvCx8LkJ",
    "teams": "htm-teams-path-ZaQwSx4EdC",
    "mail": "hml-mail-password-RfVtGb5",
    "watcher": "hwt-watcher-path-Yh6NmJu2Ki",
    "advisor": "hav-advisor-key-P0oLmKiJnU",
    "callee": "hcl-workflow-bearer-9Zx8Cv7B",
    "seeded": "hsa-seeded-access-3Ed4Rf5T",
    "renewing": "hsr-seeded-refresh-6Yh7Uj8I",
    "books": "hdb-database-word-2Ws3Ed4R",
    "issuer": "hji-issuer-secret-5Tg6Yh7Uj8Ik9Ol0PqAzSx",
    "buttons": "hbt-button-secret-1Qa2Ws3Ed",
    "partner": "whsec_cGFydG5lci1zaWduaW5nLXNlY3JldC1xOFI3",
    "forge": "hgh-github-secret-7Uj8Ik9O",
    "sender": "htk-sender-token-4Rf5Tg6Y",
}
"""Secrets that were given to prunella: it knows their values, so none may stand anywhere in the open."""
TOLD = {
    name: f"{number:02}z{name}Zq7vLk2Xw93"
    for number, name in enumerate(
        ("message", "code", "query", "userinfo", "payload", "nested", "header", "cookie", "reason", "title", "advice",
         "parameter", "example", "note", "row", "column", "answer", "returned", "rejected", "logged", "raised",
         "standing", "notice", "call", "signed", "pushed", "pack", "typed")
    )
}  # fmt: skip
"""Secrets that people and senders say: known by the words around them, or sealed with a payload."""
BYSTANDER = "canary-of-the-event-id"
PLUGIN = f"""
from prunella.plugin import remedy

@remedy("warm_up", idempotent=True)
async def warm_up(ctx, failure, *, node: str):
    reply = await ctx.egress.request("bare", "POST", "/warm")
    said = f"{{dict(reply.headers)}} {{reply.text}}"
    raise RuntimeError(f"cannot warm {{node}} with password={TOLD["raised"]}: {{said}}")
"""
CONFIG = """
notify:
  heartbeat: {url: "${WATCHER}", every: 1d}
  channels:
    ops:
      slack: "secret://hook"
      buttons: {signing_secret: "${BUTTONS}", workspace: T1, users: {U1: {name: ada, role: OPERATIONS}}}
    hook: {webhook: {url: "secret://hook", secret: "${SIGNING}"}}
    pager: {apprise: "${PAGER}"}
    teams: {teams: "${TEAMS}"}
    mail: {email: {to: [ops@shop.example], smtp: "${MAIL}"}}
  rules:
    - {severity: [LOW, MEDIUM, HIGH, CRITICAL], to: [ops, hook, pager, teams, mail], escalate: {after: 1s, to: [pager]}}
auth: {jwt: {issuer: login.test, audience: prunella, secret: "${ISSUER}"}}
advisor: {enabled: true, base_url: "${FLOWS}/advisor", model: m, api_key: "${ADVISOR}"}
inbound:
  partner: {kind: standard_webhooks, secrets: ["${PARTNER}"], service: s4}
  forge: {kind: github, secrets: ["${FORGE}"], service: s4}
  sender: {kind: token, secrets: ["${SENDER}"], service: s4}
databases:
  shop: {url: "${SHOP}"}
  books: {url: "${BOOKS}"}
procedures:
  hide:
    database: shop
    check: {rows: {table: goods, where: {stock: 0, visible: 1}}}
    remedy: {set: {visible: 0}}
    every: 24h
    first_run: wait
    level: L2
    limits: {share_max: 1.0}
  restart:
    database: shop
    check: {errors: {table: log, status: error, by: source, message: said, at: at, within: 30m}}
    remedy: {webhook: {url: "${FLOWS}/flow", bearer: "${CALLEE}"}}
    every: 24h
    first_run: wait
    level: L1
  sums:
    database: books
    check: {rows: {table: sums, where: {wrong: 1}}}
    remedy: {set: {wrong: 0}}
    every: 24h
    level: L2
"""
PACK = f"""
- id: pack.refused
  title: Refused with token={TOLD["pack"]}
  pattern: refused .{{1,80}} kind 5
"""


@dataclass
class Cage:
    """A running prunella that holds every canary.

    Attributes:
        made: secrets that it made itself while it ran.
        answers: what was answered to who said secrets, by whom.
    """

    up: Up
    postbox: Postbox
    made: dict[str, str] = field(default_factory=dict)
    answers: dict[str, httpx2.Response] = field(default_factory=dict)

    def say(self, method: str, path: str, body: object, role: str = "ADMIN") -> None:
        """Change a resource in words that may hold a secret, and keep the answer, which may not."""
        self.answers[f"{len(self.answers)} {path}"] = self.up.act(method, path, body, role)

    def canaries(self) -> dict[str, str]:
        """Return every canary by its name."""
        told = {f"told {name}": value for name, value in TOLD.items()}
        return {**HELD, **told, **self.made, "key": KEY, "ingest": INGEST}


def config(shop: FaultyServer) -> str:
    """Return a configuration that holds a canary wherever it takes a secret."""
    seeds = ', access_token: "${SEEDED}", refresh_token: "${RENEWING}"}'
    ours = f"""
  bare: {{base_url: {shop.url}/bare, bearer: "${{BEARER}}"}}
  named: {{base_url: {shop.url}/named, headers: {{X-Api-Key: "secret://header"}}}}
  seeded: {{base_url: {shop.url}/seeded, oauth: {{token_url: "{shop.url}/seeded-oauth/token", client_id: app{seeds}}}"""
    return (
        configuration(shop, CONFIG)
        .replace("services:", "services:" + ours, 1)
        .replace("service: {", "service: {plugins: [canary_plugin], ", 1)
        .replace("allow_hosts: [", 'allow_hosts: ["127.0.0.1", ', 1)
    )


def echoing(shop: FaultyServer) -> None:
    """Let services repeat what they were sent, in a refusal: that is how a secret comes back."""
    headers = {"WWW-Authenticate": f'Bearer error_description="token={TOLD["returned"]}"'}
    for place, secret in (
        ("/bare", HELD["bearer"]),
        ("/named", HELD["header"]),
        ("/s1", HELD["access"]),
        ("/seeded", HELD["seeded"]),
        ("/flow", HELD["callee"]),
        ("/advisor", HELD["advisor"]),
        (f"/{HELD['watcher']}", HELD["watcher"]),
    ):
        said = {"error": f"{secret} is not welcome; password={TOLD['answer']}", "again": secret}
        shop.script(place, [in_json(400, said, headers)])
    refusal = f"{HELD['refresh']} of {HELD['client_secret']} is spent"
    shop.script("/s1-oauth/token", [in_json(400, {"error": "invalid_request", "error_description": refusal})])
    refusal = f"{HELD['renewing']} is spent"
    shop.script("/seeded-oauth/token", [in_json(400, {"error": "invalid_request", "error_description": refusal})])


def report(number: int, held: dict[str, str]) -> dict[str, object]:
    """Return an event that holds a canary wherever senders put one, and one of what is `held`."""
    service = ("bare", "named", "s1", "stranger", "seeded")[number % 5]
    one = list(held)[number % len(held)]
    return event(
        service,
        number,
        event_id=f"{BYSTANDER}-{number}",
        http_status=(401, 503, 400, 500)[number // 5 % 4],
        error_code=f"token={TOLD['code']}",
        error_message=(
            f"https://svc:{TOLD['userinfo']}@crm.test refused Authorization: Bearer {TOLD['message']}; "
            f"Cookie: session={TOLD['cookie']}; it has {shown(one, held[one])}, kind {number % 7}"
        ),
        endpoint=f"/orders/7?access_token={TOLD['query']}",
        payload={"password": TOLD["payload"], "lines": [{"note": f"x-api-key: {TOLD['nested']}"}]},
        headers={"WWW-Authenticate": f"Bearer token={TOLD['header']}"},
    )


def shown(name: str, secret: str) -> str:
    """Return a secret as it stands where it is used: a session's in its cookie, the others by themselves."""
    return f"Cookie: prunella_session={secret}" if name == "session" else secret


def people(cage: Cage) -> None:
    """Let people say secrets wherever they are asked for words."""
    up = cage.up
    reason = {"reason": f"password={TOLD['reason']}"}
    incidents = up.get("/api/v1/incidents")["items"]
    for act, incident in zip(("ack", "escalate", "suppress", "retry"), incidents, strict=False):
        cage.say("POST", f"/api/v1/incidents/{incident['id']}/{act}", reason)
    for act in ("pause", "resume"):
        cage.say("POST", f"/api/v1/{act}", reason)
        cage.say("POST", f"/api/v1/services/s2/{act}", reason)
    issue = {
        "id": "bare.refused",
        "pattern": "refused .{1,200} kind 3",
        "title": f"token={TOLD['title']}",
        "advice": f"log in with password={TOLD['advice']}",
    }
    cage.say("POST", "/api/v1/known-issues", issue)
    spelled = {"id": "bare.spelled", "pattern": HELD["bearer"].replace("-", "\\-") + " is not welcome"}
    cage.say("POST", "/api/v1/known-issues", spelled)
    other = {"id": "bare.other", "pattern": "of another kind", "examples": [f"password={TOLD['example']}"]}
    cage.say("POST", "/api/v1/known-issues", other)
    bind, parameters = "/api/v1/known-issues/bare.refused/bind", {"node": f"token={TOLD['parameter']}"}
    cage.say("POST", bind, {"remedy": "warm_up", "parameters": parameters})
    cage.say("POST", bind, {"remedy": "warm_up", "parameters": {"node": "east-1"}, **reason})
    cage.say("POST", "/api/v1/known-issues/import", {"text": PACK})
    up.post({**report(3, HELD), "event_id": f"{BYSTANDER}-known", "service_name": "bare"})
    cage.answers["an event"] = up.post(
        {"mode": f"password={TOLD['note']}", "event_id": f"token={TOLD['note']}", "http_status": TOLD["note"]}
    )
    cage.say("POST", "/api/v1/keys", {"name": f"token={TOLD['note']}", "role": "VIEWER"})
    up.cli("pause", "--service", "s3", "--reason", f"password={TOLD['typed']}", check=False)


def guards(cage: Cage) -> None:
    """Let the guards of an application leave word of what they were told."""
    opened_by = {"name": "crm", "state": "open", "reason": f"token={TOLD['standing']}", "open_s": 1}
    cage.say("POST", "/api/v1/guard/breakers/report", opened_by, "APPLICATION")
    noticed = {"id": "n-1", "service": "s5", "code": "breaker_opened", "message": f"password={TOLD['notice']}"}
    cage.say("POST", "/api/v1/guard/notices", {**noticed, "recovered": False}, "APPLICATION")
    arguments = {"args": [], "kwargs": {"order": 7}}
    call = {"id": "c-1", "function": "push", "policy": "crm", "key": "7", "arguments": arguments, "attempts": 3}
    cage.say("POST", "/api/v1/guard/calls", {**call, "wait_s": 60, "error": f"token={TOLD['call']}"}, "APPLICATION")


def senders(up: Up) -> None:
    """Let those who sign what they send say secrets in it."""
    said = json.dumps({"data": {"error_message": f"password={TOLD['signed']}", "http_status": 503}})
    at = datetime.now(UTC)
    signature = Webhook(HELD["partner"]).sign("m1", at, said)
    headers = {"webhook-id": "m1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}
    run = {"conclusion": "failure", "name": f"token={TOLD['pushed']}", "updated_at": at.isoformat()}
    pushed = json.dumps({"workflow_run": run, "action": "completed"})
    proof = hmac.new(HELD["forge"].encode(), pushed.encode(), hashlib.sha256).hexdigest()
    for name, sent, shows in (
        ("partner", said, headers),
        ("sender", said, {"authorization": f"Bearer {HELD['sender']}"}),
        ("forge", pushed, {"x-hub-signature-256": f"sha256={proof}", "x-github-event": "workflow_run"}),
    ):
        told = up.client.post(f"/api/v1/inbound/{name}", content=sent, headers=shows)
        assert told.status_code == 202, (name, told.text)


def entered(cage: Cage) -> None:
    """Let prunella make a key, a link and a session."""
    up = cage.up
    cage.made["key_of_program"] = up.act("POST", "/api/v1/keys", {"name": "ci", "role": "VIEWER"}).json()["key"]
    address = up.act("POST", "/api/v1/links", {"name": "ada", "role": "OPERATIONS"}).json()["address"]
    cage.made["link"] = address.partition("token=")[2]
    cage.made["role"] = up.as_role("ADMIN")["authorization"].split()[1]
    with httpx2.Client(base_url=up.url, trust_env=False) as browser:
        browser.post("/login", data={"token": cage.made["link"]}, headers={"origin": up.url})
        (cage.made["session"],) = [one.value or "" for one in browser.cookies.jar if "session" in one.name]


def planned(cage: Cage) -> None:
    """Let a plan about rows that hold secrets be told of by every kind of message; then refuse it with a secret."""
    up = cage.up
    for name in ("hide", "restart", "sums"):
        up.act("POST", f"/api/v1/procedures/{name}/run")
    places = (HELD["hook"], HELD["pager"], HELD["teams"])
    eventually(lambda: all(any(one in said.path for said in up.shop.ledger.requests) for one in places))
    eventually(lambda: bool(cage.postbox.envelopes))
    assert b"hide" in b"".join(decoded(one) for one in cage.postbox.envelopes)
    (plan,) = up.get("/api/v1/approvals", role="ADMIN")["items"]
    up.act("POST", f"/api/v1/approvals/{plan['id']}/reject", {"reason": f"password={TOLD['rejected']}"})


@contextmanager
def mail(postbox: Postbox) -> Iterator[str]:
    """Take mail of whoever knows the password; give the server's address."""
    loop = asyncio.new_event_loop()
    signs_in: dict[str, Any] = {"authenticator": lambda *_: AuthResult(success=True), "auth_require_tls": False}
    made = partial(SMTP, postbox, hostname="localhost", loop=loop, **signs_in)
    server = loop.run_until_complete(loop.create_server(made, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"smtp://robot:{HELD['mail']}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def decoded(envelope: Envelope) -> bytes:
    """Return what a mail says, headers and all, as a reader sees it."""
    assert isinstance(envelope.content, bytes)
    message = message_from_bytes(envelope.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    parts = [part.get_content() for part in message.walk() if not part.is_multipart()]
    return "\n".join([*map(str, message.values()), *parts]).encode()


@contextmanager
def caged(folder: Path, place: str, **variables: str) -> Iterator[Cage]:
    """Start prunella on a database with every secret in its place."""
    (folder / "canary_plugin.py").write_text(PLUGIN)
    ways = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    given = {name.upper(): value for name, value in HELD.items()} | {"APP_SECRET": HELD["client_secret"]}
    postbox, goods = Postbox(), f"sqlite:///{folder / 'shop.db'}"
    with ExitStack() as opening:
        shop = opening.enter_context(FaultyServer())
        given |= {name.upper(): f"{shop.url}/{HELD[name]}" for name in ("pager", "teams", "watcher")}
        given |= {"PAGER": given["PAGER"].replace("http", "json"), "MAIL": opening.enter_context(mail(postbox))}
        given |= {"FLOWS": shop.url, "BOOKS": f"postgresql://robot:{HELD['books']}@127.0.0.1:1/books"}
        rows = opening.enter_context(opened(goods))
        rows.run(
            "CREATE TABLE goods (id integer PRIMARY KEY, stock integer, visible integer, note text, api_key text)",
            "CREATE TABLE log (id integer PRIMARY KEY, source text, status text, said text, at MOMENT)",
            f"INSERT INTO goods VALUES (1, 0, 1, 'password={TOLD['row']}', '{TOLD['column']}')",
            f"INSERT INTO log VALUES (1, 'crm', 'error', 'password={TOLD['logged']}', {rows.past(60)})",
        )
        settings = {"PYTHONPATH": ways, "SHOP": goods, **given, **variables}
        up = opening.enter_context(running(folder, shop, place, config(shop), **settings))
        shop.chat(f"/{HELD['hook']}")
        shop.chat(f"/{HELD['teams']}")
        up.cli("secret", "set", "hook", given=f"{shop.url}/{HELD['hook']}")
        up.cli("secret", "set", "header", given=HELD["header"])
        up.cli("credentials", "set", "s1", given=f"{HELD['access']}\n{HELD['refresh']}\n")
        yield Cage(up, postbox)


def story(cage: Cage, events: int) -> None:
    """Let everything happen that could make a canary sing."""
    up = cage.up
    planned(cage)
    entered(cage)
    echoing(up.shop)
    held = {**HELD, **cage.made, "key": KEY, "ingest": INGEST}
    for number in range(events):
        assert up.post(report(number, held), prefer="respond-async").status_code in (200, 202)
    people(cage)
    guards(cage)
    senders(up)
    reached = {"bare", "named", "seeded", "advisor"}
    eventually(lambda: any(HELD["hook"] in one.path for one in up.shop.ledger.requests))
    eventually(lambda: {one.path.split("/")[1] for one in up.shop.ledger.requests} >= reached)
