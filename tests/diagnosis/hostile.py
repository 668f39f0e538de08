"""Texts that keep a backtracking engine busy: what an expression wants, over and over, and never the end of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import permutations

ACCEPTED = [
    "a.*b", "timeout.*connect.*host", "a.*b.*c.*d.*e", ".*timeout.*refused.*", r"host (?:[a-z]+\.)+example",
    r"\w+ \w+ failed", r"status \d+.*retry", r"foo.*\d+.*bar", r"\[[^\]]*\] .* failed", "[^,]*,[^,]*,[^,]*x",
    r"user .* [0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", r"\d+ms", "timeout.{0,80}connect.{0,80}host",
    r"a[\s\S]*b[\s\S]*c", r"\s*=\s*x", r"deadlock detected.*(process|session) \d+.*waits",
    r"order \d+ .* customer \d+ .* failed", "error.*(timed out|refused).*host", "a.*b.*c|d.*e.*f", "[ab]*x|[cd]*y",
    "a{0,9}b{0,9}a{0,9}c", "a.{0,20}a.{0,20}b", r"x\w{0,30}y\w{0,30}z", "(?:ab|cd){1,40}x", "a?a?a?a?a?a?b",
    r"\w+\s+\w+\s+\w+\s+x", "e+rror", r"(\d{1,3}\.){3}\d{1,3} refused", r"\S+ not found in \S+", "[ab][ab][ab]+c", r"(?:\w+\.)+x",
]  # fmt: skip
"""Expressions as people write them, and some that come close to being refused."""

EVIL = [
    "(a+)+$", "(a|aa)+$", "(.*a){20}", r"(\w+\s?)*$", r"(\w+\s?)+$", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(a|a)*b", "((ab|ab)c)+$", "(ab|ab)c" * 20, "a?" * 25 + "a" * 25, "(a?){30}a{30}", "([a-zA-Z]+)*$b", "(.*)*x",
    "(a*)+x", "((a.*)b)+", "a.*" + "a" * 30 + "b", "a.*[ab]{200}c", r"\s+\s+x", "(?:(?:[ab]ba|ba)[ab].(?:b)?.)+c",
    "(?:a+?)+b", "(a|b|ab)*c", "(?:[^a]|b)+c", "(?=a)b", "(a)\\1+", "(?<!a)b", "(?>a.*b.*?c)d", r"\S+@\S+ .*x",
    "(a+b?)+c", "(a(b|c+)?)+d", "(?:(?:a|b)+c?)+d", ".*?a.*b.*?c", "(?i:k+)(?:K+)ſs+x",
]  # fmt: skip
"""Expressions that some text makes slow, or that no linear engine knows."""

_PARTS = (
    "a", "b", "ab", "ab ", "1", "a1", "aa,", "ab cd", "host a.", "0123456789abcdef", "status 1", "timeoutimeouti",
    "timeoutconnect", "timeout timeout connect ", "abcd", "x=", "\n", "a\n", " ", "K", "1.1.1.", "xy", "\u212a\u017f",
)  # fmt: skip


def texts_for(expression: str) -> Iterator[str]:
    """Return texts of 4,096 characters made of the words of an expression and of others like them."""
    words = sorted(set(re.findall(r"[A-Za-z]+", expression)))
    for part in (*words, *_PARTS):
        yield (part * 4096)[:4096]
        yield " ".join([part] * 4096)[:4096]
    for one, other in permutations(words[:4], 2):
        yield (one * 600)[:2048] + (other * 600)[:2048]
    yield from ("a" * 2048 + "b" * 2048, "a" * 4000 + " " + "b" * 95, "ab" * 1000 + "c" * 2096)
    yield " ".join(words) + "a" * 4000


def busy_s(pattern: re.Pattern[str], text: str) -> float:
    """Return the seconds of this thread that a search takes, of three tries the best."""
    best = 1e9
    for _ in range(3):
        begun = time.thread_time()
        pattern.search(text)
        best = min(best, time.thread_time() - begun)
        if best < 0.02:
            break
    return best
