"""What each kind means for whoever has to act, and what an HTTP status means by itself.

No logic here, and nothing about any service: that stands in `profiles/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prunella.core.records import Actor

FACTS: Final[Mapping[str, tuple[bool, Actor, str]]] = {
    "auth.expired": (True, Actor.SYSTEM, "Refresh the access token, then repeat the call once."),
    "auth.invalid": (False, Actor.OWNER, "Refreshing cannot help: have the account reconnected or the key replaced."),
    "auth.permission": (False, Actor.OWNER, "The caller is known but not allowed: ask for the scope, role or share."),
    "rate_limit.window": (True, Actor.SYSTEM, "Wait as long as the service asks, then go on at a lower rate."),
    "rate_limit.quota": (True, Actor.SYSTEM, "Park the calls until the quota is renewed or the plan is raised."),
    "network.timeout": (
        True,
        Actor.SYSTEM,
        "Back off and try again; a write may have arrived, so look before repeating.",
    ),
    "network.dns": (True, Actor.SYSTEM, "Back off and try again; if it lasts, check the host name and the resolver."),
    "network.connection": (True, Actor.SYSTEM, "Back off and try again; nobody answered or the line broke."),
    "network.tls": (False, Actor.OPERATOR, "Check certificate, host name and protocol; trying again changes nothing."),
    "network.server": (True, Actor.PROVIDER, "Back off, try again and watch the provider's status page."),
    "network.contention": (True, Actor.SYSTEM, "Try again shortly: a lock or a pool slot was taken by somebody else."),
    "data.validation": (False, Actor.DATA_OWNER, "Correct the record: the service does not take it as it is."),
    "data.conflict": (False, Actor.SYSTEM, "Read what is there, then update it instead of creating it again."),
    "data.not_found": (False, Actor.DATA_OWNER, "Check the reference: the record is not or no longer there."),
    "data.too_large": (False, Actor.DEVELOPER, "Send less at once: split, page or shorten."),
    "data.bad_response": (False, Actor.DEVELOPER, "Compare the answer with the contract: it could not be read."),
    "data.business": (False, Actor.DATA_OWNER, "The service understood and declined: settle the case itself first."),
    "config": (False, Actor.DEVELOPER, "Correct the set-up of the call: address, method, version, name or setting."),
    "bug": (False, Actor.DEVELOPER, "Correct the code: the call was never made properly."),
    "billing": (False, Actor.OWNER, "Settle the account with the provider."),
    "policy": (False, Actor.OPERATOR, "Ask the provider or the firewall's owner why the call is blocked."),
    "cancelled": (False, Actor.SYSTEM, "Nothing to repair: the caller gave up."),
    "resource": (False, Actor.OPERATOR, "Free disk, memory or file handles on the machine that failed."),
    "unclassified": (False, Actor.OPERATOR, "Look at the evidence and decide; no rule knows this failure."),
}
"""Kind -> (would the same call succeed later, who moves next, what to do)."""

STATUSES: Final[Mapping[int, tuple[str, float]]] = {
    401: ("auth.expired", 0.95),
    403: ("auth.permission", 0.95),
    429: ("rate_limit.window", 0.95),
    408: ("network.timeout", 0.90),
    **dict.fromkeys((500, 502, 503), ("network.server", 0.90)),
    504: ("network.timeout", 0.90),
    **dict.fromkeys((400, 422), ("data.validation", 0.85)),
    **dict.fromkeys((419, 440, 498), ("auth.expired", 0.80)),
    **dict.fromkeys((407, 495, 496, 511), ("auth.invalid", 0.80)),
    **dict.fromkeys((424, 425, 520, 527, 529), ("network.server", 0.80)),
    **dict.fromkeys((444, 521, 523), ("network.connection", 0.80)),
    **dict.fromkeys((522, 524, 598, 599), ("network.timeout", 0.80)),
    **dict.fromkeys((525, 526), ("network.tls", 0.80)),
    423: ("network.contention", 0.60),
    530: ("network.dns", 0.70),
    **dict.fromkeys((404, 410), ("data.not_found", 0.80)),
    **dict.fromkeys((409, 412), ("data.conflict", 0.80)),
    **dict.fromkeys((413, 414, 431, 494), ("data.too_large", 0.85)),
    416: ("data.validation", 0.70),
    **dict.fromkeys((301, 302, 307, 308), ("config", 0.60)),
    **dict.fromkeys((405, 406, 415, 417, 426, 428, 501, 505), ("config", 0.80)),
    402: ("billing", 0.75),
    451: ("policy", 0.85),
    499: ("cancelled", 0.85),
    507: ("resource", 0.80),
    509: ("rate_limit.quota", 0.80),
}
"""HTTP status -> kind and confidence; the figures of document B for the statuses that it names."""

FINER: Final[Mapping[str, frozenset[str]]] = {
    "network.server": frozenset(
        {"network.dns", "network.tls", "network.contention", "network.timeout", "network.connection"}
    ),
    "network.connection": frozenset(
        {
            "auth.invalid",
            "config",
            "network.server",
            "resource",
            "network.dns",
            "network.tls",
            "network.contention",
            "network.timeout",
        }
    ),
    "network.timeout": frozenset({"network.contention"}),
    "network.tls": frozenset({"network.connection"}),
    "rate_limit.window": frozenset({"data.too_large", "rate_limit.quota"}),
    "rate_limit.quota": frozenset({"rate_limit.window"}),
    "auth.expired": frozenset({"auth.invalid"}),
    "data.conflict": frozenset({"data.validation"}),
    "bug": frozenset({"config", "network.connection", "data.bad_response"}),
}
"""Kind -> what the words of the text may make of it."""

WORD_CONFIDENCE: Final = {"rate_limit": 0.95, "network": 0.90, "data": 0.85, "auth": 0.80}
"""Category -> confidence of words alone; the first three are the figures of document B."""
