"""Original requests at rest: sealed with their row, opened only for the replay."""

from __future__ import annotations

import json

from prunella.core import redact
from prunella.core.errors import InvalidInput
from prunella.core.records import Operation, Request
from prunella.core.services import Service
from prunella.engine.parts import Parts


def seal_request(parts: Parts, operation_id: str, request: Request) -> bytes:
    """Return address and payload, encrypted for the operation's row: secrets travel in query strings, too."""
    sealed = json.dumps({"endpoint": request.endpoint, "payload": request.payload})
    return parts.seal(sealed.encode(), f"operations:{operation_id}")


def open_request(parts: Parts, operation: Operation) -> Request:
    """Return the request as it came in."""
    original = json.loads(parts.unseal(operation.payload_sealed, f"operations:{operation.id}"))
    return Request(method=operation.method, endpoint=original["endpoint"], payload=original["payload"])


def not_replayable(service: Service, request: Request) -> str | None:
    """Say why a request can't be replayed as it is; None when it can."""
    if redact.has_marks(request.payload):
        return "the payload holds redaction marks, so the original request can't be replayed; send it again yourself"
    try:
        service.url(request.endpoint)
    except InvalidInput as error:
        return redact.scrub(str(error))  # an address may carry a key
    return None
