"""/api/v1/inbound-chat: buttons pressed in a chat. A signature stands in for a token, a list of people for a role."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.responses import Response

from prunella.app import App
from prunella.core.errors import SecretError, Undelivered
from prunella.core.redact import Secret
from prunella.engine import chat
from prunella.notify import contract, slack, slack_answers
from prunella.notify.slack_answers import Pressed
from prunella.settings import Buttons, ChannelSettings
from prunella.web.auth import Role
from prunella.web.problems import Problem

_REMEMBERED = timedelta(seconds=3 * slack_answers.WINDOW_S)
"""How long an answer is remembered: longer than its signature is good."""

_MAY_ANSWER = frozenset({Role.OPERATIONS, Role.ADMIN})


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/inbound-chat", tags=["chat"])

    @routes.post("/slack/{channel}", include_in_schema=False)  # Slack's own shape, for Slack alone
    async def pressed(channel: str, request: Request) -> Response:
        """Take what somebody pressed under a message; the answer goes back to the chat."""
        configured = app.settings.channels.get(channel)
        if configured is None or configured.buttons is None:
            raise Problem(404, "Unknown channel", f"no channel {channel[:100]!r} has buttons in prunella.yaml")
        body = await request.body()
        await _must_be_slack(app, channel, configured.buttons, request, body)
        found = slack_answers.pressed_in(body)
        if found is None:
            return Response(status_code=200)  # a link's click, or something of a later version of Slack
        answer = await _answer(app, channel, configured.buttons, found)
        return Response(status_code=200, background=BackgroundTask(_reply, app, channel, configured, found, answer))

    return routes


async def _must_be_slack(app: App, channel: str, buttons: Buttons, request: Request, body: bytes) -> None:
    """Let through what Slack signed lately, once."""
    now = app.parts.clock.now()
    try:
        secret = Secret(await app.vault.reveal(buttons.signing_secret))
    except SecretError as error:  # who asks has shown nothing yet: the log is told why, and nobody else
        app.parts.listeners.emit("inbound.refused", source=channel, reason=str(error))
        raise Problem(503, "The signing secret can't be read", "the log says why") from None
    if not slack_answers.is_from_slack(secret, request.headers, body, now):
        raise Problem(401, "Not signed by Slack", "the signature is wrong, or older than five minutes")
    signature = hashlib.sha256(request.headers["x-slack-signature"].encode()).hexdigest()
    async with app.store.transaction() as tx:
        fresh = await tx.channels.hear(signature, now, now - _REMEMBERED)
    if not fresh:
        raise Problem(409, "Heard already", "this very request was sent before")


async def _answer(app: App, channel: str, buttons: Buttons, found: Pressed) -> chat.Heard:
    """Carry out what somebody who is named in prunella.yaml wants."""
    elsewhere = found.workspace != buttons.workspace or buttons.room not in (None, found.room)
    person = None if elsewhere else buttons.users.get(found.user)
    if person is None or Role(person.role) not in _MAY_ANSWER:
        why = "the answer came from another workspace or channel" if elsewhere else "nobody of these who may answer"
        await chat.refuse(app.parts, channel, found.user, why)
        return chat.Heard(words="Nothing was done: you may not answer here. Ask for an entry in notify.channels.")
    return await chat.hear(app.parts, channel, found.notification_id, found.action, by=person.name, digest=found.digest)


async def _reply(app: App, channel: str, configured: ChannelSettings, found: Pressed, answer: chat.Heard) -> None:
    """Show in the chat what came of it: in the message itself, or to the one who pressed."""
    try:
        webhook = Secret(await app.vault.reveal(configured.url))
        if not slack_answers.may_reply(found.reply_to, webhook):
            return
        message = slack_answers.aside(answer.words)
        if answer.told is not None:
            message = {"replace_original": True, **slack.render(answer.told, answered=answer.words)}
        await contract.post(app.caller, Secret(found.reply_to), channel=channel, json=message)
    except (Undelivered, SecretError) as error:
        app.parts.listeners.emit("notification.failed", channel=channel, reason=str(error), dead=True)
