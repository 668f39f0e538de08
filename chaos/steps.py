"""What the user of a story registered: steps for orders that are stuck."""

from __future__ import annotations

from typing import Any

from prunella.plugin import Outcome, remedy


@remedy("tell_vendor", per="row", idempotent=True)
async def tell_vendor(ctx: Any, row: Any) -> Outcome:
    """Ask a vendor to take the order, under the run's own key; then the order is theirs."""
    reply = await ctx.egress.request("vendor", "POST", "/orders", json={"order": f"order-{row['id']}"})
    if reply.status != 200:
        return Outcome.failed(f"the vendor answered {reply.status}")
    return Outcome.changed(status="CONFIRMED", vendor_id=7)


@remedy("tell_vendor_once", per="row")
async def tell_vendor_once(ctx: Any, row: Any) -> Outcome:
    """Do the same at a vendor who honours no keys: nobody may repeat it for us."""
    return await tell_vendor(ctx, row)
