"""Billing in plans.yaml: what each status of a subscription means, and what a biller sells each plan as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.catalog.catalog import Billing, SoldAs
from sidecar.catalog.node import node_at
from sidecar.catalog.read import Items, Text
from sidecar.catalog.shape import Either, Field, Line, ListOf, Record, Reference, Whole, Words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.catalog.read import Node
    from sidecar.catalog.shape import Walk

SUSPENDED = "suspended"
_GRACE_DAYS = 7  # as authz.billing_of has it for a catalog that says nothing
_MOST_GRACE_DAYS = 366

_OUTCOME = Either(
    record=Record(
        fields={"plan": Field(shape=Reference(kind="plan", verb="goes to the plan"), required=True)},
        says="a mapping with plan",
    ),
    other=Words(words=(SUSPENDED,)),
    says="the word suspended, or a mapping like {plan: starter}",
)

BILLING = Record(
    fields={
        "past_due": Field(
            shape=Record(
                fields={
                    "grace_days": Field(
                        shape=Whole(low=0, high=_MOST_GRACE_DAYS),
                        says="For how many days the plan still holds; if absent, 7.",
                    ),
                    "then": Field(shape=_OUTCOME, says="What follows the grace; if absent, suspended."),
                },
                says="a mapping with grace_days and then",
            ),
            says="A payment has failed, and is tried again.",
        ),
        "unpaid": Field(shape=_OUTCOME, says="Nothing was paid; if absent, suspended."),
        "paused": Field(shape=_OUTCOME, says="The subscription pauses; if absent, suspended."),
        "canceled": Field(shape=_OUTCOME, says="It has ended; if absent, the default plan."),
        "trial": Field(
            shape=Record(
                fields={"then": Field(shape=_OUTCOME, says="What follows; if absent, as for canceled.")},
                says="a mapping with then",
            ),
            says="A trial has ended, and nobody has paid.",
        ),
    },
    says="a mapping of a subscription's statuses",
    least=1,
)

_PRICE = Line(
    pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}",
    says="the id of a price: letters, digits, _, . and -, at most 200",
)
SOLD_AS = Record(
    fields={
        "stripe": Field(
            shape=ListOf(
                item=Either(
                    record=Record(
                        fields={
                            "price": Field(shape=_PRICE, required=True),
                            "seats": Field(
                                shape=Words(words=("quantity",)),
                                says="quantity: how many are bought is the limit of members.",
                            ),
                        },
                        says="a mapping with price",
                    ),
                    other=_PRICE,
                    says="the id of a price, or a mapping like {price: price_1, seats: quantity}",
                ),
                says="a list of prices",
                least=1,
                or_one=True,
            ),
            says="The prices of Stripe that are this plan.",
        ),
    },
    says="a mapping with stripe",
    least=1,
)


def check_sold_as(plans: Mapping[str, Node], walk: Walk) -> None:
    """A price is of one plan, and stands there once."""
    sellers: dict[tuple[str, str], tuple[str, Node]] = {}
    for name, plan in plans.items():
        for biller in SOLD_AS.fields:
            prices = node_at(plan, "sold_as", biller)
            for item in prices.items if isinstance(prices, Items) else ():
                price = item if isinstance(item, Text) else node_at(item, "price")
                if not isinstance(price, Text):
                    continue
                seller, where = sellers.setdefault((biller, price.value), (name, item))
                says = f'plan "{name}" is sold as "{price.value}"'
                if seller != name:
                    walk.find("second_price", f'{says}, as "{seller}" is: keep one of the two', price)
                elif where is not item and not (isinstance(where, Text) and item is price):
                    # Two that are the same text are a duplicate item, which is found already.
                    walk.find("second_price", f"{says} twice: keep one of the two", price)


def billing_in(file: Mapping[str, Any], *, default_plan: str) -> Billing:
    """*file* is the section, valid; what it does not say has its default."""
    past_due = file.get("past_due", {})
    canceled = _plan_of(file.get("canceled", {"plan": default_plan}))
    trial = file.get("trial", {})
    return Billing(
        grace_days=past_due.get("grace_days", _GRACE_DAYS),
        past_due=_plan_of(past_due.get("then", SUSPENDED)),
        unpaid=_plan_of(file.get("unpaid", SUSPENDED)),
        paused=_plan_of(file.get("paused", SUSPENDED)),
        canceled=canceled,
        trial=_plan_of(trial["then"]) if "then" in trial else canceled,
    )


def sold_as_in(file: Mapping[str, Any]) -> tuple[SoldAs, ...]:
    """*file* is the field of a plan, valid."""
    return tuple(
        SoldAs(
            biller=biller,
            price=price["price"] if isinstance(price, dict) else price,
            seats=isinstance(price, dict) and "seats" in price,
        )
        for biller, prices in file.items()
        for price in prices
    )


def _plan_of(outcome: Any) -> str | None:  # noqa: ANN401 - as the shape of an outcome is read
    return None if outcome == SUSPENDED else str(outcome["plan"])
