"""Many calls through a service's token bucket, 16 at once: how many are rejected or come too early, how fast it goes.

Beside prunella's limiter, which begins at twice what the service allows and has to learn, the same calls by libraries
that only retry, where they are installed. Then each form in which a service may ask for a wait.
"""

from __future__ import annotations

import argparse
import http.client
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import get_args
from urllib.parse import urlsplit

import prunella as pr
from chaos.book import Book
from prunella.testing import FaultyServer, throttled
from prunella.testing.ledger import Request
from prunella.testing.words import Form, Word, ok

_ALLOWED_PER_S, _BURST = 20.0, 20
_BEGINS_AT_PER_S = 40.0
_CALLERS = 16
_ATTEMPTS = 10
_LEARNS_S = 30.0
_ASKS_S = 1
_REJECTED_MAX, _USED_MIN = 0.01, 0.9
_PATH = "/crm"
FORMS = get_args(Form)
_SHORT_S = 2.0  # whole seconds, as most forms are
Post = Callable[[int], None]


class TooMany(Exception):
    """The service said 429.

    Args:
        headers: of the reply; prunella reads how long to wait.
    """

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__("HTTP 429")
        self.status, self.headers = 429, headers


class Bucket(FaultyServer):
    """A service that allows so many calls per second, and asks for a second of silence beyond it."""

    def __init__(self) -> None:
        super().__init__()
        self.rejected_at: list[float] = []
        self.taken_at: list[float] = []
        self._tokens, self._filled_s = float(_BURST), time.monotonic()

    def _word_for(self, request: Request) -> Word:
        now = time.monotonic()
        self._tokens = min(self._tokens + (now - self._filled_s) * _ALLOWED_PER_S, _BURST)
        self._filled_s = now
        if self._tokens < 1:
            self.rejected_at.append(now)
            return throttled(_ASKS_S)
        self._tokens -= 1
        self.taken_at.append(now)
        return ok


def posting_to(url: str) -> Post:
    """Return how a service is called; TooMany where it says so."""
    address = urlsplit(url)

    def post(number: int) -> None:
        with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)) as line:
            line.request("POST", _PATH, str(number))
            answer = line.getresponse()
            answer.read()
        if answer.status == 429:
            raise TooMany({name.lower(): value for name, value in answer.getheaders()})

    return post


def ours(post: Post) -> Post:
    """Guard by what prunella offers for it."""
    limiter = pr.AdaptiveLimiter(rate_per_s=_BEGINS_AT_PER_S, profile="aimd")
    crm = pr.policy("crm", retry=pr.Retry(attempts=_ATTEMPTS), limiter=limiter)
    return lambda number: crm.call(post, number)


def by_tenacity(post: Post) -> Post:
    """Retry as tenacity's documentation shows for rate limits."""
    from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    waits = wait_random_exponential(multiplier=0.5, max=30)
    return retry(wait=waits, stop=stop_after_attempt(_ATTEMPTS), retry=retry_if_exception_type(TooMany))(post)


def by_stamina(post: Post) -> Post:
    """Retry with stamina's own waits."""
    import stamina
    from stamina.instrumentation import set_on_retry_hooks

    set_on_retry_hooks([])
    return stamina.retry(on=TooMany, attempts=_ATTEMPTS, timeout=None)(post)


CONTENDERS: dict[str, Callable[[Post], Post]] = {"prunella": ours, "tenacity": by_tenacity, "stamina": by_stamina}


def chosen(options: argparse.Namespace) -> tuple[str, Book]:
    """Play everybody who is installed beside each other, each with a service of its own, then every form."""
    book = Book()
    with ThreadPoolExecutor() as threads:
        playing = {
            name: threads.submit(play, guard, options.calls, judged=name == "prunella")
            for name, guard in CONTENDERS.items()
            if _is_installed(name)
        }
        for name, played in playing.items():
            book.add(played.result(), f"{name}: ")
    enter_forms(book, ours)
    return f"limits: {options.calls:,} calls through {_ALLOWED_PER_S:g} per second", book


def play(guard: Callable[[Post], Post], calls: int, *, judged: bool, learns_s: float = _LEARNS_S) -> Book:
    """Make so many calls and say what the service saw of them; `judged`: it has to be good."""
    with Bucket() as service:
        guarded, left = guard(posting_to(service.url)), iter(range(calls))
        lock, failed = threading.Lock(), []
        began_s = time.monotonic()

        def some() -> None:
            while True:
                with lock:
                    number = next(left, None)
                if number is None:
                    return
                try:
                    guarded(number)
                except Exception as error:
                    failed.append(type(error).__name__)

        with ThreadPoolExecutor(_CALLERS) as threads:
            for one in [threads.submit(some) for _ in range(_CALLERS)]:
                one.result()
        return _book(service, len(failed), began_s, time.monotonic(), learns_s, judged=judged)


def _book(service: Bucket, failed: int, began_s: float, ended_s: float, learns_s: float, *, judged: bool) -> Book:
    book, learnt_s = Book(), began_s + learns_s
    rejected, taken = (sum(at >= learnt_s for at in many) for many in (service.rejected_at, service.taken_at))
    share = rejected / max(rejected + taken, 1)
    used = taken / max(ended_s - learnt_s, 1.0) / _ALLOWED_PER_S
    book.count("seconds", ended_s - began_s)
    book.count("requests", len(service.rejected_at) + len(service.taken_at))
    book.count("calls given up", failed, must_be=0 if judged else None)
    book.count("requests before the wait was over", len(service.ledger.early), must_be=0 if judged else None)
    book.count("rejected in all", len(service.rejected_at))
    book.figures[f"rejected after {learns_s:g} s"] = f"{share:.1%}" + (f"  (below {_REJECTED_MAX:.0%})" * judged)
    book.figures["of the allowed rate, from then on"] = f"{used:.0%}" + (f"  (at least {_USED_MIN:.0%})" * judged)
    if judged:
        book.blame("rejected too often", [f"{share:.1%}"] * (share >= _REJECTED_MAX))
        book.blame("slower than allowed", [f"{used:.0%}"] * (used < _USED_MIN))
    return book


def asked(guard: Callable[[Post], Post], form: Form) -> str:
    """Ask for a wait in one form; return what was wrong with how it was followed, or nothing."""
    with FaultyServer() as service:
        service.script(_PATH, [throttled(_SHORT_S, form), ok])
        with suppress(TooMany, pr.PrunellaError):
            guard(posting_to(service.url))(1)
        again = len(service.ledger.requests) - 1
        if service.ledger.early:
            return f"{form}: called too early"
        if form == "absurd":
            return f"{form}: called all the same" * (again > 0)
        return f"{form}: never called again" * (again == 0)


def enter_forms(book: Book, guard: Callable[[Post], Post]) -> None:
    """Enter how each form was understood."""
    with ThreadPoolExecutor(len(FORMS)) as threads:
        wrong = [one for one in threads.map(lambda form: asked(guard, form), FORMS) if one]
    book.count("forms of asking for a wait", len(FORMS))
    book.count("of these misunderstood", len(wrong), must_be=0)
    book.blame("misunderstood", wrong)


def _is_installed(name: str) -> bool:
    with suppress(ImportError):
        __import__(name)
        return True
    return False
