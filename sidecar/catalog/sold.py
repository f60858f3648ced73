"""What was bought: which plan a biller's prices are, by `sold_as` in plans.yaml, and how many seats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.catalog.catalog import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """*plans* are those that any of the prices is, cheapest first. *seats*: None where no price sells any."""

    plans: tuple[str, ...]
    seats: int | None


def sold_by(catalog: Catalog, biller: str, items: Iterable[tuple[str, int | None]]) -> Sold:
    """*items* are prices, each with its quantity; a price that no plan is sold as says nothing."""
    known = {
        each.price: (plan.name, each.seats)
        for plan in catalog.plans.values()
        for each in plan.sold_as
        if each.biller == biller
    }
    bought = [(*known[price], quantity) for price, quantity in items if price in known]
    names = {plan for plan, _, _ in bought}
    seats = [quantity for _, is_seat, quantity in bought if is_seat and quantity is not None]
    return Sold(
        plans=tuple(name for name in catalog.plans if name in names), seats=sum(seats) if seats else None
    )
