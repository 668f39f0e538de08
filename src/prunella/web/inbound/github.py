"""GitHub's webhooks: workflow runs that ended, and a scheduled workflow that asks for a scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunella.web.inbound.told import Aside, Reading, Told, event_id_of, found_at, lines, text_at, word

SERVICE_AT = "repository.full_name"
_BROKEN = frozenset({"failure", "timed_out", "startup_failure"})


def read(body: Mapping[str, Any], headers: Mapping[str, str], raw: bytes) -> Reading:
    """Read the end of a workflow run: one that failed, or one that proves its workflow well on that branch.

    The signature covers the body and no header, so the id is that of the run and its attempt.
    """
    run = found_at(body, "workflow_run")
    if not isinstance(run, Mapping):
        return [Aside("", f"{word(headers.get('x-github-event', '')) or 'this'} is no workflow run")]
    ended = text_at(run, "conclusion")
    event_id = event_id_of("run", text_at(run, "id"), text_at(run, "run_attempt") or 1, ended or text_at(run, "status"))
    if text_at(body, "action") != "completed" or ended not in {*_BROKEN, "success"}:
        return [Aside(event_id, f"a run that is {word(ended or text_at(run, 'status'))} tells nothing")]
    name, branch = word(text_at(run, "name")), word(text_at(run, "head_branch"))
    about = f"workflow {name} on {branch}"
    if ended == "success":
        return [Told(event_id=event_id, outcome="success", about=about, item=body)]
    words = lines(
        f"workflow {name} ended as {ended} on {branch}", text_at(run, "display_title"), text_at(run, "html_url")
    )
    facts = {"error_code": f"workflow_{ended}", "error_message": words, "occurred_at": text_at(run, "updated_at")}
    return [Told(event_id=event_id, about=about, item=body, facts=facts)]
