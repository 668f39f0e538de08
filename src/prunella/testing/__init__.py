"""Tools for testing what has to survive: virtual time, crashes, and third parties on their worst days.

Standard library only, public, for users' tests as well as our own. Nothing in the product may import this room.
`words` holds the script words: `from prunella.testing import words as w`, then `w.json(201, {...})`, `w.hang(5)`.
"""

from prunella.testing import words
from prunella.testing.faults import Fault, faults
from prunella.testing.faulty import FaultyServer
from prunella.testing.leaks import Leak, find_secrets
from prunella.testing.ledger import Ledger, Request
from prunella.testing.loop import Deadlock, LoopClock, Sands, SimulatedCrash, VirtualLoop, run_virtual, virtual_time
from prunella.testing.oauth import TokenEndpoint, TokenPair
from prunella.testing.places import Receiver
from prunella.testing.words import Word, after_effect, delayed, drip, hang, html, redirect, throttled, times

__all__ = [
    "Deadlock",
    "Fault",
    "FaultyServer",
    "Leak",
    "Ledger",
    "LoopClock",
    "Receiver",
    "Request",
    "Sands",
    "SimulatedCrash",
    "TokenEndpoint",
    "TokenPair",
    "VirtualLoop",
    "Word",
    "after_effect",
    "delayed",
    "drip",
    "faults",
    "find_secrets",
    "hang",
    "html",
    "redirect",
    "run_virtual",
    "throttled",
    "times",
    "virtual_time",
    "words",
]
