"""Lines of plans.yaml by what stands there."""

from __future__ import annotations

import pytest

from sidecar.catalog.places import Places

FILE = """\
version: 1
default_plan: big
roles:
  owner: {}
features:
  a: {}
  b: {}
meters:
  calls: {kind: level}
plans:
  small:
    price: 0
    features: [a]
    limits:
      calls: 1
  big:
    extends: small
    price: 9
    features:
      - b
actions:
  page.read: {role: owner}
routes:
  - {method: GET, path: /a, action: page.read}
  - {method: GET, path: /a, host: h.example, action: page.read}
invariants:
  - {title: one, never: {role: owner}}
"""
PLACES = Places(FILE.encode())


@pytest.mark.parametrize(
    ("line", "begins"),
    [
        (PLACES.default_plan(), "default_plan"),
        (PLACES.role("owner"), "owner"),
        (PLACES.feature("b"), "b:"),
        (PLACES.meter("calls"), "calls: {kind"),
        (PLACES.plan("big"), "big"),
        (PLACES.price("big"), "price: 9"),
        (PLACES.features_of("big"), "features:"),
        (PLACES.features_of("big", "b"), "- b"),
        (PLACES.features_of("big", "a"), "features: [a]"),
        (PLACES.features_of("big", "c"), "features:"),
        (PLACES.limit("small", "calls"), "calls: 1"),
        (PLACES.limit("big", "calls"), "calls: 1"),
        (PLACES.action("page.read"), "page.read"),
        (PLACES.action("feature:a"), "a:"),
        (PLACES.action("role:owner"), "owner"),
        (PLACES.route("GET", "/a"), "- {method: GET, path: /a, action"),
        (PLACES.route("GET", "/a", "h.example"), "- {method: GET, path: /a, host"),
        (PLACES.invariant("one"), "- {title: one"),
    ],
)
def test_each_thing_stands_on_its_line(line, begins):
    assert line is not None
    assert FILE.splitlines()[line - 1].strip().startswith(begins)


def test_what_is_not_in_the_file_stands_nowhere():
    for places in (PLACES, Places(None)):
        assert places.plan("none") is None
        assert places.action("none") is None
        assert places.action("feature:none") is None
        assert places.limit("none", "calls") is None
        assert places.limit("big", "none") is None
        assert places.features_of("none") is None
        assert places.route("PUT", "/a") is None
        assert places.invariant("none") is None
