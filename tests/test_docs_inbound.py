"""docs/inbound.md, followed word for word: its file is read, its requests are sent, its scheduled workflow signs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from prunella.core.redact import Secret
from prunella.core.senders import Sender
from prunella.settings import load
from prunella.web.inbound.door import Door
from prunella.web.inbound.taking import _READERS
from web.conftest import INGEST, Web
from web.conftest import web as _web

pytestmark = pytest.mark.anyio
web = _web
TEXT = (Path(__file__).parents[1] / "docs" / "inbound.md").read_text()
SECRETS = {"ALERTS_TOKEN": "t" * 20, "PARTNER_SECRET": "whsec_" + "c" * 44, "PARTNER_SECRET_NEXT": "whsec_" + "d" * 44}


def snippets(kind: str) -> list[str]:
    """Return the snippets of a language."""
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)


def configured(tmp_path: Path) -> dict[str, Sender]:
    """Read the document's configuration."""
    path = tmp_path / "prunella.yaml"
    path.write_text(next(one for one in snippets("yaml") if "inbound:" in one and "services:" in one))
    return dict(load(path, SECRETS).senders)


def test_configuration_is_one(tmp_path: Path) -> None:
    """It is read as it stands, and the table of kinds names those that there are, with their places."""
    senders = configured(tmp_path)
    assert {name: one.kind for name, one in senders.items()} == {
        "alerts": "alertmanager", "boards": "grafana", "errors": "sentry", "ci": "github", "partner": "standard_webhooks",
    }  # fmt: skip
    rows = re.findall(r"^\| `(\w+)` \|.*\| `([\w.]+)` \|$", TEXT, re.MULTILINE)
    assert dict(rows) == {kind: place for kind, (_, place) in _READERS.items()}


async def test_requests_are_taken(web: Web) -> None:
    """What curl would send is answered with 202."""
    sender = Sender(name="script", kind="token", secrets=(), service="crm", services=frozenset({"crm"}))
    for snippet in snippets("console"):
        path = re.search(r"8123(/\S+)", snippet)
        body = re.search(r"-d '(.*)'", snippet)
        assert path is not None
        assert body is not None
        if path[1].endswith("/script"):
            web.api.state.door = _door(web, sender)
        headers = {"x-prunella-token": INGEST} if path[1].endswith("/script") else {"authorization": f"Bearer {INGEST}"}
        answer = await web.client.post(path[1], content=body[1], headers=headers)
        assert answer.status_code == 202, answer.text
        assert len(answer.json()["items"]) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the workflow signs with openssl")
async def test_scheduled_workflow_signs_as_it_should(web: Web) -> None:
    """The shell of the workflow makes a signature that opens the door, and gets a scan."""
    (workflow,) = [one for one in snippets("yaml") if "cron" in one]
    shell = yaml.safe_load(workflow)["jobs"]["scan"]["steps"][0]["run"].rpartition("curl")[0]
    made, body = printed(f'{shell}\nprintf "%s\\n%s" "$made" "$body"').split("\n", 1)
    sender = Sender(name="ci", kind="github", secrets=(), service="crm", services=frozenset({"crm"}), scan=True)
    web.api.state.door = _door(web, sender)
    headers = {"x-hub-signature-256": f"sha256={made}"}
    answer = await web.client.post("/api/v1/inbound/ci", content=body, headers=headers)
    assert (answer.status_code, json.loads(answer.text)["success"]) == (200, True)


def printed(shell: str) -> str:
    """Run a script with the secret in its environment, and return what it prints."""
    environ = {"SECRET": INGEST, "PATH": "/usr/bin:/bin"}
    return subprocess.run(["sh", "-c", shell], env=environ, capture_output=True, text=True, check=True).stdout


def _door(web: Web, sender: Sender) -> Door:
    known = replace(sender, secrets=(Secret(INGEST),))
    parts = web.app.parts
    return Door({sender.name: known}, web.app.vault.reveal, parts.clock.now, parts.listeners)
