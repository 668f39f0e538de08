"""Bugs that a `prunella` under test can be given, each taking one guard away: whoever watches that guard has to notice.

A process that finds PLANTED in its environment, a folder, reads the names of its bugs from a file there, at its start
and whenever it is signalled, so that one server serves many of them in turn.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from flows.running import Up, eventually

FILE, DONE = "planted", "planted.done"
Swap = tuple[object, str, object]
"""What is changed: an object, the name of its attribute, and what takes its place."""


def listen() -> None:
    """Plant what the file names, now and at each signal."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, _read)
    _read()


def plant(up: Up, *names: str) -> None:
    """Give a running server these bugs and no others; commands typed beside it have them, too."""
    (up.folder / DONE).unlink(missing_ok=True)
    (up.folder / FILE).write_text(" ".join(names))
    up.process.send_signal(signal.SIGUSR1)
    eventually((up.folder / DONE).exists)


_undone: list[Swap] = []


def _read(*_: object) -> None:
    while _undone:
        setattr(*_undone.pop())
    folder = Path(os.environ["PLANTED"])
    for name in (folder / FILE).read_text().split():
        for place, attribute, bug in BUGS[name]():
            _undone.append((place, attribute, getattr(place, attribute)))
            setattr(place, attribute, bug)
    (folder / DONE).touch()


def _yes(*_: object, **__: object) -> bool:
    return True


def _nothing(*_: object, **__: object) -> None:
    return None


def _no_mistakes(*_: object, **__: object) -> list[Any]:
    return []


# Ways out -----------------------------------------------------------------------------------------------------------


def any_address() -> list[Swap]:
    """Every address may be called."""
    from prunella.egress import EgressPolicy

    return [(EgressPolicy, "admits", _yes)]


def any_host() -> list[Swap]:
    """An endpoint leads wherever it says, and to private addresses, too."""
    from prunella.core.services import Service

    def url(service: Service, endpoint: str) -> str:
        return endpoint if "://" in endpoint else f"{service.base_url}/{endpoint}"

    return [(Service, "url", url), *any_address()]


def redirects() -> list[Swap]:
    """Redirects are followed."""
    from prunella.egress import Egress

    once = Egress.request

    async def request(self: Egress, method: str, url: str, **how: Any) -> Any:
        reply = await once(self, method, url, **how)
        return await once(self, "GET", reply.headers["location"]) if "location" in reply.headers else reply

    return [(Egress, "request", request), *any_address()]


def whole_replies() -> list[Swap]:
    """Replies are kept and unpacked to their end, however many bytes that is."""
    from prunella.egress import _Gathered

    def keep(self: Any, piece: bytes) -> None:
        self._body += piece

    def unpack(self: Any, chunk: bytes) -> None:
        self._unpacker = self._unpacker or zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._keep(self._unpacker.decompress(chunk))

    return [(_Gathered, "_keep", keep), (_Gathered, "_unpack", unpack)]


def wide_allowance() -> list[Swap]:
    """Whatever stands in `egress.allow_hosts` is taken."""
    from prunella import egress

    return [(egress, "_is_allow_entry", _yes)]


# Ways in ------------------------------------------------------------------------------------------------------------


def one_at_a_time() -> list[Swap]:
    """Whoever sends a body slowly holds up all others, for seconds."""
    from prunella.web.limits import BodyLimit
    from prunella.web.wire import Wire

    turn, usual = asyncio.Lock(), BodyLimit.__call__

    async def call(self: BodyLimit, scope: Any, receive: Any, send: Any) -> None:
        async with turn:
            await usual(self, scope, receive, send)

    return [(BodyLimit, "__call__", call), (Wire, "whole_within_s", 7.0)]


def endless_lines() -> list[Swap]:
    """Nobody hangs up on who says nothing, however many there are."""
    from prunella.web import wire

    return [(wire, "connections_max", lambda: 10**6), (wire.Wire, "whole_within_s", 3600.0)]


def endless_bodies() -> list[Swap]:
    """Bodies are taken whatever their size."""
    from prunella.web import limits
    from prunella.web.wire import Wire

    return [(limits, "bytes_max_of", lambda _: 10**12), (Wire, "whole_within_s", 2.0)]


def endless_heads() -> list[Swap]:
    """Heads of requests are taken whatever their size."""
    from prunella.web import wire

    return [(wire, "HEAD_BYTES_MAX", 10**12)]


def unpacked_bodies() -> list[Swap]:
    """Nobody asks whether a body is packed."""
    from prunella.web import bodies

    return [(bodies, "_must_be_plain", _nothing)]


def believed_tokens() -> list[Swap]:
    """A token of the issuer is believed without looking at its signature, its end or whom it is for."""
    from prunella.web.auth import Caller, Role
    from prunella.web.issuers import JwtIssuer

    async def read(*_: object) -> Caller:
        return Caller("user-7", Role.OPERATIONS)

    return [(JwtIssuer, "read", read)]


def curious_issuer() -> list[Swap]:
    """Each key id that is unknown makes us ask the issuer."""
    from prunella.web import issuers

    return [(issuers, "_UNKNOWN_S", 0.0)]


def weak_sections() -> list[Swap]:
    """What the configuration says of tokens is not judged."""
    from prunella.settings.model import JwtSection

    return [(JwtSection, "misfits", _no_mistakes)]


def unsigned() -> list[Swap]:
    """Whatever comes in under a known name counts as signed."""
    from prunella.notify import slack_answers
    from prunella.web.inbound import door

    return [(door, "is_genuine", lambda kind, *_: kind != ""), (slack_answers, "is_from_slack", _yes)]


def any_role() -> list[Swap]:
    """Every role may do everything."""
    from prunella.web.auth import Gatehouse, Role

    usual = Gatehouse.admit

    async def admit(self: Gatehouse, request: Any, _: object) -> Any:
        return await usual(self, request, frozenset(Role))

    return [(Gatehouse, "admit", admit)]


def any_site() -> list[Swap]:
    """A cookie is enough."""
    from prunella.web.auth import Gatehouse

    return [(Gatehouse, "_must_be_meant", _yes_later)]


async def _yes_later(*_: object) -> None:
    return None


# What people and strangers say --------------------------------------------------------------------------------------


def any_digest() -> list[Swap]:
    """An approval counts for whatever plan, whoever gives it."""
    from prunella.engine import proposals

    return [(proposals, "_must_fit", _nothing)]


def any_parameter() -> list[Swap]:
    """A remedy is bound with whatever parameters."""
    from prunella.engine.learning import pairing

    return [(pairing, "must_take", _nothing)]


def unknown_names() -> list[Swap]:
    """What a pack says beside what is known is passed over."""
    from prunella.diagnosis.packs import entries

    usual = entries._mistakes

    def mistakes(entry: Any, *rest: Any) -> Any:
        known = {name: value for name, value in entry.items() if name in entries._CHECKS}
        for name in set(entry) - set(known):
            del entry[name]
        return usual(known, *rest)

    return [(entries, "_mistakes", mistakes)]


def slow_expressions() -> list[Swap]:
    """Nobody judges how long an expression may take."""
    from prunella.diagnosis import safety

    return [(safety, "refusal", _nothing), (safety, "refusal_of", _nothing)]


def slow_words() -> list[Swap]:
    """A long message costs seconds."""
    from prunella.web.api import events, self_heal

    usual = events.to_signal

    def slowly(*arguments: Any, **named: Any) -> Any:
        end_s = time.thread_time() + 2.1
        while time.thread_time() < end_s:
            pass
        return usual(*arguments, **named)

    return [(self_heal, "to_signal", slowly)]


def raw_pages() -> list[Swap]:
    """What stands in pages is not escaped; it has to be planted before the first page is asked for."""
    import markupsafe
    from jinja2 import runtime

    return [(runtime, "escape", markupsafe.Markup)]


def raw_log() -> list[Swap]:
    """Lines of the log hold what was said as it was said."""
    from structlog.processors import JSONRenderer

    def render(_: object, __: object, ___: object, event: Any) -> str:
        return json.dumps(dict(event), ensure_ascii=False, default=repr)

    return [(JSONRenderer, "__call__", render)]


def raw_messages() -> list[Swap]:
    """A chat gets what was said as it was said."""
    from prunella.notify import slack

    return [(slack, "_escape", lambda character: character)]


def open_words() -> list[Swap]:
    """Nothing is taken out of texts, whatever stands in them."""
    from importlib import import_module

    places = [import_module(f"prunella.core.redact.{name}") for name in ("scrub", "trees")]
    return [(places[0], "_spans", lambda _: iter(())), (places[1], "hides", lambda *_: False)]


def open_rows() -> list[Swap]:
    """What is kept is not sealed, and what was handed out is kept as it was shown."""
    from prunella.engine import entrances
    from prunella.store.secrets import Keys

    return [
        (Keys, "seal", lambda _, value, row: value),
        (Keys, "open", lambda _, sealed, row: sealed),
        (entrances, "digest_of", lambda text: text),
    ]


def python_in_packs() -> list[Swap]:
    """A pack is read by a loader that makes objects of Python."""
    from prunella.web.api import issue_acts

    def read(text: str) -> tuple[()]:
        yaml.unsafe_load(text)
        return ()

    return [(issue_acts, "read_pack", read)]


def endless_packs() -> list[Swap]:
    """What aliases of a pack expand to is not limited, or hardly."""
    from prunella.settings import source

    return [(source, "NODES_MAX", 300_000), (source, "DEPTH_MAX", 2_000)]


# At the start -------------------------------------------------------------------------------------------------------


def folded_names() -> list[Swap]:
    """Names of tables that merely look alike are the same."""
    from prunella.databases.handle import Database

    usual = Database.table

    def table(self: Database, connection: Any, name: str) -> Any:
        return usual(self, connection, unicodedata.normalize("NFKC", name))

    return [(Database, "table", table)]


def short_keys() -> list[Swap]:
    """Any text is a key."""
    from prunella.store import secrets

    return [(secrets, "_decode", lambda text: text.encode().ljust(secrets.KEY_BYTES, b"0"))]


def objects_in_configuration() -> list[Swap]:
    """The configuration is read by a loader that makes objects of Python."""
    from prunella.settings import source

    def compose(_: str, text: str) -> None:
        yaml.unsafe_load(text)

    return [(source, "_compose", compose)]


BUGS: dict[str, Callable[[], list[Swap]]] = {
    one.__name__: one
    for one in (
        any_address,
        any_host,
        redirects,
        whole_replies,
        wide_allowance,
        one_at_a_time,
        endless_lines,
        endless_bodies,
        endless_heads,
        unpacked_bodies,
        believed_tokens,
        curious_issuer,
        weak_sections,
        unsigned,
        any_role,
        any_site,
        any_digest,
        any_parameter,
        unknown_names,
        slow_expressions,
        slow_words,
        raw_pages,
        raw_log,
        raw_messages,
        open_words,
        open_rows,
        python_in_packs,
        endless_packs,
        folded_names,
        short_keys,
        objects_in_configuration,
    )
}
