"""SQL functions of document A that every database gets: orphans, connections. Bodies only; nothing is run here."""

from __future__ import annotations

from prunella.databases.compat_piece import Piece, function
from prunella.databases.spelled import text_of

_ORPHANS = """
DECLARE
    child oid; parent oid; parent_key name;
BEGIN
    SELECT c.oid INTO child FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = {schema} AND c.relname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f');
    SELECT c.oid INTO parent FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = {schema} AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f');
    IF child IS NULL OR parent IS NULL THEN
        RAISE undefined_table USING
            MESSAGE = pg_catalog.format('find_orphan_records: there is no table %L in schema %I',
                CASE WHEN child IS NULL THEN $1 ELSE $2 END, {schema});
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = child AND a.attname = $3 AND a.attnum > 0
                   AND NOT a.attisdropped) THEN
        RAISE undefined_column USING
            MESSAGE = pg_catalog.format('find_orphan_records: table %I has no column %L', $1, $3);
    END IF;
    IF pg_catalog.row_security_active(parent) THEN
        RAISE insufficient_privilege USING
            MESSAGE = pg_catalog.format('find_orphan_records: row-level security hides rows of %I from you', $2),
            HINT = 'What has a parent would look like an orphan; ask as a role that sees every row.';
    END IF;
    SELECT a.attname INTO parent_key FROM pg_catalog.pg_index x
        JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
        WHERE x.indrelid = parent AND x.indisprimary AND x.indnkeyatts = 1;
    IF parent_key IS NULL THEN
        SELECT a.attname INTO parent_key FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = parent AND a.attname = 'id' AND NOT a.attisdropped;
    END IF;
    IF parent_key IS NULL THEN
        RAISE undefined_column USING
            MESSAGE = pg_catalog.format('find_orphan_records: table %I has no primary key of one column and no id', $2);
    END IF;
    RETURN QUERY EXECUTE pg_catalog.format(
        'SELECT pg_catalog.row_to_json(c.*) FROM %1$I.%2$I c WHERE c.%3$I IS NOT NULL'
        ' AND NOT EXISTS (SELECT FROM %1$I.%4$I p WHERE p.%5$I = c.%3$I)', {schema}, $1, $3, $2, parent_key);
END;
"""

_STATS = """
SELECT json_build_object(
    'active', count(*) FILTER (WHERE a.state = 'active'),
    'idle', count(*) FILTER (WHERE a.state = 'idle'),
    'max', current_setting('max_connections')::integer)
FROM pg_stat_activity a WHERE a.backend_type = 'client backend'
"""

_RELEASE = """
DECLARE
    ended integer;
BEGIN
    IF $1 IS NULL OR $1 < interval '0' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'release_idle_connections: idle must be 0 or longer';
    END IF;
    PERFORM pg_stat_clear_snapshot();
    WITH tried AS MATERIALIZED (
        SELECT pg_terminate_backend(a.pid) AS done
        FROM pg_stat_activity a
        JOIN pg_roles theirs ON theirs.oid = a.usesysid
        JOIN pg_roles ours ON ours.rolname = current_user
        WHERE a.datname = current_database() AND a.backend_type = 'client backend'
          AND a.state = 'idle' AND a.xact_start IS NULL AND a.state_change < clock_timestamp() - $1
          AND a.pid <> pg_backend_pid() AND a.application_name NOT LIKE 'prunella%'
          AND (pg_has_role(theirs.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))
          AND (ours.rolsuper OR NOT theirs.rolsuper)
    ) SELECT count(*) FILTER (WHERE done) INTO ended FROM tried;
    RETURN ended;
END;
"""


def pieces(schema: str) -> list[Piece]:
    """Return find_orphan_records, get_connection_stats and release_idle_connections for a schema."""
    return [
        function(
            schema,
            "find_orphan_records",
            "child_table text, parent_table text, fk_column text",
            returns="SETOF json",
            attributes="LANGUAGE plpgsql STABLE SECURITY INVOKER",
            body=_ORPHANS.format(schema=text_of(schema)),
            words="rows of a table whose parent does not exist; a reference that is NULL is none",
        ),
        function(
            schema,
            "get_connection_stats",
            "",
            returns="json",
            attributes="LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp",
            body=_STATS,
            words="active, idle and max connections of the server, as far as the owner of this function may see them",
        ),
        function(
            schema,
            "release_idle_connections",
            "idle interval DEFAULT '5 minutes'",
            returns="integer",
            attributes="LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp",
            body=_RELEASE,
            words="end this database's connections that are idle for so long, never one in a transaction; count them",
        ),
    ]
