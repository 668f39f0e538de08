"""Every page that a browser test opens, and the picture that shows it."""

from __future__ import annotations

from browser.world import World

PAGES = {
    "overview": "/",
    "incidents": "/incidents",
    "incident": "/incidents/{resolved}",
    "incident-needs-you": "/incidents/{escalated}",
    "incidents-many": "/incidents/many?act=retry&state=open_any",
    "entities": "/entities/order",
    "operations": "/operations",
    "approvals": "/approvals",
    "approval": "/approvals/{approval}",
    "operation": "/operations/{operation}",
    "services": "/services",
    "service": "/services/stripe",
    "procedures": "/procedures",
    "procedure": "/procedures/hide-zero-stock",
    "statistics": "/statistics",
    "known-issues": "/known-issues",
    "known-issue": "/known-issues/crm.lunch",
    "notifications": "/notifications",
    "audit": "/audit",
    "settings": "/settings",
}
"""Name of the picture -> address; `{…}` names an incident of the world by its state."""


def address_of(served: World, name: str) -> str:
    """Return where a page is."""
    return PAGES[name].format(**served.ids)
