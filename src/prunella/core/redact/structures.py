"""Places whose structure gives a secret away: headers, cookies, addresses, keys, options, statements, cards."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from prunella.core.redact.marks import Detector, Span, detector
from prunella.core.redact.names import is_denied
from prunella.core.redact.vendors import WORD_BEGINS

_DETECTORS: Final[tuple[Detector, ...]] = tuple(
    chain(
        detector(
            "key",
            "-----begin",
            # Where its end was cut off, it goes on as long as it looks like a key.
            r"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY[A-Z ]{0,8}-----(?P<s>(?:[^-]|-(?!----)){0,16384}+(?=-----END)"
            r"|(?:\s{0,4}Proc-Type: [^\r\n]{1,80}\s{1,4}DEK-Info: [^\r\n]{1,120})?"
            r"(?:[A-Za-z0-9+/=]{1,128}+|\\+[nr]|[\r\n]{1,4}[ \t]{0,16}(?=[A-Za-z0-9+/=]{1,128}+(?:[\r\n\\]|$))"
            r"| (?=[A-Za-z0-9+/=]{30}))*+)",
        ),
        detector("key", "ls0tls1crudjti", r"(?P<s>LS0tLS1CRUdJTi[\w+/-]{48,16384}+)"),
        detector("key", "kty", r"[\"'](?:d|p|q|dp|dq|qi|k)\\?[\"']\s?:\s?\\?[\"'](?P<s>[\w-]{20,2048}+)"),
        detector("jwt", "eyj", WORD_BEGINS + r"(?<!pk\.)(?P<s>eyJ[\w-]{5,16384}+(?:\.[\w-]{0,16384}+){1,4}+)"),
        detector("vendor", "whsec_", r"(?P<s>whsec_[\w+/=-]{10,512}+)"),
        detector("vendor", "atatt3", r"(?P<s>ATATT3[\w-]{60,512}+(?:=[0-9A-F]{8})?)"),
        detector("vendor", "1//0", r"(?P<s>1//0[\w-]{20,512}+)"),
        detector("vendor", "access_token$", r"(?P<s>access_token\$[a-z]{1,16}\$[\w$]{20,256}+)"),
        detector("vendor", ":aa", r"(?<!\d)(?P<s>\d{6,12}:AA[\w-]{30,64}+)"),
        detector("vendor", "1/1 2/1 0/", r"(?<![\w/])(?P<s>[0-2]/\d{10,20}(?:/\d{10,20})?:[0-9a-f]{32})"),
        detector(
            "bearer",
            "bearer basic",
            r"[bB](?i:earer|asic) {1,4}(?P<s>[\w.~+/-]{8,16384}+={0,2}+)(?![\"=])",
        ),
        detector(
            "header",
            "auth",
            r"[aA](?i:uthorization)(?:\\?[\"'])?\s?[:=,]\s?b?(?:\\?[\"'])?[A-Za-z][\w-]{1,30} {1,4}"
            r"(?P<s>[^\s\"'\\=,;:]{8,16384}+={0,2}+)(?![^\s\"'\\,;)}\]])",
        ),
        detector(
            "header",
            "auth x-api-key",
            r"[aAxX](?i:uthorization|-api-key)[\"']\s?,\s?b?[\"'](?:[A-Za-z]{3,12} )?(?P<s>[^\"'\r\n]{3,16384}+)",
        ),
        detector("option", "auth", r"auth=[(\[][\"'][^\"'\s]{1,128}[\"'],\s?[\"'](?P<s>[^\"'\s]{3,512}+)"),
        detector("digest", "response=", r"(?<![a-z])response=\\?[\"'](?P<s>[0-9a-fA-F]{32,128}+)"),
        detector(
            "url",
            "://",
            r"://[^\s:/?#@\"'<>]{0,128}+:(?P<s>[^\s/?#\"'<>]{1,512})@",
            r"://(?P<s>[^\s:/?#@\"'<>]{16,512}+)@",
            # Passwords in a DSN are often not percent-encoded: there everything up to the last @ counts.
            r"://(?<!http://)(?<!https://)(?<!wss://)(?<!ws://)[^\s:/@]{0,128}+:(?P<s>[^\s\"'<>]{1,512})@",
        ),
        detector("query", "key= code= auth=", r"[?&](?:key|code|auth)=(?P<s>[^\s&\"'<>]{10,2048}+)"),
        detector(
            "webhook",
            "hooks. /webhooks/ /webhookb2/ /hooks/",
            r"hooks\.slack\.com/[a-z]{1,12}/(?:[TB][A-Z0-9]{6,14}/){0,2}+(?P<s>[\w/-]{16,256}+)",
            r"/api/webhooks/\d{1,24}/(?P<s>[\w-]{16,256}+)",
            r"/webhookb2/(?P<s>[\w@/-]{16,512}+)",
            r"/hooks/(?:catch/\d{1,12}/)?(?P<s>[a-z0-9]{6,32}(?![\w.-]))",
        ),
        detector(
            "option",
            "-- -pass -token -secret",
            r"(?<![\w-])--?(?:[a-z]{1,16}-){0,3}(?:password|passwd|pass|token|secret|key) {1,4}[\"']?"
            r"(?P<s>[^\s\"']{3,4096}+)",
        ),
        detector(
            "option",
            "-u",
            r"(?<!\S)(?:-u|--user|--proxy-user)[ =]{1,4}[\"']?[^\s:\"']{1,128}+:(?P<s>[^\s\"']{1,4096}+)",
        ),
        detector("option", "mysql", r"mysql[a-z]{0,8}(?: [^\s]{1,64}){0,8}? -p(?P<s>[^\s]{4,256}+)"),
        detector("option", "redis-cli", r"redis-cli(?: [^\s]{1,64}){0,8}? -a {1,4}(?P<s>[^\s]{4,256}+)"),
        detector("option", "-securestring", r"ConvertTo-SecureString (?:-String )?[\"']?(?P<s>[^\s\"']{3,512}+)"),
        detector("option", "sshpass", r"sshpass -p {0,4}[\"']?(?P<s>[^\s\"']{4,256}+)"),
        detector("url", ":thin:", r":thin:[^\s/@]{1,64}/(?P<s>[^\s@]{1,256}+)@"),
        detector(
            "code",
            "your",
            r"(?<![\w.-])(?P<s>\d{4,8}|\d{3}[ -]\d{3}) is your (?:[\w-]{1,20} ){0,3}(?:code|PIN|pin|OTP)",
        ),
        detector("netrc", "login", r"login [^\s]{1,128} {1,4}password {1,4}(?P<s>[^\s]{1,256}+)"),
        detector(
            "sql", "identified", r"(?i:identified (?:with \S{1,64} )?by (?:password )?)['\"](?P<s>[^'\"]{1,256}+)"
        ),
    )
)
_BY_HINT: Final = {
    hint: tuple(one for one in _DETECTORS if hint in one.hints)
    for hint in dict.fromkeys(hint for one in _DETECTORS for hint in one.hints)
}
HINTS: Final = (*_BY_HINT, "cookie", "insert")
"""What is worth looking for in a text before any pattern runs."""

_COOKIES: Final = re.compile(r"[cC](?i:ookie2?)\\?[\"']?\s{0,4}[:=, ]\s{0,4}b?\\?[\"']?(?=[^\s=;\"']{1,128}=)")
_COOKIE: Final = re.compile(r"[^\s=;\"']{1,128}+(?:=(?P<s>[^\s;\"'\\]{0,8192}+))?(?:;\s{0,2}|)")
_ATTRIBUTES: Final = frozenset({"path", "domain", "expires", "max-age", "samesite", "priority", "version"})
_INSERT: Final = re.compile(
    r"(?i:insert into) [^\s(]{1,128} ?\((?P<columns>[^()]{1,2000})\)(?P<rest>.{0,4000})", re.DOTALL
)
_ROW: Final = re.compile(
    r"(?:(?i:values) ?\(|parameters: \(|DETAIL: {1,2}Failing row contains \()(?P<values>[^()]{1,4000})"
)
_LITERAL: Final = re.compile(r"\s{0,4}(?:'(?P<s>(?:[^']|'')*+)'|\"(?P<d>[^\"]*+)\"|[^,'\"]++),?")
_CARD: Final = re.compile(
    r"[2-6](?<![\w.-].)(?:\d{13,15}|\d{18}"
    r"|\d{3}[ -](?:\d{4}[ -]\d{4}[ -]\d{4}(?:[ -]\d{3})?|\d{6}[ -]\d{4,5}))(?![\w-])",
    re.DOTALL,
)
_SCHEMES: Final = re.compile(
    r"4(?:\d{15}|\d{18})$|5[1-5]\d{14}$|2[2-7]\d{14}$|3[47]\d{13}$|3(?:0[0-5]|[68]\d)\d{11}$|35[2-8]\d{13}$"
    r"|6(?:011|4[4-9]\d|5\d\d|2\d\d)\d{12}(?:\d{3})?$"
)


def structured(text: str, hints: Iterable[str]) -> Iterator[Span]:
    """Find what the structures give away; `hints` are those of HINTS that stand in the text."""
    found = set(hints)
    for one in dict.fromkeys(one for hint in found for one in _BY_HINT.get(hint, ())):
        for match in one.pattern.finditer(text):
            if _is_meant(one.kind, match["s"]):
                yield *match.span("s"), one.kind
    if "-----begin" in found or "--" in found:
        yield from _headless_keys(text)
    if "cookie" in found:
        yield from _cookies(text)
    if "insert" in found:
        yield from _inserted(text)


def _is_meant(kind: str, value: str) -> bool:
    if kind in ("bearer", "header"):
        return not (len(value) < 20 and value.isalpha() and (value.islower() or value.istitle())) and not _is_name(
            value
        )
    if value.startswith("LS0t"):
        return b"PRIVATE KEY" in b64decode(value[:80].replace("-", "+").replace("_", "/"))
    return True


def _is_name(value: str) -> bool:
    """Tell whether this is the first parameter of a scheme that has several: `Digest username="joe", ...`."""
    return value.endswith("=") and value[:-1].replace("_", "").isalpha() and value.islower()


def _headless_keys(text: str) -> Iterator[Span]:
    """Find the rest of a key whose beginning was cut off."""
    for match in re.finditer(r"-----END [A-Z0-9 ]{0,32}PRIVATE KEY", text):
        body = text[: match.start()]
        start = len(body.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n\\"))
        if start < match.start():
            yield start, match.start(), "key"


def _cookies(text: str) -> Iterator[Span]:
    """Take the values, and leave the names and what a cookie says about itself."""
    at = 0
    while header := _COOKIES.search(text, at):
        at = header.end()
        while cookie := _COOKIE.match(text, at):
            at = cookie.end()
            name = cookie[0].partition("=")[0].lower()
            if cookie["s"] and name not in _ATTRIBUTES:
                yield *cookie.span("s"), "cookie"
            if not cookie[0].rstrip().endswith(";"):
                break


def _inserted(text: str) -> Iterator[Span]:
    """Take what a statement, or the parameters told beside it, puts into columns named as secrets are."""
    for statement in _INSERT.finditer(text):
        columns = [column.strip(' `"[]\n').lower() for column in statement["columns"].split(",")]
        denied = {place for place, column in enumerate(columns) if is_denied(column)}
        rows = _ROW.finditer(text, *statement.span("rest")) if denied else ()
        for row in rows:
            literals = _LITERAL.finditer(text, *row.span("values"))
            for place, literal in zip(range(len(columns)), literals, strict=False):
                if place in denied and literal.lastgroup is not None:
                    yield *literal.span(literal.lastgroup), "named"


def cards(text: str) -> Iterator[Span]:
    """Find card numbers: a scheme's beginning and length, and the check digit."""
    for match in _CARD.finditer(text):
        number = match[0].replace(" ", "").replace("-", "")
        digits = [int(digit) for digit in number]
        doubled = sum(sum(divmod(digit * 2, 10)) for digit in digits[-2::-2])
        if (doubled + sum(digits[-1::-2])) % 10 == 0 and _SCHEMES.match(number):
            yield *match.span(), "card"
