"""Read what somebody pasted: a raw HTTP response, a Python traceback, or the text of an error.

Looks only at the shape that the paste has; what it means is the classifier's business.
"""

from __future__ import annotations

import re

from prunella.core.records import Failure

_STATUS_LINE = re.compile(r"(?:< ?)?HTTP/\d(?:\.\d)? (\d{3})\b.*")
_HEADER = re.compile(r"(?:< ?)?([A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}): ?(.*)")
_RAISED = re.compile(r"([A-Za-z_][\w.]{0,150})(?:: (.*))?")
_TRACEBACK = "Traceback (most recent call last):"


def failure_of(text: str, *, service: str, status: int | None = None, code: str | None = None) -> Failure:
    """Return a pasted text as evidence.

    Args:
        status, code: what the person knows besides; they win over what the text shows.
    """
    start = text.lstrip("\ufeff \t\r\n")
    if _STATUS_LINE.match(start):
        seen, headers, body = _response(start)
        return Failure(service=service, status=status or seen, code=code, headers=headers, message=body)
    if _TRACEBACK in start:
        exc_type, message = _raised(start)
        return Failure(
            service=service, source="python", status=status, code=code, exc_type=exc_type, message=message or start
        )
    return Failure(service=service, status=status, code=code, message=text)


def _response(text: str) -> tuple[int, dict[str, str], str]:
    """Return status, headers and body; of several responses in a row (redirects, 100 Continue) the last one counts."""
    status, headers = 0, dict[str, str]()
    lines = text.splitlines()
    for number, line in enumerate(lines):
        beginning = _STATUS_LINE.match(line)
        header = _HEADER.fullmatch(line.rstrip())
        if beginning is not None:
            status, headers = int(beginning[1]), {}
        elif header is not None:
            headers[header[1].lower()] = header[2].strip()
        elif line.strip("<> \r"):
            return status, headers, "\n".join(lines[number:]).strip()
        elif not any(map(_STATUS_LINE.match, lines[number + 1 : number + 2])):
            return status, headers, "\n".join(lines[number + 1 :]).strip()
    return status, headers, ""


def _raised(text: str) -> tuple[str | None, str]:
    """Return class and message of the exception that ended a traceback; its message may have several lines."""
    lines = text.rpartition(_TRACEBACK)[2].splitlines()
    for number, line in enumerate(lines):
        match = _RAISED.fullmatch(line.strip()) if line and not line[0].isspace() else None
        if match is not None:
            rest = "\n".join([match[2] or "", *lines[number + 1 :]]).strip()
            return match[1], rest
    return None, ""
