"""The same call for an operator's PUT and for a billing event: no web, and a store of plain values."""

from __future__ import annotations

import pytest

from sidecar.errors import BadQuestion, UnknownPlan, UnknownWorkspace
from sidecar.workspaces.administration import (
    Administration,
    OverridesChange,
    PlanChange,
    StatusChange,
    Undeclared,
)
from tests.api.stage import WorkspacesOf
from tests.values import FAR_AWAY, NOON, the_catalog

CATALOG = the_catalog()
CHANGES = [
    PlanChange(plan="pro", as_of=NOON),
    StatusChange(status="suspended", reason="unpaid"),
    OverridesChange(features={"analytics": True}, limits={"minutes": "unlimited"}, reason="pilot"),
]


@pytest.fixture
def store():
    return WorkspacesOf()


def apply(store, change, *, workspace="acme", actor="billing"):
    return Administration(CATALOG, store=store).apply(workspace, change, actor=actor, deadline=FAR_AWAY)


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: type(each).__name__)
def test_a_change_reaches_the_store_as_it_is_and_its_state_comes_back(store, change):
    state = apply(store, change)

    assert store.asked == ("acme", change, "billing")
    assert (state.slug, state.applied) == ("acme", True)


def test_what_the_store_refuses_is_refused(store):
    with pytest.raises(UnknownWorkspace):
        apply(store, CHANGES[0], workspace="nowhere")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (PlanChange(plan="gold"), UnknownPlan, 'plan: "gold" is not in the catalog'),
        (
            OverridesChange(features={"video": True, "analytics": True, "sms": None}),
            BadQuestion,
            'features: "video" is not in the catalog, features: "sms" is not in the catalog',
        ),
        (OverridesChange(limits={"hours": 5}), BadQuestion, 'limits: "hours" is not in the catalog'),
    ],
    ids=["plan", "features", "limits"],
)
def test_what_the_catalog_lacks_is_refused_before_the_store_is_asked(store, change, error, says):
    with pytest.raises(error) as refused:
        apply(store, change)

    assert str(refused.value) == says
    assert store.asked == ()


def test_a_name_that_the_catalog_lacks_is_told_with_those_that_it_has():
    administration = Administration(CATALOG, store=WorkspacesOf())

    assert administration.undeclared(PlanChange(plan="gold")) == (
        Undeclared(field="plan", name="gold", declared=tuple(CATALOG.plans)),
    )


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: type(each).__name__)
def test_nothing_is_missing_of_what_is_declared(change):
    assert Administration(CATALOG, store=WorkspacesOf()).undeclared(change) == ()
