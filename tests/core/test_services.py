"""A replay goes to the service's own hosts and nowhere else, however its address is spelled."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.errors import InvalidInput
from prunella.core.services import DisableAfter, GateLimits, OAuth, Service

CRM = Service(
    name="crm",
    base_url="https://api.example.com/v1",
    hosts=frozenset({"api.example.com", "files.example.com:8443"}),
)
BASE = "https://api.example.com/v1"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("/orders", f"{BASE}/orders"),
        ("orders", f"{BASE}/orders"),
        ("/orders?limit=5#end", f"{BASE}/orders?limit=5#end"),
        ("?limit=5", f"{BASE}/?limit=5"),
        ("", f"{BASE}/"),
        ("/orders:batch", f"{BASE}/orders:batch"),
        ("/orders/a:b", f"{BASE}/orders/a:b"),
        ("/hooks?then=https://evil.test/x", f"{BASE}/hooks?then=https://evil.test/x"),
        ("/proxy/https://evil.test/x", f"{BASE}/proxy/https://evil.test/x"),
        ("//evil.test/x", f"{BASE}/evil.test/x"),
        ("///evil.test/x", f"{BASE}/evil.test/x"),
        ("https:evil.test", f"{BASE}/https:evil.test"),
        ("https:/evil.test", f"{BASE}/https:/evil.test"),
        ("javascript:alert(1)", f"{BASE}/javascript:alert(1)"),
        ("\\\\evil.test\\x", f"{BASE}/\\\\evil.test\\x"),
        ("@evil.test/", f"{BASE}/@evil.test/"),
        (":80@evil.test/", f"{BASE}/:80@evil.test/"),
        ("../../admin", f"{BASE}/../../admin"),
        ("/%2e%2e/admin", f"{BASE}/%2e%2e/admin"),
        ("/münchen/☃", f"{BASE}/münchen/☃"),
        ("https://api.example.com/v2/orders", "https://api.example.com/v2/orders"),
        ("https://api.example.com", "https://api.example.com"),
        ("https://api.example.com:443/x", "https://api.example.com:443/x"),
        ("HTTPS://API.EXAMPLE.COM/X", "HTTPS://API.EXAMPLE.COM/X"),
        ("https://api.example.com/@evil.test", "https://api.example.com/@evil.test"),
        ("https://api.example.com?@evil.test/", "https://api.example.com?@evil.test/"),
        ("https://api.example.com#@evil.test/", "https://api.example.com#@evil.test/"),
        ("https://files.example.com:8443/x", "https://files.example.com:8443/x"),
    ],
)
def test_address_of_the_service_passes(endpoint: str, url: str) -> None:
    """A path lies below base_url whatever it contains; a full address passes when host and port are the service's."""
    assert CRM.url(endpoint) == url
    assert urlsplit(CRM.url(endpoint)).hostname in ("api.example.com", "files.example.com")


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://evil.test/x",
        "https://evil.test:443/x",
        "http://127.0.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "https://[::1]/x",
        "https://api.example.com.evil.test/x",
        "https://evil-api.example.com/x",
        "https://sub.api.example.com/x",
        "https://example.com/x",
        "https://api.example.com./x",
        "https://api.example.com:8443/x",
        "https://api.example.com:80/x",
        "http://api.example.com:443/x",
        "https://api.example.com:0/x",
        "https://api.example.com:99999/x",
        "https://api.example.com:abc/x",
        "https://api.example.com:-1/x",
        "https://files.example.com/x",
        "https://files.example.com:443/x",
        "https://user@api.example.com/x",
        "https://user:word@api.example.com/x",
        "https://:word@api.example.com/x",
        "https://api.example.com@evil.test/x",
        "https://api.example.com:443@evil.test/x",
        "https://api.example.com\\@evil.test/x",
        "https://evil.test\\@api.example.com/x",
        "https://evil.test\\.api.example.com/x",
        "https://evil.test%2f@api.example.com/x",
        "https://api%2eexample.com/x",
        "https://api.example.com%00.evil.test/x",
        "https://api.example.com%2f.evil.test/x",
        "https://\uff41pi.example.com/x",
        "https://api\u3002example.com/x",
        "https://api.example.com\uff0f@evil.test/x",
        "https://api.example.com\u2100.evil.test/x",
        "https://аpi.example.com/x",  # the first letter of its name is Cyrillic
        "https://[::1/x",
        "https://]/x",
        "https:///x",
        "https://",
        "ftp://api.example.com/x",
        "file:///etc/passwd",
        "gopher://api.example.com/x",
        "://api.example.com/x"[1:].replace("//", "ws://", 1),
    ],
)
def test_address_of_somebody_else_is_refused(endpoint: str) -> None:
    """Another host, port, scheme or a user in the address is refused, and always as `InvalidInput`."""
    with pytest.raises(InvalidInput, match=r"services\.crm"):
        CRM.url(endpoint)


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_no_text_makes_the_address_leave_the_service(text: str) -> None:
    """Whatever text arrives: it is refused, or it stays on the service's own hosts."""
    for endpoint in (text, f"https://{text}", f"https://api.example.com{text}", f"//{text}", f"/{text}"):
        try:
            url = CRM.url(endpoint)
        except InvalidInput:
            continue
        parts = urlsplit(url)
        assert (parts.hostname, parts.port) in {
            ("api.example.com", None),
            ("api.example.com", 443),
            ("api.example.com", 80),
            ("files.example.com", 8443),
        }
        assert not parts.username
        assert not parts.password


def test_refusal_names_the_hosts_and_the_setting() -> None:
    """The message says what is allowed and where to add a host that belongs to the service."""
    with pytest.raises(InvalidInput, match=r"host evil\.test is not its own; allowed: api\.example\.com, files"):
        CRM.url("https://evil.test/")
    with pytest.raises(InvalidInput, match=r"add it to services\.crm\.hosts"):
        CRM.url("https://evil.test/")


def test_service_without_an_address_takes_nothing() -> None:
    """Without base_url and hosts there is no host of its own: a path needs base_url, an address is refused."""
    bare = Service(name="bare")
    with pytest.raises(InvalidInput, match="set base_url or send a full URL"):
        bare.url("/orders")
    with pytest.raises(InvalidInput, match="allowed: none"):
        bare.url("https://api.example.com/x")


def test_host_of_base_url_is_allowed_without_hosts() -> None:
    """The host and port of base_url are the service's own."""
    local = Service(name="local", base_url="http://127.0.0.1:8080/api/")
    assert local.url("/x") == "http://127.0.0.1:8080/api/x"
    assert local.url("http://127.0.0.1:8080/y") == "http://127.0.0.1:8080/y"
    with pytest.raises(InvalidInput):
        local.url("http://127.0.0.1:8081/y")


@pytest.mark.parametrize(
    ("per_user", "user", "account"),
    [(True, "ada", "ada"), (True, None, ""), (False, "ada", ""), (None, "ada", "")],
)
def test_account_is_per_user_only_where_tokens_are(per_user: bool | None, user: str | None, account: str) -> None:
    """Where each user has tokens the user is the account; elsewhere the service has one account."""
    oauth = None if per_user is None else OAuth(token_url="https://t", client_id="c", per_user=per_user)
    assert Service(name="crm", oauth=oauth).account_of(user) == account


def test_defaults_are_the_documents_figures() -> None:
    """Documents B, C and E: 3 auth, 9 network in 60 minutes, 5 data, 5 unknown; gate 5 failures, 2 successes, 60 s."""
    assert DisableAfter() == DisableAfter(auth=3, network=9, network_within_s=3600.0, data=5, unknown=5)
    assert GateLimits() == GateLimits(failures=5, successes=2, open_s=60.0)
    assert (CRM.enable_again, CRM.validate, CRM.honours_idempotency_key) == ("by_person", "json", False)


def test_secrets_of_a_service_do_not_print() -> None:
    """Printing a service shows no header value and no client secret."""
    from prunella.core.redact import Secret

    oauth = OAuth(token_url="https://t", client_id="c", client_secret=Secret("hunter2"))
    assert "hunter2" not in repr(Service(name="crm", oauth=oauth, bearer=Secret("hunter2")))


@pytest.mark.parametrize(
    ("base_url", "vendors"),
    [
        ("https://api.hubapi.com", ("hubapi",)),
        ("https://shop.example.co.uk/v1", ("example",)),
        ("https://stripe.com:8443", ("stripe",)),
        ("http://10.0.0.7:8080", ()),
        ("http://localhost", ()),
        (None, ()),
    ],
)
def test_host_names_the_vendor(base_url: str | None, vendors: tuple[str, ...]) -> None:
    """Whatever a service is called here, its host leads to what is known of it."""
    assert Service(name="payments", base_url=base_url).vendors == vendors
