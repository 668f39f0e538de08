#!/bin/sh
# Runs once, when the database is made: prunella owns a database of its own, as a role that row-level security binds.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set password="$(cat "$PRUNELLA_PASSWORD_FILE")" \
  --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
CREATE ROLE prunella LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE prunella OWNER prunella;
SQL
