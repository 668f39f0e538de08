"""Users' functions against the configuration: schedules in code are read like the file, and strangers are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prunella.core.errors import ConfigError
from prunella.core.procedures import Limits, PluginCheck, PluginRemedy, Procedure, WebhookRemedy
from prunella.core.records import Level
from prunella.core.services import SecretRef
from prunella.plugin import CheckFunction
from prunella.settings import Settings, load
from prunella.settings.functions import declared, unknown_functions

FILE = """\
databases: {shop: {url: "sqlite:///shop.db"}}
limits: {attempts: 7}
procedures:
  mine:
    check: mine
    every: 1h
  tidy:
    database: shop
    check: {rows: {table: t, where: {a: 1}}}
    remedy: {set: {a: 2}, then: tell}
    every: 1h
entities:
  order:
    database: shop
    table: orders
    key: id
    status: status
    since: at
    transitions: {NEW: [PAID]}
    stuck: {NEW: {after: 5m, remedy: nudge}}
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    Path("prunella.yaml").write_text(FILE)
    return load(Path("prunella.yaml"), {})


def function(name: str, **schedule: Any) -> dict[str, CheckFunction]:
    return {name: CheckFunction(name=name, function=list, timeout_s=1.0, schedule=schedule)}


def test_check_with_a_schedule_is_a_procedure(settings: Settings) -> None:
    """What stands in code is read as the file is, under the file's limits."""
    checks = function("late", every="15m", database="shop", level="L1", remedy="nudge", limits={"waves": (1, 2)})
    assert declared(settings, checks) == {
        "late": Procedure(
            name="late",
            id="late",
            check=PluginCheck(name="late"),
            remedy=PluginRemedy(name="nudge"),
            database="shop",
            every_s=900.0,
            level=Level.L1,
            limits=Limits(attempts=7, waves=(1, 2)),
        )
    }
    call = function("call", cron="0 2 * * *", remedy={"webhook": {"url": "https://a.example", "bearer": "secret://k"}})
    assert declared(settings, call)["call"].remedy == WebhookRemedy(url="https://a.example", bearer=SecretRef("k"))


def test_file_stands_above_the_schedule_in_code(settings: Settings) -> None:
    """A check that the file names keeps to the file, and one without a schedule is no procedure of its own."""
    assert declared(settings, function("mine", every="5m") | function("quiet")) == {}


def test_mistakes_in_schedules_are_named_together(settings: Settings) -> None:
    """Each is told with the check it belongs to, none of them is the first only."""
    checks = (
        function("one", every=5, levle="L1")
        | function("two", every="5m", database="shpo")
        | function("three", every="5m", remedy={"webhook": {"url": "http://a.example"}})
        | function("four", every=("5m",))
        | function("tidy", every="5m")
        | function("stuck-order", every="5m")
    )
    with pytest.raises(ConfigError) as caught:
        declared(settings, checks)
    told = [problem.split("; ")[0] for problem in caught.value.problems]
    assert told == [
        "@check('one') procedures.one.every: 5 is not a duration",
        "@check('one') procedures.one.levle: unknown name",
        "@check('two') procedures.two.database: 'shpo' is no database",
        "@check('three') procedures.three.remedy.webhook.url: 'http://a.example' is not called without TLS",
        "@check('four') procedures.four.every: a list is not a duration",
        "@check('tidy'): another procedure has this name",
        "@check('stuck-order'): another procedure has this name",
    ]


def test_functions_that_nobody_registered_are_named_at_their_place(settings: Settings) -> None:
    """Checks, remedies, the step that follows, and each rung of an entity; prunella's own remedies are known."""
    problems = unknown_functions(settings, settings.procedures.values(), ["mien"], ["nudges"])
    ends = "; service.plugins names the modules"
    assert problems == [
        f"prunella.yaml:5:12 procedures.mine.check: 'mine' is no check that a module registered; did you mean mien?{ends}",
        (
            "prunella.yaml:10:33 procedures.tidy.remedy.then: 'tell' is no remedy that a module registered; "
            f"known: manual_intervention, nudges, retry_workflow{ends}"
        ),
        (
            "prunella.yaml:20:38 entities.order.stuck.NEW.remedy: 'nudge' is no remedy that a module registered; "
            f"did you mean nudges?{ends}"
        ),
    ]
    assert unknown_functions(settings, settings.procedures.values(), ["mine"], ["tell", "nudge"]) == []
