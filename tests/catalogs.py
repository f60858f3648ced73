"""Catalogs at random, small and odd: plans of one price, unsold ones, and limits in no order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.catalog.build import built

if TYPE_CHECKING:
    from random import Random

    from sidecar.catalog.catalog import Catalog

METERS: dict[str, dict[str, str]] = {
    "minutes": {"kind": "counter", "per": "month"},
    "calls": {"kind": "counter", "per": "ever"},
    "pages": {"kind": "level"},
    "seats": {"counts": "members"},
}
FEATURES = ["export", "sso"]
LIMITS = [0, 1, 3, 5, 8, 8, "unlimited"]


def a_catalog_at_random(random: Random) -> Catalog:
    meters = random.sample(sorted(METERS), random.randint(1, 3))
    plans = {
        name: {
            "price": random.choice([0, 9, 9, 50, 90]),
            "sold": random.random() < 0.8,
            "features": [feature for feature in FEATURES if random.random() < 0.6],
            "limits": {meter: random.choice(LIMITS) for meter in meters},
        }
        for name in random.sample(["basic", "full", "gold", "trial", "volume"], random.randint(2, 5))
    }
    actions: dict[str, Any] = {"read": {"role": "member"}}
    for number in range(3):
        takes = {meter: random.randint(1, 2) for meter in meters if random.random() < 0.7}
        feature = random.choice([None, None, *FEATURES])
        actions[f"do_{number}"] = {
            "role": random.choice(["member", "owner"]),
            "takes": takes,
            "while_suspended": random.random() < 0.3,
            **({"feature": feature} if feature else {}),
        }
    return built(
        {
            "currency": "EUR",
            "default_plan": next(iter(plans)),
            "roles": {"member": {}, "owner": {"includes": ["member"]}},
            "features": {feature: {} for feature in FEATURES},
            "meters": {meter: METERS[meter] for meter in meters},
            "plans": plans,
            "actions": actions,
        }
    )


def plans_with_many_cells() -> dict[str, Any]:
    """A plans.yaml whose one action takes so much that there are more cells than anybody can ask."""
    meters = [f"m{number}" for number in range(8)]
    plans = {
        f"p{number}": {
            "price": number,
            "limits": {meter: (number * (7 + at)) % 13 for at, meter in enumerate(meters)},
        }
        for number in range(12)
    }
    return {
        "version": 1,
        "currency": "EUR",
        "default_plan": "p0",
        "roles": {f"r{number}": {} for number in range(90)},
        "meters": {meter: {"kind": "level"} for meter in meters},
        "plans": plans,
        "actions": {"do": {"role": "r0", "takes": dict.fromkeys(meters, 1)}},
    }


def rules_at_random(catalog: Catalog, random: Random) -> str:
    """None to two rules of the company's own, most of which look at the plan or at the room."""
    plan = random.choice(sorted(catalog.plans))
    conditions = [
        f'input.plan == "{plan}"',
        f'input.plan != "{plan}"',
        f"data.authz.plans.plans[input.plan].price < {random.choice([9, 50])}",
        '"sso" in data.authz.plans.plans[input.plan].features',
        'input.role == "member"',
        f'input.action == "do_0"\n\tinput.plan in {{"{plan}", "gold"}}',
        "input.room == null",
        "input.room.waiting_helps == true",
        "input.room.waiting_helps == false",
        f'"{plan}" in input.room.fits_in',
    ]
    rules = [
        f'denials contains "rule_{number}" if {{\n\t{condition}\n}}\n'
        for number, condition in enumerate(random.sample(conditions, random.choice([0, 0, 1, 1, 2])))
    ]
    return "\n".join(["package custom\n", *rules])
