"""What this process shares with others.

Who opened is known to all within a second, one probes for all, and a rate that was learned outlives the process. A call
never waits for the board: changes are queued and carried by the connection's own thread. Only the right to probe is
asked for in the moment, once per open period.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from functools import partial

from prunella.core.clock import HOST
from prunella.core.errors import InvalidInput
from prunella.guard.board import Board, Notice, Standing
from prunella.guard.breaker import LiveBreaker, State
from prunella.guard.forks import living
from prunella.guard.link import LINK

_WORDS_MAX = 1_000
"""How many changes wait for a board that is away; of more, the oldest are forgotten."""
_RATES_EVERY_S = 5.0
_AT_ONCE_S = 5.0
"""How long words are told in one go: who exchanges has calls to look for, too."""
_WORTH_KEEPING = 0.01
"""A rate that differs less from what is kept is not written again."""
_TOUCH_EVERY_S = 86_400.0
"""How often a rate that does not move is written all the same: one that nobody touches is forgotten."""
_log = logging.getLogger(__name__)


class SharedState:
    """What the live parts of this process share through one board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._words: deque[partial[None]] = deque(maxlen=_WORDS_MAX)
        self._seen: dict[str, int] = {}
        self._following: tuple[int, LiveBreaker] | None = None
        self._rates: dict[str, float] = {}
        self._rates_at = -_RATES_EVERY_S
        self._adopted = False
        self._touch_at = -math.inf

    def adopt_rates(self) -> None:
        """Let limiters go on at the rate that was learned before this process began, once it is known.

        A limiter that was slowed down meanwhile knows better than the past.
        """
        if self._adopted:
            return
        self._rates = self._board.learned()
        self._adopted = True
        for limiter in living(LINK.limiters):
            now = limiter.rate_per_s
            rate_per_s = self._rates.get(limiter.name)
            if rate_per_s is not None and (rate_per_s < now or now >= limiter.limits.rate_per_s):
                limiter.resume(rate_per_s)

    def rate_of(self, name: str) -> float | None:
        """Return the rate that was learned before; None where there is none."""
        return self._rates.get(name)

    def changed(self, breaker: LiveBreaker, state: State, reason: str) -> None:
        """Note a change to be told to the others; costs no time."""
        if state is not State.HALF_OPEN and self._following != (threading.get_ident(), breaker):
            self._words.append(partial(self._report, breaker, state, reason, breaker.open_for_s))

    def noticed(self, service: str, code: str, message: str, *, recovered: bool) -> None:
        """Note what the engine should hear of; costs no time. What was followed is told by whoever saw it."""
        if self._following is not None and self._following[0] == threading.get_ident():
            return
        notice = Notice(service=service, code=code, message=message, recovered=recovered)
        self._words.append(partial(self._board.notice, notice))

    def may_probe(self, name: str, lease_s: float) -> bool:
        """Win the right to probe in this period; False for everybody else."""
        return self._board.may_probe(name, lease_s)

    def exchange(self) -> None:
        """Tell the others what changed here, and follow what changed there."""
        until = HOST.monotonic() + _AT_ONCE_S
        while self._words and HOST.monotonic() < until:
            word = self._words[0]
            _told(word)
            if self._words and self._words[0] is word:
                self._words.popleft()  # only now: a board that is away must not lose it
        shared = [breaker for breaker in living(LINK.breakers) if breaker.limits.shared]
        if shared:
            self._follow(shared)
        if HOST.monotonic() - self._rates_at >= _RATES_EVERY_S:
            self.keep_rates()

    def keep_rates(self) -> None:
        """Write down the rates that have moved; what was learned before is adopted first, not written over."""
        self.adopt_rates()
        touch = HOST.monotonic() >= self._touch_at
        for limiter in living(LINK.limiters):
            kept, now = self._rates.get(limiter.name, limiter.limits.rate_per_s), limiter.rate_per_s
            if abs(now - kept) > kept * _WORTH_KEEPING or (touch and limiter.name in self._rates):
                _told(partial(self._board.learn, limiter.name, now))
                self._rates[limiter.name] = now
        self._rates_at = HOST.monotonic()  # only now: until the board answers, each look asks
        if touch:
            self._touch_at = self._rates_at + _TOUCH_EVERY_S

    def _report(self, breaker: LiveBreaker, state: State, reason: str, open_s: float) -> None:
        standing = Standing(name=breaker.name, state=state, reason=reason, open_s=open_s)
        self._seen[breaker.name] = self._board.report(standing)

    def _follow(self, breakers: list[LiveBreaker]) -> None:
        standings = {standing.name: standing for standing in self._board.standings()}
        for breaker in breakers:
            standing = standings.get(breaker.name)
            if standing is None:
                self._seen.pop(breaker.name, None)  # it was forgotten: versions begin anew
            elif self._seen.get(breaker.name) != standing.version:
                self._seen[breaker.name] = standing.version
                self._following = (threading.get_ident(), breaker)  # what comes from there is not told back
                breaker.follow(standing.state, standing.open_s, standing.reason)
                self._following = None


def _told(word: partial[None]) -> None:
    """Tell one thing; what is refused for good, such as a name that is too long, must not hold up the rest."""
    try:
        word()
    except InvalidInput as error:
        _log.error("shared state: a word was refused and is forgotten: %s", error)
