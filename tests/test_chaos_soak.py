"""What the soak (`make soak`) judges by: a process that grows is told from one that does not, and so are tables."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from chaos.book import Book
from chaos.soak import Look, judge, judge_rows, look

GROWING = "import time; kept = []; print(flush=True)\nwhile True: kept.append(bytes(100_000)); time.sleep(0.01)"
OPENING = "import os, time; print(flush=True)\nwhile True: os.open('/dev/null', 0); time.sleep(0.01)"
STEADY = "import time; print(flush=True)\nwhile True: bytes(100_000); time.sleep(0.01)"


def watched(program: str) -> Book:
    """Run a program, look at it for a second, and judge what was seen."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        began_s, book = time.monotonic(), Book()
        looks: list[Look] = []
        while len(looks) < 20:
            looks.append(look(child.pid, began_s))
            time.sleep(0.05)
        child.kill()
    judge(book, looks)
    return book


@pytest.mark.parametrize(("program", "wrong"), [(GROWING, "memory grows"), (OPENING, "open files grow")])
def test_planted_leak_is_named(program: str, wrong: str) -> None:
    """A list that grows, files that are never closed: named, and nothing else is."""
    assert [one.partition(",")[0].partition(":")[0] for one in watched(program).wrongs] == [wrong]


def test_steady_process_is_not_accused() -> None:
    """What is made and let go is no growth."""
    assert watched(STEADY).wrongs == []


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([400 + number * 20 for number in range(40)], ["rows of signals go on growing"]),
        ([min(number * 60, 600) for number in range(40)], []),
    ],
)
def test_table_that_goes_on_growing_is_named(rows: list[int], wrong: list[str]) -> None:
    """One that fills up while the process warms up and then stays may."""
    book = Book()
    judge_rows(book, [Look(float(at), 100.0, 10, 4.0, {"signals": count}) for at, count in enumerate(rows)])
    assert [one.partition(":")[0] for one in book.wrongs] == wrong


def test_log_of_writes_that_grows_is_named() -> None:
    """A SQLite whose readers never let it start its log anew."""
    book = Book()
    judge_rows(book, [Look(float(at), 100.0, 10, at * 4.0, {"signals": 5}) for at in range(40)])
    assert [one.partition(":")[0] for one in book.wrongs] == ["the log of writes grows"]
