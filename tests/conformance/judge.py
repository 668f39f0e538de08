"""Put a library through a case and say how it went."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from conformance.contract import FACES, FEATURES, Adapter, Face
from conformance.lab import Lab, without_loop

Play = Callable[[Lab], Awaitable[None]]
_LIMIT_S = 90.0


class Failed(AssertionError):
    """Say what was seen instead of what a case asks for."""


class NotOffered(Exception):
    """Say that a library has no documented way to do what a case wants."""


def check(holds: object, seen: str) -> None:
    """Fail the case with what was seen where the promise does not hold."""
    if not holds:
        raise Failed(seen)


@dataclass(frozen=True)
class Case:
    """One promise.

    Args:
        key: letter or number in the catalogue of cases.
        promise: what has to hold, in one line.
        needs: features without which the case is not asked.
        alone: a scene of one caller; 32 threads play it at once, with one guard for all.
    """

    key: str
    promise: str
    needs: frozenset[str]
    faces: tuple[Face, ...]
    play: Play
    alone: bool = False


@dataclass(frozen=True)
class Verdict:
    """How one case went with one library on one face."""

    case: str
    candidate: str
    face: Face
    mark: Literal["pass", "fail", "-"]
    seen: str = ""


ENTERED: list[Case] = []
"""What importing the rooms of cases has brought together; `catalogue` does it."""


def case(
    key: str, promise: str, *needs: str, faces: tuple[Face, ...] = FACES, alone: bool = False
) -> Callable[[Play], Play]:
    """Enter a case into the catalogue."""
    assert set(needs) <= set(FEATURES), needs

    def enter(play: Play) -> Play:
        ENTERED.append(Case(key, promise, frozenset(needs), faces, play, alone))
        return play

    return enter


def asked(case: Case, adapter: Adapter, face: Face) -> bool:
    """Tell whether a library offers what the case needs."""
    return face in case.faces and face in adapter.faces and case.needs <= adapter.features


def judge(case: Case, adapter: Adapter, face: Face) -> Verdict:
    """Put a library through a case; one that hangs has failed it."""
    if not asked(case, adapter, face):
        return Verdict(case.key, adapter.name, face, "-")
    seen: list[BaseException] = []
    work = threading.Thread(target=_play, args=(case, adapter, face, seen), daemon=True)
    work.start()
    work.join(_LIMIT_S)
    if work.is_alive():
        return Verdict(case.key, adapter.name, face, "fail", f"did not end within {_LIMIT_S:.0f} s")
    if not seen:
        return Verdict(case.key, adapter.name, face, "pass")
    error = seen[0]
    if isinstance(error, NotOffered):
        return Verdict(case.key, adapter.name, face, "-")
    words = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
    return Verdict(case.key, adapter.name, face, "fail", words)


def judge_all(adapters: Iterable[Adapter], cases: Sequence[Case]) -> list[Verdict]:
    """Put libraries through every case on every face."""
    return [judge(case, adapter, face) for adapter in adapters for case in cases for face in case.faces]


def _play(case: Case, adapter: Adapter, face: Face, seen: list[BaseException]) -> None:
    try:
        with adapter.clock(face) as clock:
            lab = Lab(adapter, face, clock)
            if face == "asyncio":
                clock.run(_to_its_end(case, lab))
            else:
                without_loop(_to_its_end(case, lab))
    except BaseException as error:
        seen.append(error)


async def _to_its_end(case: Case, lab: Lab) -> None:
    try:
        if case.alone:
            await lab.each_alone(lambda _: case.play(lab))
        else:
            await case.play(lab)
    finally:
        await lab.closes()
