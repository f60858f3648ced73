"""The shipped plans.yaml against the two tables that say what the product sells."""

from __future__ import annotations

import re

import pytest
import yaml

from sidecar.catalog.check import check_plans
from sidecar.rego.compile import data_file, policy_data
from tests.catalog.files import ROOT, SHIPPED, sound

PLANS = """
|            | starter          | pro                                      | team                            |
| price, EUR | 0                | 149                                      | 299                             |
| features   | scenario_builder | + video_avatar, live_coaching, analytics | + team_sessions, team_analytics |
| minutes    | 100              | 500                                      | 1000                            |
| members    | 1                | 1                                        | 10                              |
| scenarios  | 10               | unlimited                                | unlimited                       |
"""

ACTIONS = """
| action                     | owner | admin | member | needs |
| platform.use               | x     | x     | x      | |
| data.view_own              | x     | x     | x      | |
| scenarios.create           | x     | x     | x      | scenario_builder; takes 1 scenarios |
| team_analytics.view        | x     | x     |        | team_analytics |
| members.invite             | x     | x     |        | takes 1 members |
| members.remove             | x     | x     |        | |
| members.change_role        | x     |       |        | |
| workspace.update           | x     |       |        | |
| billing.manage             | x     |       |        | |
| workspace.delete           | x     |       |        | |
| roleplay.start             | x     | x     | x      | |
| roleplay.start_with_avatar | x     | x     | x      | video_avatar |
| coaching.start             | x     | x     | x      | live_coaching |
| analytics.view             | x     | x     | x      | analytics |
| team_sessions.start        | x     | x     | x      | team_sessions |
| recording.start            | x     | x     | x      | takes 1 minutes |
"""


def rows_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]


@pytest.fixture(name="catalog")
def the_catalog():
    return sound(SHIPPED.read_text())


def test_the_plans_are_those_of_the_price_list(catalog):
    names, prices, features, *limits = rows_of(PLANS)
    said = {}
    had = set()
    for column, name in enumerate(names[1:], start=1):
        had |= set(features[column].removeprefix("+ ").replace(" ", "").split(","))
        said[name] = (
            int(prices[column]),
            frozenset(had),
            {row[0]: None if row[column] == "unlimited" else int(row[column]) for row in limits},
        )

    assert {
        name: (plan.price.amount, plan.features, dict(plan.limits)) for name, plan in catalog.plans.items()
    } == said


def test_the_actions_are_those_of_the_table(catalog):
    head, *rows = rows_of(ACTIONS)
    said = {}
    for row in rows:
        roles = tuple(role for role, mark in reversed(list(zip(head[1:4], row[1:4], strict=True))) if mark)
        takes = {meter: int(number) for number, meter in re.findall(r"takes (\d+) (\w+)", row[4])}
        feature = re.sub(r"(; )?takes.*", "", row[4]) or None
        said[row[0]] = (roles, feature, takes, row[0] == "billing.manage")

    assert {
        name: (action.roles, action.feature, dict(action.takes), action.while_suspended)
        for name, action in catalog.actions.items()
        if name in catalog.declared_actions
    } == said
    assert list(catalog.declared_actions) == [row[0] for row in rows]


def test_the_rest_is_as_the_product_needs_it(catalog):
    assert catalog.currency == "EUR"
    assert catalog.default_plan == "starter"
    assert list(catalog.roles) == ["member", "admin", "owner"]
    assert {meter.name: (meter.kind, meter.per, meter.anchor) for meter in catalog.meters.values()} == {
        "minutes": ("counter", "month", "calendar"),
        "members": ("members", None, "calendar"),
        "scenarios": ("level", None, "calendar"),
    }


def test_it_has_no_warning():
    assert check_plans(SHIPPED.read_bytes(), source="plans.yaml").warnings == ()


def test_every_route_and_invariant_gets_into_the_catalog(catalog):
    file = yaml.safe_load(SHIPPED.read_text())

    assert [route.action for route in catalog.routes] == [route["action"] for route in file["routes"]]
    assert [each.title for each in catalog.invariants] == [each["title"] for each in file["invariants"]]


def test_the_committed_policy_data_is_what_the_file_compiles_to(catalog):
    committed = (ROOT / "policies/authz/plans/data.json").read_bytes()

    assert committed == data_file(catalog)


def test_the_policy_data_has_every_key_everywhere(catalog):
    data = policy_data(catalog, revision="r")

    assert set(data) == {"actions", "by_price", "features", "meters", "plans", "revision", "roles"}
    assert {frozenset(action) for action in data["actions"].values()} == {
        frozenset({"feature", "roles", "takes", "while_suspended"})
    }
    assert {frozenset(plan["limits"]) for plan in data["plans"].values()} == {frozenset(data["meters"])}
