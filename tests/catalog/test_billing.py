"""What plans.yaml says of subscriptions: outcomes, their defaults, and the prices of a biller."""

from __future__ import annotations

import pytest

from sidecar.catalog.catalog import Billing, SoldAs
from sidecar.rego.compile import compiled
from tests.catalog.files import HEAD, MODULES, SMALL, check, sound

PLANS = (
    f"{HEAD}roles: {{member: }}\nplans:\n  free: {{price: 0}}\n  starter: {{price: 0}}\n  pro: {{price: 1}}\n"
)


def test_a_file_that_says_nothing_of_billing_has_the_defaults():
    assert sound(SMALL).billing == Billing(
        grace_days=7, past_due=None, unpaid=None, paused=None, canceled="free", trial="free"
    )


def test_a_trial_that_says_nothing_ends_as_what_is_canceled():
    billing = sound(f"{PLANS}billing: {{canceled: suspended}}\n").billing

    assert billing is not None
    assert (billing.canceled, billing.trial) == (None, None)


def test_every_outcome_is_a_plan_or_suspended():
    text = (
        "billing:\n  past_due: {grace_days: 0, then: {plan: pro}}\n  unpaid: {plan: starter}\n"
        "  paused: {plan: free}\n  canceled: {plan: starter}\n  trial: {then: suspended}\n"
    )

    assert sound(PLANS + text).billing == Billing(
        grace_days=0, past_due="pro", unpaid="starter", paused="free", canceled="starter", trial=None
    )


def test_a_plan_is_sold_as_one_price_or_several_and_seats_are_bought_by_quantity():
    catalog = sound(
        f"{HEAD}roles: {{member: }}\nplans:\n  free: {{price: 0, sold_as: {{stripe: price_f}}}}\n"
        "  pro: {extends: free, price: 1, sold_as: {stripe: [price_a, {price: price_b, seats: quantity}]}}\n"
    )

    assert catalog.plans["free"].sold_as == (SoldAs(biller="stripe", price="price_f", seats=False),)
    assert catalog.plans["pro"].sold_as == (
        SoldAs(biller="stripe", price="price_a", seats=False),
        SoldAs(biller="stripe", price="price_b", seats=True),
    )


@pytest.mark.parametrize(
    ("text", "where", "code"),
    [
        ("billing: {unpaid: {plan: pr}}\n", "9:26", "unknown_plan"),
        ("billing: {canceled: {plan: }}\n", "9:27", "wrong_type"),
        ("billing: {past_due: {grace_days: 400}}\n", "9:34", "bad_number"),
        ("billing: {paused: gone}\n", "9:19", "bad_word"),
    ],
)
def test_what_is_wrong_with_billing_is_found_at_its_place(text, where, code):
    [problem] = check(PLANS + text).problems

    assert (f"{problem.line}:{problem.column}", problem.code) == (where, code)


def test_billing_and_prices_are_part_of_the_revision():
    texts = [
        PLANS,
        f"{PLANS}billing: {{past_due: {{grace_days: 8}}}}\n",
        PLANS.replace("pro: {price: 1}", "pro: {price: 1, sold_as: {stripe: price_a}}"),
    ]

    assert (
        len({compiled(sound(text), {"a.rego": MODULES["custom/rules.rego"]}).revision for text in texts}) == 3
    )
