"""Scripted faults meet a policy's calls in the order they were written, and nothing else is touched."""

from __future__ import annotations

import asyncio
from unittest.mock import ANY

import pytest

import prunella as pr
from prunella.testing import Fault, faults, throttled, virtual_time


def test_script_is_met_attempt_by_attempt_in_virtual_time() -> None:
    """Given 503, a 429 that asks for 7 s, then a result: two waits, the second exactly as asked, and the result."""
    crm = pr.policy("crm", retry=pr.Retry(attempts=4, base_s=0.2, cap_s=8), breaker=pr.Breaker(), deadline_s=20)

    @crm
    async def push(order: int) -> str:
        return "really pushed"

    with virtual_time() as time, faults(crm, [503, throttled(7), "ok"]) as left:
        assert asyncio.run(push(1)) == "ok"
        assert time.slept == [ANY, 7]
        assert 7 < time.time() < 8
        assert not left
        assert asyncio.run(push(1)) == "really pushed"


def test_script_serves_synchronous_calls_and_exceptions() -> None:
    """An exception is raised as it is, a type is made an instance; without retry the first ends the call."""
    crm = pr.policy("crm")

    @crm
    def push() -> str:
        return "really pushed"

    problem = ConnectionResetError("gone")
    with faults(crm, [problem, KeyError, throttled(7), 404]):
        with pytest.raises(ConnectionResetError) as same:
            push()
        assert same.value is problem
        with pytest.raises(KeyError):
            push()
        with pytest.raises(Fault) as slow_down:
            push()
        assert (slow_down.value.status_code, slow_down.value.headers["Retry-After"]) == (429, "7")
        with pytest.raises(Fault, match="HTTP 404"):
            push()
    assert push() == "really pushed"


def test_script_ends_with_its_block_whatever_happens_in_it() -> None:
    """After an error in the block the real function is called again, on the quick way too."""
    crm = pr.policy("crm")
    push = crm(lambda: "really pushed")
    with pytest.raises(ZeroDivisionError), faults(crm, [503] * 9):
        raise ZeroDivisionError
    assert push() == "really pushed"


def test_script_reaches_every_key_of_a_policy() -> None:
    """Resources told apart by a key meet the same script."""
    crm = pr.policy("crm", key=lambda host: host)
    ping = crm(lambda host: host)
    assert ping("a") == "a"
    with faults(crm, [503, 503]):
        for host in ("a", "b"):
            with pytest.raises(Fault):
                ping(host)


def test_virtual_time_gives_the_guards_their_own_time_back() -> None:
    """After the block, time and sleep are the machine's again."""
    from prunella.core.clock import HOST

    before = (HOST.monotonic, HOST.sleep, HOST.asleep, HOST.now, HOST.random)
    policy = asyncio.get_event_loop_policy()
    with virtual_time(seed=3):
        assert HOST.sleep is not before[1]
    assert (HOST.monotonic, HOST.sleep, HOST.asleep, HOST.now, HOST.random) == before
    assert asyncio.get_event_loop_policy() is policy
