"""Which requests have to go one after another? Pure: a request in, its ordering key out.

Those of one account that change the same thing: what the sender names (`ordering_key`), otherwise what PUT, PATCH and
DELETE address. A POST makes something new at an address that many share, a GET changes nothing: both are free.
"""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

from prunella.core.records import Request

_ADDRESSED = frozenset({"PUT", "PATCH", "DELETE"})  # RFC 9110 section 9.3: they act on the resource they are sent to


def key_of(account: str, request: Request) -> str:
    """Return a request's ordering key, empty where it may go whenever it likes.

    A digest: addresses and users' keys may hold what belongs into no row.
    """
    if request.ordering_key is not None:
        about = f"key {request.ordering_key}" if request.ordering_key else ""
    else:
        path = urlsplit(request.endpoint).path.rstrip("/") if request.method.upper() in _ADDRESSED else ""
        about = f"path /{path.lstrip('/')}" if path else ""
    if not about:
        return ""
    return hashlib.blake2b(f"{account}\n{about}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
