"""The gate: our own calls open and close it, failures from outside disable it, and a person outranks both."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.world import START, open_gate
from prunella.core.clock import Rng
from prunella.core.errors import IllegalTransition
from prunella.core.records import Category, Gate
from prunella.core.services import DisableAfter, GateLimits
from prunella.core.states import GateState
from prunella.engine import gates

LIMITS = GateLimits(failures=5, successes=2, open_s=60)
SECOND = timedelta(seconds=1)


def after_calls(gate: Gate, *oks: bool, limits: GateLimits = LIMITS) -> Gate:
    """Return the gate after some calls of ours."""
    for ok in oks:
        gate = gates.record_call(gate, ok, limits, START, Rng(1))
    return gate


@pytest.mark.parametrize(
    ("category", "counters"),
    [
        (Category.AUTH, (2, 0, 0)),
        (Category.DATA, (0, 2, 0)),
        (Category.UNKNOWN, (0, 0, 2)),
        (Category.NETWORK, (0, 0, 0)),
        (Category.RATE_LIMIT, (0, 0, 0)),
    ],
)
def test_failures_from_outside_count_by_category(category: Category, counters: tuple[int, int, int]) -> None:
    """Auth, data and unknown have counters; network is counted in its window, rate limits never are."""
    gate = gates.count_failures(open_gate(), category, 2)
    assert (gate.auth, gate.data, gate.unknown) == counters
    assert gate.state is GateState.CLOSED


@pytest.mark.parametrize(
    ("counts", "network", "reason"),
    [
        ({"auth": 2}, 0, None),
        ({"auth": 3}, 0, "3 consecutive auth failures after a token refresh"),
        ({"data": 4}, 0, None),
        ({"data": 5}, 0, "5 consecutive data failures"),
        ({"unknown": 4}, 0, None),
        ({"unknown": 5}, 0, "5 consecutive unknown failures"),
        ({}, 8, None),
        ({}, 9, "9 network failures within 60 minutes"),
        ({"auth": 2, "data": 4, "unknown": 4}, 8, None),
        ({"failures": 1000, "openings": 1000}, 0, None),
    ],
)
def test_thresholds_are_document_bs(counts: dict[str, int], network: int, reason: str | None) -> None:
    """3 auth after a refresh, 9 network in 60 minutes, 5 data, 5 unknown; our own calls never disable."""
    over = gates.over_threshold(open_gate(**counts), DisableAfter(), network)
    assert (over[0] if over else None) == reason
    if over is not None:
        assert over[1] == int(over[0].split()[0])


def test_limit_of_none_never_disables() -> None:
    """`never` in the file is None here, whatever the count."""
    never = DisableAfter(auth=None, network=None, data=None, unknown=None)
    assert gates.over_threshold(open_gate(auth=10**6, data=10**6, unknown=10**6), never, 10**6) is None


@pytest.mark.parametrize("state", [GateState.DISABLED, GateState.PAUSED])
def test_what_is_shut_by_hand_or_threshold_is_not_disabled_again(state: GateState) -> None:
    """A pause stays a pause, and a disablement is told once."""
    assert gates.over_threshold(open_gate(state=state, auth=99), DisableAfter(), 99) is None


@pytest.mark.parametrize("state", [GateState.CLOSED, GateState.OPEN, GateState.HALF_OPEN])
def test_threshold_disables_from_every_other_state(state: GateState) -> None:
    """An open or half-open gate can still be disabled by what comes from outside."""
    assert gates.over_threshold(open_gate(state=state, data=5), DisableAfter(), 0) is not None


def test_success_starts_every_consecutive_count_anew() -> None:
    """Auth, data, unknown, our own failures and the recovery failures are all forgotten; the state stays."""
    gate = open_gate(state="disabled", auth=2, data=4, unknown=4, failures=4, recovery_fail_count=2, openings=3)
    good = gates.count_success(gate, START)
    assert (good.auth, good.data, good.unknown, good.failures, good.recovery_fail_count) == (0, 0, 0, 0, 0)
    assert (good.state, good.openings) == (GateState.DISABLED, 3)


def test_gate_opens_at_the_fifth_failed_call_in_a_row() -> None:
    """Four failures leave it closed, a success in between starts anew, the fifth in a row opens it with a reason."""
    assert after_calls(open_gate(), *[False] * 4).state is GateState.CLOSED
    assert after_calls(open_gate(), *[False] * 4, True, *[False] * 4).state is GateState.CLOSED
    opened = after_calls(open_gate(), *[False] * 5)
    assert (opened.state, opened.reason, opened.openings) == (GateState.OPEN, "5 failed calls in a row", 1)
    assert opened.reopen_at is not None
    assert timedelta(seconds=60) <= opened.reopen_at - START <= timedelta(seconds=66)


@pytest.mark.parametrize(
    ("openings", "open_s"), [(0, 60), (1, 120), (2, 240), (3, 480), (4, 600), (5, 600), (1023, 600), (5000, 600)]
)
def test_open_time_doubles_up_to_ten_minutes(openings: int, open_s: float) -> None:
    """Each opening in a row lasts twice as long; after weeks of them it still is ten minutes and no overflow."""
    gate = open_gate(state="half_open", openings=openings)
    opened = gates.record_call(gate, False, LIMITS, START, Rng(3))
    assert opened.reopen_at is not None
    assert open_s <= (opened.reopen_at - START).total_seconds() <= open_s * 1.1
    assert opened.openings == openings + 1


def test_configured_open_time_is_never_cut() -> None:
    """Somebody who asks for an hour between probes gets an hour."""
    opened = after_calls(open_gate(), False, limits=GateLimits(failures=1, open_s=3600))
    assert opened.reopen_at is not None
    assert opened.reopen_at - START >= timedelta(hours=1)


@given(st.integers())
def test_open_times_are_spread(seed: int) -> None:
    """The spread is upwards and at most a tenth, so that workers do not probe in step and never too early."""
    gate = gates.record_call(open_gate(state="half_open"), False, LIMITS, START, Rng(seed))
    assert gate.reopen_at is not None
    assert 60 <= (gate.reopen_at - START).total_seconds() <= 66


def test_probe_begins_only_when_the_open_time_is_over() -> None:
    """Before its time an open gate stays open; then it is half open and keeps the reason."""
    gate = open_gate(state="open", reopen_at=START + SECOND, reason="5 failed calls in a row")
    assert gates.begin_probe(gate, START) is gate
    half = gates.begin_probe(gate, START + SECOND)
    assert (half.state, half.reason, half.reopen_at) == (GateState.HALF_OPEN, "5 failed calls in a row", None)


@pytest.mark.parametrize("state", [GateState.CLOSED, GateState.HALF_OPEN, GateState.DISABLED, GateState.PAUSED])
def test_probe_begins_from_open_only(state: GateState) -> None:
    """Nothing else is half opened by a call, least of all what a person shut."""
    gate = open_gate(state=state, reopen_at=START)
    assert gates.begin_probe(gate, START + SECOND) is gate


def test_two_successes_close_a_half_open_gate() -> None:
    """One success is not enough; the second closes it, and the doubling starts anew."""
    half = open_gate(state="half_open", openings=3, failures=7)
    assert after_calls(half, True).state is GateState.HALF_OPEN
    closed = after_calls(half, True, True)
    assert (closed.state, closed.openings, closed.successes, closed.failures) == (GateState.CLOSED, 0, 0, 0)
    assert closed.last_recovery_at == START


def test_one_failure_opens_a_half_open_gate_again() -> None:
    """A failed probe opens at once, and the success before it counts no more."""
    opened = after_calls(open_gate(state="half_open", openings=1), True, False)
    assert (opened.state, opened.successes, opened.openings) == (GateState.OPEN, 0, 2)


@pytest.mark.parametrize("state", [GateState.PAUSED, GateState.DISABLED])
def test_calls_under_way_never_lift_what_a_person_or_threshold_shut(state: GateState) -> None:
    """However many calls succeed or fail while it is shut, it stays shut."""
    gate = open_gate(state=state, reason="holiday")
    assert after_calls(gate, *[True] * 20).state is state
    assert after_calls(gate, *[False] * 20).state is state


def test_silence_is_kept_until_the_later_moment() -> None:
    """A service that asks again for less does not shorten what it asked for before."""
    gate = gates.throttle(open_gate(), START + 60 * SECOND)
    assert gates.throttle(gate, START + SECOND).throttled_until == START + 60 * SECOND
    assert gates.throttle(gate, START + 90 * SECOND).throttled_until == START + 90 * SECOND
    assert gate.state is GateState.CLOSED


@pytest.mark.parametrize("state", GateState)
def test_enabling_starts_every_count_anew(state: GateState) -> None:
    """A person's enable closes the gate from any state, and neither old counts nor old network failures come back."""
    gate = open_gate(
        state=state, auth=3, data=4, unknown=4, failures=4, openings=6, successes=1, throttled_until=START + SECOND
    )
    now = START + 60 * SECOND
    enabled = gates.enable(gate, now, by="ada")
    assert enabled == Gate(
        service="crm", state=GateState.CLOSED, since=now, counting_from=now, changed_by="ada", reason=None
    )


def test_move_refuses_what_may_not_follow() -> None:
    """A paused gate cannot be opened or probed by machine."""
    for state in (GateState.OPEN, GateState.HALF_OPEN):
        with pytest.raises(IllegalTransition):
            gates.move(open_gate(state="paused"), state, START, reason="x")


class AnyGate(RuleBasedStateMachine):
    """Everything that can happen to a gate, in any order, as the engine does it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = open_gate()
        self.now = START
        self.rng = Rng(5)
        self.in_flight = 0
        self.left_by = "nothing"

    def change(self, gate: Gate, by: str) -> None:
        """Take over a gate and look at who left the shut states."""
        before, self.gate = self.gate, gate
        if before.state is GateState.PAUSED and gate.state is not GateState.PAUSED:
            assert by in ("enable", "disable"), by
        if before.state is GateState.DISABLED and gate.state is not GateState.DISABLED:
            assert by in ("enable", "pause"), by

    @rule(seconds=st.integers(1, 700))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule()
    def call_begins(self) -> None:
        """As gatekeeper and heal do: open waits for its time, half open admits one at a time."""
        shut = self.gate.state in (GateState.DISABLED, GateState.PAUSED)
        waits = self.gate.state is GateState.OPEN and self.gate.reopen_at is not None and self.gate.reopen_at > self.now
        crowded = self.gate.state is not GateState.CLOSED and self.in_flight > 0
        if shut or waits or crowded:
            return
        self.change(gates.begin_probe(self.gate, self.now), "call")
        self.in_flight += 1
        if self.gate.state is GateState.HALF_OPEN:
            assert self.in_flight == 1

    @precondition(lambda self: self.in_flight > 0)
    @rule(ok=st.booleans())
    def call_ends(self, ok: bool) -> None:
        self.in_flight -= 1
        self.change(gates.record_call(self.gate, ok, LIMITS, self.now, self.rng), "call")

    @rule(category=st.sampled_from(Category), number=st.integers(1, 3), network=st.integers(0, 9))
    def failures_arrive(self, category: Category, number: int, network: int) -> None:
        gate = gates.count_failures(self.gate, category, number)
        over = gates.over_threshold(gate, DisableAfter(), network)
        if over is not None:
            gate = gates.move(gate, GateState.DISABLED, self.now, reason=over[0])
        self.change(gate, "threshold")

    @rule()
    def success_arrives(self) -> None:
        self.change(gates.count_success(self.gate, self.now), "success")

    @rule(seconds=st.integers(1, 100))
    def service_asks_for_silence(self, seconds: int) -> None:
        self.change(gates.throttle(self.gate, self.now + seconds * SECOND), "throttle")

    @rule()
    def person_pauses(self) -> None:
        self.change(gates.move(self.gate, GateState.PAUSED, self.now, reason="p", by="ada"), "pause")

    @rule()
    def person_disables(self) -> None:
        self.change(gates.move(self.gate, GateState.DISABLED, self.now, reason="d", by="ada"), "disable")

    @rule()
    def person_enables(self) -> None:
        self.change(gates.enable(self.gate, self.now, by="ada"), "enable")

    @invariant()
    def no_count_is_negative(self) -> None:
        gate = self.gate
        counts = (gate.failures, gate.successes, gate.openings, gate.auth, gate.data, gate.unknown)
        assert min(*counts, gate.recovery_fail_count) >= 0

    @invariant()
    def open_gate_has_a_way_back(self) -> None:
        assert (self.gate.reopen_at is not None) == (self.gate.state is GateState.OPEN)

    @invariant()
    def shut_gate_says_why(self) -> None:
        assert self.gate.state in (GateState.CLOSED, GateState.HALF_OPEN) or self.gate.reason

    @invariant()
    def closed_gate_is_below_its_limit(self) -> None:
        assert self.gate.state is not GateState.CLOSED or self.gate.failures < LIMITS.failures


TestAnyGate = AnyGate.TestCase
TestAnyGate.settings = settings(max_examples=60, stateful_step_count=40)


def test_gate_machine_sees_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a success lifted a pause, the machine's check would say so."""
    machine = AnyGate()
    machine.person_pauses()
    lifted = replace(machine.gate, state=GateState.CLOSED)
    monkeypatch.setattr(gates, "count_success", lambda *_: lifted)
    with pytest.raises(AssertionError, match="success"):
        machine.success_arrives()
