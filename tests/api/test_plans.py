"""`GET /plans`: what a page of prices is drawn from."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from sidecar.catalog.check import check_plans
from tests.api.stage import a_stage
from tests.api.test_openapi import check

PEOPLE = (Path(__file__).parent.parent.parent / "docs/people.md").read_text()
CATALOG = b"""
version: 1
currency: CHF
default_plan: old
roles: {owner: }
features: {zoom: {title: Zoom in}, ads: }
meters:
  seats: {kind: level, counts: members}
  disk: {title: GB, kind: level}
  calls: {kind: counter, per: day}
  credits: {kind: counter, per: ever}
plans:
  dear: {price: 90, features: [zoom], limits: {seats: unlimited, disk: 7, calls: 0, credits: 1}}
  second: {price: 10, title: Second, limits: {seats: 1, disk: 1, calls: 1, credits: 1}}
  old: {price: 0, sold: false, features: [ads], limits: {seats: 1, disk: 1, calls: 1, credits: 1}}
  third: {price: 10, extends: second, features: [ads]}
"""


def plans_of(raw=CATALOG):
    checked = check_plans(raw, source="plans.yaml")
    stage = a_stage()
    stage.service.authorizer.catalog = checked.catalog
    return stage.client.get("/plans")


def test_what_is_sold_in_order_of_price_and_what_each_has():
    answer = plans_of()

    check(answer.json, "Plans")
    assert answer.json["currency"] == "CHF"
    assert [plan["plan"] for plan in answer.json["plans"]] == ["second", "third", "dear"]
    assert answer.json["plans"][1] == {
        "plan": "third",
        "title": "Third",
        "price": {"amount": 10, "currency": "CHF", "per": "month"},
        "features": {"zoom": False, "ads": True},
        "limits": {"seats": 1, "disk": 1, "calls": 1, "credits": 1},
    }
    assert answer.json["plans"][2]["limits"] == {"seats": None, "disk": 7, "calls": 0, "credits": 1}


def test_features_and_meters_are_named_as_the_catalog_has_them():
    answer = plans_of().json

    assert answer["features"] == {"zoom": {"title": "Zoom in"}, "ads": {"title": "Ads"}}
    assert answer["meters"] == {
        "seats": {"title": "Seats", "kind": "level", "per": None},
        "disk": {"title": "GB", "kind": "level", "per": None},
        "calls": {"title": "Calls", "kind": "counter", "per": "day"},
        "credits": {"title": "Credits", "kind": "counter", "per": "ever"},
    }


def test_a_catalog_without_features_and_meters_has_none():
    answer = plans_of(
        b"{version: 1, currency: EUR, default_plan: free, roles: {owner: }, plans: {free: {price: 0}}}"
    )

    assert (answer.json["features"], answer.json["meters"]) == ({}, {})
    assert [(plan["features"], plan["limits"]) for plan in answer.json["plans"]] == [({}, {})]


def test_it_is_open_whatever_token_is_shown_and_before_the_worker_is_ready():
    stage = a_stage(serving=lambda: False)

    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert stage.client.get("/plans", headers=headers).status_code == 200
    assert stage.lines == []


def test_who_has_it_already_gets_304_and_who_has_another_gets_it():
    stage = a_stage()
    first = stage.client.get("/plans")
    tag = first.headers["ETag"]

    for known in (tag, f'"x", {tag}', f"W/{tag}", "*", f'  {tag}  , "y"'):
        again = stage.client.get("/plans", headers={"If-None-Match": known})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
        assert again.headers["Cache-Control"] == "public, max-age=60"
        assert again.headers["Vary"] == "Origin"
        assert "Content-Length" not in again.headers
    for known in ("", '"x"', tag.strip('"'), f"{tag}x", tag.upper()):
        assert stage.client.get("/plans", headers={"If-None-Match": known}).status_code == 200
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    assert first.headers["Cache-Control"] == "public, max-age=60"


def test_another_catalog_has_another_tag():
    stage = a_stage()
    before = stage.client.get("/plans").headers["ETag"]
    catalog = stage.service.authorizer.catalog
    pro = replace(catalog.plans["pro"], title="Professional")
    stage.service.authorizer.catalog = replace(catalog, plans={**catalog.plans, "pro": pro})

    assert stage.client.get("/plans", headers={"If-None-Match": before}).status_code == 200


def test_the_example_is_a_part_of_what_is_answered():
    [text] = re.findall(r"/plans\n```\n```json\n(.*?)```", PEOPLE, re.DOTALL)
    example, answer = json.loads(text), a_stage().client.get("/plans").json

    assert list(example) == list(answer)
    assert [plan for plan in example["plans"] if plan not in answer["plans"]] == []
    for part in ("features", "meters"):
        assert {name: answer[part][name] for name in example[part]} == example[part]
