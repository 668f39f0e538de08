"""SQL functions and the view of document D, written for one configured entity. Bodies only; nothing is run here.

What is being healed is known by two facts: a request that nobody has answered, and, where prunella's own tables are in
the same database, an incident that is being healed or verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prunella.core.errors import DatabaseRefused
from prunella.core.procedures import DatabaseSource, Entity
from prunella.databases.compat_piece import NAME_BYTES_MAX, Piece, function, view
from prunella.databases.spelled import name_of, text_of, texts_of

OWN = "prunella"
"""The schema of what is not for the user to call."""
ALWAYS = ("RETRY_WORKFLOW", "MANUAL_INTERVENTION")
"""Actions that every entity has."""

_DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
_ZONED = ("timestamp without time zone", "date")
_WHOLE = ("smallint", "integer", "bigint")
_NUMBERS = (*_WHOLE, "numeric", "real", "double precision")

_REQUEST = """
DECLARE
    healing text; found_key text;
BEGIN
    IF $2 IS NULL OR $2 <> ALL ({issues}) THEN
        RAISE invalid_parameter_value USING MESSAGE = format({called} || ': unknown issue type %L; known: %s', $2,
            array_to_string({issues}, ', '));
    END IF;
    IF $3 IS NULL OR $3 <> ALL ({actions}) THEN
        RAISE invalid_parameter_value USING MESSAGE = format({called} || ': unknown recovery action %L; known: %s', $3,
            array_to_string({actions}, ', '));
    END IF;
    SELECT e.{key}::text INTO found_key FROM {table} e WHERE e.{key} = $1;
    IF found_key IS NULL THEN
        RAISE no_data_found USING MESSAGE = format({called} || ': there is no %s %L', {entity}, $1);
    END IF;
    LOOP
        INSERT INTO prunella.heal_requests AS r (entity, key, issue, action) VALUES ({entity}, found_key, $2, $3)
            ON CONFLICT (entity, key) WHERE answer IS NULL DO NOTHING RETURNING r.id INTO healing;
        IF healing IS NULL THEN
            SELECT r.id INTO healing FROM prunella.heal_requests r
                WHERE r.entity = {entity} AND r.key = found_key AND r.answer IS NULL;
        END IF;
        EXIT WHEN healing IS NOT NULL;
    END LOOP;
    RETURN healing;
END;
"""


@dataclass(frozen=True, slots=True)
class Typed:
    """A column as the catalogue has it: its type in full, and the built-in type behind it."""

    full: str
    plain: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entity's functions go and what they read.

    Args:
        columns: of the entity's table.
        has_store: prunella's own tables stand in this database.
    """

    source: DatabaseSource
    schema: str
    columns: Mapping[str, Typed]
    has_store: bool


def pieces(entity: Entity, place: Place, remedies: Iterable[str] = ()) -> list[Piece]:
    """Return detect_stuck_…s, auto_heal_…, stuck_…s_view and the function that the view stands on."""
    plural, key = f"{entity.name}s", _typed(entity, place, entity.key).full
    key_name = name_of(f"{entity.name}_id")
    asked = "bigint" if _typed(entity, place, entity.key).plain in _WHOLE else key  # 123 is no smallint
    listing = function(
        OWN,
        f"stuck_{plural}",
        "",
        returns=f"TABLE ({key_name} {key}, status text, stuck_since {_typed(entity, place, entity.since).full},"
        " stuck_minutes integer, issue_type text, recommended_action text, active_healing_count integer,"
        " total_healing_attempts integer)",
        attributes=f"LANGUAGE sql STABLE {_DEFINER}",
        body=_listing(entity, place),
        words=f"what stands behind stuck_{plural}_view",
    )
    made = [
        listing,
        function(
            place.schema,
            f"detect_stuck_{plural}",
            "",
            returns=f"TABLE ({key_name} {key}, issue_type text, stuck_minutes integer, recommended_action text)",
            attributes=f"LANGUAGE sql STABLE {_DEFINER}",
            body=_detection(entity, place),
            words=f"stuck rows of {entity.table} with the action that fits; those being healed are left out",
        ),
        function(
            place.schema,
            f"auto_heal_{entity.name}",
            f"{key_name} {asked}, issue_type text, recovery_action text",
            returns="text",
            attributes=f"LANGUAGE plpgsql VOLATILE {_DEFINER}",
            body=_request(entity, place, remedies),
            words=f"ask the engine to heal one row of {entity.table}; returns the id of the healing",
        ),
        view(
            place.schema,
            f"stuck_{plural}_view",
            f"SELECT * FROM {name_of(OWN, listing.name)}()",  # noqa: S608, quoted
            words=f"stuck rows of {entity.table}, those being healed included; who reads it needs EXECUTE on "
            f"{name_of(OWN, listing.name)}(), too",
            of=listing,
        ),
    ]
    for one in made:
        if len(one.name.encode()) > NAME_BYTES_MAX:
            fact = f"{one.name} has {len(one.name.encode())} bytes, PostgreSQL allows {NAME_BYTES_MAX}"
            raise DatabaseRefused(f"entities.{entity.name}: the name {fact}; choose a shorter name for the entity")
    return made


def issues_of(entity: Entity) -> tuple[str, ...]:
    """Return what can be wrong with it, as its check names it."""
    return tuple(f"STUCK_{state.upper()}" for state in entity.stuck)


def actions_of(entity: Entity, remedies: Iterable[str] = ()) -> tuple[str, ...]:
    """Return what may be asked for: its rules' remedies, the last one, those every entity has, and `remedies`."""
    named = [*(rule.remedy for rule in entity.stuck.values()), entity.give_up, *remedies]
    return tuple(dict.fromkeys([*(one.upper() for one in named), *ALWAYS]))


def _detection(entity: Entity, place: Place) -> str:
    asked = (
        f"SELECT FROM prunella.heal_requests r WHERE r.entity = {text_of(entity.name)}"
        " AND r.key = s.key::text AND r.answer IS NULL"
    )
    healing = f"SELECT FROM prunella.incidents i WHERE {_healing(entity, place)} AND i.resource = s.key::text"
    beside = f" AND NOT EXISTS ({healing})" if place.has_store else ""
    return (
        f"SELECT s.key, s.issue, s.minutes, s.action FROM ({_stuck(entity, place)}) s"  # noqa: S608, quoted
        f" WHERE NOT EXISTS ({asked}){beside} ORDER BY s.since"
    )


def _listing(entity: Entity, place: Place) -> str:
    asked = (
        "SELECT r.key, count(*) FILTER (WHERE r.answer IS NULL) AS open, count(*) AS total"  # noqa: S608, quoted
        f" FROM prunella.heal_requests r WHERE r.entity = {text_of(entity.name)} GROUP BY r.key"
    )
    active, total, joins = "COALESCE(asked.open, 0)", "COALESCE(asked.total, 0)", ""
    if place.has_store:
        of_healing = (
            "SELECT i.resource, count(*) AS open FROM prunella.incidents i"  # noqa: S608, quoted
            f" WHERE {_healing(entity, place)} GROUP BY i.resource"
        )
        of_runs = (
            "SELECT r.resource, count(*) AS total FROM prunella.runs r"  # noqa: S608, quoted
            f" WHERE {_of(entity, place, 'r')} GROUP BY r.resource"
        )
        joins = (
            f" LEFT JOIN ({of_healing}) healing ON healing.resource = s.key::text"
            f" LEFT JOIN ({of_runs}) tried ON tried.resource = s.key::text"
        )
        active, total = f"{active} + COALESCE(healing.open, 0)", "COALESCE(tried.total, 0)"
    return (
        f"SELECT s.key, s.status, s.since, s.minutes, s.issue, s.action, ({active})::integer, ({total})::integer"  # noqa: S608, quoted
        f" FROM ({_stuck(entity, place)}) s LEFT JOIN ({asked}) asked ON asked.key = s.key::text{joins}"
    )


def _stuck(entity: Entity, place: Place) -> str:
    """Return the rows that are stuck, each state by itself, so that an index on (status, since) is used."""
    since, status, key = name_of(entity.since), name_of(entity.status), name_of(entity.key)
    age_s, kind = _age_s(entity, place, f"e.{since}"), _typed(entity, place, entity.status).full
    return " UNION ALL ".join(
        f"SELECT e.{key} AS key, e.{status}::text AS status, e.{since} AS since,"  # noqa: S608, quoted
        f" floor({age_s} / 60)::integer AS minutes, {text_of(f'STUCK_{state.upper()}')} AS issue,"
        f" {text_of(rule.remedy.upper())} AS action FROM {name_of(place.schema, entity.table)} e"
        f" WHERE e.{status} = CAST({text_of(state)} AS {kind}) AND e.{since} < {_cutoff(entity, place, rule.after_s)}"
        for state, rule in entity.stuck.items()
    )


def _healing(entity: Entity, place: Place) -> str:
    return f"{_of(entity, place, 'i')} AND i.state IN ('healing', 'verifying')"


def _of(entity: Entity, place: Place, alias: str) -> str:
    ours = f"{alias}.procedure = {text_of(f'stuck-{entity.name}')}"
    return f"{ours} AND {alias}.service = {text_of(place.source.name)}"


def _request(entity: Entity, place: Place, remedies: Iterable[str]) -> str:
    return _REQUEST.format(
        called=text_of(f"auto_heal_{entity.name}"),
        entity=text_of(entity.name),
        issues=texts_of(issues_of(entity)),
        actions=texts_of(actions_of(entity, remedies)),
        table=name_of(place.schema, entity.table),
        key=name_of(entity.key),
    )


def _cutoff(entity: Entity, place: Place, after_s: float) -> str:
    """Return the moment before which a row is too old, in the column's own spelling, so that an index can be used."""
    then = f"(statement_timestamp() - make_interval(secs => {after_s!r}))"
    plain = _typed(entity, place, entity.since).plain
    if plain in _ZONED:
        return f"({then} AT TIME ZONE {_zone(entity, place)})"
    if plain in _NUMBERS:
        number = f"extract(epoch FROM {then}) * {_per_second(entity, place)}"
        return f"ceil({number})::bigint" if plain in _WHOLE else f"({number})::{plain}"
    return then


def _age_s(entity: Entity, place: Place, since: str) -> str:
    plain = _typed(entity, place, entity.since).plain
    if plain == "timestamp with time zone":
        return f"extract(epoch FROM statement_timestamp() - {since})"
    if plain in _ZONED:
        zoned = f"({since}::timestamp AT TIME ZONE {_zone(entity, place)})"
        return f"extract(epoch FROM statement_timestamp() - {zoned})"
    if plain in _NUMBERS:
        return f"(extract(epoch FROM statement_timestamp())::numeric - {since}::numeric / {_per_second(entity, place)})"
    raise DatabaseRefused(
        f"entities.{entity.name}: column {entity.since} is a {plain}, which is no time; name a timestamp or a number"
    )


def _zone(entity: Entity, place: Place) -> str:
    if place.source.time_zone is None:
        raise DatabaseRefused(
            f"entities.{entity.name}: column {entity.since} has no time zone; "
            f'say which one it means: databases.{place.source.name}.time_zone, as "Europe/Berlin"'
        )
    return text_of(place.source.time_zone)


def _per_second(entity: Entity, place: Place) -> int:
    unit = entity.unit or place.source.unit
    if unit is None:
        raise DatabaseRefused(
            f"entities.{entity.name}: column {entity.since} is a number; say what it counts: "
            f"databases.{place.source.name}.unit: s or ms"
        )
    return {"s": 1, "ms": 1000}[unit]


def _typed(entity: Entity, place: Place, column: str) -> Typed:
    found = place.columns.get(column)
    if found is None:
        known = ", ".join(sorted(place.columns)) or "none: there is no such table that this role sees"
        raise DatabaseRefused(f"entities.{entity.name}: table {entity.table} has no column {column!r}; it has {known}")
    return found
