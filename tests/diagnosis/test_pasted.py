"""What people paste is read by its shape: a response, a traceback, or just text."""

from __future__ import annotations

import pytest

from prunella.diagnosis import classify
from prunella.diagnosis.pasted import failure_of

_RESPONSE = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 30\r\n\r\n{}\r\n"
_VERBOSE = "< HTTP/2 503 \n< retry-after: 120\n< content-type: text/html\n< \n<html>Be right back</html>\n"
_TRACEBACK = """Traceback (most recent call last):
  File "shop.py", line 3, in push
    raise socket.gaierror(-2, "Name or service not known")
socket.gaierror: [Errno -2] Name or service not known

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "shop.py", line 9, in <module>
    push()
httpx.ConnectError: [Errno -2] Name or service not known
and a second line
"""


def test_response_is_read_with_its_headers() -> None:
    """Status, headers and body, as curl -i shows them."""
    found = failure_of(_RESPONSE, service="crm")
    assert (found.status, found.headers["retry-after"], found.message) == (429, "30", "{}")
    diagnosis = classify(found)
    assert (diagnosis.kind, diagnosis.retry_after_s) == ("rate_limit.window", 30.0)


def test_response_of_curl_v_is_read_too() -> None:
    """With its arrows, and an empty reason."""
    found = failure_of(_VERBOSE, service="crm")
    assert (found.status, found.headers["retry-after"]) == (503, "120")
    assert found.message == "<html>Be right back</html>"


def test_last_of_several_responses_counts() -> None:
    """What came before it only led there."""
    found = failure_of("HTTP/1.1 100 Continue\r\n\r\n" + _RESPONSE, service="crm")
    assert found.status == 429


def test_traceback_is_read_to_the_error_that_ended_it() -> None:
    """Class with its module, and all lines of its message."""
    found = failure_of(_TRACEBACK, service="crm")
    assert found.exc_type == "httpx.ConnectError"
    assert found.message == "[Errno -2] Name or service not known\nand a second line"
    assert classify(found).kind == "network.dns"


@pytest.mark.parametrize("text", ["Too many requests", "", "HTTP is broken", "Traceback (most recent call last):\n"])
def test_anything_else_is_text(text: str) -> None:
    """Nothing is lost, whatever it looks like."""
    found = failure_of(text, service="crm", status=500, code="x-1")
    assert (found.message.strip(), found.status, found.code) == (text.strip(), 500, "x-1")


def test_what_the_person_knows_wins() -> None:
    """A status given by hand is not read from the paste."""
    assert failure_of(_RESPONSE, service="crm", status=503).status == 503
