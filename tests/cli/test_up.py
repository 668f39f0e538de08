"""What `prunella up` writes to its log holds no secret, wherever one stood."""

from __future__ import annotations

import json
import subprocess
import sys

_CANARY = "ghp_" + "a1B2c3D4e" * 4
_PROGRAM = f"""
import logging, structlog
from prunella.cli.up import configure_logs
configure_logs()
token = {_CANARY!r}
def fail(password):
    raise ValueError(f"refused: {{token}}")
try:
    try:
        fail(token)
    except ValueError as error:
        raise RuntimeError("while sending " + token) from error
except RuntimeError:
    structlog.get_logger().exception("own", header={{"authorization": "Bearer " + token}})
    logging.getLogger("library").exception("foreign %s", token, extra={{"detail": {{"api_key": token}}}})
logging.getLogger("library").warning("see https://user:%s@example.com/", token)
"""


def test_log_lines_hold_no_secret() -> None:
    """Messages, arguments, extra fields, tracebacks with their causes; and local variables are not written at all."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["error", "error", "warning"]
    assert _CANARY not in done.stderr
    assert done.stderr.count("[REDACTED:") >= 7
    assert [one["exc_type"] for one in lines[0]["exception"]] == ["RuntimeError", "ValueError"]
    assert "locals" not in done.stderr


def test_migrations_say_nothing_at_info() -> None:
    """Which implementation Alembic chose is no news; its warnings are."""
    program = (
        "import logging; from prunella.cli.up import configure_logs; configure_logs(); "
        "log = logging.getLogger('alembic.runtime.migration'); log.info('Context impl'); log.warning('look')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["look"]
