"""The shop's own steps: who takes an order over, and what a cancelled order is owed."""

from prunella.plugin import Outcome, remedy


@remedy("reassign_vendor", idempotent=True, reversible=True)
async def reassign_vendor(ctx, order):
    """Give the order to the open vendor with the fewest orders, and never to the one that has it."""
    others = await ctx.database.fetch_all(
        "SELECT v.id, v.name FROM vendors v LEFT JOIN orders o ON o.vendor_id = v.id "
        "WHERE v.open AND v.id <> :current GROUP BY v.id, v.name ORDER BY count(o.id), v.id LIMIT 1",
        current=order["vendor_id"] or 0,
    )
    if not others:
        return Outcome.failed("no other vendor is open")
    return Outcome.changed(status="PENDING", vendor_id=others[0]["id"], note=f"{others[0]['name']} takes it over")


@remedy("cancel_order", idempotent=True)
async def cancel_order(ctx, order):
    """Cancel the order; what was paid by credit is refunded in the same transaction."""
    if order["payment_method"] == "CREDIT":
        await ctx.database.execute(
            "INSERT INTO refunds (order_id, amount) VALUES (:order, :amount)", order=order["id"], amount=order["amount"]
        )
    return Outcome.changed(status="CANCELLED", note="cancelled: nothing else helped")
