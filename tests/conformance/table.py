"""Verdicts as a table for people: on the screen and as Markdown."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import date

from conformance.catalogue import CASES
from conformance.judge import Case, Verdict

_HEAD = """\
# Conformance

Written by `make conformance PEERS=1` on {day}: Python {python} on {system}, {cores}.

Every case is a promise that some library was seen to break, or that users ask for. It is put to each library that offers
what the case needs, through a small adapter that configures it as its own documentation does for that purpose
([adapters](../tests/conformance/peers.py), [cases](../tests/conformance)); a library without the feature shows `-`.
Each case is put up to three times: to synchronous callers (four, where it takes a crowd), to 40 tasks of asyncio, and to
32 threads; where a library fails for some of them only, the table names those. Peers live in real time with breakers open
for 0.3 s; prunella lives in virtual time, which changes no rule. "Cancelled" means a cancelled task, and
`KeyboardInterrupt` in threads. Each case has been seen to fail, for prunella with that promise broken ([planted
bugs](../tests/conformance/twins.py)).

The cases were chosen while prunella was written: they say where libraries differ, not which one suits you. Several
peers are made for one purpose and offer one part only; what they show `-` for can be composed from several libraries.
"""
_MARKS = {"pass": "pass", "fail": "**fail**"}


def markdown(verdicts: Sequence[Verdict], versions: Mapping[str, str], day: date, cores: int) -> str:
    """Return the page that the documentation shows."""
    libraries = list(versions)
    system = f"{platform.system()} {platform.machine()}"
    parts = [
        _HEAD.format(day=day.isoformat(), python=platform.python_version(), system=system, cores=f"{cores} cores"),
        "## Results\n",
        *_rows(
            ["", "promise", *(f"{name} {versions[name]}" for name in libraries)],
            [[one.key, one.promise, *(cell(one, verdicts, library) for library in libraries)] for one in CASES],
        ),
        "",
        "## How many of the promises that a library was asked for it keeps\n",
        *_rows(["library", "kept", "asked"], [[name, *map(str, score(verdicts, name))] for name in libraries]),
        "",
        "## What was seen\n",
        *(line for one in CASES for line in _seen(one, verdicts, libraries)),
    ]
    return "\n".join(parts) + "\n"


def lines(verdicts: Sequence[Verdict], libraries: Sequence[str]) -> list[str]:
    """Return the table for a screen, and below it what was seen."""
    width = max(len(one.key) for one in CASES) + 1
    columns = [max(len(name), 15) + 1 for name in libraries]
    told = ["".join([" " * width, *(name.ljust(column) for name, column in zip(libraries, columns, strict=True))])]
    for one in CASES:
        cells = [cell(one, verdicts, name).replace("*", "") for name in libraries]
        told.append(
            one.key.ljust(width) + "".join(text.ljust(column) for text, column in zip(cells, columns, strict=True))
        )
    told += ["", *(f"{name}: {kept} of {asked}" for name in libraries for kept, asked in [score(verdicts, name)])]
    return [*told, "", *(line for one in CASES for line in _seen(one, verdicts, libraries) if line)]


def cell(case: Case, verdicts: Sequence[Verdict], library: str) -> str:
    """Return how a case went with a library, on all faces together."""
    asked = [one for one in _of(case, verdicts, library) if one.mark != "-"]
    marks = {one.mark for one in asked}
    if len(marks) <= 1:
        return _MARKS[marks.pop()] if marks else "-"
    return f"{_MARKS['fail']} ({', '.join(one.face for one in asked if one.mark == 'fail')})"


def score(verdicts: Sequence[Verdict], library: str) -> tuple[int, int]:
    """Return how many cases a library kept on every face, and how many it was asked."""
    cells = [cell(one, verdicts, library) for one in CASES]
    return cells.count("pass"), len(cells) - cells.count("-")


def _of(case: Case, verdicts: Sequence[Verdict], library: str) -> list[Verdict]:
    return [one for one in verdicts if (one.case, one.candidate) == (case.key, library)]


def _seen(case: Case, verdicts: Sequence[Verdict], libraries: Sequence[str]) -> list[str]:
    told = []
    for library in libraries:
        failed = [one for one in _of(case, verdicts, library) if one.mark == "fail"]
        words = {one.seen: [two.face for two in failed if two.seen == one.seen] for one in failed}
        told += [f"- {library} ({', '.join(faces)}): {seen}" for seen, faces in words.items()]
    return [f"**{case.key}** {case.promise}\n", *told, ""] if told else []


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in table]
