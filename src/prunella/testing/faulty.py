"""FaultyServer: a real HTTP server on loopback that plays third parties on their worst days and keeps the books.

For tests of anything that calls an API: it answers by script, honours idempotency keys, rotates OAuth tokens,
receives messages, and its ledger says what a client did wrong. Must never listen beyond loopback.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from prunella.testing.leaks import Leak
from prunella.testing.ledger import Ledger, Request
from prunella.testing.oauth import TokenEndpoint, bearer_of
from prunella.testing.places import Api, Place, Receiver, checked_path, key_or_content, longest_prefix
from prunella.testing.wire import Listener
from prunella.testing.words import Hint, Reply, Script, Word, html, json_reply, ok, parse_script

_MAINTENANCE = html(503, "Down for maintenance")
_UNAUTHORISED = Word(
    name="unauthorised",
    reply=json_reply(401, {"error": "invalid_token"}, {"WWW-Authenticate": 'Bearer error="invalid_token"'}),
)  # RFC 6750 section 3


class _Playback:
    """A script being played; the last word repeats."""

    def __init__(self, words: list[Word]) -> None:
        self._words = words

    def next(self) -> Word:
        return self._words.pop(0) if len(self._words) > 1 else self._words[0]


class FaultyServer:
    """Serve on loopback from a background thread; a context manager.

    Unscripted, every request gets 200 `{"ok": true}`, and every one but GET, HEAD and OPTIONS is an effect. A request
    meets, in this order: maintenance, the bearer check, the script, the idempotency key. Paths cover what lies below
    them; where several do, the longest counts.

    Args:
        host: a loopback address; a second one makes a canary for requests that must not happen.
        port: 0 takes a free one and keeps it over stop and start.
        honour_keys: answer a repeated Idempotency-Key from memory instead of doing the deed again.
        identity: names the deed behind a request, say an order's number, so that a double effect is seen even if
            each try has a new key. Default: the key, or without one method, path and body.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        honour_keys: bool = True,
        identity: Callable[[Request], str] = key_or_content,
    ) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"FaultyServer listens on loopback only, not on {host}; use 127.0.0.1, 127.0.0.2 ...")
        self.up = True
        """Set to False to answer everything with a maintenance page (503, HTML)."""
        self.ledger = Ledger()
        self.closing = threading.Event()
        self._host = host
        self._port = port
        self._api = Api(self.ledger, honour_keys=honour_keys, identity=identity)
        self._places: dict[str, Place] = {}
        self._token_endpoints: dict[str, TokenEndpoint] = {}
        self._protected: dict[str, TokenEndpoint] = {}
        self._scripts: dict[str, _Playback] = {}
        self._windows_s: list[tuple[float, float]] = []
        self._listener: Listener | None = None
        self._thread = threading.Thread()

    # Running

    def start(self) -> Self:
        """Listen; after `stop`, on the same port as before."""
        if self._listener is not None:
            raise RuntimeError(f"FaultyServer already listens at {self.url}; stop() it first")
        self.closing.clear()
        self._listener = Listener((self._host, self._port), self)
        self._port = self._listener.server_address[1]
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.02,), name=f"FaultyServer:{self._port}", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Refuse connections and cut those that are open; the ledger stays. Stopping twice does nothing."""
        if self._listener is None:
            return
        self.closing.set()
        self._listener.shutdown()
        self._listener.server_close()
        self._listener.end_connections()
        self._thread.join()
        self._listener = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Return the address, without a slash at its end; also while stopped."""
        if not self._port:
            raise RuntimeError("FaultyServer has no address yet; call start() or use it in a with statement")
        return f"http://{self._host}:{self._port}"

    # What it plays

    def script(self, path: str, words: Script) -> None:
        """Play `words` on `path`, one per request; the last repeats. A new script replaces the old one."""
        playback = _Playback(parse_script(words))
        with self.ledger.changed:
            self._scripts[checked_path(path)] = playback

    def maintenance(self, *, in_s: float = 0.0, for_s: float) -> None:
        """Go down for a while: 503 with a page and a Retry-After in whole seconds that reaches beyond the end."""
        start_s = time.monotonic() + in_s
        with self.ledger.changed:
            self._windows_s.append((start_s, start_s + for_s))

    def protect(self, path: str, oauth: TokenEndpoint) -> None:
        """Answer 401 below `path` unless a valid access token of `oauth` is presented."""
        with self.ledger.changed:
            self._protected[checked_path(path)] = oauth

    def oauth(
        self,
        path: str,
        *,
        client_id: str,
        client_secret: str | None = None,
        expires_in: float = 3600,
        delay_s: float = 0.0,
        reuse_s: float = 0.0,
    ) -> TokenEndpoint:
        """Put a token endpoint at `path`; script it like any other.

        Args:
            path: where refreshes are posted to.
            client_id: who may refresh.
            client_secret: None is a public client.
            expires_in: life of an access token in seconds.
            delay_s: how long it thinks before it looks at the token: room for a second refresh to slip in.
            reuse_s: how long a spent refresh token is taken once more; 0: its second use is theft.
        """
        endpoint = TokenEndpoint(
            self.ledger,
            client_id=client_id,
            client_secret=client_secret,
            expires_in=expires_in,
            delay_s=delay_s,
            reuse_s=reuse_s,
        )
        with self.ledger.changed:
            self._places[checked_path(path)] = self._token_endpoints[path] = endpoint
        return endpoint

    def chat(self, path: str) -> Receiver:
        """Put a Slack-like incoming webhook at `path`: JSON objects only, answered 200 `ok`."""
        return self._receive(path, Reply(200, {"Content-Type": "text/plain"}, b"ok"), json_only=True)

    def teams(self, path: str) -> Receiver:
        """Put a Teams-like workflow webhook at `path`: JSON objects only, answered 202."""
        return self._receive(path, Reply(202), json_only=True)

    def webhook(self, path: str) -> Receiver:
        """Put a receiver of any body at `path`; it keeps headers and bytes, for checking signatures."""
        return self._receive(path, json_reply(200, {"ok": True}), json_only=False)

    def _receive(self, path: str, accepted: Reply, *, json_only: bool) -> Receiver:
        receiver = Receiver(self.ledger, accepted, json_only=json_only)
        with self.ledger.changed:
            self._places[checked_path(path)] = receiver
        return receiver

    # What it saw

    def wait_for(self, predicate: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `predicate` holds, looking at each change of the ledger; TimeoutError after `timeout_s`."""
        with self.ledger.changed:
            if not self.ledger.changed.wait_for(predicate, timeout_s):
                raise TimeoutError(f"FaultyServer: waited {timeout_s:g} s in vain; so far: {self.ledger}")

    def leaks(self, secrets: Iterable[str] = ()) -> list[Leak]:
        """Search all requests for `secrets` and for every token issued here, in every spelling.

        Their right places are left out: Authorization headers, and bodies sent to a token endpoint.
        """
        with self.ledger.changed:
            issued = {secret for endpoint in self._token_endpoints.values() for secret in endpoint.issued}
            token_paths = set(self._token_endpoints)
        return self.ledger.leaks(sorted(issued.union(secrets)), token_paths)

    # How it decides

    def answer(self, request: Request) -> tuple[Word, Reply]:
        """Decide what a request gets: the word that says how, and the reply."""
        with self.ledger.changed:
            scope = longest_prefix(self._scripts, request.path) or request.path
            self.ledger.record(request, scope)
            place = self._places.get(longest_prefix(self._places, request.path) or "", self._api)
        self.closing.wait(place.delay_s)
        with self.ledger.changed:
            word = self._word_for(request)
            reply = _reply_of(word, place, request)
            return word, self._with_hint(reply, word.hint, scope)

    def _word_for(self, request: Request) -> Word:
        closed = self._maintenance_word()
        if closed is not None:
            return closed
        guard = longest_prefix(self._protected, request.path)
        if guard is not None and not self._protected[guard].accepts(bearer_of(request)):
            return _UNAUTHORISED
        script = longest_prefix(self._scripts, request.path)
        return ok if script is None else self._scripts[script].next()

    def _maintenance_word(self) -> Word | None:
        if not self.up:
            return _MAINTENANCE
        now_s = time.monotonic()
        left_s = max((end_s - now_s for start_s, end_s in self._windows_s if start_s <= now_s < end_s), default=None)
        if left_s is None:
            return None
        return Word(name="maintenance", reply=_MAINTENANCE.reply, hint=Hint("seconds", math.ceil(left_s)))

    def _with_hint(self, reply: Reply, hint: Hint | None, scope: str) -> Reply:
        if hint is None:
            return reply
        now_epoch_s = time.time()
        wait_s = hint.wait_s(now_epoch_s)
        if wait_s is not None:
            self.ledger.ask_to_wait(scope, wait_s)
        return Reply(reply.status, {**reply.headers, **hint.headers(now_epoch_s)}, reply.body)


def _reply_of(word: Word, place: Place, request: Request) -> Reply:
    if word.effect == "told":
        return place.perform(request, word.reply)
    if word.effect == "hidden":
        own = place.perform(request, None)
        return word.reply or own
    return word.reply or Reply(200)
