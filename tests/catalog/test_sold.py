"""What was bought, by the prices of a biller."""

from __future__ import annotations

from sidecar.catalog.sold import Sold, sold_by
from tests.api.stripe_events import a_catalog_that_sells


def test_prices_of_another_biller_are_nothing():
    assert sold_by(a_catalog_that_sells(), "mollie", [("price_pro", 1)]) == Sold(plans=(), seats=None)


def test_prices_of_two_plans_are_both_whatever_their_order():
    sold = sold_by(a_catalog_that_sells(), "stripe", [("price_seat", 2), ("price_pro", 1)])

    assert sold == Sold(plans=("pro", "team"), seats=2)
