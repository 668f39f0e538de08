"""Every case, in the order of the table: letters first, then numbers."""

from __future__ import annotations

import re

from conformance import breaking, handing, limiting, retrying
from conformance.judge import ENTERED, Case

ROOMS = (breaking, retrying, limiting, handing)
"""Importing a room enters its cases."""


def _place(case: Case) -> tuple[bool, int, str]:
    number = re.match(r"\d+", case.key)
    return number is not None, int(number[0]) if number is not None else 0, case.key


CASES = sorted(ENTERED, key=_place)
