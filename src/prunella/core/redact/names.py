"""Values that stand beside the name of a secret, in whichever notation: assignments, markup, forms, sentences.

What follows a name is often no secret but says what is wrong with it ("password: must be ..."): that stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from prunella.core.redact.marks import FOREIGN, Span

_KEYS: Final = (
    "access account admin anon api app application auth client consumer deploy encryption decryption fastly function "
    "functions hmac integration license master private rsa role secret server service session shared signing ssh "
    "ssl storage subscription tls webhook write"
)
_CODES: Final = "activation auth authentication backup login mfa otp recovery security verification 2fa onetime"
_DENIED: Final = (
    *("password", "passwd", "passphrase", "passcode", "passwort", "contraseña", "senha", "motdepasse"),
    *("secret", "token", "credential", "credentials", "authorization", "signature", "codeverifier"),
    *("sessionid", "sessid", "cookie", "clientassertion", "samlresponse", "samlrequest", "samlassertion"),
    *("csrf", "xsrf", "csrftoken", "mnemonic", "seedphrase", "recoveryphrase", "clientkeydata"),
    *(f"{word}key" for word in _KEYS.split()),
    *(f"{word}code" for word in _CODES.split()),
)
_DENIED_WORDS: Final = frozenset({"pwd", "pass", "sig", "sid", "otp", "totp", "pin", "cvv", "cvc", "jwt", "hmac"})
_WEAK_WORDS: Final = frozenset({"auth", "assertion"})
"""Names that often hold a word; only what looks like a token is a secret."""
_OAUTH: Final = ("grant_type", "redirect_uri", "code_verifier", "authorization_code", "oauth")
"""Only beside one of these is what is called `code` a secret, and not the number of an error."""
LAST_WORDS: Final = {
    "pass": ("password", "passwd", "pass", "passphrase", "passcode", "passwort", "motdepasse", "mot_de_passe"),
    "sess": ("sessionid", "session_id", "session-id", "sessid"),
    "cred": ("credential", "credentials"),
    "cv": ("cvv", "cvc"),
    "srf": ("csrf", "xsrf"),
    "sig": ("sig", "signature"),
    "auth": ("auth", "authorization"),
    "saml": ("samlresponse", "samlrequest"),
    "phrase": ("seed_phrase", "seed phrase", "recovery_phrase", "recovery phrase", "recoveryphrase"),
    **{
        word: (word,)
        for word in (
            *(
                "secret",
                "token",
                "key",
                "verifier",
                "assertion",
                "code",
                "pwd",
                "sid",
                "otp",
                "pin",
                "jwt",
                "hmac",
                "senha",
            ),
            *("contraseña", "mnemonic", "client-key-data"),
        )
    },
}
"""Hint -> last words of denied names that hold it."""

_SCHEME: Final = (
    r"(?:(?i:bearer|basic|token|digest|negotiate|apikey|jwt|bot|oauth|key|ssws|splunk|dpop|sso-key) {1,4}|sha\d{1,3}=)?"
)
_QUOTED: Final = (
    rf"b?\"{_SCHEME}(?P<double>(?:[^\"\\]|\\.)*+)|b?'{_SCHEME}(?P<single>(?:[^'\\]|\\.)*+)"
    rf"|\\{{1,3}}[\"']{_SCHEME}(?P<escaped>(?:[^\"'\\]|\\(?![\"'\\]))*+)"
    r"|&(?:quot|apos|#34|#39|#x27);(?P<entity>(?:[^&\s]|&(?!(?:quot|apos|#34|#39|#x27);))*+)"
)
_ASSIGNED: Final = re.compile(
    r"(?:-?(?:(?i:sha)-?)?\d{1,3})?(?:(?:\\{0,3}[\"']|%22|&(?:quot|apos|#34|#39|#x27);)?\]?\s{0,4}(?:=>|:=|[:=]|%3[AaDd])\s{0,4}|>)"
    rf"{_SCHEME}(?:string\(\d{{1,6}}\) |[A-Z][A-Za-z]{{2,20}}\((?=[\"']))?(?:{_QUOTED}|%22(?P<percent>[^%&\s]*+)"
    r"|\{(?P<braced>[^{}\s]{3,512}+)\}(?=;)"
    r"|(?P<bare>(?!\$\{|\{\{|%\(|[A-Za-z_]{1,64}+(?:\.[A-Za-z_]{1,64}+){0,6}+[(\[])[^\s\"'&;<>]{3,16384}+))",
    re.DOTALL,
)
_BESIDE: Final = re.compile(
    r"(?:\\{0,3}[\"']|&(?:quot|apos|#34|#39|#x27);)?\s{0,4}[,;]?\s{0,40}-?\s{0,4}\\{0,3}[\"']?(?i:value|content)\\{0,3}[\"']?\s{0,4}[:=]\s{0,4}"
    rf"(?:{_QUOTED}|(?P<bare>[^\s\"'&;<>,]{{3,16384}}+))",
    re.DOTALL,
)
"""`name="token" value="..."`, `{"name": "TOKEN", "value": "..."}`, `name: TOKEN` and `value: ...` on the next line."""
_ELEMENT: Final = re.compile(r"(?:\s{1,4}[\w:.-]{1,64}=\"[^\"<>]{0,256}\"){1,4}\s?>(?P<bare>[^<>]{3,16384}+)")
_PART: Final = re.compile(
    r"[\"'](?:;[^\r\n\\]{0,200}+)?(?:(?:\r?\n|\\r\\n|\\n)[A-Za-z-]{1,40}:[^\r\n\\]{0,200}+){0,3}"
    r"(?:\r?\n|\\r\\n|\\n){2}(?P<bare>[^\r\n\\]{3,16384}+)"
)
"""A field of a multipart form."""
_PAIR: Final = re.compile(rf"[\"']\s?,\s?(?:{_QUOTED})", re.DOTALL)
_SAID: Final = re.compile(
    r"(?: (?:is|was|of|value|header|provided|sent|used|received|given|for user [^\s]{1,64}))?:?(?: =)? [\"'`(<]?"
    r"(?P<bare>[\w.~+/=-]{4,16384}+)"
)
_SAID_QUOTED: Final = re.compile(r" {1,4}(?:'(?P<single>[^'\s]{3,256}+)'|\"(?P<double>[^\"\s]{3,256}+)\")")

_PLAIN: Final = (
    "a an and are as at be been by can cannot changed could did do does disabled empty enabled error expired failed "
    "failure false for format from given has have header if in incorrect invalid is it malformed mismatch missing must "
    "n/a nil no none not null off on or present provided please rejected required revoked set should string that the "
    "this to true undefined unknown unset use used value was were when with wrong yes you your "
    "basic bearer digest negotiate"  # a scheme alone, as a message that explains a header writes it
)
_PLAIN_WORDS: Final = frozenset(_PLAIN.split())
"""What follows a name in prose ("password: must be ...") and is no secret."""
_NO_NAME: Final = re.compile(
    r"(?:invalid|expired|missing|bad|unknown|revoked|wrong)[_-][a-z_-]{0,24}$|unexpected [a-z]+$|\[redacted:\w+$"
    r"|public[_-]?key$|(?:account|message|service|call)_?sid$"
    r"|://[a-z_-]{1,24}$"  # the user of an address, whose password the address shows
)
_REFERENCE: Final = re.compile(
    r"!Ref\b|\$(?:\(|[A-Z_]{3,64}$)|https?://|[a-z_]{2,40}=$|%[sdr(]|:[a-z_]+$|(?:process\.)?env\.|secretKeyRef|secret://"
    r"|[A-Z]{2}[0-9a-f]{32}$|pk_(?:live|test)_|A[KS]IA[A-Z0-9]{16}(?:/|%2F)|[A-Z0-9]{0,8}-?HMAC-SHA"
)
"""Placeholders, the names of schemes, and what is public by its make: not the secret itself."""
_TOKEN_LIKE: Final = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z]{0,40}+\d)(?=\d{0,40}+[A-Za-z])[A-Za-z0-9]{12,}+")
_PROSE: Final = re.compile(r"[A-Za-z][a-z]{2,24} [A-Za-z(]|[A-Za-z][a-z]{2,24} (?=https?:)")
_AFTER_NAME: Final = frozenset("0123456789\"'\\%]:=>& \t\r\n-")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_LINE_CODES: Final = frozenset(f"{word}code" for word in _CODES.split()) | {"otp", "totp", "pin", "passcode"}


def named(text: str, lowered: str, hints: Iterable[str]) -> Iterator[Span]:
    """Find the values beside the names of secrets; `hints` are keys of LAST_WORDS that stand in the text."""
    oauth = any(word in lowered for word in _OAUTH)
    for word in [word for hint in hints for word in LAST_WORDS.get(hint, ())]:
        if word == "code" and not oauth and not any(one in lowered for one in _CODES.split()):
            continue
        at = lowered.find(word)
        while at >= 0:
            after = at + len(word)
            span = _value(text, after, lowered[max(0, at - 24) : after], oauth=oauth)
            if span is not None:
                yield span
            at = lowered.find(word, after if span is None else max(after, span[1]))


def is_denied(name: str) -> bool:
    """Tell whether `name`, in lower case, ends as the name of a secret does: apikey, api_key, x-api-key."""
    flat = name.replace("_", "").replace("-", "").replace(" ", "")
    return flat.endswith(_DENIED) or _last_word(name) in _DENIED_WORDS


def hides(name: str, value: str) -> bool:
    """Tell whether `value` is a secret under `name`, in lower case; some names often hold a word that is none."""
    return is_denied(name) or (_last_word(name) in _WEAK_WORDS and _TOKEN_LIKE.search(value) is not None)


def _last_word(name: str) -> str:
    return name[len(name.rstrip(_LETTERS)) :]


def _value(text: str, after: int, name: str, *, oauth: bool) -> Span | None:
    if text[after : after + 1] not in _AFTER_NAME or text.startswith("://", after):
        return None
    weak = _last_word(name) in _WEAK_WORDS or (oauth and _last_word(name) == "code")
    if not (weak or is_denied(name)) or _NO_NAME.search(name):
        return None
    for pattern in (_ASSIGNED, _BESIDE, _ELEMENT, _PART):
        match = pattern.match(text, after)
        if match is not None and match.lastgroup is not None:
            return _secret(text, match, weak=weak)
    return _said(text, after, name)


def _secret(text: str, match: re.Match[str], *, weak: bool) -> Span | None:
    group = match.lastgroup or ""
    value = match[group]
    if group == "bare" and (_REFERENCE.match(value) or _is_prose(text, match)):
        return None
    if not _is_secret(value) or (weak and not _TOKEN_LIKE.search(value)):
        return None
    start, end = match.span(group)
    return start, max(start + 1, start + len(value.rstrip(",.:)]}"))) if group == "bare" else end, "named"


def _is_prose(text: str, match: re.Match[str]) -> bool:
    """Tell whether words go on after a colon: `InvalidToken: Unauthorized request`, and not `password: hunter`."""
    start = match.start("bare")
    return text[start - 2 : start] == ": " and _PROSE.match(text, start) is not None


def _is_secret(value: str) -> bool:
    bare = value.lower().rstrip(".,:)]}")
    return (
        bare not in _PLAIN_WORDS
        and value.strip("*xX•. ") != ""
        and not FOREIGN.match(value)
        and value[:10] != "-----BEGIN"
    )


def _said(text: str, after: int, name: str) -> Span | None:
    """Read a sentence: "invalid token 'x' for y", "your verification code is 123456"."""
    pair = _PAIR.match(text, after)
    if pair is not None and pair.lastgroup is not None:
        return (*pair.span(pair.lastgroup), "named") if _TOKEN_LIKE.search(pair[pair.lastgroup]) else None
    quoted = _SAID_QUOTED.match(text, after) if name.endswith(("password", "passwd", "passphrase", "pwd")) else None
    if quoted is not None and quoted.lastgroup is not None and _is_secret(quoted[quoted.lastgroup]):
        return (*quoted.span(quoted.lastgroup), "named")
    match = _SAID.match(text, after)
    if match is None:
        return None
    value = match["bare"].rstrip(".-/=")
    flat = name.replace("_", "").replace("-", "").replace(" ", "")
    is_code = flat.endswith(tuple(_LINE_CODES)) and value.isdigit() and 4 <= len(value) <= 8
    if is_code or (_TOKEN_LIKE.search(value) and "://" not in value):
        return match.start("bare"), match.end("bare"), "named"
    return None
