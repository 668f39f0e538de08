"""Texts with made-up secrets (tests/data/secrets_*.yaml) and their look-alikes: recipes are drawn anew, then measured.

A secret counts as leaked when eight characters in a row of it survive; a shorter one, when it survives whole.
"""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import quote

import yaml

DATA: Final = Path(__file__).parent / "data"
_ALPHABETS: Final = {
    "an": string.ascii_letters + string.digits,
    "up": string.ascii_uppercase + string.digits,
    "lo": string.ascii_lowercase + string.digits,
    "hex": "0123456789abcdef",
    "HEX": "0123456789ABCDEF",
    "dig": string.digits,
    "b64": string.ascii_letters + string.digits + "+/",
    "url": string.ascii_letters + string.digits + "-_",
    "pw": string.ascii_letters + string.digits + "!*.-_~$^",
}
_RECIPE: Final = re.compile(r"«([^»]+)»")
_PART: Final = re.compile(rf"\{{?({'|'.join(sorted(_ALPHABETS, key=len, reverse=True))}):?(\d+)\}}?$")
_WORD: Final = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, slots=True)
class Payload:
    """One text, the secrets in it, and of each the core: without the beginning that all of its kind share."""

    kind: str
    text: str
    secrets: tuple[str, ...]
    cores: tuple[str, ...]

    def leaks(self, scrubbed: str) -> list[str]:
        """Return the cores of which too much survives."""
        return [core for core in self.cores if survives(core, scrubbed)]

    def words(self) -> list[str]:
        """Return the words around the secrets: they say what went wrong, and should stay."""
        rest = self.text
        for secret in self.secrets:
            rest = rest.replace(secret, " ")
        return _WORD.findall(rest)

    def lost(self, scrubbed: str) -> list[str]:
        """Return the words that do not survive."""
        left = _WORD.findall(scrubbed)
        lost = []
        for word in self.words():
            if word in left:
                left.remove(word)
            else:
                lost.append(word)
        return lost


def survives(secret: str, text: str) -> bool:
    """Tell whether too much of a secret stands in `text`."""
    if len(secret) < 8:
        return secret in text
    return any(secret[at : at + 8] in text for at in range(len(secret) - 7))


def payloads(name: str, seed: int) -> list[Payload]:
    """Read tests/data/`name`.yaml and draw its values from `seed`."""
    rng = Random(seed)
    entries = yaml.safe_load((DATA / f"{name}.yaml").read_text())
    return [_payload(entry["kind"], entry["text"], rng) for entry in entries]


def _payload(kind: str, template: str, rng: Random) -> Payload:
    secrets: list[str] = []
    cores: list[str] = []

    def drawn(match: re.Match[str]) -> str:
        value = _draw(match[1], rng)
        if match[1] != "x":
            secrets.append(value)
            cores.append(value.removeprefix(match[1].partition("{")[0] if "{" in match[1] else ""))
        return value

    return Payload(kind, _RECIPE.sub(drawn, template), tuple(secrets), tuple(cores))


def _draw(recipe: str, rng: Random) -> str:
    if recipe.startswith("="):
        return recipe[1:].strip("'")
    if recipe in _SPECIAL:
        return _SPECIAL[recipe](rng)
    if _PART.match(recipe):
        return _run(recipe, rng)
    return re.sub(r"\{([^}]+)\}", lambda match: _draw(match[1], rng), recipe)


def _run(recipe: str, rng: Random) -> str:
    match = _PART.match(recipe)
    assert match is not None
    return "".join(rng.choices(_ALPHABETS[match[1]], k=int(match[2])))


def _json64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _jwt(rng: Random) -> str:
    claims = _json64(f'{{"sub":"{_run("dig6", rng)}","exp":1772528400,"jti":"{_run("hex16", rng)}"}}')
    header = _json64('{"alg":"RS256","typ":"JWT"}')
    return f"{header}.{claims}.{_run('url86', rng)}"


def _basic(rng: Random) -> str:
    return base64.b64encode(f"svc:{_run('an20', rng)}".encode()).decode()


def _uuid(rng: Random) -> str:
    text = _run("hex32", rng)
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _card(rng: Random, *, valid: bool = True) -> str:
    digits = [int(digit) for digit in "4" + _run("dig14", rng)]
    total = sum(sum(divmod(digit * 2, 10)) for digit in digits[::2]) + sum(digits[1::2])
    last = (-total) % 10 if valid else (3 - total) % 10
    return "".join(map(str, [*digits, last]))


def _grouped(card: str, separator: str) -> str:
    return separator.join(card[at : at + 4] for at in range(0, 16, 4))


_SPECIAL: Final[dict[str, Callable[[Random], str]]] = {
    "jwt": _jwt,
    "basic": _basic,
    "uuid": _uuid,
    "x": _uuid,  # drawn, but no secret
    "card": _card,
    "card ": lambda rng: _grouped(_card(rng), " "),
    "card-": lambda rng: _grouped(_card(rng), "-"),
    "notcard": lambda rng: _card(rng, valid=False),
    "notcard-": lambda rng: _grouped(_card(rng, valid=False), "-"),
    "b64q44": lambda rng: quote(_run("b64:43", rng) + "=", safe=""),
    "b64q43": lambda rng: quote(_run("b64:43", rng), safe=""),
    "quoted14": lambda rng: quote("p@" + _run("an8", rng) + "/#:" + _run("an4", rng), safe=""),
    "words12": lambda rng: " ".join(rng.choices(("ridge", "amber", "tulip", "ocean", "cabin", "lunar"), k=12)),
    "pem64": lambda rng: base64.b64encode(f"-----BEGIN RSA PRIVATE KEY-----\n{_run('b64:200', rng)}".encode()).decode(),
}
