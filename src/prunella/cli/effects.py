"""The command that says what healing is worth."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from prunella.cli import world
from prunella.cli.printing import Json, duration, example, print_json, say

cli = typer.Typer()


@cli.command(epilog=example("prunella metrics", "prunella metrics --days 30 --service stripe --json"))
def metrics(
    days: Annotated[int, typer.Option(min=1, max=365, help="How far back.")] = 7,
    service: Annotated[str | None, typer.Option("--service", help="Only this one.")] = None,
    as_json: Json = False,
) -> None:
    """Say what healing is worth: errors, auto-fixed, recovery by service, and how much each remedy helps."""
    query: dict[str, Any] = {"days": days} | ({"service": service} if service is not None else {})
    answer = world.call("GET", "/api/v1/metrics/self-healing", query=query)
    if as_json:
        print_json(answer)
        return
    _print_totals(answer, days)
    for name, one in answer["services"].items():
        _print_service(name or "(no service)", one)
    for one in answer["remedies"]:
        line = f"{one['tried']} tried, {one['verified']} verified ({_percent(one['effectiveness'])})"
        say(f"{one['remedy']:<22} {line}, {one['futile']} futile, {one['regressions']} came back", hang=25)
    for one in answer["known_issues"]:
        line = f"{one['tried']} tried, {one['verified']} verified ({_percent(one['effectiveness'])}), ever"
        say(f"{one['known_issue']}: {one['remedy']}: {line}", hang=4)


def _print_totals(answer: dict[str, Any], days: int) -> None:
    rate, toil, times = answer["auto_fix_success_rate"], answer["toil"], answer["times"]
    assumed = f"{toil['assumed_minutes_per_incident']:g} minutes each are assumed"
    say(f"last {days} days: {answer['total_errors']} errors, {answer['escalations']} left to people")
    say(f"auto-fixed: {answer['auto_fixed']} incidents ({_percent(rate)} of those tried and settled)")
    say(f"saved: {toil['hours_saved']:g} hours of work ({assumed})")
    opened = answer["breakers_opened"]
    say(f"breakers opened: {answer['circuit_breaker_opens']} ({opened['gates']} gates, {opened['guards']} guards)")
    took = [f"{words} {_time(times[name])}" for words, name in _TIMES]
    mean_ms = answer["avg_recovery_time_ms"]
    say(f"on average: {', '.join(took)}, recover {'–' if mean_ms is None else duration(round(mean_ms / 1000, 1))}")


_TIMES = (("detect", "to_detect"), ("act", "to_act"), ("verify", "to_verify"))


def _print_service(name: str, one: dict[str, Any]) -> None:
    categories = ", ".join(f"{count} {category}" for category, count in one["by_category"].items())
    line = f"{one['total_errors']} errors ({categories or 'none'}), {_percent(one['recovery_success_rate'])} recovered"
    asked = f", {one['llm']['asked']} questions to the advisor" if one["llm"]["asked"] else ""
    disabled = ", disabled" if one["disabled"] else ""
    say(f"{name:<22} {line}, {_time(one['time_to_recovery'])} each{asked}{disabled}", hang=25)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"


def _time(spread: dict[str, Any] | None) -> str:
    return "–" if spread is None else duration(round(spread["mean_s"], 1))
