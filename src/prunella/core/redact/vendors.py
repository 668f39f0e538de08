"""Tokens that say by their own beginning or shape whose they are; ids and publishable keys look alike and stay.

Only words long enough to be a token are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from prunella.core.redact.marks import Span

WORD_BEGINS: Final = r"(?:(?<![A-Za-z0-9_])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))"
"""Behind no letter, or behind one that is only the end of an escape."""
_LONG_WORD: Final = re.compile(r"[^A-Za-z0-9_.~-][A-Za-z0-9_.~-]{16,}+")
"""Begins with what divides it from the word before, because a search for one character out of a set is quick."""

_PREFIXES: Final = """
    AGE-SECRET-KEY-1 ATATT3 ATCTT3 CCIPAT_ CFPAT- FLWSECK- FLWSECK_ GOCSPX- GR1348941 HRKU- NRAK- NRII- NRIQ- PMAK-
    apify_api_ bkua_ cfat_ cfut_ dckr_pat_ doo_v1_ dop_v1_ dor_v1_ dp.audit. dp.ct. dp.pt. dp.sa. dp.scim. dp.st.
    dt0c01. dt0s01. dt0s16. duffel_live_ duffel_test_ figd_ gho_ ghp_ ghr_ ghs_ ghu_ github_pat_ glagent- glcbt- gldt-
    glft- glimt- gloas- glpat- glptt- glrt- glsa_ glsoat- gsk_ hcaik_ hvb. hvr. hvs. klarna_live_ klarna_test_ lin_api_
    lin_oauth_ lsv2_pt_ lsv2_sk_ nfp_ ntn_ nvapi- ops_eyJ pnb_ pnu_ pplx- prunella_link_ prunella_live_ pscale_oauth_
    pscale_pw_ pscale_tkn_ rdme_ rk_live_ rk_test_ rubygems_ rzp_live_ rzp_test_ sb_secret_ sbp_ shippo_live_
    shippo_test_ shpat_ shpca_ shppa_ shpss_ shptka_ shpua_ sk_live_ sk_test_ sntryi_ sntrys_ sntryu_ sq0atp- sq0csp-
    ssk_live_ tfp_ tgp_v1_ tskey- vcp_ whsec_ xai- xapp- xkeysib- xsmtpsib- xoxa- xoxb- xoxc- xoxd- xoxe- xoxe. xoxo-
    xoxp- xoxr- xoxs- ya29.
"""
"""Beginnings that are followed by nothing but a secret."""

_SHAPES: Final = (
    r"sk-(?=[a-z-]{0,24}+[A-Z\d_])[\w-]{16,512}+",  # without a digit or a capital it is a name in a stylesheet
    r"sk_[0-9a-f]{40,64}+",
    r"(?:npm|hf)_[A-Za-z0-9]{30,64}+",
    r"pypi-[\w-]{30,512}+",
    r"pat-(?:na|eu|ap)\d-[\w-]{16,64}+",
    r"pat[A-Za-z0-9]{14}\.[0-9a-f]{40,64}+",
    r"key-[0-9a-f]{32}(?!\w)",
    r"[0-9a-f]{32}-us\d{1,2}(?!\w)",
    r"SK[0-9a-f]{32}(?!\w)",
    r"SG\.[\w-]{16,32}\.[\w-]{30,64}+",
    r"[\w~.-]{3}\dQ~[\w~.-]{31,34}",  # a client secret of Microsoft Entra
    r"[MNO][\w-]{22,28}\.[\w-]{6}\.[\w-]{27,40}+",  # a bot of Discord
    r"00[\w-]{40}(?![\w-])",  # Okta
    r"s\.(?=[a-z]{0,22}[A-Z\d])[A-Za-z0-9]{24}(?!\w)",  # Vault, of old
    r"[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,90}+",
    r"(?:sdk|mob|api)-[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",
    r"access-(?:sandbox|development|production)-[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",
    r"[0-9a-f]{36}NRAL(?!\w)",
    r"(?:live|test)_[A-Za-z0-9]{30,40}(?!\w)",
    r"(?:secret|glc|ATBB)_?[A-Za-z0-9]{32,512}+",
    r"re_[A-Za-z0-9]{6,12}_[A-Za-z0-9]{20,40}+",
    r"r8_[A-Za-z0-9]{30,40}+",
    r"aio_[A-Za-z0-9]{28}(?!\w)",
    r"rpa_[A-Z0-9]{40}",
    r"sq[aup]_[0-9a-f]{40}",
    r"sgp_[\w-]{40,80}+",
    r"(?:dapi|pul-|ico-)[A-Za-z0-9]{32,40}(?!\w)",
    r"(?:fm1|fm2|fo1)_[\w=-]{40,512}+",
    r"sl\.(?:u\.)?[\w-]{60,1024}+",
    r"mfa\.[\w-]{60,100}+",
    r"oy2[a-z0-9]{43}(?!\w)",
    r"sha256~[\w-]{43}(?!\w)",
)
_BARE_SHAPES: Final = (
    r"AIza[\w-]{30,}+",
    r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{12,}+",
    r"LTAI[A-Za-z0-9]{12,24}(?!\w)",
    r"A21AA[\w-]{60,512}+",
    r"AQE(?=[A-Za-z]{0,40}+\d)[\w.-]{60,512}+",
    r"dG9rO[A-Za-z0-9]{40,512}+",
    r"EAA(?=[A-Za-z]{0,40}+\d)[\w-]{55,512}+",
    r"EZ[AT]K[A-Za-z0-9]{50,60}(?!\w)",
    r"AKCp(?=[A-Za-z]{0,40}+\d)[A-Za-z0-9]{60,80}+",
)
"""Nothing divides their beginning from the rest, so that what follows + or / may as well be a picture in Base64."""


def _any_of(prefixes: Sequence[str]) -> str:
    """Return one pattern that looks at the first letter once."""
    by_letter: dict[str, list[str]] = {}
    for prefix in prefixes:
        by_letter.setdefault(prefix[0], []).append(re.escape(prefix[1:]))
    return "|".join(f"{letter}(?:{'|'.join(rests)})" for letter, rests in by_letter.items())


_TOKEN: Final = re.compile(
    rf"{WORD_BEGINS}(?:(?:{_any_of(_PREFIXES.split())})[\w.~=-]{{10,}}+"
    rf"|{'|'.join(_SHAPES)}|(?<![+/])(?:{'|'.join(_BARE_SHAPES)}))"
)


def tokens(text: str) -> Iterator[Span]:
    """Find what is a token by its looks alone."""
    begun = " " + text
    for word in _LONG_WORD.finditer(begun):
        for match in _TOKEN.finditer(begun, word.start() + 1, word.end()):
            yield match.start() - 1, match.start() - 1 + len(match[0].rstrip(".~-=")), "vendor"
