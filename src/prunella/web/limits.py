"""How much one caller may ask: requests per second by class of route, sign-ins per address, bytes of a body.

All is counted in the memory of one process: with several processes each allows as much. What is refused costs no
query. Nobody can lock another out: buckets belong to callers, and within one caller's bucket to sources.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from fastapi import Request
from starlette._utils import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prunella.web.auth import Caller
from prunella.web.problems import Problem

BODY_BYTES_MAX = 1024 * 1024
SMALL_BYTES_MAX = 64 * 1024
_LARGE = (
    "/integration-self-heal",
    "/api/v1/guard/",
    "/api/v1/inbound",
    "/api/v1/signals",
    "/api/v1/secrets/",
    "/api/v1/known-issues/import",
    "/known-issues/try",
)
_SIGN_INS_PER_S = 10 / 60
_SIGN_INS = 10.0
_CALLERS_MAX = 10_000
_DIGITS_MAX = 18  # Python reads no number of thousands of digits
_SOURCES_MAX = 1_000
_OVERDRAWN = 0.25  # of a burst: how far those who speak seldom go below empty together
_SHARES_S = 10.0  # a source that was silent for as long leaves its share to the others

K = TypeVar("K")


class Pace(StrEnum):
    """Classes of routes that have a limit of their own."""

    INTAKE = "intake"
    OTHERS = "others"
    SIGN_INS = "sign-ins"


@dataclass(slots=True)
class Bucket:
    """Tokens that come back with time; one is taken per request."""

    tokens: float
    at: float

    def fill(self, rate_per_s: float, burst: float, now: float) -> None:
        """Add what came back since the last look."""
        self.tokens = min(burst, self.tokens + (now - self.at) * rate_per_s)
        self.at = now


class Limits:
    """Count requests and refuse what is too much.

    Args:
        now: seconds that only go forward.
        intake_per_s: events that one token may report per second (twice as many at once).
        others_per_s: other requests of one caller per second, likewise.
    """

    def __init__(self, now: Callable[[], float], intake_per_s: float = 1000.0, others_per_s: float = 50.0) -> None:
        self._now = now
        self._rates = {Pace.INTAKE: intake_per_s, Pace.OTHERS: others_per_s, Pace.SIGN_INS: _SIGN_INS_PER_S}
        self._bursts = {Pace.INTAKE: 2 * intake_per_s, Pace.OTHERS: 2 * others_per_s, Pace.SIGN_INS: _SIGN_INS}
        self._buckets: OrderedDict[tuple[Pace, str], Bucket] = OrderedDict()
        self._shares: OrderedDict[tuple[str, str], Bucket] = OrderedDict()

    def take(self, pace: Pace, caller: Caller, request: Request) -> None:
        """Count a request of somebody who has shown who they are, or answer 429."""
        source = address_of(request) if pace is Pace.INTAKE else ""
        self._take(pace, caller.identity, source)

    def sign_in(self, request: Request) -> None:
        """Count a sign-in of an address, or answer 429."""
        self._take(Pace.SIGN_INS, address_of(request), "")

    def _take(self, pace: Pace, who: str, source: str) -> None:
        rate, burst, now = self._rates[pace], self._bursts[pace], self._now()
        bucket = _of(self._buckets, (pace, who), burst, now, _CALLERS_MAX)
        bucket.fill(rate, burst, now)
        least = self._least(bucket, who, source, rate, burst) if source else 1.0
        if bucket.tokens < least:
            raise _too_often(pace, rate, burst, bucket)
        bucket.tokens -= 1

    def _least(self, bucket: Bucket, who: str, source: str, rate: float, burst: float) -> float:
        """Return how many tokens a bucket must hold for a source.

        While it runs low nobody takes more than an equal share, and who takes less is let in though others emptied it.
        """
        now, low = self._now(), bucket.tokens < burst / 2
        share = _of(self._shares, (who, source), burst, now, _SOURCES_MAX)
        active = (
            [
                one
                for (owner, _), one in self._shares.items()
                if one is share or (owner == who and now - one.at < _SHARES_S)
            ]
            if low
            else [share]
        )
        share.fill(rate / len(active), burst / len(active), now)
        if low and share.tokens < 1:
            return math.inf
        share.tokens = max(0.0, share.tokens - 1)
        return 1.0 if len(active) == 1 else 1.0 - burst * _OVERDRAWN


def address_of(request: Request) -> str:
    """Return where a request comes from; a proxy in front is seen through where the server was told to trust it."""
    return request.client.host if request.client is not None else ""


def bytes_max_of(path: str) -> int:
    """Return how many bytes the body of a request to this address may have."""
    return BODY_BYTES_MAX if path.startswith(_LARGE) else SMALL_BYTES_MAX


class BodyLimit:
    """Refuse bodies over the limit before they are read whole, whatever their Content-Length claims.

    Args:
        bytes_max: how many are taken at most; None: what the address allows.
    """

    def __init__(self, app: ASGIApp, bytes_max: int | None = None) -> None:
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = bytes_max_of(get_route_path(scope)) if self._bytes_max is None else self._bytes_max
        claimed = dict(scope["headers"]).get(b"content-length", b"0")
        if claimed.isdigit() and (len(claimed) > _DIGITS_MAX or int(claimed) > most):
            await _too_large(most).response()(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise _too_large(most)
            return message

        await self._app(scope, counted, send)


def _too_large(bytes_max: int) -> Problem:
    return Problem(413, "The body is too large", f"at most {bytes_max} bytes are taken")


def _of(buckets: OrderedDict[K, Bucket], key: K, burst: float, now: float, most: int) -> Bucket:
    """Return a bucket, a full one where there is none; who was away longest is forgotten first."""
    found = buckets.get(key)
    if found is None:
        if len(buckets) >= most:
            buckets.popitem(last=False)
        found = buckets[key] = Bucket(burst, now)
    buckets.move_to_end(key)
    return found


def _too_often(pace: Pace, rate: float, burst: float, bucket: Bucket) -> Problem:
    wait_s = max(1, math.ceil((1 - bucket.tokens) / rate))
    window_s = max(1, round(burst / rate))
    headers = {
        "retry-after": str(wait_s),
        "ratelimit-policy": f'"{pace.value}";q={int(burst)};w={window_s}',
        "ratelimit": f'"{pace.value}";r={max(0, int(bucket.tokens))};t={wait_s}',
    }
    return Problem(
        429, "Too many requests", f"{rate:.3g} per second are taken; ask again in {wait_s} s", headers=headers
    )
