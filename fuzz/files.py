"""Files and texts that become something else: packs, settings, a spool, names in SQL, logs, messages, addresses."""

from __future__ import annotations

import json
import re
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import structlog

from fuzz.cutting import NOW, stored, texts
from prunella.cli.up import _scrub
from prunella.core.errors import ConfigError, EgressRefused, InvalidInput, StoreUnavailable
from prunella.core.records import Notification, Severity
from prunella.databases.spelled import name_of, text_of
from prunella.egress import EgressPolicy, _core_url, _target
from prunella.guard.spool import Spool
from prunella.notify import contract, email, slack, teams, webhook
from prunella.packs import read_pack, write_pack
from prunella.settings import load
from prunella.settings.addresses import host_of, split_address

FILE_BYTES: Final = 2_000
"""So much of a file is read here: PyYAML takes a second for 100 kB, and 1 MiB is the limit (settings/source.py)."""
MESSAGE_BYTES: Final = 10_000
"""Titles and facts are shorter than that long before a channel renders them."""
_FOLDER: Final = tempfile.TemporaryDirectory(prefix="prunella-fuzz-")
_ESCAPED: Final = re.compile(r"E'((?:[^'\\]|''|\\\\)*)'", re.DOTALL)
_MENTIONS: Final = ("<!channel", "<!here", "<!everyone", "<@")


def packs(data: bytes) -> None:
    """Read a pack; what was read is written, and read as the same."""
    with suppress(ConfigError):
        known = read_pack(data[:FILE_BYTES].decode("utf-8", "replace"))
        assert read_pack(write_pack(known)) == known


def configuration(data: bytes) -> None:
    """Read prunella.yaml."""
    path = Path(_FOLDER.name, "prunella.yaml")
    path.write_bytes(data[:FILE_BYTES])
    with suppress(ConfigError):
        load(path, {"FUZZ": "a value", "PRUNELLA_INGEST_TOKEN": "some-ingest-token-of-32-letters!"})


class _Receiver:
    last: Any = None

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        if not isinstance(body, dict):
            raise InvalidInput("a message is an object")
        self.last = body


def spool(data: bytes) -> None:
    """Open a file that is no spool, or carry a message that somebody spoilt."""
    path = Path(_FOLDER.name, "spool.db")
    path.unlink(missing_ok=True)
    whole = data[:1] < b"\x80"
    if not whole:
        path.write_bytes(data[1:FILE_BYTES])
    if whole:
        _carry(path, *stored(data[:FILE_BYTES], 2))
        return
    with suppress(InvalidInput, StoreUnavailable):
        waiting = Spool(str(path))
        waiting.waiting("ship", "7")
        waiting.close()


def _carry(path: Path, target: str, body: str) -> None:
    """Deliver what stands behind a spoilt message, whatever that is."""
    receiver = _Receiver()
    waiting = Spool(str(path))
    try:
        with closing(sqlite3.connect(path)) as file, file:
            for one in (body, json.dumps({"function": "ship", "key": "7"})):
                file.execute("INSERT INTO spooled (path, body) VALUES (?, ?)", (target[:20] or "calls", one))
        waiting.waiting("ship", "7")
        waiting.carry(receiver)
    finally:
        waiting.close()
    assert receiver.last == {"function": "ship", "key": "7"}


def names(data: bytes) -> None:
    """Quote a name and a text for SQL: what a database reads is the very same, and nothing else."""
    (name,) = stored(data[:FILE_BYTES].replace(b"\0", b""), 1)
    with closing(sqlite3.connect(":memory:")) as database:
        read = database.execute(f"SELECT 1 AS {name_of(name or 'a')}")
        assert read.description[0][0] == (name or "a")
        if "\\" not in name:
            assert database.execute(f"SELECT {text_of(name)}").fetchone() == (name,)
            return
    whole = _ESCAPED.fullmatch(text_of(name))
    assert whole is not None
    assert re.sub(r"''|\\\\", lambda pair: pair[0][0], whole[1]) == name


def logs(data: bytes) -> None:
    """Log a text, flat or within something: one line, which is JSON, and cannot be taken for two."""
    name, text = texts(data, 2)
    told: dict[str, Any] = {f"x{name[:50]}": text}
    if len(data) % 2:  # most lines are flat, and looked at in another way
        told = {"reason": {f"x{name[:50]}": [text]}}
    fields = {"event": "call.failed", **told}
    line = structlog.processors.JSONRenderer()(None, "info", _scrub(None, "info", fields))
    assert isinstance(line, str)
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert json.loads(line)["event"] == "call.failed"


def messages(data: bytes) -> None:
    """Tell people what a stranger wrote, in every channel: no mention of everybody comes out of it."""
    title, name, value, link = stored(data[:MESSAGE_BYTES], 4)
    told = Notification(
        id="n1",
        key="FAILED:i1",
        channel="ops",
        kind="FAILED",
        severity=Severity.HIGH,
        title=title,
        facts=((name, value), ("service", title)),
        incident_id="i1",
        link=link or None,
        next_at=NOW,
        created_at=NOW,
    )
    contract.plain_text(told)
    email.render(told, "a@prunella.example", ["b@prunella.example"]).as_bytes()
    json.dumps([teams.render(told), webhook.render(told)]).encode()
    posted = json.dumps(slack.render(told, buttons=True))
    assert not any(mention in posted for mention in _MENTIONS)


def addresses(data: bytes) -> None:
    """Take an address apart: what is called is what was judged, or it is refused."""
    (text,) = texts(data, 1)
    if (parts := split_address(text)) is not None and parts.scheme in ("http", "https"):
        host_of(text)
    contract.web_link(text)
    with suppress(EgressRefused):
        target = _target("GET", text, EgressPolicy(allow_http=True))
        assert _core_url(target).host == target.raw_host
        assert not target.userinfo
