"""Rules in the database itself: the audit is appended to, sealed once, and forgotten only under a forgotten seal.

They hold for whoever speaks SQL to the tables, our own mistakes included. Whoever owns the tables can take them away:
that is what the chain of seals is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection

from prunella.store.tables import SCHEMA

_ENTRY: Final = ("id", "at", "actor", "action", "target", "incident_id", "reason", "details")
_SEAL: Final = ("number", "previous", "content", "entries", "sealed_at", "digest")
_AUDIT_REFUSED: Final = "prunella: the audit is append-only; an entry is sealed once and never changed"
_DELETE_REFUSED: Final = "prunella: the audit is append-only; entries go with their seal, after retention marked it"
_SEALS_REFUSED: Final = "prunella: seals are append-only; retention may mark one as forgotten, once"


def install(connection: Connection) -> None:
    """Make the rules."""
    postgres = connection.dialect.name == "postgresql"
    for statement in _on_postgres() if postgres else _on_sqlite():
        connection.exec_driver_sql(statement)


def _same(columns: tuple[str, ...], operator: str) -> str:
    return " AND ".join(f'NEW."{name}" {operator} OLD."{name}"' for name in columns)


def _on_sqlite() -> Iterator[str]:
    def refused(name: str, event: str, table: str, unless: str, words: str) -> str:
        when = f"BEFORE {event} ON {table} FOR EACH ROW WHEN NOT ({unless})"
        return f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, '{words}'); END"

    sealed = f"OLD.seal IS NULL AND NEW.seal IS NOT NULL AND {_same(_ENTRY, 'IS')}"
    gone = "EXISTS (SELECT 1 FROM seals WHERE number = OLD.seal AND forgotten_at IS NOT NULL)"
    forgotten = f"OLD.forgotten_at IS NULL AND NEW.forgotten_at IS NOT NULL AND {_same(_SEAL, 'IS')}"
    yield refused("audit_is_kept", "UPDATE", "audit", sealed, _AUDIT_REFUSED)
    yield refused("audit_is_not_lost", "DELETE", "audit", gone, _DELETE_REFUSED)
    yield refused("seals_are_kept", "UPDATE", "seals", forgotten, _SEALS_REFUSED)
    yield refused("seals_are_not_lost", "DELETE", "seals", "0", _SEALS_REFUSED)


def _on_postgres() -> Iterator[str]:
    same = "IS NOT DISTINCT FROM"
    sealed = f"OLD.seal IS NULL AND NEW.seal IS NOT NULL AND {_same(_ENTRY, same)}"
    gone = f"EXISTS (SELECT 1 FROM {SCHEMA}.seals WHERE number = OLD.seal AND forgotten_at IS NOT NULL)"  # noqa: S608
    forgotten = f"OLD.forgotten_at IS NULL AND NEW.forgotten_at IS NOT NULL AND {_same(_SEAL, same)}"
    for table, event, rule, words in (
        ("audit", "update", f"IF {sealed} THEN RETURN NEW; END IF;", _AUDIT_REFUSED),
        ("audit", "delete", f"IF {gone} THEN RETURN OLD; END IF;", _DELETE_REFUSED),
        ("audit", "truncate", "", _DELETE_REFUSED),
        ("seals", "update", f"IF {forgotten} THEN RETURN NEW; END IF;", _SEALS_REFUSED),
        ("seals", "delete", "", _SEALS_REFUSED),
        ("seals", "truncate", "", _SEALS_REFUSED),
    ):
        name = f"{SCHEMA}.{table}_{event}_refused"
        refused = f"RAISE EXCEPTION '{words}' USING ERRCODE = 'restrict_violation';"
        yield f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {rule} {refused} END $$"
        each = "STATEMENT" if event == "truncate" else "ROW"
        yield (
            f"CREATE TRIGGER {table}_{event}_refused BEFORE {event.upper()} ON {SCHEMA}.{table} "
            f"FOR EACH {each} EXECUTE FUNCTION {name}()"
        )
