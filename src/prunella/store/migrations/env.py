"""Alembic's entry: run the revisions on the connection that `upgrade` opened."""

from alembic import context

from prunella.store.tables import SCHEMA, metadata

connection = context.config.attributes["connection"]
schema = SCHEMA if connection.dialect.name == "postgresql" else None
if schema:
    connection = connection.execution_options(schema_translate_map={None: schema})
context.configure(connection=connection, target_metadata=metadata, version_table_schema=schema)
with context.begin_transaction():
    context.run_migrations()
