"""What is healed in the users' databases: the example as a whole, every refusal at its place, and what is not said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunella.core import procedures as of
from prunella.core.errors import ConfigError
from prunella.core.records import Level
from prunella.core.redact import Secret
from prunella.core.services import SecretRef
from prunella.settings import Settings, json_schema, load

EXAMPLE = (Path(__file__).parents[1] / "data" / "example.yaml").read_text()
ENVIRON = {
    "PRUNELLA_INGEST_TOKEN": "ingest-abcdef-1",
    "HUBSPOT_CLIENT_ID": "client-17",
    "SHOP_DATABASE_URL": "postgres://shop:p%40ss-abcdef-2@db/shop",
    "OPENAI_API_KEY": "sk-abcdef-3",
    "SMTP_URL": "smtp://mail-abcdef-4",
    "PAGER_URL": "https://pager-abcdef-5.example",
}
DATABASES = "databases: {shop: {url: 'sqlite:///shop.db'}}\n"
ROWS = "rows: {table: t, where: {a: 1}}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text: str, environ: Mapping[str, str] | None = None) -> Settings:
    path = Path("prunella.yaml")
    path.write_text(text)
    return load(path, environ or {})


def procedure(check: str, rest: str = "remedy: nudge, every: 5m", db: str = ", database: shop") -> str:
    """Return a file with one procedure."""
    return DATABASES + f"procedures:\n  p: {{check: {{{check}}}, {rest}{db}}}\n"


def read(check: str, rest: str = "remedy: nudge, every: 5m", top: str = "") -> of.Procedure:
    return loaded(top + procedure(check, rest)).procedures["p"]


def entity(**over: str | None) -> str:
    """Return a file with one entity; None leaves a line out."""
    lines = {
        "database": "shop",
        "table": "t",
        "key": "id",
        "status": "s",
        "since": "at",
        "transitions": "{A: [B]}",
        "stuck": "{A: {after: 5m, remedy: nudge}}",
        **over,
    }
    said = "".join(f"    {name}: {value}\n" for name, value in lines.items() if value is not None)
    return f"{DATABASES}entities:\n  e:\n{said}"


# The whole example ------------------------------------------------------------------------------------------------


def test_procedures_of_the_example_become_records(home: Path) -> None:
    """Every procedure of the example arrives with its check, remedy and policy, in seconds."""
    found = loaded(EXAMPLE, ENVIRON).procedures
    assert list(found) == [
        *("stale-supplier-stock", "failed-syncs", "hide-zero-stock", "orphan-messages", "shop-pool", "stuck-order")
    ]
    assert found["stale-supplier-stock"] == of.Procedure(
        name="stale-supplier-stock",
        id="HEAL_SYNC_001",
        database="shop",
        check=of.FreshnessCheck(table="supplier_products", column="last_synced_at", older_than_s=14_400.0),
        remedy=of.WebhookRemedy(url="https://n8n.example/webhook/sync-supplier-stock", bearer=SecretRef("n8n/key")),
        every_s=900.0,
        verify_within_s=1800.0,
        at=("procedures", "stale-supplier-stock"),
    )
    failed = found["failed-syncs"]
    assert failed.check == of.ErrorsCheck(
        table="integration_logs",
        where={"status": "error"},
        by="source",
        message="error_message",
        at="created_at",
        within_s=1800.0,
    )
    assert failed.remedy == of.WebhookRemedy(
        url="https://n8n.example/webhook/{source}", bearer=SecretRef("n8n/key"), delays_s=(60.0, 120.0, 240.0)
    )
    hide = found["hide-zero-stock"]
    assert hide.check == of.RowsCheck(
        table="bc_products", where={"stock_level": 0, "is_visible": True}, older_than={"updated_at": 60.0}
    )
    assert hide.remedy == of.SetRemedy(
        values={"is_visible": False, "updated_at": "now"}, batch=100, then="push_visibility"
    )
    orphans, pool = found["orphan-messages"], found["shop-pool"]
    assert orphans.check == of.OrphansCheck(
        child="livechat_messages",
        column="conversation_id",
        parent="livechat_conversations",
        older_than={"created_at": 600.0},
    )
    assert (orphans.remedy, orphans.level, orphans.every_s) == (of.ArchiveAndDeleteRemedy(), Level.L1, 21_600.0)
    assert orphans.sightings == of.Sightings(count=2, apart_s=60.0)
    assert (pool.check, pool.remedy, pool.notify_above) == (of.PoolCheck(), of.EndIdleRemedy(), 0.9)


def test_entity_of_the_example_brings_its_procedure_along(home: Path) -> None:
    """Document D's order flow: thresholds, ladder, giving up, and a cycle of five minutes that is its own cool-down."""
    settings = loaded(EXAMPLE, ENVIRON)
    order = settings.entities["order"]
    assert (order.database, order.table, order.key, order.status, order.since) == (
        *("shop", "orders", "id", "status", "updated_at"),
    )
    assert order.stuck == {
        "PENDING": of.StuckRule(after_s=1800.0, remedy="reassign_vendor"),
        "CONFIRMED": of.StuckRule(after_s=3600.0, remedy="retry_workflow"),
        "ACCEPTED": of.StuckRule(after_s=7200.0, remedy="reassign_vendor"),
        "PROCESSING": of.StuckRule(after_s=10_800.0, remedy="retry_workflow"),
    }
    assert order.transitions.allows("ACCEPTED", "PENDING")
    assert order.transitions.is_terminal("SHIPPED")
    assert (order.give_up, order.attempts, order.at) == ("manual_intervention", 3, ("entities", "order"))
    assert settings.procedures["stuck-order"] == of.Procedure(
        name="stuck-order",
        id="HEAL_ORDER",
        database="shop",
        check=of.StuckCheck(entity="order"),
        every_s=300.0,
        limits=of.Limits(cool_down_s=0.0),
        at=("entities", "order"),
    )


def test_surroundings_of_the_example_become_records(home: Path) -> None:
    """Database, limits and windows arrive; the address is one that SQLAlchemy reads."""
    settings = loaded(EXAMPLE, ENVIRON)
    assert settings.databases == {
        "shop": of.DatabaseSource(name="shop", url=Secret("postgresql://shop:p%40ss-abcdef-2@db/shop"), schema="public")
    }
    assert settings.limits == of.Limits()
    assert settings.windows == (of.Window(name="sunday-night", cron="0 2 * * SUN", lasts_s=7200.0),)


def test_example_warns_of_nothing_that_works(home: Path) -> None:
    """Everything in it is used, and nothing is unwise."""
    assert loaded(EXAMPLE, ENVIRON).warnings == ()


# What is not said -------------------------------------------------------------------------------------------------


def test_nothing_said_is_nothing_healed(home: Path) -> None:
    """Without these sections there is no database and no procedure, and limits have their defaults."""
    for text in ("", "databases:\nlimits:\nwindows:\nprocedures:\nentities:\n", "limits: {}"):
        found = loaded(text)
        assert (found.databases, found.procedures, found.entities, found.windows) == ({}, {}, {}, ())
        assert found.limits == of.Limits()


def test_procedure_has_a_default_for_everything(home: Path) -> None:
    """Its name is its id; it heals alone, at first sight, and runs soon after the start."""
    assert read(ROWS) == of.Procedure(
        name="p",
        id="p",
        database="shop",
        check=of.RowsCheck(table="t", where={"a": 1}),
        remedy=of.PluginRemedy(name="nudge"),
        every_s=300.0,
        at=("procedures", "p"),
    )


def test_procedure_sets_everything_itself(home: Path) -> None:
    """Each word of the policy arrives."""
    found = read(
        "pool: {above: 0.5}",
        "id: HEAL_X, remedy: {end_idle_connections: {idle_for: 1m}}, cron: '0 2 * * SUN', level: L2, first_run: wait, "
        "limits: {targets_max: 7, share_max: 0.5, waves: [3, 5], cool_down: 1m, attempts: 9}, notify_above: 0.9, "
        "sightings: {count: 3, apart: 5m}, verify: {within: 30m}",
    )
    assert found == of.Procedure(
        name="p",
        id="HEAL_X",
        database="shop",
        check=of.PoolCheck(above=0.5),
        remedy=of.EndIdleRemedy(idle_for_s=60.0),
        cron="0 2 * * SUN",
        level=Level.L2,
        limits=of.Limits(targets_max=7, share_max=0.5, waves=(3, 5), cool_down_s=60.0, attempts=9),
        sightings=of.Sightings(count=3, apart_s=300.0),
        verify_within_s=1800.0,
        notify_above=0.9,
        first_run="wait",
        at=("procedures", "p"),
    )


def test_limits_are_overridden_field_by_field(home: Path) -> None:
    """What a procedure does not say is as the file says, and what the file does not say is the default."""
    found = read(ROWS, "remedy: nudge, every: 5m, limits: {attempts: 5}", "limits: {targets_max: 9, attempts: 4}\n")
    assert found.limits == of.Limits(targets_max=9, attempts=5)


def test_each_delay_is_an_attempt(home: Path) -> None:
    """Who lists two delays gets two attempts, unless the procedure itself says otherwise."""
    later = "remedy: {retry_later: {delays: [1m, 2m], webhook: {url: 'https://a.example'}}}, every: 5m"
    assert read(ROWS, later, "limits: {attempts: 9}\n").limits.attempts == 2
    assert read(ROWS, later + ", limits: {attempts: 4}").limits.attempts == 4


def test_limits_of_an_entity_end_with_giving_up(home: Path) -> None:
    """The cycle is its cool-down whatever the file says, unless the entity says so; attempts are those of giving up."""
    top = "limits: {targets_max: 9, attempts: 4, cool_down: 1h}\n"
    cycle = loaded(top + entity(give_up="{after_attempts: 2}", every="1m", level="L1")).procedures["stuck-e"]
    assert cycle.limits == of.Limits(targets_max=9, attempts=2, cool_down_s=0.0)
    assert (cycle.every_s, cycle.level) == (60.0, Level.L1)
    own = loaded(top + entity(limits="{cool_down: 2m, waves: [1]}", cron="'*/5 * * * *'")).procedures["stuck-e"]
    assert own.limits == of.Limits(targets_max=9, cool_down_s=120.0, waves=(1,))
    assert (own.every_s, own.cron) == (None, "*/5 * * * *")


def test_entity_gives_up_as_it_says(home: Path) -> None:
    """The last remedy and the attempts before it are the entity's own; states may be numbers."""
    text = entity(
        give_up="{after_attempts: 2, remedy: cancel_order}",
        transitions="{1: [2, X], 2: [X]}",
        stuck="{1: {after: 5m, remedy: nudge}}",
        unit="ms",
        first_run="wait",
    )
    found = loaded(text).entities["e"]
    assert (found.give_up, found.attempts, found.unit) == ("cancel_order", 2, "ms")
    assert found.transitions.states == ("1", "2", "X")
    assert loaded(text).procedures["stuck-e"].first_run == "wait"


@pytest.mark.parametrize(
    ("name", "id_"), [("order", "HEAL_ORDER"), ("sales order", "HEAL_SALES_ORDER"), ("a-b.c", "HEAL_A_B_C")]
)
def test_entity_has_an_id_of_its_name(name: str, id_: str, home: Path) -> None:
    """The id of its procedure reads as those of the documents."""
    text = entity().replace("  e:", f"  {name}:")
    assert loaded(text).procedures[f"stuck-{name}"].id == id_


# Checks and remedies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "check"),
    [
        ("mine", of.PluginCheck(name="mine")),
        ("{mine: }", of.PluginCheck(name="mine")),
        ("{mine: {days: 3, of: [a, null]}}", of.PluginCheck(name="mine", params={"days": 3, "of": ["a", None]})),
        ("pool", of.PoolCheck()),
        ("{pool: }", of.PoolCheck()),
    ],
)
def test_check_may_be_a_name(said: str, check: of.CheckSource, home: Path) -> None:
    """A function of the user is called by its name, with parameters or without; so is what needs no words."""
    text = f"{DATABASES}procedures: {{p: {{check: {said}, database: shop, remedy: nudge, every: 1m}}}}"
    assert loaded(text).procedures["p"].check == check


def test_function_needs_neither_database_nor_remedy(home: Path) -> None:
    """A function of the user may look elsewhere, and its findings may name their remedies."""
    found = loaded("procedures: {p: {check: mine, every: 1m}}").procedures["p"]
    assert (found.database, found.remedy) == (None, None)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("nudge", of.PluginRemedy(name="nudge")),
        ("{nudge: {by: 3}, then: tell}", of.PluginRemedy(name="nudge", params={"by": 3}, then="tell")),
        ("archive_and_delete", of.ArchiveAndDeleteRemedy()),
        ("{archive_and_delete: , then: tell}", of.ArchiveAndDeleteRemedy(then="tell")),
        ("{archive_and_delete: {batch: 50}}", of.ArchiveAndDeleteRemedy(batch=50)),
        ("{set: {a: null, b: now}}", of.SetRemedy(values={"a": None, "b": "now"})),
        ("{webhook: {url: 'https://a.example/{x}?y={z}'}}", of.WebhookRemedy(url="https://a.example/{x}?y={z}")),
        (
            "{retry_later: {delays: [1s, 2m], webhook: {url: 'https://a.example', bearer: '${KEY}'}}}",
            of.WebhookRemedy(url="https://a.example", bearer=Secret("key-abcdef"), delays_s=(1.0, 120.0)),
        ),
    ],
)
def test_remedy_may_be_a_name_or_more(said: str, remedy: of.RemedySource, home: Path) -> None:
    """Each remedy is read, with the step that follows it."""
    check = "rows: {table: t, where: {a: 1}, older_than: {at: 1h}}"
    text = procedure(check, f"remedy: {said}, every: 5m")
    assert loaded(text, {"KEY": "key-abcdef"}).procedures["p"].remedy == remedy


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ("{a: null}", {"a": None}),
        ("{a: [1, b, true, null]}", {"a": [1, "b", True, None]}),
        ("{a: {ge: 1, lt: 2.5, ne: null}}", {"a": {"ge": 1, "lt": 2.5, "ne": None}}),
        ("{a: {in: [1]}, b: {not_in: [2]}}", {"a": {"in": [1]}, "b": {"not_in": [2]}}),
        ("{a: '${N}'}", {"a": "7"}),
        ("{über maß: 1}", {"über maß": 1}),
    ],
)
def test_filter_is_read_as_it_stands(said: str, where: Mapping[str, Any], home: Path) -> None:
    """Values, lists, nothing and comparisons; a value from the environment stays a text."""
    found = loaded(procedure(f"rows: {{table: t, where: {said}}}"), {"N": "7"}).procedures["p"].check
    assert isinstance(found, of.RowsCheck)
    assert found.where == where


def test_all_rows_are_spelled_and_told(home: Path) -> None:
    """Whoever says all gets all, where a person hears of it."""
    for level in ("L1", "L2", "L3"):
        found = read("rows: {table: t, where: all}", f"remedy: {{set: {{a: 1}}}}, every: 5m, level: {level}")
        assert found.check == of.RowsCheck(table="t", where={})


def test_errors_are_found_by_any_filter(home: Path) -> None:
    """A filter stands for the status, and good rows may be told, too."""
    found = read("errors: {table: t, where: {code: {ge: 500}}, good: {code: 200}, by: b, at: c, unit: ms}").check
    assert found == of.ErrorsCheck(
        table="t", where={"code": {"ge": 500}}, good={"code": 200}, by="b", message=None, at="c", unit="ms"
    )


def test_deletes_may_be_seen_more_often_but_not_less(home: Path) -> None:
    """Two sightings are the least for a delete; what is not said of them keeps its default."""
    check = "orphans: {child: a, column: b, parent: c, parent_key: k, older_than: {at: 1h}, unit: s}"
    found = read(check, "remedy: archive_and_delete, every: 5m, sightings: {apart: 5m}")
    assert found.sightings == of.Sightings(count=2, apart_s=300.0)
    assert read(ROWS, "remedy: nudge, every: 5m, sightings: {count: 4}").sightings == of.Sightings(count=4)


# Databases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("postgres://me@db/x", "postgresql://me@db/x"),
        ("postgresql+psycopg://me@db:5433/x", "postgresql+psycopg://me@db:5433/x"),
        ("sqlite:////var/shop.db", "sqlite:////var/shop.db"),
        ("mysql+pymysql://me@db/x", "mysql+pymysql://me@db/x"),
        ("mariadb://me@db/x", "mariadb://me@db/x"),
    ],
)
def test_database_may_be_of_several_kinds(url: str, opened: str, home: Path) -> None:
    """An address is as SQLAlchemy reads it; the short name of PostgreSQL is written out."""
    assert loaded(f"databases: {{shop: {{url: '{url}'}}}}").databases["shop"].url == Secret(opened)


def test_database_has_limits_zone_and_unit(home: Path) -> None:
    """Each word of a database arrives."""
    text = (
        "databases: {shop: {url: 'sqlite:///a.db', schema: s, statement_timeout: 1m, lock_timeout: 100ms, "
        "time_zone: Asia/Kolkata, unit: ms}}"
    )
    assert loaded(text).databases["shop"] == of.DatabaseSource(
        name="shop",
        url=Secret("sqlite:///a.db"),
        schema="s",
        statement_timeout_s=60.0,
        lock_timeout_s=0.1,
        time_zone="Asia/Kolkata",
        unit="ms",
    )


def test_password_of_a_database_is_known_to_the_redactor(home: Path) -> None:
    """It is shown nowhere, whether it came from the environment or stands in the file."""
    found = loaded(EXAMPLE, ENVIRON)
    assert Secret("p@ss-abcdef-2") in found.secrets
    assert "abcdef" not in repr(found) + repr(found.databases) + "".join(found.warnings)
    plain = loaded("databases: {shop: {url: 'mysql://me:plain-abcdef@db/x'}}")
    assert plain.secrets == (Secret("plain-abcdef"),)
    assert plain.warnings == (
        (
            "prunella.yaml:1:25 databases.shop.url: a password stands here in plain text; "
            "put it into the environment and write ${NAME}"
        ),
    )


def test_secret_parameter_of_a_function_is_known_to_the_redactor(home: Path) -> None:
    """What is called like a secret comes from the environment and is kept apart; other texts are just read."""
    text = "procedures: {p: {check: {mine: {api_key: '${KEY}', region: '${AREA}'}}, every: 1m}}"
    found = loaded(text, {"KEY": "key-abcdef", "AREA": "eu"})
    assert found.procedures["p"].check == of.PluginCheck(name="mine", params={"api_key": "key-abcdef", "region": "eu"})
    assert found.secrets == (Secret("key-abcdef"),)
    assert "abcdef" not in repr(found)


# What only the live database shows --------------------------------------------------------------------------------


def test_settings_say_a_later_problem_at_its_place(home: Path) -> None:
    """What the catalogue shows after loading is told as loading tells it, and settings show no more than before."""
    found = loaded(EXAMPLE, ENVIRON)
    way = (*found.procedures["hide-zero-stock"].at, "check", "rows", "table")
    line = next(number for number, text in enumerate(EXAMPLE.splitlines(), 1) if "bc_products" in text)
    column = EXAMPLE.splitlines()[line - 1].index("bc_products") + 1
    said = found.problem(way, "there is no such table")
    assert said == f"prunella.yaml:{line}:{column} procedures.hide-zero-stock.check.rows.table: there is no such table"
    assert found.problem((*way[:-1], "unit"), "is missing").startswith(f"prunella.yaml:{line}:19 procedures.hide-zero")
    assert Settings().problem(("procedures", "p"), "no") == " procedures.p: no".strip()
    assert "bc_products" not in repr(found)


# Bad input --------------------------------------------------------------------------------------------------------

BROKEN: list[tuple[str, str, str]] = [
    # what is wrong, the file, the message after the file's name
    (
        "a table's name with quotes",
        procedure("rows: {table: 'or\"ders', where: {a: 1}}"),
        "3:29 procedures.p.check.rows.table: holds a quote; write the name of a table or column as the database has it, without quotes",
    ),
    (
        "a column's name with quotes",
        procedure('rows: {table: t, where: {"a\'b": 1}}'),
        "3:40 procedures.p.check.rows.where.a'b: holds a quote; write the name of a table or column as the database has it, without quotes",
    ),
    (
        "a name with a backtick",
        procedure("freshness: {table: t, column: 'a`b', older_than: 1h}"),
        "3:45 procedures.p.check.freshness.column: holds a quote; write the name of a table or column as the database has it, without quotes",
    ),
    (
        "a name with NUL",
        procedure('orphans: {child: "a\\0b", column: c, parent: d}'),
        "3:32 procedures.p.check.orphans.child: holds a control character; write the name of a table or column as the database has it",
    ),
    (
        "a name with a control character",
        procedure('orphans: {child: a, column: "c\\n", parent: d}'),
        "3:43 procedures.p.check.orphans.column: holds a control character; write the name of a table or column as the database has it",
    ),
    (
        "a name that is too long",
        procedure(f"orphans: {{child: {'ü' * 32}, column: c, parent: d}}"),
        "3:32 procedures.p.check.orphans.child: is 64 bytes long; the name of a table or column has 1 to 63",
    ),
    (
        "an empty name",
        procedure("rows: {table: '', where: {a: 1}}"),
        "3:29 procedures.p.check.rows.table: is 0 bytes long; the name of a table or column has 1 to 63",
    ),
    (
        "a name that is a number",
        procedure("rows: {table: 7, where: {a: 1}}"),
        "3:29 procedures.p.check.rows.table: 7 is no text; write a text, in quotes where it looks like something else",
    ),
    (
        "a quoted column in set",
        procedure(ROWS, "remedy: {set: {'a\"b': 1}}, every: 5m"),
        '3:64 procedures.p.remedy.set.a"b: holds a quote; write the name of a table or column as the database has it, without quotes',
    ),
    (
        "a quoted column in older_than",
        procedure("rows: {table: t, where: {a: 1}, older_than: {'a\"b': 1h}}"),
        '3:60 procedures.p.check.rows.older_than.a"b: holds a quote; write the name of a table or column as the database has it, without quotes',
    ),
    (
        "a quoted status column",
        entity(status="'\"s\"'"),
        "7:13 entities.e.status: holds a quote; write the name of a table or column as the database has it, without quotes",
    ),
    ("no filter", procedure("rows: {table: t}"), "3:21 procedures.p.check.rows.where: is missing; add it"),
    (
        "an empty filter",
        procedure("rows: {table: t, where: {}}"),
        "3:39 procedures.p.check.rows.where: is empty and would fit every row; name a column and its value, or write all",
    ),
    (
        "a text as filter",
        procedure("rows: {table: t, where: everything}"),
        "3:39 procedures.p.check.rows.where: 'everything' is no filter; write column: value, or all for every row",
    ),
    (
        "an empty comparison",
        procedure("rows: {table: t, where: {a: {}}}"),
        "3:43 procedures.p.check.rows.where.a: is empty and would fit every row; write a value, or e.g. {lt: 5}",
    ),
    (
        "an unknown comparison",
        procedure("rows: {table: t, where: {a: {lte: 5}}}"),
        "3:43 procedures.p.check.rows.where.a: holds an unknown comparison; did you mean lt?; allowed: eq, ne, lt, le, gt, ge, in, not_in",
    ),
    (
        "an empty list",
        procedure("rows: {table: t, where: {a: []}}"),
        "3:43 procedures.p.check.rows.where.a: holds an empty list, which fits no row; name at least one value",
    ),
    (
        "no list",
        procedure("rows: {table: t, where: {a: {in: 5}}}"),
        "3:43 procedures.p.check.rows.where.a: in compares with a list; write {in: [a, b]}",
    ),
    (
        "less than nothing",
        procedure("rows: {table: t, where: {a: {lt: null}}}"),
        "3:43 procedures.p.check.rows.where.a: lt compares with nothing, which fits no row; write a value, or {ne: null}",
    ),
    (
        "a list in a comparison",
        procedure("rows: {table: t, where: {a: {eq: [1]}}}"),
        "3:43 procedures.p.check.rows.where.a: holds a list or a mapping where one value belongs; write a text, a number, true, false or null",
    ),
    (
        "an endless number",
        procedure("rows: {table: t, where: {a: 1e999}}"),
        "3:43 procedures.p.check.rows.where.a: is too large for a number; write it in quotes, or a smaller one",
    ),
    (
        "all rows at L0",
        procedure("rows: {table: t, where: all}"),
        "3:39 procedures.p.check.rows.where: 'all' rows are never healed without being told to a person; write level: L1 or stricter, or a filter",
    ),
    (
        "all errors at L0",
        procedure("errors: {table: t, where: all, by: b, at: c}", "remedy: nudge, every: 5m, level: L0"),
        "3:41 procedures.p.check.errors.where: 'all' rows are never healed without being told to a person; write level: L1 or stricter, or a filter",
    ),
    (
        "errors without a filter",
        procedure("errors: {table: t, by: b, at: c}"),
        "3:23 procedures.p.check.errors.status: is missing; every row would count as an error; write status: error, or where: {column: value}",
    ),
    (
        "errors with two filters",
        procedure("errors: {table: t, status: e, where: {a: 1}, by: b, at: c}"),
        "3:42 procedures.p.check.errors.status: stands beside where; keep one of them; write status: error, or where: {column: value}",
    ),
    (
        "good errors are all",
        procedure("errors: {table: t, status: e, good: all, by: b, at: c}"),
        "3:51 procedures.p.check.errors.good: names no rows; write column: value",
    ),
    (
        "an unknown database",
        procedure(ROWS, db=", database: shopp"),
        "3:85 procedures.p.database: 'shopp' is no database; did you mean shop?",
    ),
    (
        "no databases at all",
        "procedures: {p: {check: {rows: {table: t, where: {a: 1}}}, remedy: nudge, every: 5m, database: x}}",
        "1:96 procedures.p.database: 'x' is no database; databases: none",
    ),
    (
        "an entity's unknown database",
        entity(database="shap"),
        "4:15 entities.e.database: 'shap' is no database; did you mean shop?",
    ),
    (
        "no database",
        procedure(ROWS, db=""),
        "3:6 procedures.p.database: is missing; name the database in which to look",
    ),
    (
        "no check",
        DATABASES + "procedures: {p: {remedy: nudge, every: 5m}}",
        "2:17 procedures.p.check: is missing; add it",
    ),
    (
        "two checks",
        procedure(ROWS + ", pool: {above: 0.5}"),
        "3:14 procedures.p.check: must be exactly one; write one of freshness, errors, rows, orphans, pool or the name of a function of yours",
    ),
    (
        "a misspelt check",
        procedure("row: {table: t, where: {a: 1}}"),
        "3:15 procedures.p.check.row: unknown name; did you mean rows?; allowed: freshness, errors, rows, orphans, pool",
    ),
    (
        "a check that is no name",
        procedure("'a b': {}"),
        "3:15 procedures.p.check.a b: is no name of a function; allowed: freshness, errors, rows, orphans, pool, or such a name",
    ),
    (
        "a list as check",
        DATABASES + "procedures: {p: {check: [rows], remedy: nudge, every: 5m}}",
        "2:25 procedures.p.check: must be a mapping, not a list; write freshness, errors, rows, orphans, pool below it",
    ),
    (
        "a plug-in with a text",
        procedure("mine: 5"),
        "3:21 procedures.p.check.mine: must be a mapping, not a number; write name: value",
    ),
    (
        "no remedy",
        procedure(ROWS, "every: 5m"),
        "3:6 procedures.p.remedy: is missing; say what is to be done, e.g. manual_intervention",
    ),
    (
        "two remedies",
        procedure(ROWS, "remedy: {set: {a: 1}, archive_and_delete: {}}, every: 5m"),
        "3:57 procedures.p.remedy: must be exactly one; write one of webhook, retry_later, set, archive_and_delete, end_idle_connections or the name of a function of yours",
    ),
    (
        "only then",
        procedure(ROWS, "remedy: {then: push}, every: 5m"),
        "3:57 procedures.p.remedy: must be exactly one; write one of webhook, retry_later, set, archive_and_delete, end_idle_connections or the name of a function of yours",
    ),
    (
        "then beside a call",
        procedure(ROWS, "remedy: {webhook: {url: 'https://a.example'}, then: push}, every: 5m"),
        "3:101 procedures.p.remedy.then: stands beside webhook, which changes no rows; remove it, or write the step as a remedy of yours",
    ),
    (
        "sets nothing",
        procedure(ROWS, "remedy: {set: {batch: 5}}, every: 5m"),
        "3:63 procedures.p.remedy.set: sets nothing; write column: value",
    ),
    (
        "sets a list",
        procedure(ROWS, "remedy: {set: {a: [1]}}, every: 5m"),
        "3:67 procedures.p.remedy.set.a: holds a list or a mapping where one value belongs; write a text, a number, true, false or null",
    ),
    (
        "rows are changed where none are found",
        procedure("pool: {above: 0.8}", "remedy: {set: {a: 1}}, every: 5m"),
        "3:50 procedures.p.remedy.set: changes rows, and this check finds no set of them; use check: rows or orphans",
    ),
    (
        "deletes without an age guard",
        procedure(ROWS, "remedy: archive_and_delete, every: 5m"),
        "3:21 procedures.p.check.rows.older_than: is missing; rows may be deleted only when they are old enough that nobody is still writing them (a child may come before its parent); add e.g. older_than: {created_at: 10m}",
    ),
    (
        "deletes orphans without an age guard",
        procedure("orphans: {child: a, column: b, parent: c}", "remedy: {archive_and_delete: }, every: 5m"),
        "3:24 procedures.p.check.orphans.older_than: is missing; rows may be deleted only when they are old enough that nobody is still writing them (a child may come before its parent); add e.g. older_than: {created_at: 10m}",
    ),
    (
        "deletes at first sight",
        procedure(
            "orphans: {child: a, column: b, parent: c, older_than: {at: 1h}}",
            "remedy: archive_and_delete, every: 5m, sightings: {count: 1}",
        ),
        "3:139 procedures.p.sightings.count: 1 is too few for a remedy that deletes; what is deleted must have been seen twice, write 2 or more",
    ),
    (
        "an age without a column",
        procedure("rows: {table: t, where: {a: 1}, older_than: 1h}"),
        "3:59 procedures.p.check.rows.older_than: names no rows; write column: value",
    ),
    (
        "no delays",
        procedure(ROWS, "remedy: {retry_later: {delays: [], webhook: {url: 'https://a.example'}}}, every: 5m"),
        "3:80 procedures.p.remedy.retry_later.delays: is empty; name at least one",
    ),
    (
        "a plain bearer",
        procedure(ROWS, "remedy: {webhook: {url: 'https://a.example', bearer: hunter2-abcdef}}, every: 5m"),
        "3:102 procedures.p.remedy.webhook.bearer: a secret stands here in plain text; put it into the environment and write ${P_BEARER}, or run: prunella secret set p/bearer, and write secret://p/bearer",
    ),
    (
        "a plain secret for a function",
        procedure("mine: {api_key: hunter2-abcdef}"),
        "3:21 procedures.p.check.mine: a secret stands here in plain text; put it into the environment and write ${P_MINE}",
    ),
    (
        "a call without TLS",
        procedure(ROWS, "remedy: {webhook: {url: 'http://a.example'}}, every: 5m"),
        "3:73 procedures.p.remedy.webhook.url: 'http://a.example' is not called without TLS; use https, or set egress.allow_http: true",
    ),
    (
        "a retry without TLS",
        procedure(ROWS, "remedy: {retry_later: {delays: [1m], webhook: {url: 'http://a.example'}}}, every: 5m"),
        "3:101 procedures.p.remedy.retry_later.webhook.url: 'http://a.example' is not called without TLS; use https, or set egress.allow_http: true",
    ),
    (
        "a host from a finding",
        procedure(ROWS, "remedy: {webhook: {url: 'https://{source}.example/x'}}, every: 5m"),
        "3:73 procedures.p.remedy.webhook.url: 'https://{source}.example/x' holds {…} in its host; facts of a finding may stand behind the host only",
    ),
    (
        "a brace that is no name",
        procedure(ROWS, "remedy: {webhook: {url: 'https://a.example/{a.b}'}}, every: 5m"),
        "3:73 procedures.p.remedy.webhook.url: 'https://a.example/{a.b}' holds a brace that is no {name}; write e.g. https://host/{source}",
    ),
    (
        "no address",
        procedure(ROWS, "remedy: {webhook: {url: nowhere}}, every: 5m"),
        "3:73 procedures.p.remedy.webhook.url: 'nowhere' is no web address; write https://host/path, without a user or password",
    ),
    (
        "no schedule",
        procedure(ROWS, "remedy: nudge"),
        '3:6 procedures.p: has no schedule; add every: 15m, or cron: "0 2 * * SUN"',
    ),
    (
        "two schedules",
        procedure(ROWS, "remedy: nudge, every: 5m, cron: '0 2 * * *'"),
        "3:81 procedures.p.cron: stands beside every; keep one of the two",
    ),
    (
        "an unreadable cron",
        procedure(ROWS, "remedy: nudge, cron: '61 * * * *'"),
        "3:70 procedures.p.cron: '61 * * * *' is no moment that comes; write minute hour day month weekday, e.g. '0 2 * * SUN'",
    ),
    (
        "six fields",
        procedure(ROWS, "remedy: nudge, cron: '0 0 2 * * *'"),
        "3:70 procedures.p.cron: '0 0 2 * * *' is no moment that comes; write minute hour day month weekday, e.g. '0 2 * * SUN'",
    ),
    (
        "a day that never comes",
        procedure(ROWS, "remedy: nudge, cron: '0 0 30 2 *'"),
        "3:70 procedures.p.cron: '0 0 30 2 *' is no moment that comes; write minute hour day month weekday, e.g. '0 2 * * SUN'",
    ),
    (
        "a last Monday that is the first of a month",
        procedure(ROWS, "remedy: nudge, cron: '0 0 */31 * 1L'"),
        "3:70 procedures.p.cron: '0 0 */31 * 1L' is no moment that comes; write minute hour day month weekday, e.g. '0 2 * * SUN'",
    ),
    (
        "an unknown level",
        procedure(ROWS, "remedy: nudge, every: 5m, level: L9"),
        "3:82 procedures.p.level: 'L9' is not one of L0, L1, L2, L3",
    ),
    (
        "notify_above without a pool",
        procedure(ROWS, "remedy: nudge, every: 5m, notify_above: 0.9"),
        "3:89 procedures.p.notify_above: 0.9 has a meaning beside check: pool only; remove it",
    ),
    ("a share over one", DATABASES + "limits: {share_max: 1.5}", "2:21 limits.share_max: 1.5 is too large; at most 1"),
    ("an empty wave", DATABASES + "limits: {waves: [0]}", "2:18 limits.waves[0]: 0 is too small; at least 1"),
    (
        "an unknown first run",
        procedure(ROWS, "remedy: nudge, every: 5m, first_run: later"),
        "3:86 procedures.p.first_run: 'later' is not one of soon, wait",
    ),
    (
        "a time zone that is none",
        "databases: {shop: {url: 'sqlite:///a.db', time_zone: Europe/Berln}}",
        "1:54 databases.shop.time_zone: 'Europe/Berln' is no time zone; did you mean Europe/Berlin?",
    ),
    (
        "a time zone that is a path",
        "databases: {shop: {url: 'sqlite:///a.db', time_zone: ../etc}}",
        "1:54 databases.shop.time_zone: '../etc' is no time zone; write e.g. Europe/Berlin or UTC",
    ),
    (
        "a unit that is none",
        "databases: {shop: {url: 'sqlite:///a.db', unit: us}}",
        "1:49 databases.shop.unit: 'us' is not one of s, ms; did you mean s?",
    ),
    (
        "a database of another kind",
        "databases: {shop: {url: 'oracle://me:hunter2-abcdef@db/x'}}",
        "1:25 databases.shop.url: is no database address; write postgresql://user:${NAME}@host/database, mysql://… or sqlite:///file.db",
    ),
    (
        "a database that is not set",
        "databases: {shop: {url: '${SHOP}'}}",
        "1:25 databases.shop.url: the environment variable SHOP is not set; set it before prunella starts",
    ),
    ("a window without an end", "windows: [{name: n, cron: '0 2 * * SUN'}]", "1:11 windows[0].for: is missing; add it"),
    (
        "a window that pauses nothing",
        "windows: [{name: n, cron: '0 2 * * SUN', for: 2h, pause: [mails]}]",
        "1:59 windows[0].pause[0]: 'mails' is not one of procedures, notifications",
    ),
    (
        "two windows of one name",
        "windows: [{name: n, cron: '0 2 * * *', for: 1h}, {name: n, cron: '0 3 * * *', for: 1h}]",
        "1:57 windows[1].name: 'n' is the name of another window; choose another one",
    ),
    (
        "a state that is unknown",
        entity(stuck="{AA: {after: 5m, remedy: nudge}}"),
        "10:13 entities.e.stuck.AA: is no state of transitions; did you mean A?",
    ),
    (
        "a state that is an end",
        entity(stuck="{B: {after: 5m, remedy: nudge}}"),
        "10:13 entities.e.stuck.B: is an end: nothing follows it in transitions, so nothing is stuck in it; remove it",
    ),
    (
        "a state that is a truth",
        entity(transitions="{A: [true]}"),
        "9:23 entities.e.transitions.A[0]: true is no state; write a text, in quotes where it looks like something else",
    ),
    ("nothing stuck", entity(stuck="{}"), "10:12 entities.e.stuck: is empty; name at least one"),
    ("no transitions", entity(transitions=None), "4:5 entities.e.transitions: is missing; add it"),
    (
        "attempts of an entity",
        entity(limits="{attempts: 5}"),
        "11:14 entities.e.limits.attempts: unknown name; allowed: targets_max, waves, cool_down",
    ),
    (
        "two schedules of an entity",
        entity(every="5m", cron="'0 2 * * *'"),
        "12:11 entities.e.cron: stands beside every; keep one of the two",
    ),
    (
        "a procedure that is called as an entity's",
        entity() + "procedures: {stuck-e: {check: mine, every: 5m}}",
        "11:14 procedures.stuck-e: is the name of the procedure that an entity brings along; choose another one",
    ),
]


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_mistake_is_named_with_its_place(text: str, message: str, home: Path) -> None:
    """Each mistake is refused at load: file:line:column, path, what is wrong, what to do."""
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    assert caught.value.problems == [f"prunella.yaml:{message}"]
    assert "abcdef" not in str(caught.value)


def test_several_mistakes_are_named_at_once(home: Path) -> None:
    """Whoever has made four mistakes reads four lines, in the order of the file."""
    text = """\
databases:
  shop: {url: "sqlite:///shop.db", time_zone: Mars/Olympus}
procedures:
  one:
    database: shop
    check: {rows: {tabel: t, where: {}}}
    remedy: {set: {}}
    every: 5
entities:
  order: {database: shop}
windows:
  - {name: night, cron: nightly, for: 2h}
"""
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    told = [problem.removeprefix("prunella.yaml:").partition(": ")[0] for problem in caught.value.problems]
    assert told == [
        "2:47 databases.shop.time_zone",
        "6:19 procedures.one.check.rows.table",
        "6:20 procedures.one.check.rows.tabel",
        "6:37 procedures.one.check.rows.where",
        "7:19 procedures.one.remedy.set",
        "8:12 procedures.one.every",
        *(f"10:10 entities.order.{name}" for name in ("key", "since", "status", "stuck", "table", "transitions")),
        "12:25 windows[0].cron",
    ]


def test_calls_without_tls_are_a_decision(home: Path) -> None:
    """What is refused without TLS loads once egress.allow_http says so."""
    text = procedure(ROWS, "remedy: {webhook: {url: 'http://n8n.internal:5678/{key}'}}, every: 5m")
    found = loaded("egress: {allow_http: true}\n" + text).procedures["p"].remedy
    assert found == of.WebhookRemedy(url="http://n8n.internal:5678/{key}")


# Whatever stands in the file --------------------------------------------------------------------------------------

TREE = {name: yaml.safe_load(EXAMPLE)[name] for name in ("databases", "limits", "windows", "procedures", "entities")}
Way = tuple[str | int, ...]
FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ways(value: Any, way: Way = ()) -> Iterator[Way]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in entries:
        yield (*way, name)
        yield from ways(item, (*way, name))


def changed(tree: Any, way: Way, value: Any) -> Any:
    """Return the tree with another value at `way`, or without it where the value is `...`."""
    if not way or not isinstance(tree, dict | list):
        return value if not way else tree
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    kept = [
        (name, changed(item, way[1:], value) if name == way[0] else item)
        for name, item in entries
        if not (value is ... and (name,) == way)
    ]
    return dict(kept) if isinstance(tree, dict) else [item for _, item in kept]


WORDS = st.sampled_from(
    [
        *("all", "1m", "0s", "now", "L0", "L3", "${SHOP_DATABASE_URL}", "${NO}", "secret://a/b", "then", "set", "pool"),
        *("* * * * *", "0 0 31 2 *", "1L#9 * * * /", "https://{a}/{b}", "Europe", "\u0000", '"', "ü" * 40, "1e999"),
        *("sqlite:///", "postgresql://a:b@[::1", "mysql://me:p@h:99999999/x", "shop", "PENDING"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def answer(text: str) -> list[str]:
    """Return the mistakes of a file, none where it loads; any other exception than ConfigError is a bug."""
    try:
        loaded(text, ENVIRON)
    except ConfigError as error:
        return error.problems or ["an error without a problem"]
    return []


def misplaced(text: str) -> list[str]:
    """Return the messages about a file that lack their place."""
    return [line for line in answer(text) if not re.match(r"prunella\.yaml(:\d+:\d+)?[: ]", line)]


@pytest.mark.slow
@FUZZ
@given(changes=st.lists(st.tuples(st.sampled_from(list(ways(TREE))), VALUES | st.just(...)), min_size=1, max_size=4))
def test_procedures_answer_any_value_anywhere(changes: list[tuple[Way, Any]], home: Path) -> None:
    """The example with anything put into, or taken from, any of its places raises nothing but ConfigError."""
    tree = TREE
    for way, value in changes:
        tree = changed(tree, way, value)
    assert misplaced(json.dumps(tree)) == []


@pytest.mark.slow
@FUZZ
@given(data=st.data())
def test_procedures_answer_a_damaged_file(data: st.DataObject, home: Path) -> None:
    """The example's own text with pieces cut out, doubled or replaced raises nothing but ConfigError."""
    text = EXAMPLE
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 40)))
        piece = data.draw(st.sampled_from(["", text[start:end] * 2, "{", "]", ": ", "\n", "'", "${X}", "all", "null"]))
        text = text[:start] + piece + text[end:]
    assert misplaced(text) == []


CRON = st.lists(st.sampled_from(["*", "0", "5", "31", "L", "LW", "#", "/", "-", ",", "MON", "FEB", "60", "9" * 30]))


@FUZZ
@given(fields=st.lists(CRON.map("".join), min_size=4, max_size=6))
def test_cron_answers_any_fields(fields: list[str], home: Path) -> None:
    """Whatever looks like a cron line is a schedule or a mistake with its place."""
    assert misplaced(json.dumps({"windows": [{"name": "n", "cron": " ".join(fields), "for": "1h"}]})) == []


# For editors ------------------------------------------------------------------------------------------------------


def test_schema_knows_every_name_of_the_example() -> None:
    """Editors propose what may be written here, refuse what may not, and take a function's name for a remedy."""
    schema = json_schema()
    parts = schema["$defs"]
    assert {"$ref": "#/$defs/ProcedureSection"} in schema["properties"]["procedures"].values()
    assert set(parts["EntitySection"]["properties"]) >= set(TREE["entities"]["order"])
    assert parts["ProcedureSection"]["additionalProperties"] is False
    assert set(parts["DatabaseSection"]["properties"]) >= {"url", "schema", "time_zone"}
    text, choice = parts["RemedySection"]["anyOf"]
    assert text == {"type": "string"}
    assert {"webhook", "retry_later", "set", "archive_and_delete", "end_idle_connections", "then"} == set(
        choice["properties"]
    )
    assert "null" not in json.dumps(schema)


# The guide --------------------------------------------------------------------------------------------------------

GUIDE = (Path(__file__).parents[2] / "docs" / "procedures.md").read_text()
SHIPPED = [
    *("HEAL_SYNC_001", "HEAL_SYNC_002", "HEAL_SYNC_003", "HEAL_CONN_001", "HEAL_CONN_002", "HEAL_CONN_003"),
    *("HEAL_DATA_001", "HEAL_DATA_002", "HEAL_DATA_003", "HEAL_RATE_001", "HEAL_AUTH_001"),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def test_guide_has_a_chapter_for_each_shipped_procedure() -> None:
    """The documents' procedures are all there, and those of a database with a block of their id."""
    assert re.findall(r"^### (HEAL_\w+)", GUIDE, re.MULTILINE) == SHIPPED
    named = {one for block in blocks("yaml") for one in re.findall(r"id: (HEAL_\w+)", block)}
    assert named == {"HEAL_SYNC_001", "HEAL_SYNC_002", "HEAL_CONN_002", "HEAL_DATA_002", "HEAL_DATA_003"}


def test_guide_names_every_check_and_remedy() -> None:
    """The two tables hold what the file takes."""
    parts = json_schema()["$defs"]
    for section in ("CheckSection", "RemedySection"):
        kinds = set(parts[section]["anyOf"][1]["properties"]) - {"then"}
        assert [kind for kind in kinds if f"| `{kind}` |" not in GUIDE] == []


def test_figures_of_the_guide_are_the_defaults(home: Path) -> None:
    """The limits that the guide calls defaults are those of a file without any."""
    block = next(one for one in blocks("yaml") if one.startswith("limits:"))
    assert loaded("databases: {shop: {url: 'sqlite:///shop.db'}}\n" + block).limits == of.Limits()
