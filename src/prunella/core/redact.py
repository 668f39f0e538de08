"""The only road from raw input to a record: it takes secrets out and keeps the words that say what went wrong.

Detectors only mark spans, one place replaces them. Text is cut before the first pattern, and every pattern is
bounded and possessive, so that no text from outside can make it slow. It must never raise on a text.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import quote, quote_plus

CHARS_MAX: Final = 16384
"""Longer texts lose their middle before anything reads them."""
_HEAD, _TAIL, _EDGE = 12000, 4000, 2048
_DEPTH_MAX, _WIDTH_MAX, _NAME_MAX, _HEADER_MAX = 12, 1000, 80, 512
_Span = tuple[int, int, str]


class Secret:
    """Hold a secret that never prints itself."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value; call it only where it is sent or sealed."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(****)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("Secret: a secret is not pickled; seal what reveal() returns where it has to travel")


class Redactor:
    """Know the secrets that the system itself holds, in every spelling in which a text may carry them."""

    CHARS_MIN: Final = 6
    """Shorter values are not taken: removing them would tear ordinary words apart."""

    def __init__(self) -> None:
        self._spellings: dict[str, frozenset[str]] = {}
        self._hash_key = secrets.token_bytes(32)

    def set_hash_key(self, key: bytes) -> None:
        """Take an installation's own key (1 to 64 bytes), so that equal secrets look equal after a restart, too."""
        if not 1 <= len(key) <= 64:
            raise ValueError(f"redaction hash key: must hold 1 to 64 bytes, got {len(key)}; 32 random bytes are right")
        self._hash_key = key

    def mark(self, kind: str, value: str) -> str:
        """Return what stands in place of `value`: `[REDACTED:kind:hash4]`."""
        digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=2, key=self._hash_key)
        return f"[REDACTED:{kind}:{digest.hexdigest()}]"

    def register(self, value: str | Secret) -> None:
        """Remove `value` (at least 6 characters) from every text from now on."""
        plain = value.reveal() if isinstance(value, Secret) else value
        if len(plain) >= self.CHARS_MIN:
            self._spellings = {**self._spellings, plain: frozenset(_spellings(plain))}

    def forget(self, value: str | Secret) -> None:
        """Stop removing `value`, for instance a token that was rotated long ago."""
        plain = value.reveal() if isinstance(value, Secret) else value
        self._spellings = {held: spellings for held, spellings in self._spellings.items() if held != plain}

    @property
    def known_values(self) -> frozenset[Secret]:
        """Return what is registered."""
        return frozenset(map(Secret, self._spellings))

    def spans(self, text: str) -> Iterator[_Span]:
        """Find every registered value in `text`."""
        for spellings in self._spellings.values():
            for spelling in spellings:
                start = text.find(spelling)
                while start >= 0:
                    yield start, start + len(spelling), "known"
                    start = text.find(spelling, start + len(spelling))


known = Redactor()
"""The registry of this process; `scrub` asks it first."""
register, forget, set_hash_key = known.register, known.forget, known.set_hash_key


def _spellings(value: str) -> Iterator[str]:
    yield value
    raw = value.encode("utf-8", "surrogatepass")
    for encoded in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), encoded)
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield from (escaped, escaped.replace("/", "\\/"), json.dumps(escaped)[1:-1])
    for offset in range(3):
        # Only the characters made of this value alone: those at the edges also hold bits of its neighbours.
        core = b64encode(b"\0" * offset + raw).decode()[(0, 2, 3)[offset] : (offset + len(raw)) * 8 // 6]
        yield from (core, core.replace("+", "-").replace("/", "_"))


class _Detector(NamedTuple):
    """`pattern` runs only where one of `hints` stands in the lower-cased text; its group `s` is the secret."""

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]


def _detector(kind: str, hints: str, pattern: str) -> _Detector:
    return _Detector(kind, tuple(hints.split()), re.compile(pattern))


_VENDOR: Final = (
    r"(?<![A-Za-z0-9_])(?P<s>"
    r"(?:[spr]k_(?:live|test)_|whsec_|sb_secret_|github_pat_|gh[pousr]_|glpat-|glsa_|gsk_|xox[abceoprs]-|xapp-"
    r"|shp(?:at|ca|pa|ss)_|pat-(?:na|eu)\d-|sq0(?:atp|csp)-|SG\.|ya29\.|hv[sb]\.|lin_api_|dop_v1_|xkeysib-|sntrys_)[\w.~+/-]{10,512}+"
    r"|sk-[\w-]{16,512}+|AIza[\w-]{30,64}+|A(?:KIA|SIA)[A-Z0-9]{12,32}+|(?:npm|hf)_[A-Za-z0-9]{30,64}+|pypi-[\w-]{30,512}+)"
)
_VENDOR_HINTS: Final = (
    "_live_ _test_ whsec_ sb_secret_ github_pat_ ghp_ gho_ ghu_ ghs_ ghr_ glpat- glsa_ gsk_ xox xapp- shpat_ shpca_ "
    "shppa_ shpss_ pat-na pat-eu sq0 sg. ya29. hvs. hvb. lin_api_ dop_v1_ xkeysib- sntrys_ sk- aiza akia asia npm_ hf_ "
    "pypi-"
)
_DETECTORS: Final = (
    _detector("key", "-----begin", r"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY[A-Z ]{0,8}-----(?P<s>(?:[^-]|-(?!----))*+)"),
    _detector("jwt", "eyj", r"(?<![\w-])(?P<s>eyJ[\w-]{5,16384}+(?:\.[\w-]{0,16384}+){1,4}+)"),
    _detector("vendor", _VENDOR_HINTS, _VENDOR),
    _detector("bearer", "bearer basic", r"[bB](?i:earer|asic) {1,4}(?P<s>[\w.~+/-]{8,16384}+={0,2}+)(?![\"=])"),
    _detector(
        "cookie",
        "cookie",
        r"[cC](?i:ookie2?)\\?[\"']?\s{0,4}[:=,]\s{0,4}b?\\?[\"']?(?P<s>[^\s=;\"']{1,128}+=[^\r\n\"']*+)",
    ),
    _detector(
        "header",
        "authorization x-api-key",
        r"[aAxX](?i:uthorization|-api-key)[\"']\s?,\s?b?[\"'](?P<s>[^\"'\r\n]{3,16384}+)",
    ),
    _detector("url", "://", r"://[^\s:/?#@\"'<>]{0,128}+:(?P<s>[^\s/?#\"'<>]{1,512})@"),
    _detector("url", "://", r"://(?P<s>[^\s:/?#@\"'<>]{16,512}+)@"),
    # Passwords in a DSN are often not percent-encoded: there everything up to the last @ counts.
    _detector(
        "url",
        "://",
        r"(?:sql|ongodb|edis|amqp)[a-z0-9+]{0,16}+://[^\s:/@]{0,128}+:(?P<s>[^\s\"'<>]{1,512})@",
    ),
    _detector("query", "key= code= auth=", r"[?&](?:key|code|auth)=(?P<s>[^\s&\"'<>]{10,2048}+)"),
    _detector(
        "webhook",
        "hooks. /webhooks/ /bot",
        r"(?:hooks\.slack\.com/[a-z]{1,12}/|/api/webhooks/\d{1,24}/|/bot\d{6,12}:)(?P<s>[\w/-]{16,256}+)",
    ),
    _detector(
        "option",
        "--",
        r"(?<![\w-])--(?:[a-z]{1,16}-){0,3}(?:password|passwd|token|secret|key) {1,4}[\"']?(?P<s>[^\s\"']{3,4096}+)",
    ),
    _detector("option", "-u", r"(?<!\S)-u {1,4}[\"']?[^\s:\"']{1,128}+:(?P<s>[^\s\"']{1,4096}+)"),
)
_CARD: Final = re.compile(r"[3-6](?<![\w.-].)(?:\d[ -]?){11,17}\d(?![\w-])", re.DOTALL)
_CARD_LENGTHS: Final = {"3": (14, 15, 16), "4": (13, 16, 19), "5": (16,), "6": (16, 19)}

_DENIED: Final = (
    *("password", "passwd", "passphrase", "passcode", "secret", "token", "credential", "credentials", "authorization"),
    *("signature", "apikey", "secretkey", "accesskey", "privatekey", "signingkey", "encryptionkey", "accountkey"),
    *("authkey", "masterkey", "rolekey", "anonkey", "sharedkey", "licensekey", "subscriptionkey", "sessionkey"),
    *("sessionid", "sessid", "cookie"),
)
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_DENIED_WORDS: Final = frozenset({"pwd", "pass", "sig", "sid", "otp", "pin", "cvv", "cvc", "jwt"})
_LAST_WORDS: Final = {
    "pass": ("password", "passwd", "pass", "passphrase", "passcode"),
    "sess": ("sessionid", "session_id", "session-id", "sessid"),
    "cred": ("credential", "credentials"),
    "cv": ("cvv", "cvc"),
    **{
        word: (word,)
        for word in (
            *("secret", "token", "key", "authorization", "signature"),
            *("pwd", "sig", "sid", "otp", "pin", "jwt"),
        )
    },
}
"""Hint -> last words of denied names that hold it."""
_VALUE: Final = re.compile(
    r"\d{0,2}(?:(?:\\{0,3}[\"']|%22)?\]?\s{0,4}(?:=>|:=|[:=]|%3[AaDd])\s{0,4}|>)"
    r"(?:(?i:bearer|basic|token|digest|negotiate|apikey|jwt|bot|oauth|key) {1,4})?"
    r"(?:b?\"(?P<double>(?:[^\"\\]|\\.)*+)|b?'(?P<single>(?:[^'\\]|\\.)*+)"
    r"|\\{1,3}[\"'](?P<escaped>(?:[^\"'\\]|\\(?![\"'\\]))*+)|%22(?P<percent>[^%&\s]*+)"
    r"|(?P<bare>(?!\$\{|\{\{|%\()[^\s\"'&;<>]{3,16384}+))",
    re.DOTALL,
)
_PLAIN: Final = (
    "a an and are as at be been by can cannot could did do does expired empty failed false for format from has have "
    "header if in incorrect invalid is it malformed mismatch missing must no none not null or provided please rejected "
    "required revoked should string that the this to true undefined unknown use used value was were when with wrong "
    "you your"
)
_PLAIN_WORDS: Final = frozenset(_PLAIN.split())
"""What follows a name in prose ("password: must be ...") and is no secret."""
_NO_NAME: Final = re.compile(
    r"(?:invalid|expired|missing|bad|unknown|revoked|wrong)[_-][a-z_-]{0,24}$|unexpected [a-z]+$|\[redacted:\w+$"
)
_AFTER_NAME: Final = frozenset("0123456789\"'\\%]:=> \t")
_DETECTORS_OF: Final = {
    hint: tuple(detector for detector in _DETECTORS if hint in detector.hints)
    for hint in dict.fromkeys(hint for detector in _DETECTORS for hint in detector.hints)
}
_HINTS: Final = {
    gate: tuple(hint for hint in {**_DETECTORS_OF, **_LAST_WORDS} if hint.strip(_LETTERS + "0123456789")[:1] == gate)
    for gate in ("_", "-", ":", ".", "/", "=", "")
}
"""Character that a text must hold -> hints worth looking for: most texts lack most of the characters."""


def scrub(text: str) -> str:
    """Return `text` without secrets, at most 16 kB of it.

    Each secret becomes `[REDACTED:kind:hash4]`; the keyed hash keeps equal secrets comparable.
    """
    text = _cut(text)
    lowered = text.lower()
    if len(lowered) != len(text):  # a few letters grow when lowered, and positions must stay
        lowered = "".join(letter.lower() if letter.isascii() else letter for letter in text)
    spans = list(known.spans(text))
    hints = [hint for gate, gated in _HINTS.items() if gate in lowered for hint in gated if hint in lowered]
    if hints:
        spans += _named(text, lowered, hints)
        spans += _patterned(text, hints)
    spans += [(*match.span(), "card") for match in _CARD.finditer(text) if _is_card(match[0])]
    return _replace(text, spans) if spans else text


def _cut(text: str) -> str:
    if len(text) <= CHARS_MAX:
        return text
    head, tail = text[:_HEAD], text[-_TAIL:]
    # A token torn by the cut is no longer recognised, so the pieces at both edges go as well.
    head = head[: max(head.rfind(" "), head.rfind("\n"), _HEAD - _EDGE)]
    gaps = [at for at in (tail.find(" "), tail.find("\n")) if at >= 0]
    tail = tail[min([*gaps, _EDGE]) :]
    return f"{head} [CUT:{len(text) - len(head) - len(tail)}] {tail}"


def _named(text: str, lowered: str, hints: list[str]) -> Iterator[_Span]:
    for word in [word for hint in hints for word in _LAST_WORDS.get(hint, ())]:
        at = lowered.find(word)
        while at >= 0:
            after = at + len(word)
            span = _value_span(text, after, lowered[max(0, at - 24) : after])
            if span is not None:
                yield span
            at = lowered.find(word, after if span is None else span[1])


def _value_span(text: str, after: int, name: str) -> _Span | None:
    if text[after : after + 1] not in _AFTER_NAME or not _is_denied(name) or _NO_NAME.search(name):
        return None
    match = _VALUE.match(text, after)
    if match is None or match.lastgroup is None or not _is_secret(match[match.lastgroup]):
        return None
    start, end = match.span(match.lastgroup)
    return start, max(start + 1, start + len(text[start:end].rstrip(",.:)]}"))), "named"


def _is_denied(name: str) -> bool:
    """Tell whether `name` ends as the name of a secret does, in any notation: apiKey, API_KEY, x-api-key."""
    flat = name.replace("_", "").replace("-", "").replace(" ", "")
    return flat.endswith(_DENIED) or name[len(name.rstrip(_LETTERS)) :] in _DENIED_WORDS


def _is_secret(value: str) -> bool:
    return value.lower().rstrip(".,:)]}") not in _PLAIN_WORDS and value.strip("*xX•. ") != ""


def _patterned(text: str, hints: list[str]) -> Iterator[_Span]:
    for detector in dict.fromkeys(detector for hint in hints for detector in _DETECTORS_OF.get(hint, ())):
        for match in detector.pattern.finditer(text):
            if detector.kind != "bearer" or not _is_word(match["s"]):
                yield *match.span("s"), detector.kind
    if "--" in hints:
        yield from _headless_keys(text)


def _is_word(value: str) -> bool:
    return len(value) < 20 and value.isalpha() and value.islower()


def _is_card(text: str) -> bool:
    digits = [int(digit) for digit in text if digit not in " -"]
    doubled = sum(sum(divmod(digit * 2, 10)) for digit in digits[-2::-2])
    return len(digits) in _CARD_LENGTHS[text[0]] and (doubled + sum(digits[-1::-2])) % 10 == 0


def _headless_keys(text: str) -> Iterator[_Span]:
    """Find the rest of a key whose beginning was cut off."""
    for match in re.finditer(r"-----END [A-Z0-9 ]{0,32}PRIVATE KEY", text):
        body = text[: match.start()]
        start = len(body.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n\\"))
        if start < match.start():
            yield start, match.start(), "key"


def _replace(text: str, spans: list[_Span]) -> str:
    pieces: list[str] = []
    done = 0
    for start, end, kind in _merged(text, spans):
        pieces += (text[done:start], known.mark(kind, text[start:end]))
        done = end
    return "".join((*pieces, text[done:]))


def _merged(text: str, spans: list[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= end or (kind != "known" and _is_marked(text, start, end)):
            continue
        if merged and start < merged[-1][1]:
            first, last, first_kind = merged.pop()
            merged.append((first, max(last, end), first_kind))
        else:
            merged.append((start, end, kind))
    return merged


_MARK: Final = re.compile(r"\[REDACTED:\w{1,16}:[0-9a-f]{4}\]")


def _is_marked(text: str, start: int, end: int) -> bool:
    """Tell whether a span lies in or cuts through an earlier mark, which a second pass must leave alone."""
    for place in (start, end - 1):
        at = text.rfind("[REDACTED:", max(0, place - 32), place + 10)
        mark = _MARK.match(text, at) if at >= 0 else None
        if (
            mark is not None
            and at <= place < mark.end()
            and not (start <= at and mark.end() <= end and end - start > mark.end() - at)
        ):
            return True
    return False


def scrub_tree(value: Any) -> Any:
    """Return a JSON-like tree without secrets: values under denied names replaced, all other text scrubbed.

    Below 12 levels and after 1,000 entries it is cut, with a mark.
    """
    return _scrub_node(value, 0)


def _scrub_node(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        text = scrub(str(value))
        return text if "[REDACTED:" in text else value
    if not isinstance(value, Mapping | list | tuple):
        return scrub(str(value))
    if depth == _DEPTH_MAX:
        return f"[CUT:deeper than {_DEPTH_MAX} levels]"
    rest = [f"[CUT:{len(value) - _WIDTH_MAX}]"] if len(value) > _WIDTH_MAX else []
    if isinstance(value, Mapping):
        kept = {scrub(str(name)): _scrub_entry(name, item, depth) for name, item in islice(value.items(), _WIDTH_MAX)}
        return kept | dict.fromkeys(rest)
    return [_scrub_node(item, depth + 1) for item in value[:_WIDTH_MAX]] + rest


def _scrub_entry(name: Any, value: Any, depth: int) -> Any:
    if value in (None, "", True, False) or not _is_denied(str(name).lower().rstrip("0123456789")):
        return _scrub_node(value, depth + 1)
    return known.mark("named", str(value))


_MARKS: Final = re.compile(
    r"[\[<({](?:redacted|filtered|masked|hidden|removed|secret)|\*{3}|•{3}|__redacted__|\[cut:", re.IGNORECASE
)


def has_marks(value: Any) -> bool:
    """Tell whether somebody took something out of this JSON-like payload: then it cannot be sent again."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            waiting += item
        elif isinstance(item, str) and _MARKS.search(item):
            return True
    return False


def shape(value: Any) -> Any:
    """Return the structure of a JSON-like payload: names and types, never a value.

    A list shows each structure of its items once; below 12 levels only the type remains.
    """
    return _shape_node(value, 0)


def _shape_node(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping) and depth < _DEPTH_MAX:
        entries = islice(value.items(), _WIDTH_MAX)
        return {scrub(str(name))[:_NAME_MAX]: _shape_node(item, depth + 1) for name, item in entries}
    if isinstance(value, list | tuple) and depth < _DEPTH_MAX:
        shapes: list[Any] = []
        for item in value[:_WIDTH_MAX]:
            found = _shape_node(item, depth + 1)
            if found not in shapes:
                shapes.append(found)
        return shapes
    return _TYPE_NAMES.get(type(value), "string")


_TYPE_NAMES: Final[Mapping[type, str]] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
    tuple: "array",
}
_EVIDENCE: Final = frozenset(
    {"retry-after", "retry-after-ms", "www-authenticate", "date", "content-type", "cf-ray", "x-request-id"}
)


def evidence_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Keep the headers that say something about a failure, with lower-case names and scrubbed values."""
    kept = {str(name).lower(): value for name, value in headers.items()}
    return {
        name: scrub(str(value)[:_HEADER_MAX])
        for name, value in kept.items()
        if name in _EVIDENCE or name.startswith(("x-ratelimit-", "ratelimit"))
    }
