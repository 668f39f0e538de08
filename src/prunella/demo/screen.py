"""What the demo shows: one line per thing that happens, in colour at a terminal, plain elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from prunella.core.clock import Clock
from prunella.core.events import Event

_COLOURS = {
    "failed": "31",
    "diagnosed": "33",
    "does": "36",
    "tried": "35",
    "healed": "32",
    "shut": "31",
    "told": "34",
    "asks": "33",
    "learned": "32",
}


class Screen:
    """Print what happens as it happens.

    Args:
        chat: returns the headings of what arrived in a channel of the shop since it was asked last.
    """

    def __init__(self, clock: Clock, chat: Callable[[str], Sequence[str]]) -> None:
        self._clock = clock
        self._chat = chat
        self._start = clock.monotonic()
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ  # noqa: TID251, a habit of terminals

    def title(self, text: str) -> None:
        """Begin a story."""
        print(f"\n{self._paint('1', text)}", flush=True)

    def line(self, verb: str, service: str, text: str) -> None:
        """Say what happened to a service."""
        elapsed_s = self._clock.monotonic() - self._start
        painted = self._paint(_COLOURS.get(verb, "0"), f"{verb:<10}")
        print(f"  {elapsed_s:6.2f} s  {service:<10} {painted} {text}", flush=True)

    def say(self, text: str = "") -> None:
        """Print as it is."""
        print(text, flush=True)

    def listen(self, event: Event) -> None:
        """Turn the engine's events into lines."""
        fields = {name: str(value) for name, value in event.fields.items()}
        match event.name:
            case "signal.accepted" if fields["outcome"] == "failure":
                self.line("diagnosed", fields["service"], f"{fields['kind']}, because of {fields['because']}")
            case "plan.decided":
                self.line("does", fields["service"], fields["action"])
            case "run.finished":
                self.line("tried", fields["service"], f"{fields['remedy']} {fields['state']}: {fields['detail']}")
            case "incident.resolved":
                self.line("healed", fields["service"], f"{fields['how']} ({float(fields['took_s']):.2f} s)")
            case "notification.sent":
                for heading in self._chat(fields["channel"]):
                    self.line("told", fields["channel"], heading)
            case _:
                pass

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table."""
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
        for number, row in enumerate([head, *rows]):
            text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            print(f"  {self._paint('1', text) if number == 0 else text}", flush=True)

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text
